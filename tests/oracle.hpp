/// @file
/// The plain truth for the tests: the criterion from its definition with the dense n x n covariance matrix, and small
/// random models.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <cmath>
#include <memory>
#include <numbers>
#include <random>
#include <string>

#include "host/model/model.hpp"

namespace batchlmm::oracle {

/// Z of one term, n x (levels k), level by level.
inline Eigen::MatrixXd dense_z(const RandomTerm& term) {
  const Eigen::Index n = term.z.rows(), k = term.z.cols();
  Eigen::MatrixXd z = Eigen::MatrixXd::Zero(n, k * static_cast<Eigen::Index>(term.levels.size()));
  for (Eigen::Index i = 0; i < n; ++i) z.row(i).segment(term.level_of_row[i] * k, k) = term.z.row(i);
  return z;
}

/// -2 log-likelihood (ML) or REML criterion at user-scale lambdas (per model term), from y ~ N(X beta, sigma^2 (I + Z
/// Lambda Lambda' Z')).
inline double criterion(const ModelMatrices& m, const std::vector<Eigen::MatrixXd>& lambda, Method method) {
  const Eigen::Index n = m.y.size(), p = m.X.cols();
  Eigen::MatrixXd V = Eigen::MatrixXd::Identity(n, n);
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const Eigen::MatrixXd z = dense_z(m.random[t]);
    const Eigen::Index k = lambda[t].rows();
    Eigen::MatrixXd zl(z.rows(), z.cols());
    for (Eigen::Index l = 0; l < z.cols() / k; ++l) zl.middleCols(l * k, k) = z.middleCols(l * k, k) * lambda[t];
    V += zl * zl.transpose();
  }
  const Eigen::LLT<Eigen::MatrixXd> llt(V);
  const Eigen::MatrixXd x = llt.matrixL().solve(m.X);
  const Eigen::VectorXd y = llt.matrixL().solve(m.y - m.offset);
  const Eigen::MatrixXd xx = x.transpose() * x;
  const Eigen::LLT<Eigen::MatrixXd> xl(xx);
  const double r2 = p ? (y - x * xl.solve(x.transpose() * y)).squaredNorm() : y.squaredNorm();
  double d = 2 * Eigen::MatrixXd(llt.matrixL()).diagonal().array().log().sum();
  double degrees = static_cast<double>(n);
  if (method == Method::reml) {
    degrees -= static_cast<double>(p);
    if (p) d += 2 * Eigen::MatrixXd(xl.matrixL()).diagonal().array().log().sum();
  }
  return d + degrees * (1 + std::log(2 * std::numbers::pi * r2 / degrees));
}

enum class Kind { single, nested, crossed, partially_crossed, nested_and_crossed, deep, same_factor };

/// A random model of the given kind: unbalanced, with slopes where `k` > 1.
inline std::shared_ptr<ModelMatrices> random_model(Kind kind, int k, std::uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> normal;
  const auto pick = [&](int n) { return static_cast<int>(rng() % static_cast<std::uint64_t>(n)); };
  auto m = std::make_shared<ModelMatrices>();
  const int n = 40 + pick(50), p = 1 + pick(3);
  m->formula = "random";
  m->y.resize(n);
  m->offset = Eigen::VectorXd::Zero(n);
  m->X.resize(n, p);
  for (int i = 0; i < n; ++i) {
    m->X(i, 0) = 1;
    for (int c = 1; c < p; ++c) m->X(i, c) = normal(rng);
    m->rows.push_back(static_cast<std::size_t>(i));
  }
  const auto add = [&](const std::string& group, int terms_k, const std::vector<std::int32_t>& raw) {
    RandomTerm t;
    t.group = group;
    std::vector<int> code(1000, -1);
    for (std::int32_t l : raw) code[l] = 0;
    for (int l = 0; l < 1000; ++l)
      if (code[l] == 0) {
        code[l] = static_cast<int>(t.levels.size());
        t.levels.push_back(std::to_string(l));
      }
    for (std::int32_t l : raw) t.level_of_row.push_back(code[l]);
    t.z.resize(n, terms_k);
    for (int i = 0; i < n; ++i) {
      t.z(i, 0) = 1;
      for (int c = 1; c < terms_k; ++c) t.z(i, c) = c < p ? m->X(i, c) : normal(rng);
    }
    for (int c = 0; c < terms_k; ++c) t.names.push_back("z" + std::to_string(c));
    m->random.push_back(std::move(t));
  };
  std::vector<std::int32_t> a(n), b(n), c(n);
  const int A = 6 + pick(6), B = 3 + pick(2);
  for (int i = 0; i < n; ++i) {
    const int skew = pick(3) ? pick(A) : 0;  // unbalanced
    a[i] = i < A ? i : skew;
    b[i] = i < B ? i : pick(B);
    c[i] = i < 2 ? i : pick(2);
    if (kind == Kind::nested || kind == Kind::nested_and_crossed || kind == Kind::deep) b[i] = a[i] % B;
    if (kind == Kind::deep) c[i] = b[i] % 2;
    if (kind == Kind::partially_crossed && pick(4)) b[i] = a[i] % B;
  }
  add("a", k, a);
  if (kind == Kind::same_factor)
    add("a", 1, a), m->random.back().z = Eigen::VectorXd::NullaryExpr(n, [&] { return normal(rng); });
  if (kind != Kind::single && kind != Kind::same_factor) add("b", kind == Kind::crossed ? k : 1 + pick(k), b);
  if (kind == Kind::nested_and_crossed || kind == Kind::deep) add("c", 1, c);
  std::stable_sort(m->random.begin(), m->random.end(),
                   [](const RandomTerm& x, const RandomTerm& y) { return x.levels.size() > y.levels.size(); });
  m->y = m->X.rowwise().sum() * 3.0;
  for (const RandomTerm& t : m->random) {
    Eigen::MatrixXd u = Eigen::MatrixXd::NullaryExpr(static_cast<Eigen::Index>(t.levels.size()), t.z.cols(),
                                                     [&] { return normal(rng); });
    for (int i = 0; i < n; ++i) m->y[i] += t.z.row(i).dot(u.row(t.level_of_row[i]));
  }
  for (int i = 0; i < n; ++i) m->y[i] += normal(rng);
  return m;
}

}  // namespace batchlmm::oracle
