/// @file
/// A fit as a tidy table: broom.mixed's `tidy` of an lme4 or lmerTest fit.
#pragma once

#include <optional>
#include <vector>

#include "host/inference/fit.hpp"
#include "host/inference/joint_covariance.hpp"
#include "host/inference/tidy.hpp"
#include "host/model/small_sample.hpp"

namespace batchlmm {

struct FitTidyOptions {
  bool fixed = true;
  bool ran_pars = true;   ///< standard deviations, correlations, residual standard deviation
  bool ran_vals = false;  ///< conditional modes, with conditional standard deviations
  /// Wald intervals of the fixed effects and the modes: by t where there are degrees of freedom, else by z.
  std::optional<double> confidence;
};

/// @param tests  null: no degrees of freedom and p-values
std::vector<TidyRow> fit_tidy(const Fit& fit, const FitTidyOptions& options, const SmallSampleTests* tests = nullptr);

}  // namespace batchlmm
