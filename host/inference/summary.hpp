/// @file
/// A fit as text, in the layout and rounding of lme4's `summary`, `ranef` and `coef` (version 1.1-31).
#pragma once

#include <array>
#include <string>

#include "host/inference/fit.hpp"
#include "host/model/small_sample.hpp"

namespace batchlmm {

/// `print(summary(fit))` of lme4. Beyond lme4 it says how many rows were left out for missing values, which terms are
/// singular, which collinear columns were dropped, and why a fit did not converge.
/// @param data  name of the data set, as it stands after "Data:"
/// @param tests  not null: the fixed effects' table has degrees of freedom and p-values, as lmerTest prints them
std::string summary_text(const Fit& fit, const std::string& data, const SmallSampleTests* tests = nullptr);

/// `ranef(fit)`: the conditional modes, one table a grouping factor.
std::string ranef_text(const Fit& fit);

/// `coef(fit)`: fixed effects plus conditional modes, one table a grouping factor.
std::string coef_text(const Fit& fit);

/// Minimum, quartiles and maximum of the scaled residuals (R's quantiles of type 7).
std::array<double, 5> residual_quantiles(const Fit& fit);

}  // namespace batchlmm
