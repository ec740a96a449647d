/// @file
/// What the rows of a fit say about it: residuals, leverages, influence; and how much of the variance it explains.
#pragma once

#include <Eigen/Core>
#include <vector>

#include "host/inference/joint_covariance.hpp"

namespace batchlmm {

/// Of each row used, n entries each; names are those of broom.mixed's `augment` without the dots.
struct RowDiagnostics {
  Eigen::VectorXd fitted;           ///< X beta + offset + Z b
  Eigen::VectorXd fixed;            ///< X beta + offset
  Eigen::VectorXd residual;         ///< y - fitted (lme4: "response" and, without weights, "pearson")
  Eigen::VectorXd scaled;           ///< residual / sigma
  Eigen::VectorXd standardized;     ///< residual / (sigma sqrt(1 - hat)); NaN where hat is 1
  Eigen::VectorXd hat;              ///< leverage (lme4's `hatvalues`)
  Eigen::VectorXd cooks_distance;   ///< lme4's `cooks.distance`; NaN where hat is 1
  double effective_parameters = 0;  ///< sum of the leverages: trace of the hat matrix
};

RowDiagnostics row_diagnostics(const Fit& fit, const JointCovariance& joint);

/// Parts of the response's variance, and what follows of them (Nakagawa and Schielzeth 2013; with random slopes Johnson
/// 2014), as R's performance (`r2_nakagawa`, `icc`) and MuMIn (`r.squaredGLMM`) have them.
struct ExplainedVariance {
  double fixed = 0;            ///< sample variance (n - 1) of X beta
  std::vector<double> random;  ///< per term: mean of z' cov(b) z over the rows
  double residual = 0;         ///< sigma^2
  double r2_marginal = 0;      ///< fixed / all
  double r2_conditional = 0;   ///< (fixed + random) / all
  double icc_adjusted = 0;     ///< random / (random + residual)
  double icc_unadjusted = 0;   ///< random / all
};

ExplainedVariance explained_variance(const Fit& fit);

}  // namespace batchlmm
