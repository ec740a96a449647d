/// @file
/// The random-effects terms' model matrices and grouping factors.
#pragma once

#include <vector>

#include "host/formula/random_terms.hpp"
#include "host/model/model_frame.hpp"
#include "host/model/model_matrices.hpp"

namespace batchlmm {

/// @return the terms in lme4's order (see `ModelMatrices::random`)
/// @throws ModelError
std::vector<RandomTerm> random_effects(const std::vector<RandomEffects>& terms, const ModelFrame& frame,
                                       const ModelOptions& options);

}  // namespace batchlmm
