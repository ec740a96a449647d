#include "host/model/gauge.hpp"

#include <Eigen/QR>
#include <cmath>

namespace batchlmm {

Gauge make_gauge(const Eigen::MatrixXd& matrix) {
  const Eigen::Index n = matrix.rows(), k = matrix.cols();
  Gauge gauge{matrix, Eigen::MatrixXd::Identity(k, k)};
  if (k == 0 || n < k) return gauge;
  // Columns are scaled first, so that the rank decision does not depend on their units.
  const Eigen::VectorXd norms = matrix.colwise().norm();
  if (norms.minCoeff() <= 0 || !norms.allFinite()) return gauge;
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(matrix * norms.cwiseInverse().asDiagonal());
  Eigen::MatrixXd r = qr.matrixQR().topRows(k).triangularView<Eigen::Upper>();
  Eigen::VectorXd sign = Eigen::VectorXd::Ones(k);
  for (Eigen::Index i = 0; i < k; ++i) {
    if (std::abs(r(i, i)) < 1e-10) return gauge;
    if (r(i, i) < 0) sign[i] = -1;
  }
  const double root = std::sqrt(static_cast<double>(n));
  const Eigen::MatrixXd q = qr.householderQ() * Eigen::MatrixXd::Identity(n, k);
  gauge.columns = q * (root * sign).asDiagonal();
  gauge.map = (sign / root).asDiagonal() * r * norms.asDiagonal();
  return gauge;
}

double log_abs_determinant(const Gauge& gauge) { return gauge.map.diagonal().cwiseAbs().array().log().sum(); }

}  // namespace batchlmm
