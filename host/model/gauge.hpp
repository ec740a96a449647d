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

/// log|det map|
double log_abs_determinant(const Gauge& gauge);

}  // namespace batchlmm
