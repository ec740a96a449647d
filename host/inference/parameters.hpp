/// @file
/// A model's parameters as users ask for them, by the names of lme4's `confint` and of broom.mixed's `tidy`.
#pragma once

#include <Eigen/Core>
#include <string>
#include <string_view>
#include <vector>

#include "host/inference/fit.hpp"

namespace batchlmm {

enum class ParameterKind { fixed, sd, correlation, sigma };

/// One parameter. `term`, `row` and `column` are of an sd (row == column) or a correlation (row > column); a fixed
/// effect has its column of X in `row`.
struct Parameter {
  ParameterKind kind = ParameterKind::fixed;
  int term = 0;  ///< index into ModelMatrices::random
  int row = 0, column = 0;
  std::string label;      ///< lme4's `confint(oldNames = FALSE)`: "sd_Days|Subject", "cor_Days.(Intercept)|Subject"
  std::string effect;     ///< broom.mixed's: "fixed", "ran_pars"
  std::string group;      ///< broom.mixed's: the grouping factor, "Residual", or empty
  std::string tidy_term;  ///< broom.mixed's: "Days", "sd__Days", "cor__(Intercept).Days", "sd__Observation"
};

/// All parameters in the order of lme4's `confint`: each term's standard deviations and correlations column by column,
/// sigma, fixed effects.
std::vector<Parameter> model_parameters(const ModelMatrices& model);

/// The terms' relative covariance factors of a fit: Fit::random[t].lambda.
std::vector<Eigen::MatrixXd> term_lambdas(const Fit& fit);

/// Value of a parameter in the user's units: an sd of 0 makes its correlations NaN, as in TermCovariance.
/// @param beta    p
/// @param lambda  per term k x k, lower triangular (Fit::random[t].lambda)
double parameter_value(const Parameter& parameter, const Eigen::VectorXd& beta,
                       const std::vector<Eigen::MatrixXd>& lambda, double sigma);
double parameter_value(const Parameter& parameter, const Fit& fit);

/// The index of the parameter with this label, or with lme4's older name for it (".sig01", ..., ".sigma").
/// @throws InputError naming the nearest one
std::size_t find_parameter(const std::vector<Parameter>& parameters, std::string_view label);

}  // namespace batchlmm
