/// @file
/// A fit as JSON, in full precision.
#pragma once

#include <string>

#include "host/inference/fit.hpp"
#include "host/inference/joint_covariance.hpp"
#include "host/model/small_sample.hpp"

namespace batchlmm {

/// The facts of `summary_text`, `ranef_text` and `coef_text` as one JSON object, closed by a newline. Numbers read back
/// to the same doubles; NaN is null. `ranef` and `coef` map a grouping factor to `{levels, terms, values}`, `values`
/// being levels x terms.
/// @param tests  not null: fixed effects have `df` and `p`, and `ddf` names the method
/// @param joint  not null: `ranef` has the modes' conditional standard deviations, `se`, in the layout of `values`
std::string fit_json(const Fit& fit, const SmallSampleTests* tests = nullptr, const JointCovariance* joint = nullptr);

}  // namespace batchlmm
