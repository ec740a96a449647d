/// @file
/// Whether a model can be fitted at all.
#pragma once

#include "host/model/model_matrices.hpp"

namespace batchlmm {

/// lme4's checks: each grouping factor has more than one level and fewer levels than there are rows, each term has
/// fewer random effects than there are rows; and there are fewer fixed effects than rows.
/// @throws ModelError
void check_model(const ModelMatrices& matrices);

}  // namespace batchlmm
