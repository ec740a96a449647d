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

}  // namespace batchlmm
