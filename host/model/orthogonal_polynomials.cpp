#include "host/model/orthogonal_polynomials.hpp"

#include <cmath>

namespace batchlmm {

Eigen::MatrixXd orthogonal_polynomials(const Eigen::VectorXd& points, int degree) {
  Eigen::VectorXd x = points.array() - points.mean();
  const double scale = x.cwiseAbs().maxCoeff();
  if (scale > 0) x /= scale;

  const Eigen::Index m = points.size();
  Eigen::MatrixXd basis(m, degree + 1);
  basis.col(0).setConstant(1 / std::sqrt(static_cast<double>(m)));
  for (int d = 1; d <= degree; ++d) {
    // x times the one before spans what is new and keeps the sign of the leading coefficient; the second pass of
    // Gram-Schmidt makes the result orthogonal to rounding.
    Eigen::VectorXd next = x.cwiseProduct(basis.col(d - 1));
    for (int pass = 0; pass < 2; ++pass)
      for (int j = 0; j < d; ++j) next -= basis.col(j).dot(next) * basis.col(j);
    basis.col(d) = next / next.norm();
  }
  return basis.rightCols(degree);
}

Eigen::MatrixXd PolynomialRecurrence::at(const Eigen::VectorXd& points) const {
  const Eigen::VectorXd t = (points.array() - center) / scale;
  Eigen::MatrixXd basis(points.size(), alpha.size());
  Eigen::VectorXd before = Eigen::VectorXd::Zero(points.size()),
                  last = Eigen::VectorXd::Constant(points.size(), constant);
  for (Eigen::Index d = 0; d < alpha.size(); ++d) {
    basis.col(d) = ((t.array() - alpha[d]) * last.array() - (d > 0 ? beta[d - 1] : 0.0) * before.array()) / beta[d];
    before = last;
    last = basis.col(d);
  }
  return basis;
}

PolynomialRecurrence polynomial_recurrence(const Eigen::VectorXd& points, const Eigen::MatrixXd& basis) {
  PolynomialRecurrence recurrence;
  recurrence.center = points.mean();
  Eigen::VectorXd t = points.array() - recurrence.center;
  if (const double scale = t.cwiseAbs().maxCoeff(); scale > 0) recurrence.scale = scale;
  t /= recurrence.scale;
  recurrence.constant = 1 / std::sqrt(static_cast<double>(points.size()));
  recurrence.alpha.resize(basis.cols());
  recurrence.beta.resize(basis.cols());
  Eigen::VectorXd last = Eigen::VectorXd::Constant(points.size(), recurrence.constant);
  for (Eigen::Index d = 0; d < basis.cols(); ++d) {
    const Eigen::VectorXd product = t.cwiseProduct(last);
    recurrence.alpha[d] = product.dot(last);
    recurrence.beta[d] = product.dot(basis.col(d));
    last = basis.col(d);
  }
  return recurrence;
}

}  // namespace batchlmm
