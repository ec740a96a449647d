/// @file
/// Runs a study into a folder, resumes one, and makes the dataset when all shards are there.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "host/study/cell.hpp"
#include "host/study/curves.hpp"
#include "host/study/shards.hpp"
#include "host/study/study_file.hpp"

namespace batchlmm::study {

struct RunOptions {
  std::string out;     ///< folder of the dataset
  std::string folder;  ///< paths in the study file are relative to it
  int threads = 0;     ///< 0: all cores
  /// This process takes the shards of part `part` of `parts` only; the dataset is made by who finds all shards there.
  std::uint64_t part = 0, parts = 1;
  bool keep = false;  ///< every replicate to OUT/replicates/part-*.parquet
  /// Hands out this process's shards in place of `part`: the next one, or the number of shards when there are no more.
  /// Called from one thread at a time. Where it is set the dataset is made only where `leader` is.
  std::function<std::uint64_t()> next_shard;
  bool leader = true;
  /// Called when all shards that were handed out are written; returns when all processes are that far.
  std::function<void()> wait;
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;  ///< replicates of this process; may be empty
};

struct RunOutcome {
  std::uint64_t shards = 0;   ///< of the study
  std::uint64_t found = 0;    ///< that were there before
  std::uint64_t made = 0;     ///< by this run
  std::uint64_t missing = 0;  ///< still
  std::uint64_t skipped = 0;  ///< not needed: their cells had reached the precision before
  bool complete = false;      ///< the dataset has been made
  double seconds = 0;
  double target_power = 0;
  std::vector<ReachedPower> power;  ///< of the dataset's first cells, as the report shows
};

/// A dataset folder has study.toml, shards/, and, once complete, cells.parquet, manifest.json and report.html.
/// @throws InputError  for what is wrong in the study, for a folder with another study; OutputError
RunOutcome run_study(const StudyFile& study, const RunOptions& options);

/// Makes the dataset of shards in several folders, each left by `run_study` of the same study.
/// @throws InputError  naming the shards that are missing, or a folder of another study; OutputError
RunOutcome merge_studies(const std::vector<std::string>& folders, const std::string& out);

/// What `run_study` would do, without doing it.
struct DryRun {
  std::uint64_t cells = 0, replicates = 0, shards = 0;
  /// A cell; of many cells the first of a group that has all but the truth in common (StudyFile::groups).
  struct Line {
    std::uint64_t cell = 0, cells = 1;  ///< how many it stands for
    std::vector<GridValue> values;
    std::uint64_t rows = 0, replicates = 0;  ///< of one cell
    std::vector<FittedName> fits;            ///< in every replicate
    double bytes = 0;                        ///< while it runs
    double seconds = 0;                      ///< of all its replicates on one core, from a trial of a few
  };
  std::uint64_t groups = 0;  ///< lines that there would be if all were tried
  std::vector<Line> lines;   ///< of the first groups
  double bytes = 0;          ///< of the largest line, on all threads
  double seconds = 0;        ///< an estimate: of the study on the threads, from the lines
};
/// Tries each line for a quarter of a second or so.
/// @param most_lines  that are tried
DryRun dry_run(const StudyFile& study, const RunOptions& options, std::uint64_t most_lines = 20);

}  // namespace batchlmm::study
