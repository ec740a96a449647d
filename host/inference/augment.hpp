/// @file
/// The data of a fit with what the fit says of each row.
#pragma once

#include "host/data/table.hpp"
#include "host/inference/fit.hpp"

namespace batchlmm {

/// The table's columns, then those of broom.mixed's `augment`: .fitted, .resid, .hat, .cooksd, .fixed, .mu, .offset,
/// .sqrtXwt, .sqrtrwt, .weights, .wtres; and .se.fit (of .fitted, see JointCovariance), .scaled.resid (.resid / sigma),
/// .std.resid (that / sqrt(1 - .hat)). Rows that the fit did not use have missing values there. A column that the table
/// has already under one of these names is left out.
/// @param table  of the fit
Table augmented(const Fit& fit, const Table& table);

}  // namespace batchlmm
