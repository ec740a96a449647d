/// @file
/// How well a fit's effects are known, given its covariance parameters: the joint covariance of the fixed effects'
/// estimates and the random effects' prediction errors (Henderson 1975, "Best linear unbiased estimation and
/// prediction under a selection model"), of which follow the conditional covariances of the modes, standard errors of
/// predictions, and leverages.
///
/// With W = Z Lambda and b = Lambda u, cov(beta^ - beta, u^ - u) is sigma^2 times the inverse of
///     [ W'W + I   W'X ]
///     [ X'W       X'X ].
/// Of the inverse of W'W + I only what is asked for is computed (modes_inverse.hpp). Nothing is as large as rows x
/// rows.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "host/inference/fit.hpp"

namespace batchlmm {

/// A row's part in one random-effects term: coefficients `z` of the modes of a level.
struct RowEffect {
  int term = 0;            ///< index into ModelMatrices::random
  std::int32_t level = 0;  ///< of its grouping factor
  Eigen::VectorXd z;       ///< k
};

class JointCovariance {
public:
  /// @throws ModelError where the factor does not find room in memory
  /// @throws ComputationError where the equations have no factor
  explicit JointCovariance(const Fit& fit);
  JointCovariance(JointCovariance&&) noexcept;
  JointCovariance& operator=(JointCovariance&&) noexcept;
  ~JointCovariance();

  /// cov(b_level | y, beta), k x k: what lme4's `ranef(condVar = TRUE)` gives.
  [[nodiscard]] Eigen::MatrixXd conditional(int term, std::int32_t level) const;
  /// Their square roots of the diagonals: levels x k, as Fit::modes[term].
  [[nodiscard]] Eigen::MatrixXd conditional_sd(int term) const;

  /// Variance of x'beta^ + sum z'b^ as a prediction of x'beta + sum z'b.
  /// @param x        p, in the user's columns
  /// @param effects  each term at most once
  [[nodiscard]] double variance(const Eigen::VectorXd& x, std::span<const RowEffect> effects) const;

  /// Diagonal of the hat matrix d fitted / d y of the fit's rows (lme4's `hatvalues`): n. Its sum is the effective
  /// number of parameters.
  [[nodiscard]] Eigen::VectorXd leverages() const;

private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace batchlmm
