#include "host/model/gauge.hpp"

#include <Eigen/QR>
#include <cmath>

namespace batchlmm {
namespace {

/// The upper triangular factor of a QR, its diagonal positive.
Eigen::MatrixXd upper_factor(const Eigen::MatrixXd& matrix) {
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(matrix);
  Eigen::MatrixXd r = qr.matrixQR().topRows(matrix.cols()).triangularView<Eigen::Upper>();
  for (Eigen::Index i = 0; i < r.rows(); ++i)
    if (r(i, i) < 0) r.row(i) = -r.row(i);
  return r;
}

/// matrix * r^{-1}, row by row, so that equal rows stay equal to the bit.
Eigen::MatrixXd divide(Eigen::MatrixXd matrix, const Eigen::MatrixXd& r) {
  for (Eigen::Index c = 0; c < matrix.cols(); ++c) {
    for (Eigen::Index j = 0; j < c; ++j) matrix.col(c) -= r(j, c) * matrix.col(j);
    matrix.col(c) /= r(c, c);
  }
  return matrix;
}

}  // namespace

Gauge make_gauge(const Eigen::MatrixXd& matrix) {
  const Eigen::Index n = matrix.rows(), k = matrix.cols();
  Gauge gauge{matrix, Eigen::MatrixXd::Identity(k, k)};
  if (k == 0 || n < k) return gauge;
  // Columns are scaled first, so that the rank decision does not depend on their units.
  const Eigen::VectorXd norms = matrix.colwise().norm();
  if (norms.minCoeff() <= 0 || !norms.allFinite()) return gauge;
  const Eigen::MatrixXd scaled = matrix * norms.cwiseInverse().asDiagonal();
  const Eigen::MatrixXd r = upper_factor(scaled);
  if (r.diagonal().minCoeff() < 1e-10) return gauge;
  // Householder's Q has errors of its own in every row, which would hide the symmetry of a design with a column like
  // 1e6 + t. Divided by r, a row depends on its own values alone; a second pass makes the columns orthogonal to the
  // last digit.
  const Eigen::MatrixXd once = divide(scaled, r);
  const Eigen::MatrixXd again = upper_factor(once);
  const double root = std::sqrt(static_cast<double>(n));
  gauge.columns = divide(once, again) * root;
  gauge.map = (again * r * norms.asDiagonal()) / root;
  return gauge;
}

double log_abs_determinant(const Gauge& gauge) { return gauge.map.diagonal().cwiseAbs().array().log().sum(); }

}  // namespace batchlmm
