#include "host/model/orthogonal_polynomials.hpp"

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

}  // namespace batchlmm
