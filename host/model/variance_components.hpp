/// @file
/// What the covariance parameters do to a fitted model, in closed form: derivatives of the criterion and of the fixed
/// effects' covariance by the entries of the random effects' covariance matrices and the residual variance.
///
/// V = gamma_0 I + sum_r gamma_r G_r is linear in these parameters, G_r = Z_b (I (x) E_r) Z_b', so that everything
/// follows from Z'V^{-1}Z, Z'V^{-1}X and Z'Py; what involves the residual variance itself follows from
/// gamma_0 V^{-2} = V^{-1} - sum_r gamma_r V^{-1} G_r V^{-1}.
#pragma once

#include <Eigen/Core>
#include <vector>

#include "host/model/fitted_model.hpp"

namespace batchlmm {

struct VarianceComponents {
  /// Entries of Sigma_b = sigma^2 lambda lambda' of every term (as FittedModel::lambda), packed lower triangles row by
  /// row (off-diagonal ones count both places), and last sigma^2: m + 1.
  Eigen::VectorXd gamma;
  Eigen::MatrixXd phi;                          ///< p x p: (X'V^{-1}X)^{-1}, the fixed effects' covariance
  std::vector<Eigen::MatrixXd> p;               ///< per parameter p x p: -X'V^{-1} G_r V^{-1} X, so dphi = -phi p phi
  std::vector<std::vector<Eigen::MatrixXd>> q;  ///< per pair p x p: X'V^{-1} G_r V^{-1} G_s V^{-1} X
  Eigen::MatrixXd traces;                       ///< (m + 1)^2: tr(V^{-1} G_r V^{-1} G_s)
  Eigen::VectorXd gradient;                     ///< of the fit's criterion, not profiled: m + 1
  Eigen::MatrixXd hessian;                      ///< the same's second derivatives, (m + 1)^2
};

/// At the fit's own parameters. Takes dense matrices over all random effects.
/// @throws ModelError where these do not find room in memory
VarianceComponents variance_components(const FittedModel& fit);

}  // namespace batchlmm
