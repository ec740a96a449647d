/// @file
/// Re-gauging of X and of each term's model matrix by a QR of its rows: the kernels work with columns of mean square 1
/// that are orthogonal over the rows, so that a date column around 1e6 costs no digits. One map per term, undone on T,
/// beta and log|R_X|.
#pragma once

#include <Eigen/Core>

namespace batchlmm {

/// original = columns * map, with `columns` of mean square 1.
struct Gauge {
  Eigen::MatrixXd columns;  ///< n x k
  Eigen::MatrixXd map;      ///< k x k, upper triangular, invertible
};

/// @param matrix  n x k, n >= 1. Where it has not full column rank (or has more columns than rows) the map is the
/// identity.
Gauge make_gauge(const Eigen::MatrixXd& matrix);

/// The lower triangular lambda of a term in the user's coordinates, non-negative diagonal, from any square factor of
/// the T of its gauged columns.
/// @param map            k x k upper triangular: the term's gauge
/// @param kernel_lambda  k x k with T = lambda lambda'
Eigen::MatrixXd user_lambda(const Eigen::Ref<const Eigen::MatrixXd>& map, const Eigen::MatrixXd& kernel_lambda);

/// log|det map|
double log_abs_determinant(const Gauge& gauge);

}  // namespace batchlmm
