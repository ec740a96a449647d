#include "host/study/run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

#include "batchlmm/error.hpp"
#include "batchlmm/version.hpp"
#include "host/batch/backend.hpp"
#include "host/data/one_line.hpp"
#include "host/data/temporary_file.hpp"
#include "host/data/write.hpp"
#include "host/study/cell.hpp"
#include "host/study/dataset.hpp"
#include "host/study/report.hpp"

namespace batchlmm::study {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// @throws OutputError
void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) cannot_write(path.string(), error.message());
}

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// "line 4 is 'seed = 1' there, 'seed = 2' here"
std::string first_difference(std::istringstream there, std::istringstream here) {
  constexpr std::size_t most_shown = 80;
  for (int line = 1;; ++line) {
    std::string a, b;
    const bool has_a = static_cast<bool>(std::getline(there, a)), has_b = static_cast<bool>(std::getline(here, b));
    if (has_a && has_b && a == b) continue;
    if (!has_a && !has_b) return "they end in different line breaks";
    const auto shown = [](bool has, const std::string& text) {
      return has ? "'" + detail::one_line(text, most_shown) + "'" : std::string("not");
    };
    return fmt::format("line {} is {} there, {} here", line, shown(has_a, a), shown(has_b, b));
  }
}

/// @return whether the folder has this study's study.toml
/// @throws InputError where it has another one, or something else's files
bool check_folder(const fs::path& out, const StudyFile& study) {
  const fs::path copy = out / "study.toml";
  if (is_there(copy)) {
    const std::string there = content_of(copy.string());
    if (there != study.text())
      throw InputError(
          fmt::format("--out {}: expected results of this study, found those of another: its study.toml "
                      "differs from the study file: {}",
                      out.string(), first_difference(std::istringstream(there), std::istringstream(study.text()))));
    return true;
  }
  // Something else's files must not be mixed up with a study's; another part of this one may be starting just now.
  std::error_code error;
  for (fs::directory_iterator entry(out, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const bool begun = name.starts_with('.') && name.find(".part") != std::string::npos;
    if (!begun && name != "study.toml" && name != "shards" && name != "replicates")
      throw InputError(
          fmt::format("--out {}: expected an empty folder or one of this study, found '{}' in it", out.string(), name));
  }
  return false;
}

/// Makes the folder where it is missing, with study.toml in it. That nothing can be written there is told before any
/// work.
void claim_folder(const fs::path& out, const StudyFile& study, bool keep) {
  const bool known = check_folder(out, study);
  make_folder(out);
  make_folder(out / "shards");
  if (keep) make_folder(out / "replicates");
  if (!known) write_text_file((out / "study.toml").string(), study.text());
  for (const char* name : {"cells.parquet", "report.html", "manifest.json", "shards/probe"})
    const TemporaryFile probe((out / name).string());
  if (keep) const TemporaryFile probe((out / "replicates" / "probe").string());
}

/// What a merge has made, removed again unless `keep` is called.
class Made {
public:
  Made() = default;
  Made(const Made&) = delete;
  Made& operator=(const Made&) = delete;
  ~Made() {
    std::error_code ignored;
    for (; !paths_.empty(); paths_.pop_back()) fs::remove(paths_.back(), ignored);
  }
  void add(fs::path path) { paths_.push_back(std::move(path)); }
  /// Makes a folder, and those that it is in.
  void folder(const fs::path& path) {
    std::vector<fs::path> missing;
    for (fs::path at = path; !at.empty() && !is_there(at); at = at.parent_path()) missing.push_back(at);
    for (; !missing.empty(); missing.pop_back()) {
      make_folder(missing.back());
      add(missing.back());
    }
  }
  void keep() { paths_.clear(); }

private:
  std::vector<fs::path> paths_;
};

/// One number of every replicate, long: a column for what it is of.
class ReplicateWriter {
public:
  explicit ReplicateWriter(const std::string& path)
      : writer_(path, {{"cell", OutputType::int64},
                       {"replicate", OutputType::int64},
                       {"subject", OutputType::text},
                       {"term", OutputType::text},
                       {"name", OutputType::text},
                       {"value", OutputType::float64}}) {}
  void add(std::uint64_t cell, const ReplicateValue& value, const ValueName& name) {
    cell_.push_back(static_cast<std::int64_t>(cell));
    replicate_.push_back(static_cast<std::int64_t>(value.replicate));
    subject_.push_back(name.subject);
    term_.push_back(name.term);
    name_.push_back(name.name);
    value_.push_back(value.number);
    if (cell_.size() >= most_held) flush();
  }
  void close() {
    flush();
    writer_.close();
  }

private:
  static constexpr std::size_t most_held = 16384;
  void flush() {
    const std::vector<OutputValues> values{
        std::span<const std::int64_t>(cell_),   std::span<const std::int64_t>(replicate_),
        std::span<const std::string>(subject_), std::span<const std::string>(term_),
        std::span<const std::string>(name_),    std::span<const double>(value_)};
    writer_.append(values);
    cell_.clear();
    replicate_.clear();
    subject_.clear();
    term_.clear();
    name_.clear();
    value_.clear();
  }
  TableWriter writer_;
  std::vector<std::int64_t> cell_, replicate_;
  std::vector<std::string> subject_, term_, name_;
  std::vector<double> value_;
};

std::string part_name(std::uint64_t shard) { return fmt::format("part-{:07}.parquet", shard); }

/// Of a file that a power failure has torn the end is missing.
bool is_whole_part(const fs::path& path) {
  constexpr std::string_view mark = "PAR1";
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file || file.tellg() < static_cast<std::streamoff>(2 * mark.size())) return false;
  file.seekg(-static_cast<std::streamoff>(mark.size()), std::ios::end);
  std::string end(mark.size(), '\0');
  return static_cast<bool>(file.read(end.data(), static_cast<std::streamsize>(end.size()))) && end == mark;
}

/// Looks for shards in several folders.
class Shards {
public:
  Shards(std::vector<std::string> folders, StudyIdentity study)
      : folders_(std::move(folders)), study_(std::move(study)) {}
  [[nodiscard]] const StudyIdentity& study() const { return study_; }
  [[nodiscard]] std::optional<ShardResult> read(std::uint64_t shard) const {
    for (const std::string& folder : folders_)
      if (auto found = read_shard((fs::path(folder) / "shards").string(), shard, study_)) return found;
    return {};
  }
  /// Where there is a shard's part of the kept replicates; empty: nowhere.
  [[nodiscard]] fs::path part(std::uint64_t shard) const {
    for (const std::string& folder : folders_)
      if (fs::path path = fs::path(folder) / "replicates" / part_name(shard); is_whole_part(path)) return path;
    return {};
  }

private:
  std::vector<std::string> folders_;
  StudyIdentity study_;
};

/// "3, 5 to 9"
std::string ranges(const std::vector<std::uint64_t>& numbers) {
  std::string out;
  constexpr std::size_t most = 20;
  std::size_t written = 0;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t j = i;
    while (j + 1 < numbers.size() && numbers[j + 1] == numbers[j] + 1) ++j;
    if (++written > most) return out + ", ...";
    out += (out.empty() ? "" : ", ") +
           (i == j ? std::to_string(numbers[i]) : fmt::format("{} to {}", numbers[i], numbers[j]));
    i = j + 1;
  }
  return out;
}

/// Copies the kept replicates of a study's shards, where they were kept.
/// @throws InputError naming those that are missing where there are others
void copy_parts(const ShardPlan& plan, const Shards& shards, const fs::path& out, Made& made) {
  std::vector<std::uint64_t> missing;
  std::vector<std::pair<std::uint64_t, fs::path>> found;
  for (std::uint64_t k = 0; k < plan.shards(); ++k)
    if (fs::path part = shards.part(k); !part.empty())
      found.emplace_back(k, std::move(part));
    else if (shards.read(k))
      missing.push_back(k);
  if (found.empty()) return;
  if (!missing.empty())
    throw InputError(fmt::format("expected the kept replicates of all shards or of none, found {} missing: {}",
                                 missing.size(), ranges(missing)));
  made.folder(out / "replicates");
  for (const auto& [k, from] : found) {
    const fs::path to = out / "replicates" / part_name(k);
    std::error_code error;
    if (is_there(to)) {
      if (fs::equivalent(from, to, error)) continue;
    } else {
      made.add(to);
    }
    std::ifstream file(from, std::ios::binary);
    TemporaryFile copy(to.string());
    std::string buffer(std::size_t{1} << 20U, '\0');
    while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || file.gcount() > 0)
      copy.write(std::string_view(buffer).substr(0, static_cast<std::size_t>(file.gcount())));
    if (file.bad()) throw DataError("cannot read " + from.string());
    copy.commit();
  }
}

/// Makes cells.parquet, report.html, manifest.json and, for a merge, study.toml and replicates: all are written before
/// the first is put in its place.
/// @param outcome  gets the power that was reached
/// @param made     of a merge: takes what was not there before
/// @return shards that are needed and missing; nothing is written then
std::vector<std::uint64_t> make_dataset(const StudyFile& study, const ShardPlan& plan, const Shards& shards,
                                        const fs::path& out, RunOutcome& outcome, Made* made = nullptr) {
  const double precision = study.specification(0).precision;
  std::vector<std::uint64_t> missing;
  CellWriter writer((out / "cells.parquet").string(), study);
  Json manifest;
  double seconds = 0, replicate_seconds = 0;
  std::uint64_t used = 0, stopped = 0;
  std::vector<ReportCell> page;
  CellResult cell;
  std::uint64_t open = 0;  ///< the cell whose pieces come next
  bool done = false;
  const auto finish_cell = [&] {
    if (missing.empty() && cell.names) {
      writer.add(cell);
      if (page.size() < most_report_cells)
        page.push_back(
            {cell.cell, cell.rows, cell.replicates, study.grid_values(cell.cell), estimands(*cell.names, cell.sums)});
      used += cell.replicates;
      stopped += cell.stopped ? 1 : 0;
    }
    cell = {};
    done = false;
  };
  for (std::uint64_t k = 0; k < plan.shards(); ++k) {
    const std::vector<Piece> pieces = plan.pieces(k);
    std::optional<ShardResult> shard = shards.read(k);
    if (shard && shard->pieces.size() != pieces.size()) shard.reset();
    if (shard) {
      seconds += shard->seconds;
      replicate_seconds += shard->replicate_seconds;
    }
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      if (pieces[i].cell != open) {
        finish_cell();
        open = pieces[i].cell;
      }
      if (done) continue;
      if (!shard) {
        if (missing.empty() || missing.back() != k) missing.push_back(k);
        continue;
      }
      done = add_piece(cell, shard->pieces[i], precision);
    }
  }
  finish_cell();
  if (!missing.empty()) return missing;
  if (made != nullptr) copy_parts(plan, shards, out, *made);
  writer.finish();
  const ReportFacts facts{fmt::format("batchlmm {}", version()), study.cells(), used};
  manifest["program"] = fmt::format("batchlmm {}", version());
  manifest["name"] = study.specification(0).name;
  manifest["seed"] = study.specification(0).seed;
  manifest["study_hash"] = fmt::format("{:016x}", shards.study().hash());
  manifest["cells"] = study.cells();
  manifest["replicates"] = {{"asked", plan.replicates()}, {"used", used}};
  manifest["cells_ended_by_precision"] = stopped;
  manifest["shards"] = plan.shards();
  const Curves curves(study.grid_keys(), page);
  const double target = study.specification(0).target_power;
  Json& reached = manifest["power"] = {{"target", target}, {"reached", Json::array()}};
  outcome.target_power = target;
  outcome.power = reached_power(curves, target);
  for (const ReachedPower& one : outcome.power) {
    Json entry = {{"test", one.test}, {"where", one.where}, {"along", one.key}, {"value", one.size.x}};
    if (one.size.at_first) {
      entry["at_most"] = true;
    } else {
      entry["low"] = one.size.low;
      entry["high"] = std::isinf(one.size.high) ? Json(nullptr) : Json(one.size.high);
    }
    reached["reached"].push_back(std::move(entry));
  }
  // What depends on the machine stands alone: all else has the same bytes whoever ran the study.
  manifest["timings"] = {{"shard_seconds", seconds}, {"replicate_seconds", replicate_seconds}};
  const auto written = [&](const char* name, std::string_view text) {
    auto file = std::make_unique<TemporaryFile>((out / name).string());
    file->write(text);
    file->finish();
    return file;
  };
  const auto copy = made != nullptr ? written("study.toml", study.text()) : nullptr;
  const auto report = written("report.html", report_html(study, facts, page));
  const auto said = written("manifest.json", manifest.dump(2) + "\n");
  if (made != nullptr)
    for (const char* name : {"study.toml", "cells.parquet", "report.html", "manifest.json"})
      if (!is_there(out / name)) made->add(out / name);
  // Without study.toml a folder is none of a study; with manifest.json all is there.
  if (copy) copy->commit();
  writer.close();
  report->commit();
  said->commit();
  return {};
}

/// A cell at a time, with its designs kept from one to the next. One a thread.
class CellMaker {
public:
  CellMaker(const StudyFile& study, const std::string& folder) : reader_(study), folder_(folder) {}
  Cell& take(std::uint64_t number) {
    if (!cell_ || at_ != number) {
      const Specification& specification = reader_.read(number);
      const std::uint64_t seed = cell_seed(specification, number);
      if (!cell_ || !reader_.only_truth_changed() || !cell_->take_truth(specification.truth, seed)) {
        cell_.reset();
        cell_.emplace(specification, folder_, seed, cache_);
      }
      at_ = number;
    }
    return *cell_;
  }

private:
  CellReader reader_;
  const std::string& folder_;
  DesignCache cache_;
  std::optional<Cell> cell_;
  std::uint64_t at_ = 0;
};

/// Which cells have reached the study's precision, as far as shards came in without a gap. What is left out for it is
/// what `make_dataset` would not use.
class Reached {
public:
  explicit Reached(double precision) : precision_(precision) {}
  void add(std::uint64_t shard, const ShardResult& result) {
    if (precision_ <= 0) return;
    waiting_[shard] = result.pieces;
    for (auto next = waiting_.begin(); next != waiting_.end() && (!begun_ || next->first == next_);
         next = waiting_.erase(next)) {
      begun_ = true;
      next_ = next->first + 1;
      for (const PieceResult& piece : next->second) {
        if (!cell_.names || cell_.cell != piece.piece.cell) {
          cell_ = {};
          whole_ = piece.piece.first == 0;
          done_ = false;
        }
        if (!done_) done_ = add_piece(cell_, piece, precision_);
      }
    }
  }
  /// A shard that was not run for it.
  void pass(std::uint64_t shard) {
    if (precision_ > 0 && next_ == shard) next_ = shard + 1;
  }
  [[nodiscard]] bool is_done(std::uint64_t cell) const {
    return precision_ > 0 && whole_ && done_ && cell_.cell == cell && cell_.names != nullptr;
  }

private:
  double precision_;
  std::map<std::uint64_t, std::vector<PieceResult>> waiting_;
  std::uint64_t next_ = 0;
  bool begun_ = false, whole_ = false, done_ = false;
  CellResult cell_;
};

/// Runs one shard and leaves its files.
ShardResult run_shard(const ShardPlan& plan, std::uint64_t k, const StudyIdentity& study, const fs::path& out,
                      bool keep_all, int threads, CellMaker& cells) {
  const auto start = Clock::now();
  std::optional<ReplicateWriter> writer;
  if (keep_all) writer.emplace((out / "replicates" / part_name(k)).string());
  ShardResult shard;
  shard.study = study;
  shard.shard = k;
  for (const Piece& piece : plan.pieces(k)) {
    Cell& cell = cells.take(piece.cell);
    std::function<void(const ReplicateValue&)> keep;
    if (writer)
      keep = [&](const ReplicateValue& value) { writer->add(piece.cell, value, cell.value_names()[value.value]); };
    PieceResult result{piece, cell.rows(), cell.series_names(), {}};
    // Cells that were made one by one have equal names, each its own: one of them will do.
    if (!shard.pieces.empty() && same_names(shard.pieces.back().names, result.names))
      result.names = shard.pieces.back().names;
    const auto begin = Clock::now();
    result.sums = cell.run(piece.first, piece.count, threads, keep);
    shard.replicate_seconds += since(begin);
    shard.pieces.push_back(std::move(result));
  }
  shard.seconds = since(start);
  if (writer) writer->close();
  write_shard((out / "shards").string(), shard);
  return shard;
}

}  // namespace

RunOutcome run_study(const StudyFile& study, const RunOptions& options) {
  const auto start = Clock::now();
  const ShardPlan plan(study);
  const StudyIdentity identity = study_identity(study, options.folder);
  const fs::path out(options.out);
  // A fault in the first cell is told before anything is written.
  CellMaker first_maker(study, options.folder);
  first_maker.take(0);
  claim_folder(out, study, options.keep);

  RunOutcome outcome;
  outcome.shards = plan.shards();
  const std::uint64_t begin = plan.shards() * options.part / options.parts,
                      end = plan.shards() * (options.part + 1) / options.parts;
  std::uint64_t done = 0, total = 0;
  for (std::uint64_t k = begin; k < end; ++k)
    for (const Piece& piece : plan.pieces(k)) total += piece.count;

  // Shards are shared among threads; where there are few, each has several threads.
  const int all_threads = thread_count(options.threads);
  const int workers =
      static_cast<int>(std::clamp<std::uint64_t>(end - begin, 1, static_cast<std::uint64_t>(all_threads)));
  const int threads_each = std::max(1, all_threads / workers);
  std::uint64_t next = begin;
  const auto claim = [&] {
    return options.next_shard ? std::min(options.next_shard(), end) : next < end ? next++ : end;
  };
  Reached reached(study.specification(0).precision);
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&](CellMaker& cells) {
    std::unique_lock lock(mutex);
    try {
      while (!failure) {
        const std::uint64_t k = claim();
        if (k >= end) break;
        const std::vector<Piece> pieces = plan.pieces(k);
        const bool not_needed = pieces.size() == 1 && reached.is_done(pieces[0].cell);
        lock.unlock();
        std::optional<ShardResult> shard = read_shard((out / "shards").string(), k, identity);
        const bool found = shard && (!options.keep || is_whole_part(out / "replicates" / part_name(k)));
        if (!found && !not_needed) shard = run_shard(plan, k, identity, out, options.keep, threads_each, cells);
        lock.lock();
        if (found || !not_needed)
          reached.add(k, *shard);
        else
          reached.pass(k);
        ++(found ? outcome.found : not_needed ? outcome.skipped : outcome.made);
        for (const Piece& piece : pieces) done += piece.count;
        if (options.progress) options.progress(done, total);
      }
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> pool;
  for (int t = 1; t < workers; ++t)
    pool.emplace_back([&] {
      CellMaker cells(study, options.folder);
      work(cells);
    });
  work(first_maker);
  for (std::thread& thread : pool) thread.join();
  try {
    if (failure) std::rethrow_exception(failure);
    if (options.wait) options.wait();
    if (options.leader) {
      const std::vector<std::uint64_t> missing =
          make_dataset(study, plan, Shards({options.out}, identity), out, outcome);
      outcome.missing = missing.size();
      outcome.complete = missing.empty();
    }
  } catch (const OutputError& error) {
    throw OutputError(std::string(error.what()) +
                      " (shards that are written stay: the same command goes on from them)");
  }
  outcome.seconds = since(start);
  return outcome;
}

RunOutcome merge_studies(const std::vector<std::string>& folders, const std::string& out) {
  const auto start = Clock::now();
  if (folders.empty()) throw InputError("expected folders to merge, found none");
  std::optional<StudyFile> study;
  for (const std::string& folder : folders) {
    const std::string path = (fs::path(folder) / "study.toml").string();
    if (!fs::exists(path))
      throw InputError(fmt::format("{}: expected a folder of a study, found no study.toml in it", folder));
    StudyFile one = StudyFile::read(path);
    if (study && one.text() != study->text())
      throw InputError(
          fmt::format("{}: expected shards of the study of {}, found those of another: of its study.toml {}", folder,
                      folders[0], first_difference(std::istringstream(one.text()), std::istringstream(study->text()))));
    if (!study) study.emplace(std::move(one));
  }
  const ShardPlan plan(*study);
  // The tables need not be here: what the shards say of them must be the same.
  std::optional<StudyIdentity> identity;
  for (const std::string& folder : folders)
    if (const auto found = shard_identity((fs::path(folder) / "shards").string())) {
      if (identity && *identity != *found)
        throw InputError(fmt::format("{}: expected shards as in the folders before, found others: {}", folder,
                                     difference(*found, *identity)));
      identity = found;
    }
  if (!identity) throw InputError("expected shards in the folders to merge, found none");
  check_folder(out, *study);
  Made made;
  made.folder(out);
  const Shards shards(folders, *identity);
  RunOutcome outcome;
  const std::vector<std::uint64_t> missing = make_dataset(*study, plan, shards, out, outcome, &made);
  if (!missing.empty())
    throw InputError(
        fmt::format("expected all of {} shards, found {} missing: {}", plan.shards(), missing.size(), ranges(missing)));
  made.keep();
  outcome.shards = outcome.found = plan.shards();
  outcome.complete = true;
  outcome.seconds = since(start);
  return outcome;
}

namespace {

/// Seconds of a replicate on one core. Few at a time take longer each than many, and the first time longer than the
/// next: more are tried, or as many again, as long as that is quick.
double seconds_of_replicate(Cell& cell, std::uint64_t replicates) {
  constexpr std::uint64_t first_trial = 16, most_tried = 4096;
  constexpr double long_enough = 0.05;
  constexpr int most_trials = 12;
  const std::uint64_t most = std::min(replicates, most_tried);
  double least = std::numeric_limits<double>::infinity(), all = 0;
  std::uint64_t count = std::min(first_trial, most);
  for (int trial = 0; trial < most_trials && all < long_enough; ++trial, count = std::min(4 * count, most)) {
    const auto start = Clock::now();
    cell.run(0, count, 1);
    const double seconds = since(start);
    all += seconds;
    least = std::min(least, seconds / static_cast<double>(count));
  }
  return least;
}

}  // namespace

DryRun dry_run(const StudyFile& study, const RunOptions& options, std::uint64_t most_lines) {
  const ShardPlan plan(study);
  DryRun out;
  out.cells = study.cells();
  out.replicates = plan.replicates();
  out.shards = plan.shards();
  const bool each = study.cells() <= most_lines;
  out.groups = each ? study.cells() : study.groups();
  const int all_threads = thread_count(options.threads);
  const auto workers =
      static_cast<int>(std::min<std::uint64_t>(plan.shards(), static_cast<std::uint64_t>(all_threads)));
  DesignCache cache;
  double tried_seconds = 0;
  std::uint64_t tried = 0;
  for (std::uint64_t g = 0; g < std::min(out.groups, most_lines); ++g) {
    DryRun::Line line;
    line.cell = each ? g : study.first_cell(g);
    line.cells = each ? 1 : study.cells() / study.groups();
    Specification specification = study.specification(line.cell);
    const std::uint64_t seed = cell_seed(specification, line.cell);
    Cell one(std::move(specification), options.folder, seed, cache);
    line.values = study.grid_values(line.cell);
    line.rows = one.rows();
    line.replicates = plan.replicates_of(line.cell);
    line.fits = one.fits();
    const std::uint64_t piece = std::min(line.replicates, (out.replicates + out.shards - 1) / out.shards);
    line.bytes = one.memory(piece, std::max(1, all_threads / workers));
    line.seconds = seconds_of_replicate(one, line.replicates) * static_cast<double>(line.replicates);
    const auto weight = static_cast<double>(line.cells);
    tried_seconds += weight * line.seconds;
    tried += line.cells * line.replicates;
    out.bytes = std::max(out.bytes, line.bytes * workers);
    out.lines.push_back(std::move(line));
  }
  const auto cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  out.seconds = tried_seconds / static_cast<double>(tried) * static_cast<double>(out.replicates) /
                std::min(std::max(workers, all_threads / workers * workers), cores);
  return out;
}

}  // namespace batchlmm::study
