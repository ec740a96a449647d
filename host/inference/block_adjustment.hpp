/// @file
/// The adjustment after a random-effect block bootstrap that Chambers and Chandra (2013, J. Comput. Graph. Stat. 22)
/// call REB/2: replicates without bias, variances that do not depend on each other.
#pragma once

#include "host/inference/bootstrap_quantities.hpp"
#include "host/inference/fit.hpp"

namespace batchlmm {

/// Fixed effects are moved so that their mean is the estimate. Logarithms of the variances S (one a coefficient of each
/// term, and sigma^2) become mean + (S - mean) C^{-1/2} diag(sd), C their covariance and sd its standard deviations;
/// then variances are scaled so that their means are the estimates. Correlations stay.
/// @param[in,out] rows  replicates, two or more
/// @throws InputError where a variance is 0 in some replicate
void adjust_block_replicates(const Fit& fit, ParameterRows& rows);

}  // namespace batchlmm
