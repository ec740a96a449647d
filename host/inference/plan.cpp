#include "host/inference/plan.hpp"

#include <cmath>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/batch/ceiling.hpp"
#include "host/batch/embedding.hpp"
#include "host/batch/starts.hpp"
#include "host/model/check_model.hpp"
#include "host/model/memory.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm {
namespace {

constexpr int ceiling_rounds = 5;

PlannedFactor planned(const PlanFactor& factor, const ModelMatrices& matrices, Elimination elimination) {
  return {matrices.random[factor.terms.front()].group, factor.levels, factor.columns, elimination};
}

PlannedModel planned(const Model& model) {
  const ModelMatrices& matrices = model.matrices();
  const EliminationPlan& plan = model.plan();
  const kernels::Shape& s = model.shape();
  PlannedModel result;
  result.matrices = model.matrices_pointer();
  result.fixed_effects = s.p;
  result.theta = s.parameters;
  for (std::size_t t = 0; t < plan.chain.size(); ++t)
    result.factors.push_back(planned(plan.chain[t], matrices, t == 0 ? Elimination::streamed : Elimination::nested));
  for (const PlanFactor& factor : plan.dense) result.factors.push_back(planned(factor, matrices, Elimination::dense));
  for (const PlannedFactor& factor : result.factors) result.random_effects += factor.levels * factor.columns;
  result.schur = plan.schur;
  result.large = model.is_large();
  if (result.large) {
    // A handful of dense matrices of the Schur complement's order, X and y (large_criterion.hpp).
    const double order = plan.schur + s.p + 1.0;
    result.replicate_bytes = 5 * 8 * order * order;
  } else {
    result.cost = streaming_cost(s);
    result.model_bytes = 8.0 * static_cast<double>(design_doubles(s));
    result.replicate_bytes = 8.0 * static_cast<double>(lane_doubles(s));
  }
  return result;
}

PlannedBootstrap planned_bootstrap(const Model& null, const Model& full, const Embedding& embedding,
                                   std::optional<Tier> tier) {
  PlannedBootstrap result;
  BootstrapModels models;
  models.null = &null;
  models.full = &full;
  models.embedding = &embedding;
  // The tier does not depend on the generating values: unit variance ratios.
  models.lambda = default_starts(null).front();
  models.seed = 1;
  TierDecision decision;
  try {
    decision = choose_tier(models, tier, {});
  } catch (const ModelError& error) {
    result.why = error.what();
    return result;
  }
  result.tier = decision.engine->tier();
  result.passed_over = decision.passed_over;
  result.thread_bytes = decision.engine->thread_bytes();
  result.facts = decision.engine->facts();
  return result;
}

}  // namespace

Plan plan(std::shared_ptr<const ModelMatrices> matrices, std::shared_ptr<const ModelMatrices> null_matrices,
          const PlanOptions& options) {
  Plan result;
  result.method = null_matrices ? Method::ml : options.method;
  check_model(*matrices);
  const Model model(std::move(matrices), result.method);
  result.model = planned(model);
  if (null_matrices) {
    check_model(*null_matrices);
    const Model null(std::move(null_matrices), result.method);
    result.null = planned(null);
    result.bootstrap = planned_bootstrap(null, model, embed(null, model), options.tier);
  } else {
    result.bootstrap = planned_bootstrap(model, model, identity_embedding(model), options.tier);
  }
  result.isa = kernels::cpu_kernels().name;
  result.lanes = kernels::cpu_kernels().lanes;
  result.threads = thread_count(options.threads);
  result.memory_available = available_memory();
  result.multiply_adds_per_second =
      measure_ceiling(result.isa, ceiling_rounds, options.seconds).multiply_adds_per_second;
  return result;
}

}  // namespace batchlmm
