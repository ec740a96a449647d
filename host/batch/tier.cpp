#include "host/batch/tier.hpp"

#include "batchlmm/error.hpp"
#include "host/batch/large_engine.hpp"
#include "host/batch/shared_factorization_engine.hpp"
#include "host/batch/strata_engine.hpp"
#include "host/batch/streaming_engine.hpp"

namespace batchlmm {

const char* tier_name(Tier tier) {
  switch (tier) {
    case Tier::symmetry:
      return "symmetry";
    case Tier::streaming:
      return "streaming";
    case Tier::shared_factorization:
      return "shared";
    case Tier::large:
      return "large";
  }
  return "unknown";
}

std::optional<Tier> tier_of_name(const std::string& name) {
  for (Tier tier : {Tier::symmetry, Tier::streaming, Tier::shared_factorization, Tier::large})
    if (name == tier_name(tier)) return tier;
  if (name == "auto") return std::nullopt;
  throw InputError("--tier: expected auto, symmetry, streaming, shared or large, found '" + name + "'");
}

namespace {

/// Matrix products, a replicate at a time, against the kernels' lanes. Only where the gain is clear.
bool matrix_products_pay(const Model& model) {
  constexpr double lanes_rate = 2e10;  // multiply-adds a second of a core
  return kernel_operations(model) / lanes_rate > 2 * matrix_seconds(model);
}

}  // namespace

TierDecision choose_tier(const BootstrapModels& models, std::optional<Tier> asked, const Backend& backend) {
  TierDecision decision;
  if (!asked || *asked == Tier::symmetry) {
    std::string why;
    decision.engine = StrataEngine::make(models, asked.has_value(), &why);
    if (decision.engine) return decision;
    if (asked) throw ModelError("the symmetry tier does not take these models: " + why);
    decision.passed_over.push_back({Tier::symmetry, why});
  }
  if (asked == Tier::shared_factorization) {
    decision.engine = std::make_unique<SharedFactorizationEngine>(models);
    return decision;
  }
  if (!asked) {
    std::string why = SharedFactorizationEngine::obstacle(models);
    try {
      if (why.empty()) {
        auto engine = std::make_unique<SharedFactorizationEngine>(models);
        why = engine->does_not_pay(models);
        if (why.empty()) {
          decision.engine = std::move(engine);
          return decision;
        }
      }
    } catch (const ModelError& error) {
      why = error.what();
    }
    decision.passed_over.push_back({Tier::shared_factorization, why});
  }
  const bool large = models.null->is_large() || models.full->is_large();
  if (asked ? *asked == Tier::large : large || (!backend.cuda && matrix_products_pay(*models.full))) {
    decision.engine = std::make_unique<LargeEngine>(models);
    return decision;
  }
  decision.engine = std::make_unique<StreamingEngine>(models);
  return decision;
}

}  // namespace batchlmm
