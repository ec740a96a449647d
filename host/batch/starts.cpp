#include "host/batch/starts.hpp"

#include <Eigen/Core>
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
    // its corner.
    const int k = s.term[b].k;
    double* l = starts.data() + s.term[b].lambda;
    const Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> factor(l, k, k);
    if (k > 1 && factor.isZero(0))
      for (int i = 0; i < k; ++i) l[i * k + i] = std::sqrt(0.1 / s.term[b].scale);
  }
  for (const std::vector<double>& start : default_starts(model))
    starts.insert(starts.end(), start.begin(), start.end());
  return starts;
}

}  // namespace batchlmm
