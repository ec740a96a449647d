/// @file
/// A fit as JSON, in full precision.
#pragma once

#include <string>

#include "host/inference/fit.hpp"

namespace batchlmm {

/// The facts of `summary_text`, `ranef_text` and `coef_text` as one JSON object, closed by a newline. Numbers read back
/// to the same doubles; NaN is null. `ranef` and `coef` map a grouping factor to `{levels, terms, values}`, `values`
/// being levels x terms.
std::string fit_json(const Fit& fit);

}  // namespace batchlmm
