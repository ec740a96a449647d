/// @file
/// One way of drawing and fitting bootstrap replicates. There is one engine a tier; what stands above sees no
/// difference.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "batchlmm/error.hpp"
#include "host/batch/backend.hpp"
#include "host/batch/embedding.hpp"
#include "host/batch/tiers.hpp"
#include "host/model/model.hpp"
#include "kernels/cpu_small_sample.hpp"
#include "kernels/statistic.hpp"

namespace batchlmm {

/// Two nested models by the same method and the generating values, or (`full` == `null`) one model that is drawn from
/// and refitted.
struct BootstrapModels {
  const Model* null = nullptr;  ///< generates the replicates
  const Model* full = nullptr;
  const Embedding* embedding = nullptr;
  std::vector<double> lambda;  ///< generating factors of the null's terms, kernels' order and gauge; sigma = 1
  std::uint64_t seed = 0;
  [[nodiscard]] bool refit() const { return full == null; }
};

/// What an engine expects of a replicate, for people.
struct EngineFacts {
  double evaluations = 0;                   ///< of all its fits and starting points together; 0: not known
  double multiply_adds = 0;                 ///< all of them, without the draw; 0: not known
  std::vector<std::pair<int, int>> strata;  ///< order and copies, where the design has been taken apart
  int completed_rows = 0;                   ///< rows that were filled in for that
};

/// A replicate is a pure function of (tier, models, generating values, seed, index): its bits do not depend on chunks,
/// threads or instruction sets.
class ReplicateEngine {
public:
  virtual ~ReplicateEngine() = default;
  [[nodiscard]] virtual Tier tier() const = 0;
  /// Replicates that one call of `run` should take.
  [[nodiscard]] virtual std::uint64_t chunk_length(const Backend& backend) const = 0;
  [[nodiscard]] virtual EngineFacts facts() const { return {}; }
  /// Bytes that each thread of the CPU takes while it runs.
  [[nodiscard]] virtual double thread_bytes() const { return 0; }
  /// Calls of `run` that devices take at a time.
  [[nodiscard]] virtual int device_workers() const { return 1; }
  /// Draws and fits replicates chunk.first .. + chunk.count - 1 at sigma = 1, beta = 0. Several threads may call at
  /// once.
  /// @param parameters  beta, r2 and x_factor are wanted too
  /// @param chunk       arrays for the results; `full` is empty (status null) where the model is refitted
  virtual void run(const Backend& backend, bool parameters, kernels::BootstrapChunk& chunk) const = 0;
  /// Tests hypotheses in replicates that `run` has fitted, on the CPU: from their status, deviance and lambda; the
  /// large tier's from beta and r2, too. Several threads may call at once.
  virtual void test(const kernels::TestJob& /*tests*/) const {
    throw ComputationError("this tier does not test hypotheses");
  }
  /// Whether `summarize` can be called: the counts are had without the replicates leaving a device.
  [[nodiscard]] virtual bool summarizes(const Backend& /*backend*/) const { return false; }
  /// The counts over replicates first .. first + count - 1, those that `run` and kernels/statistic.hpp give. Several
  /// threads may call at once.
  /// @param observed  the statistic that a replicate is compared with
  virtual kernels::StatisticCounts summarize(const Backend& /*backend*/, std::uint64_t /*first*/,
                                             std::uint64_t /*count*/, double /*observed*/) const {
    throw ComputationError("this tier cannot count without keeping the replicates");
  }
};

}  // namespace batchlmm
