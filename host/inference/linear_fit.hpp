/// @file
/// A model without random effects, fitted in closed form: what is left where a test takes the only random-effects term
/// out.
#pragma once

#include <memory>

#include "host/inference/fit.hpp"

namespace batchlmm {

/// Least squares; sigma and the criterion by ML or REML on the scale of a mixed model whose variances are 0 (R's
/// `logLik(lm, REML = TRUE)` is -criterion / 2).
/// @param matrices  without random-effects terms
/// @throws ModelError, ComputationError where no residual variance is left
Fit linear_fit(std::shared_ptr<const ModelMatrices> matrices, Method method);

}  // namespace batchlmm
