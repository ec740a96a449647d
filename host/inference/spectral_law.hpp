/// @file
/// The exact null law of the likelihood-ratio statistic of a model's one variance component: its eigenvalues, and the
/// nodes at which every draw is looked at (kernels/spectral.hpp).
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <vector>

#include "host/model/method.hpp"
#include "host/model/model_matrices.hpp"
#include "kernels/spectral_law.hpp"

namespace batchlmm {

/// An eigenvalue and how often it occurs.
struct Eigenvalue {
  double value = 0;
  int count = 0;
};

class SpectralLaw {
public:
  /// @param matrices  one random-effects term with one coefficient; checked by check_model
  /// @param dropped   fixed effects that the null lacks (ML only)
  /// @throws ModelError where no residual degree of freedom is left beside the random effects, where these say nothing
  ///                    beyond the fixed effects, or where they do not fit into memory
  SpectralLaw(const ModelMatrices& matrices, Method method, int dropped);
  SpectralLaw(const SpectralLaw&) = delete;
  SpectralLaw& operator=(const SpectralLaw&) = delete;

  /// Of Z'PZ, above 0, ascending; eigenvalues that agree to 1e-9 of the largest are one.
  [[nodiscard]] const std::vector<Eigenvalue>& eigenvalues() const { return mu_; }
  /// Of Z'PZ (REML) or Z'Z (ML), above 0: those of the log-determinant.
  [[nodiscard]] const std::vector<Eigenvalue>& log_eigenvalues() const { return xi_; }
  [[nodiscard]] const kernels::SpectralLaw& kernel() const { return law_; }
  /// One eigenvalue: the statistic is a function of an F variate.
  [[nodiscard]] bool closed() const { return law_.closed; }
  /// P(statistic >= observed) by the F law; closed laws without dropped fixed effects only. At 0 it is 1.
  [[nodiscard]] double tail(double observed) const;
  /// P(statistic = 0), alike.
  [[nodiscard]] double zero() const;

  /// Statistics of draws first .. first + count - 1; a draw is a function of law, seed and index.
  /// @return how many had to be searched for several minima
  std::uint64_t draw(std::uint64_t seed, std::uint64_t first, std::uint64_t count, double* statistics) const;
  /// The statistic of a response.
  /// @param null_columns  X of the null (n x (p - dropped))
  [[nodiscard]] double statistic(const Eigen::VectorXd& response, const Eigen::MatrixXd& null_columns) const;

private:
  void lay_out_nodes();
  std::vector<Eigenvalue> mu_, xi_;
  std::vector<Eigen::MatrixXd> bases_;  ///< per eigenvalue: orthonormal directions of the response, n x count
  Eigen::MatrixXd x_basis_;             ///< n x p, orthonormal
  std::vector<double> ratio_, multiplicity_, log_ratio_, log_count_, x_, terms_, slope_, curvature_, slope_low_,
      slope_high_, curvature_low_;
  kernels::SpectralLaw law_;
};

}  // namespace batchlmm
