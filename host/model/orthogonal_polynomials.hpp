/// @file
/// Orthogonal polynomials over given points.
#pragma once

#include <Eigen/Core>

namespace batchlmm {

/// Orthonormal columns of degree 1 ... `degree` over the points, each orthogonal to the constant and with a positive
/// leading coefficient (as R's `poly` and `contr.poly`).
/// @param points  m values, more than `degree` of them distinct
/// @return m x degree
Eigen::MatrixXd orthogonal_polynomials(const Eigen::VectorXd& points, int degree);

/// The same polynomials at other points, by the recurrence that orthogonal polynomials have (Kennedy and Gentle 1980,
/// "Statistical Computing", pages 343-344; R's `predict` of `poly`).
struct PolynomialRecurrence {
  double center = 0, scale = 1;  ///< t = (x - center) / scale
  double constant = 0;           ///< value of degree 0
  Eigen::VectorXd alpha, beta;   ///< degree: beta_d P_d = (t - alpha_d) P_{d-1} - beta_{d-1} P_{d-2}

  /// @return points x degree
  [[nodiscard]] Eigen::MatrixXd at(const Eigen::VectorXd& points) const;
};

/// @param basis  orthogonal_polynomials(points, degree)
PolynomialRecurrence polynomial_recurrence(const Eigen::VectorXd& points, const Eigen::MatrixXd& basis);

}  // namespace batchlmm
