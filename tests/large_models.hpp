/// @file
/// Models for the criteria of large Schur complements, and comparisons between criteria.
#pragma once

#include <Eigen/Core>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "host/model/model.hpp"

namespace batchlmm::oracle {

/// Every dense Schur complement, even an empty one, counts as large.
inline constexpr int always_large = -1;

/// User-scale lambdas, per model term: models that order their terms differently can be compared.
inline std::vector<Eigen::MatrixXd> random_lambda(const ModelMatrices& matrices, bool singular) {
  std::mt19937_64 rng(99);
  std::normal_distribution<double> normal;
  std::vector<Eigen::MatrixXd> lambda;
  for (const RandomTerm& term : matrices.random) {
    const Eigen::Index k = term.z.cols();
    Eigen::MatrixXd l = Eigen::MatrixXd::NullaryExpr(k, k, [&] { return 0.7 * normal(rng); });
    if (singular) l.col(k - 1).setZero();
    lambda.push_back(l);
  }
  return lambda;
}

inline std::vector<double> kernel_lambda(const Model& model, const std::vector<Eigen::MatrixXd>& user) {
  const kernels::Shape& s = model.shape();
  std::vector<double> lambda(s.lambdas);
  for (int b = 0; b < s.terms; ++b) {
    const Eigen::MatrixXd l = model.from_user_lambda(b, user[model.term_of(b)]);
    for (int i = 0; i < l.rows(); ++i)
      for (int j = 0; j < l.cols(); ++j) lambda[s.term[b].lambda + i * l.cols() + j] = l(i, j);
  }
  return lambda;
}

inline double relative_error(const Eigen::MatrixXd& found, const Eigen::MatrixXd& expected) {
  if (expected.size() == 0) return 0;
  return (found - expected).cwiseAbs().maxCoeff() / (1e-3 + expected.cwiseAbs().maxCoeff());
}

/// Crossed factors on n rows, y without effects, three columns of X.
/// @param factors  levels and columns of z each, by decreasing levels
inline std::shared_ptr<ModelMatrices> crossed_levels(int n, const std::vector<std::pair<int, int>>& factors,
                                                     std::uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> normal;
  auto m = std::make_shared<ModelMatrices>();
  m->y = Eigen::VectorXd::NullaryExpr(n, [&] { return normal(rng); });
  m->offset = Eigen::VectorXd::Zero(n);
  m->X = Eigen::MatrixXd::NullaryExpr(n, 3, [&] { return normal(rng); });
  m->X.col(0).setOnes();
  for (const auto& [levels, k] : factors) {
    RandomTerm t;
    t.group = std::to_string(levels);
    for (int l = 0; l < levels; ++l) t.levels.push_back(std::to_string(l));
    for (int i = 0; i < n; ++i) t.level_of_row.push_back(i < levels ? i : static_cast<int>(rng() % levels));
    t.names.resize(k);
    t.z = Eigen::MatrixXd::NullaryExpr(n, k, [&] { return normal(rng); });
    t.z.col(0).setOnes();
    m->random.push_back(t);
  }
  return m;
}

}  // namespace batchlmm::oracle
