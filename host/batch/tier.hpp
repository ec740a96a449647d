/// @file
/// Which tier draws and fits the replicates of a pair of models.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/batch/engine.hpp"

namespace batchlmm {

/// A tier that was not taken, and why: one line for people.
struct PassedOver {
  Tier tier;
  std::string why;
};

struct TierDecision {
  std::unique_ptr<ReplicateEngine> engine;
  std::vector<PassedOver> passed_over;
};

/// @return "symmetry", "streaming", "shared", "large"
const char* tier_name(Tier tier);
/// @return the tier of this name; none for "auto"
/// @throws InputError for any other name
std::optional<Tier> tier_of_name(const std::string& name);

/// The engine of the cheapest tier that takes the models, or of the one that is asked for. The choice does not depend
/// on how many replicates are run, so that a replicate stays the same.
/// @param asked    none: the engine chooses
/// @param backend  a device has all tiers
/// @throws ModelError where the tier that is asked for does not take the models, saying why
TierDecision choose_tier(const BootstrapModels& models, std::optional<Tier> asked, const Backend& backend);

}  // namespace batchlmm
