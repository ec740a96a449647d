#include "host/study/shards.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
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
constexpr std::string_view magic = "batchlmm shard 1\n";

std::uint64_t fnv(std::uint64_t hash, std::string_view bytes) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  return hash;
}
constexpr std::uint64_t fnv_start = 0xCBF29CE484222325ULL;

/// Numbers little-endian, texts with their length before them.
class Bytes {
public:
  void whole(std::uint64_t x) {
    for (int i = 0; i < 8; ++i) text_ += static_cast<char>(x >> (8 * i) & 0xFF);
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

}  // namespace

ShardPlan::ShardPlan(const StudyFile& study) : cells_(study.cells()) {
  each_ = study.specification(0).replicates;
  const auto& keys = study.grid_keys();
  if (std::find(keys.begin(), keys.end(), "study.replicates") != keys.end()) {
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

std::uint64_t study_hash(const StudyFile& study, const std::string& folder) {
  std::uint64_t hash = fnv(fnv_start, version());
  hash = fnv(hash, study.text());
  // Tables that are named anywhere in the grid.
  std::set<std::string> tables;
  const auto& keys = study.grid_keys();
  const bool several = std::any_of(keys.begin(), keys.end(), [](const std::string& key) {
    return key.ends_with(".data") || key == "design.kind" || key == "design" || key.starts_with("truth.from_fit");
  });
  for (std::uint64_t cell = 0; cell < (several ? study.cells() : 1); ++cell) {
    const Specification one = study.specification(cell);
    if (!one.design.data.empty()) tables.insert(one.design.data);
    if (one.truth.from_fit) tables.insert(one.truth.from_fit->data);
  }
  for (const std::string& table : tables) {
    const fs::path path(table);
    std::ifstream file(path.is_absolute() || folder.empty() ? path : fs::path(folder) / path, std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    hash = fnv(fnv(hash, table), bytes.str());
  }
  return hash;
}

std::string shard_name(std::uint64_t shard) { return fmt::format("shard-{:07}.bin", shard); }

void write_shard(const std::string& folder, const ShardResult& result) {
  Bytes bytes;
  bytes.text_ = magic;
  bytes.whole(result.study);
  bytes.whole(result.shard);
  bytes.number(result.seconds);
  // Names are the same for most pieces: written once.
  std::vector<const std::vector<SeriesName>*> layouts;
  std::vector<std::uint64_t> layout_of;
  for (const PieceResult& piece : result.pieces) {
    const auto at =
        std::find_if(layouts.begin(), layouts.end(), [&](const auto* names) { return *names == piece.names; });
    layout_of.push_back(static_cast<std::uint64_t>(at - layouts.begin()));
    if (at == layouts.end()) layouts.push_back(&piece.names);
  }
  bytes.whole(layouts.size());
  for (const auto* names : layouts) {
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
  bytes.whole(fnv(fnv_start, bytes.text_));
  // Renamed, but not forced to the disk: of many small files that would take most of the time, and a file that a power
  // failure has torn is known by its sum.
  const fs::path path = fs::path(folder) / shard_name(result.shard);
  const std::string temporary = fmt::format("{}.{}", path.string(), ::getpid());
  {
    std::ofstream file(temporary, std::ios::binary);
    file << bytes.text_;
    file.close();
    if (!file) {
      const std::string reason = std::strerror(errno);
      std::remove(temporary.c_str());
      cannot_write(path.string(), reason);
    }
  }
  std::error_code error;
  fs::rename(temporary, path, error);
  if (error) cannot_write(path.string(), error.message());
}

std::optional<ShardResult> read_shard(const std::string& folder, std::uint64_t shard, std::uint64_t study) {
  const std::string path = (fs::path(folder) / shard_name(shard)).string();
  std::ifstream file(path, std::ios::binary);
  if (!file) return {};
  std::ostringstream stream;
  stream << file.rdbuf();
  const std::string text = stream.str();
  if (text.size() < magic.size() + 8 || !text.starts_with(magic)) return {};
  const std::string_view body = std::string_view(text).substr(0, text.size() - 8);
  if (Reader(std::string_view(text).substr(text.size() - 8)).whole() != fnv(fnv_start, body)) return {};
  try {
    Reader reader(body.substr(magic.size()));
    ShardResult out;
    out.study = reader.whole();
    out.shard = reader.whole();
    out.seconds = reader.number();
    if (out.study != study)
      throw InputError(path +
                       ": expected a shard of this study, found one of another (the study file, a table or the "
                       "program has changed since)");
    if (out.shard != shard) return {};
    std::vector<std::vector<SeriesName>> layouts(reader.count(8));
    for (auto& names : layouts) {
      names.resize(reader.count(24));
      for (SeriesName& name : names) {
        name.subject = reader.text();
        name.term = reader.text();
        name.measure = static_cast<Measure>(reader.whole());
      }
    }
    out.pieces.resize(reader.count(40));
    for (PieceResult& piece : out.pieces) {
      piece.piece.cell = reader.whole();
      piece.piece.first = reader.whole();
      piece.piece.count = reader.whole();
      piece.rows = reader.whole();
      piece.names = layouts.at(reader.whole());
      piece.sums.resize(piece.names.size());
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

std::optional<std::uint64_t> shard_hash(const std::string& folder) {
  std::error_code error;
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
    if (entry.path().extension() == ".bin") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& path : files) {
    std::ifstream file(path, std::ios::binary);
    std::string head(magic.size() + 8, '\0');
    if (file.read(head.data(), static_cast<std::streamsize>(head.size())) && head.starts_with(magic))
      return Reader(std::string_view(head).substr(magic.size())).whole();
  }
  return {};
}

}  // namespace batchlmm::study
