#include "host/batch/starts.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

namespace batchlmm {
namespace {

constexpr int many_columns = 100;

}  // namespace

std::vector<std::vector<double>> default_starts(const Model& model) {
  return default_starts(model.shape(), model.plan().schur);
}

std::vector<std::vector<double>> default_starts(const kernels::Shape& s, int schur) {
  // c l^2: a term's variance in a level's mean, relative to the error's there.
  const auto start = [&](auto ratio_of) {
    std::vector<double> lambda(s.lambdas, 0.0);
    for (int b = 0; b < s.terms; ++b)
      for (int i = 0; i < s.term[b].k; ++i) lambda[s.term[b].lambda + i * s.term[b].k + i] = std::sqrt(ratio_of(b));
    return lambda;
  };
  std::vector<std::vector<double>> starts;
  starts.push_back(start([](int) { return 1.0; }));
  if (schur > many_columns) return starts;
  starts.push_back(start([&](int b) { return 0.3 / s.term[b].scale; }));
  starts.push_back(start([](int) { return 10.0; }));
  if (s.terms > 1)
    for (int zero = 0; zero < s.terms; ++zero)
      starts.push_back(
          start([&](int b) { return b == zero ? (s.term[b].k == 1 ? 0.0 : 1e-3 / s.term[b].scale) : 1.0; }));
  return starts;
}

std::vector<double> shared_starts(const Model& model, const std::vector<double>& lambda) {
  const kernels::Shape& s = model.shape();
  std::vector<double> starts = lambda;
  for (int b = 0; b < s.terms; ++b) {
    // A generating T without full rank is no place to start for a term with several columns: the gradient vanishes at
    // a corner, and from a face the way back inside is long.
    const int k = s.term[b].k;
    if (k == 1) continue;
    using Factor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Eigen::Map<Factor> factor(starts.data() + s.term[b].lambda, k, k);
    const double inside = 0.1 / s.term[b].scale;
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(factor * factor.transpose());
    if (eigen.eigenvalues()[0] >= 0.1 * inside) continue;
    const Eigen::MatrixXd t =
        eigen.eigenvectors() * eigen.eigenvalues().cwiseMax(inside).asDiagonal() * eigen.eigenvectors().transpose();
    factor = Eigen::MatrixXd(t.llt().matrixL());
  }
  // Corners first: where there are several minima they are the ones that find the lower one.
  std::vector<std::vector<double>> others = default_starts(model);
  if (s.terms > 1 && others.size() > static_cast<std::size_t>(s.terms))
    std::rotate(others.begin(), others.end() - s.terms, others.end());
  for (const std::vector<double>& start : others) starts.insert(starts.end(), start.begin(), start.end());
  return starts;
}

}  // namespace batchlmm
