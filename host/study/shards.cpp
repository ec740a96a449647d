#include "host/study/shards.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <sstream>

#include "batchlmm/error.hpp"
#include "batchlmm/version.hpp"
#include "host/data/temporary_file.hpp"

namespace batchlmm::study {
namespace {

namespace fs = std::filesystem;

/// So many shards at most, and so many replicates in one at least: enough of them to share among many processes, few
/// enough that their files are no burden.
constexpr std::uint64_t most_shards = 4096, fewest_replicates = 64;
constexpr std::string_view magic = "batchlmm shard 2\n";

std::uint64_t fnv(std::uint64_t hash, std::string_view bytes) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash;
}
constexpr std::uint64_t fnv_start = 0xCBF29CE484222325ULL;

/// Numbers little-endian, texts with their length before them.
class Bytes {
public:
  void whole(std::uint64_t x) {
    std::array<char, 8> bytes{};
    for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(x >> (8 * i) & 0xFF);
    text_.append(bytes.data(), bytes.size());
  }
  void number(double x) { whole(std::bit_cast<std::uint64_t>(x)); }
  void text(const std::string& x) {
    whole(x.size());
    text_ += x;
  }
  std::string text_;
};

/// @throws std::out_of_range where the bytes end too soon
class Reader {
public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  std::uint64_t whole() {
    std::uint64_t x = 0;
    const std::string_view eight = take(8);
    for (int i = 0; i < 8; ++i) x |= static_cast<std::uint64_t>(static_cast<unsigned char>(eight[i])) << (8 * i);
    return x;
  }
  double number() { return std::bit_cast<double>(whole()); }
  std::string text() { return std::string(take(whole())); }
  /// A number of entries of at least `size` bytes each.
  std::uint64_t count(std::size_t size) {
    const std::uint64_t n = whole();
    if (n > bytes_.size() / size) throw std::out_of_range("count");
    return n;
  }

private:
  std::string_view take(std::uint64_t n) {
    if (n > bytes_.size()) throw std::out_of_range("bytes");
    const std::string_view out = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return out;
  }
  std::string_view bytes_;
};

void write_identity(Bytes& bytes, const StudyIdentity& identity) {
  bytes.text(identity.program);
  bytes.whole(identity.file);
  bytes.whole(identity.tables.size());
  for (const auto& [name, hash] : identity.tables) {
    bytes.text(name);
    bytes.whole(hash);
  }
}
StudyIdentity read_identity(Reader& reader) {
  StudyIdentity out;
  out.program = reader.text();
  out.file = reader.whole();
  out.tables.resize(reader.count(16));
  for (auto& [name, hash] : out.tables) {
    name = reader.text();
    hash = reader.whole();
  }
  return out;
}

/// A shard's sum, eight bytes at a time: a byte at a time it would take as long as all else that a shard's file does.
std::uint64_t sum_of(std::string_view bytes) {
  std::uint64_t hash = fnv_start;
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    hash = (hash ^ word) * 0x100000001B3ULL;
    hash ^= hash >> 32U;
  }
  return fnv(hash, bytes);
}

/// What stands between a shard's first line and its sum; none where the file is torn or of another kind.
std::optional<std::string_view> body_of(std::string_view text) {
  if (text.size() < magic.size() + 8 || !text.starts_with(magic)) return {};
  const std::string_view body = text.substr(0, text.size() - 8);
  if (Reader(text.substr(body.size())).whole() != sum_of(body)) return {};
  return body.substr(magic.size());
}

}  // namespace

ShardPlan::ShardPlan(const StudyFile& study) : cells_(study.cells()) {
  each_ = study.specification(0).replicates;
  const auto& keys = study.grid_keys();
  // Also among paths that have the same value: "study.replicates,design.units.subject".
  if (std::any_of(keys.begin(), keys.end(),
                  [](const std::string& key) { return key.find("study.replicates") != std::string::npos; })) {
    begin_.push_back(0);
    for (std::uint64_t cell = 0; cell < cells_; ++cell) {
      std::uint64_t count = each_;
      bool given = false;
      for (const GridValue& value : study.grid_values(cell))
        if (value.key == "study.replicates") {
          count = static_cast<std::uint64_t>(value.number);
          given = true;
        }
      if (!given) count = study.specification(cell).replicates;
      begin_.push_back(begin_.back() + count);
    }
    total_ = begin_.back();
  } else {
    if (each_ > std::numeric_limits<std::uint64_t>::max() / 2 / cells_)
      throw InputError(fmt::format("{} cells of {} replicates are too many", cells_, each_));
    total_ = each_ * cells_;
  }
  length_ = std::max(fewest_replicates, (total_ + most_shards - 1) / most_shards);
}

std::uint64_t ShardPlan::begin_of(std::uint64_t cell) const { return begin_.empty() ? cell * each_ : begin_[cell]; }
std::uint64_t ShardPlan::replicates_of(std::uint64_t cell) const { return begin_of(cell + 1) - begin_of(cell); }
std::uint64_t ShardPlan::shards() const { return (total_ + length_ - 1) / length_; }

std::vector<Piece> ShardPlan::pieces(std::uint64_t shard) const {
  std::uint64_t at = shard * length_;
  const std::uint64_t end = std::min(total_, at + length_);
  std::uint64_t cell =
      begin_.empty()
          ? at / each_
          : static_cast<std::uint64_t>(std::upper_bound(begin_.begin(), begin_.end(), at) - begin_.begin()) - 1;
  std::vector<Piece> out;
  for (; at < end; ++cell) {
    const std::uint64_t stop = std::min(end, begin_of(cell + 1));
    out.push_back({cell, at - begin_of(cell), stop - at});
    at = stop;
  }
  return out;
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return std::move(bytes).str();
}

std::uint64_t StudyIdentity::hash() const {
  Bytes bytes;
  write_identity(bytes, *this);
  return fnv(fnv_start, bytes.text_);
}

StudyIdentity study_identity(const StudyFile& study, const std::string& folder) {
  StudyIdentity out{std::string(version()), fnv(fnv_start, study.text()), {}};
  // Tables that are named anywhere in the grid.
  std::set<std::string> tables;
  const auto& keys = study.grid_keys();
  const bool several = std::any_of(keys.begin(), keys.end(), [](const std::string& key) {
    return key.find("data") != std::string::npos || key.find("design.kind") != std::string::npos || key == "design" ||
           key.find("truth.from_fit") != std::string::npos;
  });
  for (std::uint64_t cell = 0; cell < (several ? study.cells() : 1); ++cell) {
    const Specification one = study.specification(cell);
    if (!one.design.data.empty()) tables.insert(one.design.data);
    if (one.truth.from_fit) tables.insert(one.truth.from_fit->data);
  }
  for (const std::string& table : tables) {
    const fs::path path(table);
    out.tables.emplace_back(table,
                            fnv(fnv_start, content_of((path.is_absolute() ? path : fs::path(folder) / path).string())));
  }
  return out;
}

std::string difference(const StudyIdentity& other, const StudyIdentity& here) {
  if (other.program != here.program)
    return fmt::format("it was made by batchlmm {}, this is {}", other.program, here.program);
  if (other.file != here.file) return "the study file was another";
  for (const auto& table : here.tables)
    if (std::find(other.tables.begin(), other.tables.end(), table) == other.tables.end())
      return fmt::format("the table '{}' has changed since", table.first);
  return "it read other tables";
}

std::string shard_name(std::uint64_t shard) { return fmt::format("shard-{:07}.bin", shard); }

void write_shard(const std::string& folder, const ShardResult& result) {
  Bytes bytes;
  bytes.text_ = magic;
  write_identity(bytes, result.study);
  bytes.whole(result.shard);
  bytes.number(result.seconds);
  bytes.number(result.replicate_seconds);
  // Names are the same for most pieces: written once.
  std::vector<SeriesNames> layouts;
  std::vector<std::uint64_t> layout_of;
  for (const PieceResult& piece : result.pieces) {
    const auto at =
        std::find_if(layouts.begin(), layouts.end(), [&](const auto& names) { return same_names(names, piece.names); });
    layout_of.push_back(static_cast<std::uint64_t>(at - layouts.begin()));
    if (at == layouts.end()) layouts.push_back(piece.names);
  }
  bytes.whole(layouts.size());
  for (const SeriesNames& names : layouts) {
    bytes.whole(names->size());
    for (const SeriesName& name : *names) {
      bytes.text(name.subject);
      bytes.text(name.term);
      bytes.whole(static_cast<std::uint64_t>(name.measure));
    }
  }
  bytes.whole(result.pieces.size());
  for (std::size_t i = 0; i < result.pieces.size(); ++i) {
    const PieceResult& piece = result.pieces[i];
    for (const std::uint64_t x : {piece.piece.cell, piece.piece.first, piece.piece.count, piece.rows, layout_of[i]})
      bytes.whole(x);
    for (const SeriesSums& sums : piece.sums)
      for (const double x : {sums.n, sums.sum, sums.squares}) bytes.number(x);
  }
  bytes.whole(sum_of(bytes.text_));
  // Renamed, but not forced to the disk: of many small files that would take most of the time, and a file that a power
  // failure has torn is known by its sum.
  write_text_file((fs::path(folder) / shard_name(result.shard)).string(), bytes.text_);
}

std::optional<ShardResult> read_shard(const std::string& folder, std::uint64_t shard, const StudyIdentity& study) {
  const std::string path = (fs::path(folder) / shard_name(shard)).string();
  const std::string text = content_of(path);
  const std::optional<std::string_view> body = body_of(text);
  if (!body) return {};
  try {
    Reader reader(*body);
    ShardResult out;
    out.study = read_identity(reader);
    out.shard = reader.whole();
    out.seconds = reader.number();
    out.replicate_seconds = reader.number();
    if (out.study != study)
      throw InputError(fmt::format("{}: expected a shard of this study, found one of another: {}", path,
                                   difference(out.study, study)));
    if (out.shard != shard) return {};
    std::vector<SeriesNames> layouts(reader.count(8));
    for (SeriesNames& layout : layouts) {
      std::vector<SeriesName> names(reader.count(24));
      for (SeriesName& name : names) {
        name.subject = reader.text();
        name.term = reader.text();
        name.measure = static_cast<Measure>(reader.whole());
      }
      layout = std::make_shared<const std::vector<SeriesName>>(std::move(names));
    }
    out.pieces.resize(reader.count(40));
    for (PieceResult& piece : out.pieces) {
      piece.piece.cell = reader.whole();
      piece.piece.first = reader.whole();
      piece.piece.count = reader.whole();
      piece.rows = reader.whole();
      piece.names = layouts.at(reader.whole());
      piece.sums.resize(piece.names->size());
      for (SeriesSums& sums : piece.sums) {
        sums.n = reader.number();
        sums.sum = reader.number();
        sums.squares = reader.number();
      }
    }
    return out;
  } catch (const std::out_of_range&) {
    return {};
  }
}

std::optional<StudyIdentity> shard_identity(const std::string& folder) {
  std::error_code error;
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    if (entry.path().extension() == ".bin") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& path : files) {
    const std::string text = content_of(path.string());
    if (const std::optional<std::string_view> body = body_of(text)) {
      Reader reader(*body);
      return read_identity(reader);
    }
  }
  return {};
}

}  // namespace batchlmm::study
