#include "host/model/dense_term_inverses.hpp"

#include <Eigen/Eigenvalues>

namespace batchlmm {

bool invert_dense_t(const kernels::Shape& shape, const std::vector<Eigen::MatrixXd>& lambda,
                    const std::function<double(int b)>& mean, std::vector<Eigen::MatrixXd>& inverse) {
  constexpr double least = 1e-4, largest_condition = 1e6;
  inverse.resize(shape.terms);
  for (int b = 0; b < shape.terms; ++b) {
    const kernels::TermShape& term = shape.term[b];
    if (term.stage == 0) continue;
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(lambda[b] * lambda[b].transpose());
    const double smallest = eigen.eigenvalues()[0];
    if (!(smallest * mean(b) > least) || eigen.eigenvalues()[term.k - 1] > largest_condition * smallest) return false;
    inverse[b] =
        eigen.eigenvectors() * eigen.eigenvalues().cwiseInverse().asDiagonal() * eigen.eigenvectors().transpose();
  }
  return true;
}

}  // namespace batchlmm
