// Single fits: the worked example as published, invariances of the likelihood, boundaries, large offsets.
#include "host/inference/fit.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;

std::shared_ptr<ModelMatrices> politeness(const std::string& formula) {
  return std::make_shared<ModelMatrices>(
      model_matrices(parse_formula(formula), read_table(std::string(BATCHLMM_TEST_DATA) + "/politeness.csv")));
}

/// Winter (2013), "Linear models and linear mixed effects models in R", tutorial 2: the printed digits.
TEST(Fit, TheWorkedExampleAsPublished) {
  const Fit one = fit(politeness("frequency ~ attitude + (1|subject) + (1|scenario)"), Method::reml);
  EXPECT_NEAR(one.criterion, 793.5, 0.05);
  ASSERT_EQ(one.model->random[0].group, "scenario");
  EXPECT_NEAR(one.random[0].sd[0] * one.random[0].sd[0], 219, 0.5);
  EXPECT_NEAR(one.random[1].sd[0] * one.random[1].sd[0], 4015, 0.5);
  EXPECT_NEAR(one.sigma * one.sigma, 646, 0.5);
  EXPECT_NEAR(one.beta[0], 202.588, 5e-4);
  EXPECT_NEAR(one.beta[1], -19.695, 5e-4);

  const Fit two = fit(politeness("frequency ~ attitude + gender + (1|subject) + (1|scenario)"), Method::reml);
  EXPECT_NEAR(two.criterion, 775.5, 0.05);
  EXPECT_NEAR(two.random[0].sd[0] * two.random[0].sd[0], 219.5, 0.05);
  EXPECT_NEAR(two.random[1].sd[0] * two.random[1].sd[0], 615.6, 0.05);
  EXPECT_NEAR(two.sigma * two.sigma, 645.9, 0.05);
  const double beta[] = {256.846, -19.721, -108.516}, se[] = {16.116, 5.584, 21.013};
  for (int i = 0; i < 3; ++i) {
    EXPECT_NEAR(two.beta[i], beta[i], 5e-4);
    EXPECT_NEAR(std::sqrt(two.vcov(i, i)), se[i], 5e-4);
  }
  // coef(): intercepts by scenario and subject.
  EXPECT_NEAR(two.beta[0] + two.modes[0](0, 0), 243.3398, 5e-5);
  EXPECT_NEAR(two.beta[0] + two.modes[0](6, 0), 245.8426, 5e-5);
  EXPECT_NEAR(two.beta[0] + two.modes[1](0, 0), 242.9386, 5e-5);
  EXPECT_NEAR(two.beta[0] + two.modes[1](5, 0), 223.0857, 5e-5);
  EXPECT_TRUE(one.converged);
  EXPECT_TRUE(two.converged);
  EXPECT_EQ(two.model->rows_dropped, 1U);
}

TEST(Fit, DoesNotChangeWhenTheDataAreWrittenDifferently) {
  for (Kind kind : {Kind::single, Kind::nested, Kind::crossed, Kind::nested_and_crossed})
    for (Method method : {Method::ml, Method::reml}) {
      // Arrange
      const auto m = oracle::random_model(kind, 2, 21);
      const Fit base = fit(m, method);
      const Eigen::Index n = m->y.size();

      // Act and assert: rows in another order, levels with other codes.
      auto permuted = std::make_shared<ModelMatrices>(*m);
      for (Eigen::Index i = 0; i < n; ++i) {
        const Eigen::Index from = (i * 37 + 5) % n;
        if (std::gcd(static_cast<long>(n), 37L) != 1) break;
        permuted->y[i] = m->y[from];
        permuted->X.row(i) = m->X.row(from);
        for (std::size_t t = 0; t < m->random.size(); ++t) {
          const auto levels = static_cast<std::int32_t>(m->random[t].levels.size());
          permuted->random[t].z.row(i) = m->random[t].z.row(from);
          permuted->random[t].level_of_row[i] = levels - 1 - m->random[t].level_of_row[from];
        }
      }
      EXPECT_NEAR(fit(permuted, method).criterion, base.criterion, 1e-8);

      // y -> 3 y: the criterion shifts by N log 9, theta stays.
      auto scaled = std::make_shared<ModelMatrices>(*m);
      scaled->y *= 3;
      const Fit s = fit(scaled, method);
      const double degrees = method == Method::ml ? static_cast<double>(n) : static_cast<double>(n - m->X.cols());
      EXPECT_NEAR(s.criterion, base.criterion + degrees * std::log(9.0), 1e-7);
      EXPECT_LT((s.theta - base.theta).cwiseAbs().maxCoeff(), 1e-5);

      // y -> y + X g + a large constant.
      auto shifted = std::make_shared<ModelMatrices>(*m);
      shifted->y += m->X * Eigen::VectorXd::Constant(m->X.cols(), 1e6);
      const Fit t = fit(shifted, method);
      EXPECT_NEAR(t.criterion, base.criterion, 1e-6);
      EXPECT_NEAR(t.beta[0], base.beta[0] + 1e6, 1e-4);

      // An offset is a response that was subtracted.
      auto offset = std::make_shared<ModelMatrices>(*m);
      offset->offset = Eigen::VectorXd::LinSpaced(n, -2, 2);
      offset->y += offset->offset;
      EXPECT_NEAR(fit(offset, method).criterion, base.criterion, 1e-8);
    }
}

TEST(Fit, ADateLikeSlopeLosesNoDigits) {
  // The same design with the slope's origin moved by 1e6: another parametrization of the same model (ML).
  const auto m = oracle::random_model(Kind::single, 2, 23);
  auto moved = std::make_shared<ModelMatrices>(*m);
  moved->random[0].z.col(1).array() += 1e6;
  if (m->X.cols() > 1) moved->X.col(1).array() += 1e6;
  EXPECT_NEAR(fit(moved, Method::ml).criterion, fit(m, Method::ml).criterion, 1e-5);
}

TEST(Fit, ABoundaryIsFoundAndNamed) {
  // The subjects' correlation of intercept and slope is 1 in the published data.
  const Fit f =
      fit(politeness("frequency ~ attitude + gender + (1 + attitude|subject) + (1 + attitude|scenario)"), Method::ml);
  EXPECT_NEAR(f.criterion, 794.896862872675, 1e-6);
  EXPECT_TRUE(f.singular);
  EXPECT_TRUE(f.converged);
  for (std::size_t t = 0; t < 2; ++t) EXPECT_TRUE(f.model->random[t].group != "subject" || f.random[t].boundary);
}

TEST(Fit, TheLowestOfSeveralMinimaIsTaken) {
  // One-way with 1, 1, 1, 1, 20 rows: many responses have two minima. The truth: the criterion on a fine grid.
  int several = 0;
  for (int seed = 0; seed < 40; ++seed) {
    auto m = std::make_shared<ModelMatrices>();
    std::mt19937_64 rng(seed);
    std::normal_distribution<double> normal;
    const int n = 24;
    m->formula = "one-way";
    m->y.resize(n);
    m->offset = Eigen::VectorXd::Zero(n);
    m->X = Eigen::MatrixXd::Ones(n, 1);
    m->x_names = {"(Intercept)"};
    RandomTerm term;
    term.group = "g";
    term.names = {"(Intercept)"};
    term.levels = {"a", "b", "c", "d", "e"};
    term.z = Eigen::MatrixXd::Ones(n, 1);
    Eigen::VectorXd u(5);
    for (double& x : u) x = 1.5 * normal(rng);
    for (int i = 0; i < n; ++i) {
      term.level_of_row.push_back(i < 4 ? i : 4);
      m->y[i] = u[term.level_of_row[i]] + normal(rng);
      m->rows.push_back(static_cast<std::size_t>(i));
    }
    m->random = {term};
    double best = 1e300, before = 1e300, last = 1e300;
    int minima = 0;
    for (int i = 0; i <= 400; ++i) {
      const double theta = std::sinh(0.02 * i);
      const double d = oracle::criterion(*m, {Eigen::MatrixXd::Constant(1, 1, theta)}, Method::ml);
      if (last < before && last < d) ++minima;
      if (i == 1 && last < d) ++minima;
      before = last;
      last = d;
      best = std::min(best, d);
    }
    several += minima > 1 ? 1 : 0;
    EXPECT_LE(fit(m, Method::ml).criterion, best + 1e-8) << seed;
  }
  EXPECT_GT(several, 0);
}

}  // namespace
}  // namespace batchlmm
