/// @file
/// What will be done before it is done: how a model is eliminated, which tier would draw and fit its replicates, what
/// that costs, and what this machine could do at most.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/batch/cost.hpp"
#include "host/batch/tier.hpp"
#include "host/model/method.hpp"
#include "host/model/model_matrices.hpp"

namespace batchlmm {

/// What becomes of a grouping factor.
enum class Elimination : std::uint8_t {
  streamed,  ///< its levels are eliminated one by one
  nested,    ///< the factor before it is nested in it: streamed in turn
  dense      ///< its columns stand in the dense Schur complement
};

struct PlannedFactor {
  std::string group;
  int levels = 0, columns = 0;  ///< random effects a level
  Elimination elimination = Elimination::streamed;
};

struct PlannedModel {
  std::shared_ptr<const ModelMatrices> matrices;
  int fixed_effects = 0, theta = 0, random_effects = 0;
  std::vector<PlannedFactor> factors;  ///< in the order of elimination
  int schur = 0;                       ///< columns of the dense Schur complement
  bool large = false;                  ///< factored by LAPACK instead of the kernels
  StreamingCost cost;                  ///< where not large
  double model_bytes = 0;              ///< constants of the design
  double replicate_bytes = 0;  ///< one lane's elimination, derivatives and optimizer; the dense matrices where large
};

/// The bootstrap of one model (refits) or of two (likelihood-ratio test).
struct PlannedBootstrap {
  std::optional<Tier> tier;  ///< none: not possible, see `why`
  std::string why;
  std::vector<PassedOver> passed_over;
  EngineFacts facts;
  double thread_bytes = 0;  ///< memory that each thread takes
};

struct Plan {
  Method method = Method::ml;
  PlannedModel model;
  std::optional<PlannedModel> null;
  PlannedBootstrap bootstrap;
  std::string isa;
  int lanes = 0, threads = 0;
  double multiply_adds_per_second = 0;  ///< of one thread, measured
  double memory_available = 0;
  /// Replicates per second of one thread that did nothing but the multiply-adds; 0 where the count is not known.
  [[nodiscard]] double ceiling() const {
    return bootstrap.facts.multiply_adds > 0 ? multiply_adds_per_second / bootstrap.facts.multiply_adds : 0;
  }
};

struct PlanOptions {
  Method method = Method::reml;  ///< of refits; a likelihood-ratio test is by ML
  std::optional<Tier> tier;      ///< none: the cheapest that takes the models
  int threads = 0;               ///< 0: all cores
  double seconds = 0.005;        ///< for the measurement of the ceiling, a round
};

/// @param null  nested in `model`; empty for refits of `model`
/// @throws ModelError when a model cannot be fitted, or the two are not nested
Plan plan(std::shared_ptr<const ModelMatrices> model, std::shared_ptr<const ModelMatrices> null,
          const PlanOptions& options = {});

/// @param data_name  as the table is called in the text
std::string plan_text(const Plan& plan, const std::string& data_name);
std::string plan_json(const Plan& plan);

}  // namespace batchlmm
