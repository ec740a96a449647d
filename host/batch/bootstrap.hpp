/// @file
/// The parametric bootstrap: draws, fits and counts any number of replicates in constant memory, whatever the tier.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "host/batch/backend.hpp"
#include "host/batch/embedding.hpp"
#include "host/batch/run_replicates.hpp"
#include "host/batch/tier.hpp"

namespace batchlmm {

/// Two nested models and the generating values, or one model that is refitted, ready to run. A replicate is a pure
/// function of (tier, models, generating values, seed, index).
class Bootstrap {
public:
  /// A likelihood-ratio test.
  /// @param null, full  both by ML, or both by REML with the same columns of X; kept by reference
  /// @param lambda      generating factors of the null's terms (kernels' order and gauge)
  /// @param sigma       generating residual standard deviation
  /// @param tier        none: the cheapest that takes the models
  /// @throws ModelError where the tier that is asked for does not take the models
  Bootstrap(const Model& null, const Model& full, const Embedding& embedding, const std::vector<double>& lambda,
            double sigma, std::uint64_t seed, std::optional<Tier> tier = {}, const Backend& backend = {});
  /// Refits of one model to responses drawn from it: statistics are 0, `full` columns of blocks empty.
  /// @param model  by ML or REML, kept by reference
  Bootstrap(const Model& model, const std::vector<double>& lambda, double sigma, std::uint64_t seed,
            std::optional<Tier> tier = {}, const Backend& backend = {});

  /// A lost device ends it early (run_replicates).
  /// @throws ModelError where the threads need more memory than there is, ComputationError, and whatever `run.collect`
  /// throws
  ReplicateSummary run(const BootstrapRun& run) const;
  [[nodiscard]] const ReplicateEngine& engine() const { return *decision_.engine; }
  [[nodiscard]] const std::vector<PassedOver>& passed_over() const { return decision_.passed_over; }

private:
  const Model &null_, &full_;
  Embedding embedding_;
  double sigma_;
  TierDecision decision_;
};

}  // namespace batchlmm
