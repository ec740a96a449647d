// Accelerations of BCa intervals: closed forms, the law of the score they are the skewness of, and derivatives by case
// weights against refits.
#include "host/inference/acceleration.hpp"

#include <gtest/gtest.h>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <cmath>
#include <random>

#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using oracle::Kind;

/// g groups of m rows, one random intercept.
std::shared_ptr<ModelMatrices> one_way(int g, int m, std::uint64_t seed) {
  auto out = std::make_shared<ModelMatrices>();
  const Index n = static_cast<Index>(g) * m;
  out->formula = "y ~ 1 + (1 | g)";
  out->response = "y";
  out->offset = VectorXd::Zero(n);
  out->X = MatrixXd::Ones(n, 1);
  out->x_names = {"(Intercept)"};
  RandomTerm& term = out->random.emplace_back();
  term.group = "g";
  term.names = {"(Intercept)"};
  term.text = "1 | g";
  term.z = MatrixXd::Ones(n, 1);
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> normal;
  out->y.resize(n);
  for (int j = 0; j < g; ++j) {
    term.levels.push_back("g" + std::to_string(j));
    const double b = 2 * normal(rng);
    for (int i = 0; i < m; ++i) {
      term.level_of_row.push_back(j);
      out->rows.push_back(static_cast<std::size_t>(j * m + i));
      out->y[j * m + i] = 10 + b + normal(rng);
    }
  }
  return out;
}

TEST(Acceleration, OfABalancedOneWayLayoutIsThatOfChiSquare) {
  // sigma^2 is a chi-square of n - g degrees over them, and sigma^2 + m tau^2 one of g - 1 (REML), independent of it.
  // Efron (1987): a = sqrt(8 / df) / 6 for the scale of a chi-square, and any monotone function of it.
  const int g = 8, m = 5;
  const Fit f = fit(one_way(g, m, 3), Method::reml);
  ASSERT_FALSE(f.singular);
  Acceleration acceleration(f);
  const VectorXd none = VectorXd::Zero(1);

  EXPECT_NEAR(acceleration.parametric(none, Eigen::Vector2d(0, 1)), std::sqrt(8.0 / (g * m - g)) / 6, 1e-10);
  EXPECT_NEAR(acceleration.parametric(none, Eigen::Vector2d(m, 1)), std::sqrt(8.0 / (g - 1)) / 6, 1e-10);
  EXPECT_NEAR(acceleration.parametric(none, Eigen::Vector2d(0, 7)), std::sqrt(8.0 / (g * m - g)) / 6, 1e-10);
  EXPECT_NEAR(acceleration.parametric(none, Eigen::Vector2d(0, -1)), -std::sqrt(8.0 / (g * m - g)) / 6, 1e-10);
  EXPECT_EQ(acceleration.parametric(VectorXd::Ones(1), Eigen::Vector2d(0, 0)), 0);
}

TEST(Acceleration, IsTheSkewnessOfTheScoreInTheLeastFavourableDirection) {
  // The score of (beta, gamma) from dense matrices, for any direction; its cumulants by the eigenvalues of
  // V^{-1/2} dV V^{-1/2}, the textbook's sums over a quadratic form's terms.
  for (const Kind kind : {Kind::single, Kind::nested, Kind::crossed}) {
    const auto model = oracle::random_model(kind, kind == Kind::single ? 2 : 1, 21);
    const Fit f = fit(model, Method::ml);
    Acceleration acceleration(f);
    const Index n = model->y.size(), p = model->X.cols();
    std::vector<MatrixXd> g;
    MatrixXd v = f.sigma * f.sigma * MatrixXd::Identity(n, n);
    for (std::size_t t = 0; t < model->random.size(); ++t) {
      const MatrixXd z = oracle::dense_z(model->random[t]);
      const Index k = model->random[t].z.cols(), levels = static_cast<Index>(model->random[t].levels.size());
      const auto add = [&](const MatrixXd& e) {
        MatrixXd spread = MatrixXd::Zero(k * levels, k * levels);
        for (Index l = 0; l < levels; ++l) spread.block(l * k, l * k, k, k) = e;
        return MatrixXd(z * spread * z.transpose());
      };
      v += add(f.sigma * f.sigma * f.random[t].lambda * f.random[t].lambda.transpose());
      for (Index i = 0; i < k; ++i)
        for (Index j = 0; j <= i; ++j) {
          MatrixXd e = MatrixXd::Zero(k, k);
          e(i, j) = e(j, i) = 1;
          g.push_back(add(e));
        }
    }
    g.push_back(MatrixXd::Identity(n, n));
    const MatrixXd inverse = v.llt().solve(MatrixXd::Identity(n, n)), root = v.llt().matrixL();
    const auto m = static_cast<Index>(g.size());
    MatrixXd information(m, m);
    for (Index r = 0; r < m; ++r)
      for (Index s = 0; s < m; ++s) information(r, s) = 0.5 * (inverse * g[r] * inverse * g[s]).trace();
    const MatrixXd phi = (model->X.transpose() * inverse * model->X).llt().solve(MatrixXd::Identity(p, p));
    for (int trial = 0; trial < 3; ++trial) {
      const VectorXd by_beta = trial == 0 ? VectorXd(VectorXd::Zero(p)) : VectorXd(VectorXd::LinSpaced(p, 0.3, 1));
      VectorXd by_gamma(m);
      for (Index r = 0; r < m; ++r) by_gamma[r] = std::cos(1.3 * static_cast<double>(r) + trial);
      const VectorXd mu = information.ldlt().solve(by_gamma);
      MatrixXd dv = MatrixXd::Zero(n, n);
      for (Index r = 0; r < m; ++r) dv += mu[r] * g[r];
      const MatrixXd half = root.triangularView<Eigen::Lower>().solve(dv);
      const MatrixXd form = root.triangularView<Eigen::Lower>().solve(half.transpose());
      const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(form);
      const VectorXd linear =
          eigen.eigenvectors().transpose() * root.triangularView<Eigen::Lower>().solve(model->X * phi * by_beta);
      double second = 0, third = 0;
      for (Index i = 0; i < n; ++i) {
        const double l = eigen.eigenvalues()[i], a = linear[i];
        second += 0.5 * l * l + a * a;
        third += l * l * l + 3 * a * a * l;
      }

      EXPECT_NEAR(acceleration.parametric(by_beta, by_gamma), third / (6 * second * std::sqrt(second)), 1e-9);
    }
  }
}

/// The criterion with frequencies, from its definition, as a function of gamma.
class DenseCriterion {
public:
  DenseCriterion(const Fit& fit, const VectorXd& gamma) : model_(*fit.model), reml_(fit.method == Method::reml) {
    const Index n = model_.y.size();
    for (std::size_t t = 0; t < model_.random.size(); ++t) {
      const MatrixXd z = oracle::dense_z(model_.random[t]);
      const Index k = model_.random[t].z.cols();
      for (Index i = 0; i < k; ++i)
        for (Index j = 0; j <= i; ++j) {
          MatrixXd v = MatrixXd::Zero(n, n);
          for (Index l = 0; l < z.cols() / k; ++l) {
            v += z.col(l * k + i) * z.col(l * k + j).transpose();
            if (i != j) v += z.col(l * k + j) * z.col(l * k + i).transpose();
          }
          g_.push_back(v);
        }
    }
    EXPECT_EQ(static_cast<Index>(g_.size()) + 1, gamma.size());
  }
  /// Row i stands w_i times in the data, with its levels. @param[out] beta  at this gamma
  double by_rows(const VectorXd& gamma, const VectorXd& w, VectorXd& beta) const {
    MatrixXd v = (gamma[gamma.size() - 1] * w.cwiseInverse()).asDiagonal();
    for (std::size_t r = 0; r < g_.size(); ++r) v += gamma[static_cast<Index>(r)] * g_[r];
    const double more = (w.array() - 1).sum() * std::log(gamma[gamma.size() - 1]) + w.array().log().sum();
    return more + assembled(v, VectorXd::Ones(w.size()), beta);
  }
  /// Row i's cluster stands w_i times in the data, with levels of its own.
  double by_clusters(const VectorXd& gamma, const VectorXd& w, VectorXd& beta) const {
    MatrixXd v = gamma[gamma.size() - 1] * MatrixXd::Identity(w.size(), w.size());
    for (std::size_t r = 0; r < g_.size(); ++r) v += gamma[static_cast<Index>(r)] * g_[r];
    return assembled(v, w, beta);
  }

private:
  [[nodiscard]] double assembled(const MatrixXd& v, const VectorXd& w, VectorXd& beta) const {
    const MatrixXd l = v.llt().matrixL();
    const MatrixXd inverse = v.llt().solve(MatrixXd::Identity(v.rows(), v.cols()));
    // Clusters are blocks of v: weights stand on either side.
    const MatrixXd weighted = w.asDiagonal() * inverse, xx = model_.X.transpose() * weighted * model_.X;
    const VectorXd y = model_.y - model_.offset;
    beta = xx.llt().solve(model_.X.transpose() * weighted * y);
    const VectorXd left = y - model_.X * beta;
    // log|V_u| of each cluster: the pivots of v in the order of its rows, cluster by cluster.
    double d = 2 * w.dot(l.diagonal().array().log().matrix()) + left.dot(weighted * left);
    if (reml_) d += 2 * MatrixXd(xx.llt().matrixL()).diagonal().array().log().sum();
    return d;
  }
  const ModelMatrices& model_;
  bool reml_;
  std::vector<MatrixXd> g_;
};

/// d(beta, gamma)/dw by the implicit function theorem on central differences of a criterion.
template <class Criterion>
VectorXd differences(const Criterion& criterion, const VectorXd& gamma, const VectorXd& direction, Index p) {
  const Index m = gamma.size(), n = direction.size();
  const VectorXd step = 1e-3 * gamma.cwiseAbs().cwiseMax(1e-2 * gamma.cwiseAbs().maxCoeff());
  const double h = 1e-3;
  VectorXd beta(p);
  const auto at = [&](const VectorXd& g, double w) {
    return criterion(g, VectorXd(VectorXd::Ones(n) + w * direction), beta);
  };
  MatrixXd hessian(m, m);
  VectorXd mixed(m), out(p + m);
  for (Index r = 0; r < m; ++r) {
    const VectorXd er = step[r] * VectorXd::Unit(m, r);
    for (Index s = 0; s < m; ++s) {
      const VectorXd es = step[s] * VectorXd::Unit(m, s);
      hessian(r, s) =
          (at(gamma + er + es, 0) - at(gamma + er - es, 0) - at(gamma - er + es, 0) + at(gamma - er - es, 0)) /
          (4 * step[r] * step[s]);
    }
    mixed[r] = (at(gamma + er, h) - at(gamma + er, -h) - at(gamma - er, h) + at(gamma - er, -h)) / (4 * step[r] * h);
  }
  out.tail(m) = -hessian.ldlt().solve(mixed);
  const auto beta_at = [&](double by) {
    (void)at(gamma + by * out.tail(m), by);
    return beta;
  };
  out.head(p) = (beta_at(h) - beta_at(-h)) / (2 * h);
  return out;
}

TEST(Acceleration, InfluenceIsTheDerivativeByFrequencies) {
  for (const Method method : {Method::ml, Method::reml})
    for (const Kind kind : {Kind::single, Kind::nested, Kind::crossed}) {
      auto model = oracle::random_model(kind, kind == Kind::single ? 2 : 1, 33);
      const Fit f = fit(model, method);
      ASSERT_FALSE(f.singular);
      Acceleration acceleration(f);
      const VectorXd gamma = acceleration.gamma();
      const DenseCriterion dense(f, gamma);
      const Index n = model->y.size(), p = model->X.cols();
      const auto compare = [&](const MatrixXd& found, Index row, const VectorXd& expected) {
        const VectorXd scale = found.cwiseAbs().colwise().maxCoeff();
        for (Index c = 0; c < found.cols(); ++c) EXPECT_NEAR(found(row, c), expected[c], 1e-3 * scale[c]) << c;
      };

      const MatrixXd rows = acceleration.by_rows();

      ASSERT_EQ(rows.rows(), n);
      for (const Index row : {Index{0}, Index{7}, n - 1})
        compare(rows, row,
                differences([&](const VectorXd& g, const VectorXd& w, VectorXd& b) { return dense.by_rows(g, w, b); },
                            gamma, VectorXd::Unit(n, row), p));
      const auto clusters = independent_clusters(*model);
      ASSERT_EQ(clusters == nullptr, kind == Kind::crossed);
      if (clusters == nullptr) continue;
      const MatrixXd of_clusters = acceleration.by_clusters(*clusters);
      ASSERT_EQ(of_clusters.rows(), static_cast<Index>(clusters->rows.size()));
      for (const Index u : {Index{0}, Index{2}, of_clusters.rows() - 1}) {
        VectorXd direction = VectorXd::Zero(n);
        for (const int row : clusters->rows[static_cast<std::size_t>(u)]) direction[row] = 1;
        compare(
            of_clusters, u,
            differences([&](const VectorXd& g, const VectorXd& w, VectorXd& b) { return dense.by_clusters(g, w, b); },
                        gamma, direction, p));
      }
    }
}

TEST(Acceleration, OfClustersIsTheJackknifes) {
  // The mean of a balanced layout is that of the clusters' means: their deviations are the influence values.
  const int g = 9, m = 4;
  const auto model = one_way(g, m, 12);
  const Fit f = fit(model, Method::reml);
  Acceleration acceleration(f);
  const auto clusters = independent_clusters(*model);
  ASSERT_NE(clusters, nullptr);
  double second = 0, third = 0;
  for (int j = 0; j < g; ++j) {
    const double d = model->y.segment(j * m, m).mean() - f.beta[0];
    second += d * d;
    third += d * d * d;
  }

  const MatrixXd influence = acceleration.by_clusters(*clusters);

  for (int j = 0; j < g; ++j) EXPECT_NEAR(influence(j, 0), (model->y.segment(j * m, m).mean() - f.beta[0]) / g, 1e-9);
  EXPECT_NEAR(Acceleration::nonparametric(VectorXd::Ones(1), VectorXd::Zero(2), influence),
              third / (6 * second * std::sqrt(second)), 1e-9);
}

}  // namespace
}  // namespace batchlmm
