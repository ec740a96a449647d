#include "host/model/gauge.hpp"

#include <Eigen/QR>
#include <cmath>

namespace batchlmm {
namespace {

/// Householder's Q has errors of its own in every row, which grow with the number of rows and as the columns come near
/// to collinear: beyond these the rows are divided by R instead.
constexpr double nearly_collinear = 0.1;
constexpr Eigen::Index many_rows = 4000;

struct PositiveQr {
  explicit PositiveQr(const Eigen::MatrixXd& matrix) : qr(matrix) {
    const Eigen::Index k = matrix.cols();
    r = qr.matrixQR().topRows(k).triangularView<Eigen::Upper>();
    sign = Eigen::VectorXd::Ones(k);
    for (Eigen::Index i = 0; i < k; ++i)
      if (r(i, i) < 0) sign[i] = -1;
    r = sign.asDiagonal() * r;
  }
  Eigen::HouseholderQR<Eigen::MatrixXd> qr;
  Eigen::MatrixXd r;  ///< k x k, upper triangular, its diagonal not negative
  Eigen::VectorXd sign;
};

/// matrix * r^{-1}, row by row: equal rows stay equal to the bit.
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
  const PositiveQr first(scaled);
  if (first.r.diagonal().minCoeff() < 1e-10) return gauge;
  const double root = std::sqrt(static_cast<double>(n));
  if (first.r.diagonal().minCoeff() >= nearly_collinear && n < many_rows) {
    const Eigen::MatrixXd q = first.qr.householderQ() * Eigen::MatrixXd::Identity(n, k);
    gauge.columns = q * (root * first.sign).asDiagonal();
    gauge.map = (first.r / root) * norms.asDiagonal();
    return gauge;
  }
  // Rows that are equal must stay so, or the symmetry of the design is lost. The second pass
  // makes the columns orthogonal to the last digits.
  const Eigen::MatrixXd once = divide(scaled, first.r);
  const Eigen::MatrixXd r = PositiveQr(once).r;
  gauge.columns = divide(once, r) * root;
  gauge.map = (r * first.r * norms.asDiagonal()) / root;
  return gauge;
}

Eigen::MatrixXd user_lambda(const Eigen::Ref<const Eigen::MatrixXd>& map, const Eigen::MatrixXd& kernel_lambda) {
  const Eigen::Index k = kernel_lambda.rows();
  if (k == 1) return Eigen::MatrixXd::Constant(1, 1, std::abs(kernel_lambda(0, 0) / map(0, 0)));
  // z = columns * map, so b_kernel = map * b: lambda_user is the lower triangular factor of map^{-1} lambda. By QR, not
  // by squaring.
  const Eigen::MatrixXd factor = map.triangularView<Eigen::Upper>().solve(kernel_lambda);
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(factor.transpose());
  Eigen::MatrixXd lower = Eigen::MatrixXd(qr.matrixQR().topRows(k).triangularView<Eigen::Upper>()).transpose();
  for (Eigen::Index j = 0; j < k; ++j)
    if (lower(j, j) < 0) lower.col(j) = -lower.col(j);
  return lower;
}

double log_abs_determinant(const Gauge& gauge) { return gauge.map.diagonal().cwiseAbs().array().log().sum(); }

}  // namespace batchlmm
