/// @file
/// Runs an engine over a range of replicates: by chunks, on several threads, with results collected in order.
#pragma once

#include <cstdint>
#include <functional>

#include "host/batch/engine.hpp"
#include "host/batch/replicates.hpp"
#include "host/batch/stopping_rule.hpp"

namespace batchlmm {

/// Hypotheses that are tested in every replicate, about the full model or the one that is refitted.
struct ReplicateTests {
  Hypotheses hypotheses;
  /// p: what the replicates' fixed effects are, in the tested model's columns as the user has them; empty: 0. At 0 a
  /// hypothesis without a value is true in every replicate.
  Eigen::VectorXd beta;
};

struct BootstrapRun {
  std::uint64_t first = 0, count = 0;  ///< replicates first .. first + count - 1
  double observed = 0;                 ///< the statistic that a replicate is compared with
  Backend backend;
  int threads = 1;                        ///< of the CPU; a device has as many as it has places of work
  bool parameters = false;                ///< keep beta, r^2 and X's factor: one more evaluation a fit
  const ReplicateTests* tests = nullptr;  ///< results in the blocks that are collected; null: none
  StoppingRule stop;  ///< where it is met the run ends, and what comes after is neither counted nor collected
  std::function<void(const ReplicateBlock&)>
      collect;  ///< called in order of the replicates, one call at a time; may be empty
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

/// What an engine fits, and its units.
struct ReplicateUnits {
  const kernels::Shape* null = nullptr;
  const kernels::Shape* full = nullptr;   ///< null where one model is refitted
  double shift_null = 0, shift_full = 0;  ///< added to the deviances of blocks
  const kernels::TestPlan* tests = nullptr;
  double sigma = 1;  ///< generating residual standard deviation: the unit of tests
  bool null_at_zero =
      false;  ///< the null has no random effects (Embedding): that its variances are 0 is no singular fit
};

/// Where nobody collects, no rule stops the run, the null has random effects and the engine can count by itself
/// (ReplicateEngine::summarizes), no replicate leaves it.
///
/// A device that is lost ends the run: where it was the last of several, and at least one chunk is done, the summary is
/// of the replicates before the first that is not (all collected), and `stopped` says why.
/// @param workers  calls of the engine that run at a time
/// @throws DeviceLost where nothing was finished before; whatever the engine and `run.collect` throw
ReplicateSummary run_replicates(const ReplicateEngine& engine, const ReplicateUnits& units, const BootstrapRun& run,
                                int workers);

}  // namespace batchlmm
