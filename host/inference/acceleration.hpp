/// @file
/// The acceleration of BCa intervals (Efron 1987, J. Am. Stat. Assoc. 82) without refits.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <memory>
#include <vector>

#include "host/inference/fit.hpp"
#include "host/inference/resample.hpp"
#include "host/model/variance_components.hpp"

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

  /// For replicates drawn from independent clusters of rows: sum L^3 / (6 (sum L^2)^{3/2}) of the infinitesimal
  /// jackknife's influence values L, derivatives of the estimates by the frequency of each cluster (Efron and
  /// Tibshirani 1993, An Introduction to the Bootstrap, section 22.6).
  /// @param influence  by_clusters() or by_rows()
  [[nodiscard]] static double nonparametric(const Eigen::VectorXd& by_beta, const Eigen::VectorXd& by_gamma,
                                            const Eigen::MatrixXd& influence);

  /// Derivatives of the estimates by the frequencies of clusters at 1: cluster u stands w_u times in the data, each
  /// time with levels of its own. Closed form: the implicit function theorem on the criterion's derivatives.
  /// @param clusters  every grouping factor is nested in them
  /// @return clusters x (p + m + 1): beta, gamma
  [[nodiscard]] Eigen::MatrixXd by_clusters(const Clusters& clusters) const;
  /// The same by the frequencies of rows: row i stands w_i times in the data, with the levels that it has, so that its
  /// error's variance becomes sigma^2 / w_i.
  /// @return n x (p + m + 1)
  [[nodiscard]] Eigen::MatrixXd by_rows() const;

private:
  /// One entry of one term's covariance matrix.
  struct Entry {
    int term = 0;
    Eigen::Index row = 0, column = 0;
  };
  /// visit(level, i, j) for the levels of entry r's term: the random effects of its row and its column.
  template <class Visit>
  void for_levels(Eigen::Index r, const Visit& visit) const;
  void expand_forms();
  /// From derivatives of the score by the frequencies.
  /// @param score    units x (m + 1): of gamma's, beta following
  /// @param by_beta  units x p: of X'V^{-1}(y - X beta)
  [[nodiscard]] Eigen::MatrixXd influence(const Eigen::MatrixXd& score, const Eigen::MatrixXd& by_beta) const;
  /// X'V^{-1} V_r P y of all components: p x (m + 1).
  [[nodiscard]] Eigen::MatrixXd mixed() const;

  const Fit& fit_;
  VarianceComponents components_;
  std::vector<Entry> entries_;
  std::vector<Eigen::Index> first_;        ///< per term: its first random effect
  Eigen::MatrixXd z_;                      ///< n x q
  Eigen::MatrixXd zv_, zp_;                ///< q x n: Z'V^{-1}, Z'P
  Eigen::MatrixXd xv_;                     ///< p x n: X'V^{-1}
  Eigen::VectorXd zpy_;                    ///< q: Z'Py
  Eigen::VectorXd diagonal_;               ///< n: of V^{-1}
  std::vector<Eigen::MatrixXd> directed_;  ///< per component q x q; empty until they are needed, as what follows
  Eigen::VectorXd alpha_;
  Eigen::LDLT<Eigen::MatrixXd> information_;
  double degrees_ = 0;
};

}  // namespace batchlmm
