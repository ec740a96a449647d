/// @file
/// Profile likelihood of every parameter: the signed root zeta of the change of the ML deviance, and the intervals that
/// it gives (Bates, Maechler, Bolker and Walker 2015, section 5.1; lme4's `profile` and `confint(method = "profile")`).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/inference/held_parameter.hpp"

namespace batchlmm {

struct ProfileOptions {
  double level = 0.95;
  std::vector<std::string> parameters;  ///< labels, in any order; empty: all
};

/// The deviance's minimum with the parameter held at `value`.
struct ProfilePoint {
  double value = 0;
  double zeta = 0;   ///< sign(value - estimate) sqrt(deviance - smallest deviance)
  double slope = 0;  ///< d zeta / d value; NaN where it has none: at the estimate, on a bound
  double deviance = 0;
  bool certified = false;
  ParameterState state;  ///< all parameters there
};

/// An end of an interval.
struct ProfileLimit {
  double value = 0;
  bool bound = false;  ///< zeta does not reach its quantile before the end of the parameter's range, which `value` is
  bool certified = false;  ///< the point there is a certified minimum
};

struct ParameterProfile {
  Parameter parameter;
  double estimate = 0;  ///< NaN: a correlation beside a standard deviation of 0, where any value is as good
  ProfileLimit low, high;
  std::vector<ProfilePoint> points;  ///< by increasing value, the estimate and both limits among them
};

struct Profile {
  std::shared_ptr<const ModelMatrices> model;
  std::vector<Parameter> parameters;  ///< all of the model
  double level = 0, quantile = 0;     ///< of the intervals: zeta reaches -quantile and quantile at their ends
  double cutoff = 0;                  ///< points go this far in zeta (lme4's alphamax = 0.01)
  double deviance = 0;                ///< at the ML estimates
  ParameterState estimates;
  bool certified = false;  ///< those are a certified minimum
  std::vector<ParameterProfile> profiles;
  int evaluations = 0;
  double seconds = 0;
};

/// By ML, whatever a fit would use: with REML the deviance is no function of the fixed effects.
/// @throws InputError for a label that is no parameter's, or a level outside (0, 1); ModelError; ComputationError
Profile profile(const std::shared_ptr<const ModelMatrices>& matrices, const ProfileOptions& options = {});

}  // namespace batchlmm
