/// @file
/// The acceleration of BCa intervals (Efron 1987, J. Am. Stat. Assoc. 82) without refits.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <memory>
#include <vector>

#include "host/inference/resample.hpp"
#include "host/inference/variance_components.hpp"

namespace batchlmm {

/// Of quantities that depend on a fit's fixed effects and variance components, given by their gradients. Takes dense
/// matrices over all random effects.
class Acceleration {
public:
  /// @throws ModelError where the matrices do not find room in memory
  explicit Acceleration(const Fit& fit);

  /// The variance components that gradients are taken by (VarianceComponents::gamma).
  [[nodiscard]] const Eigen::VectorXd& gamma() const { return components_.gamma; }

  /// For replicates drawn from the model: a sixth of the skewness of the score in the least favourable direction mu =
  /// I^{-1} grad, I the expected information (Efron 1987, section 7). The score of beta is normal, so that only the
  /// covariances' part is skew: with M = V^{-1/2} (sum_r mu_r G_r) V^{-1/2} it is tr M^3 / (tr M^2 / 2)^{3/2} (by REML
  /// P in place of V^{-1}, Harville's error contrasts), plus 3 a'Ma over the same where the quantity depends on both.
  /// @param by_beta, by_gamma  the quantity's gradient: p, m + 1
  [[nodiscard]] double parametric(const Eigen::VectorXd& by_beta, const Eigen::VectorXd& by_gamma);

  /// For replicates drawn from clusters of rows: sum L^3 / (6 (sum L^2)^{3/2}) of the infinitesimal jackknife's
  /// influence values L (Efron and Tibshirani 1993, section 22.6).
  [[nodiscard]] double nonparametric(const Eigen::VectorXd& by_beta, const Eigen::VectorXd& by_gamma,
                                     const std::vector<std::vector<int>>& clusters);

  /// Derivatives of the estimates by the weight of each row, at weights 1: V(w) = Z Sigma Z' + sigma^2 diag(1 / w), so
  /// that weight 0 is a row left out (Cook 1986's case weights). Closed form: the implicit function theorem on the
  /// criterion's derivatives.
  /// @return n x (p + m + 1): beta, gamma
  [[nodiscard]] const Eigen::MatrixXd& influence();

private:
  /// One entry of one term's covariance matrix.
  struct Entry {
    int term = 0;
    Eigen::Index row = 0, column = 0;
  };
  void expand_forms();

  const Fit& fit_;
  VarianceComponents components_;
  std::vector<Entry> entries_;
  std::vector<Eigen::Index> first_;        ///< per term: its first random effect
  Eigen::MatrixXd z_;                      ///< n x q
  Eigen::MatrixXd zv_, zp_;                ///< q x n: Z'V^{-1}, Z'P
  Eigen::MatrixXd xv_;                     ///< p x n: X'V^{-1}
  Eigen::VectorXd diagonal_;               ///< n: of V^{-1}
  std::vector<Eigen::MatrixXd> directed_;  ///< per component q x q; empty until they are needed, as what follows
  Eigen::VectorXd alpha_;
  Eigen::LDLT<Eigen::MatrixXd> information_;
  double degrees_ = 0;
  Eigen::MatrixXd influence_;  ///< empty until it is asked for
};

}  // namespace batchlmm
