// The criteria with dense matrices (LargeCriterion, DenseCriterion) against the kernels' criterion, on random designs
// of every kind.
#include "host/model/large_criterion.hpp"

#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>
#include <limits>
#include <optional>
#include <random>

#include "batchlmm/error.hpp"
#include "host/model/dense_criterion.hpp"
#include "host/model/sparse_criterion.hpp"
#include "tests/large_models.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::always_large;
using oracle::kernel_lambda;
using oracle::Kind;
using oracle::random_lambda;
using oracle::relative_error;

constexpr Kind kinds[] = {
    Kind::single, Kind::nested,     Kind::crossed, Kind::partially_crossed, Kind::nested_and_crossed,
    Kind::deep,   Kind::same_factor};

/// Kernel parameters of `from` in the order of those of `to`.
std::vector<int> parameters(const Model& from, const Model& to) {
  std::vector<int> index;
  for (int b = 0; b < to.shape().terms; ++b)
    for (int c = 0; c < from.shape().terms; ++c)
      if (from.term_of(c) == to.term_of(b))
        for (int i = 0; i < kernels::triangle_size(to.shape().term[b].k); ++i)
          index.push_back(from.shape().term[c].parameter + i);
  return index;
}

void expect_the_kernels_criterion(const std::shared_ptr<ModelMatrices>& matrices, Method method,
                                  const std::vector<Eigen::MatrixXd>& lambda,
                                  const std::optional<LargeOptions>& options) {
  // Arrange
  const Model small(matrices, method), large(matrices, method, always_large);
  ASSERT_FALSE(small.is_large());
  ASSERT_TRUE(large.is_large());
  const auto expected = make_criterion(small, matrices->y);
  const auto found =
      options ? make_large_criterion(large, matrices->y, *options) : make_dense_criterion(large, matrices->y);

  // Act
  const CriterionValue e = expected->evaluate(kernel_lambda(small, lambda), true);
  const CriterionValue value = found->evaluate(kernel_lambda(large, lambda), false);
  const CriterionValue cheap = found->evaluate_with_information(kernel_lambda(large, lambda));
  const CriterionValue f = found->evaluate(kernel_lambda(large, lambda), true);
  // Another response and this one again, at factors that are kept.
  const std::vector<double> response = large.response(matrices->y);
  std::vector<double> other = response;
  for (double& x : other) x *= 2;
  other.back() *= 2;
  found->set_response(other);
  const CriterionValue doubled = found->evaluate_with_information(kernel_lambda(large, lambda));
  found->set_response(response);
  const CriterionValue again = found->evaluate_with_information(kernel_lambda(large, lambda));

  // Assert
  ASSERT_TRUE(e.ok);
  ASSERT_TRUE(f.ok);
  EXPECT_DOUBLE_EQ(value.deviance, cheap.deviance);
  EXPECT_NEAR(f.deviance, e.deviance, 1e-11 * std::abs(e.deviance));
  EXPECT_NEAR(f.r2, e.r2, 1e-11 * e.r2);
  const std::vector<int> order = parameters(small, large);
  EXPECT_LT(relative_error(f.gradient, e.gradient(order)), 1e-9);
  EXPECT_LT(relative_error(f.information, e.information(order, order)), 1e-9);
  EXPECT_LT(relative_error(cheap.gradient, f.gradient), 1e-11);
  EXPECT_LT(relative_error(cheap.information, f.information), 1e-11);
  EXPECT_NEAR(doubled.r2, 4 * f.r2, 1e-11 * f.r2);
  EXPECT_LT(relative_error(doubled.gradient, f.gradient), 1e-9);
  EXPECT_NEAR(again.deviance, f.deviance, 1e-12 * std::abs(f.deviance));
  EXPECT_LT(relative_error(again.information, f.information), 1e-10);
  if (!options || options->largest_exact_hessian > 0)
    EXPECT_LT(relative_error(f.hessian, e.hessian(order, order)), 1e-9);
  else
    EXPECT_EQ(f.hessian, f.information);
  EXPECT_LT(relative_error(found->beta(), expected->beta()), 1e-9);
  EXPECT_LT(relative_error(found->x_information(), expected->x_information()), 1e-9);
  for (int b = 0; b < large.shape().terms; ++b)
    for (int c = 0; c < small.shape().terms; ++c)
      if (small.term_of(c) == large.term_of(b)) {
        EXPECT_LT(relative_error(found->modes(b), expected->modes(c)), 1e-9);
      }
}

void expect_the_kernels_criterion_on_every_kind(const std::optional<LargeOptions>& options) {
  for (Kind kind : kinds)
    for (int k : {1, 2, 3})
      for (Method method : {Method::ml, Method::reml})
        for (int seed = 0; seed < 5; ++seed) {
          SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " k " << k << " reml "
                                            << (method == Method::reml) << " seed " << seed);
          const auto matrices = oracle::random_model(kind, k, 1000 * static_cast<int>(kind) + 100 * k + seed);
          if (seed == 3) matrices->X.resize(matrices->X.rows(), 0);
          expect_the_kernels_criterion(matrices, method, random_lambda(*matrices, seed == 4), options);
        }
}

TEST(LargeCriterion, AgreesWithTheKernelsEntryByEntry) {
  expect_the_kernels_criterion_on_every_kind(LargeOptions{.dense_share = std::numeric_limits<double>::infinity()});
}

TEST(LargeCriterion, AgreesWithTheKernelsThroughDensePanels) {
  expect_the_kernels_criterion_on_every_kind(LargeOptions{.dense_share = 0});
}

TEST(LargeCriterion, AgreesWithTheKernelsWhereLevelsAreMixed) {
  expect_the_kernels_criterion_on_every_kind(LargeOptions{.dense_share = 0.6});
}

TEST(LargeCriterion, AgreesWithTheKernelsByPairsOfLevels) {
  // Where there are 32 columns at least.
  expect_the_kernels_criterion_on_every_kind(
      LargeOptions{.sparse_product_share = std::numeric_limits<double>::infinity()});
}

TEST(LargeCriterion, GivesTheAverageInformationWhereTheExactHessianIsTooExpensive) {
  expect_the_kernels_criterion_on_every_kind(LargeOptions{.largest_exact_hessian = -1});
}

TEST(DenseCriterion, AgreesWithTheKernels) { expect_the_kernels_criterion_on_every_kind({}); }

/// Crossed factors with slopes, larger than the tiles and panels of the dense algebra; few rows a level.
std::shared_ptr<ModelMatrices> crossed_model() {
  std::mt19937_64 rng(5);
  std::normal_distribution<double> normal;
  constexpr int n = 700;
  auto m = std::make_shared<ModelMatrices>();
  m->y = Eigen::VectorXd::NullaryExpr(n, [&] { return normal(rng); });
  m->offset = Eigen::VectorXd::Zero(n);
  m->X = Eigen::MatrixXd::NullaryExpr(n, 3, [&] { return normal(rng); });
  const auto add = [&](int levels, int k) {
    RandomTerm t;
    for (int l = 0; l < levels; ++l) t.levels.push_back(std::to_string(l));
    for (int i = 0; i < n; ++i) t.level_of_row.push_back(i < levels ? i : static_cast<int>(rng() % levels));
    t.names.resize(k);
    t.z = Eigen::MatrixXd::NullaryExpr(n, k, [&] { return normal(rng); });
    m->random.push_back(t);
  };
  add(90, 2);
  add(61, 2);
  add(7, 1);
  return m;
}

TEST(LargeCriterion, AgreesWithTheKernelsOnManyLevels) {
  const auto matrices = crossed_model();
  for (double dense_share : {0.0, 0.15, 2.0})
    for (bool singular : {false, true})
      for (Method method : {Method::ml, Method::reml})
        expect_the_kernels_criterion(matrices, method, random_lambda(*matrices, singular),
                                     LargeOptions{.dense_share = dense_share});
  for (double share : {0.0, std::numeric_limits<double>::infinity()})
    for (Method method : {Method::ml, Method::reml})
      expect_the_kernels_criterion(matrices, method, random_lambda(*matrices, false),
                                   LargeOptions{.sparse_product_share = share});
}

TEST(LargeCriterion, AgreesWithTheKernelsOnManyMoreLevels) {
  // Crossed intercepts, and slopes in the streamed factor, with pairs of levels far from each other.
  std::mt19937_64 rng(6);
  std::normal_distribution<double> normal;
  constexpr int n = 900;
  for (const int k : {1, 2, 3}) {
    auto m = std::make_shared<ModelMatrices>();
    m->y = Eigen::VectorXd::NullaryExpr(n, [&] { return normal(rng); });
    m->offset = Eigen::VectorXd::Zero(n);
    m->X = Eigen::MatrixXd::NullaryExpr(n, 2, [&] { return normal(rng); });
    for (const int levels : {400, 60, 21}) {
      RandomTerm t;
      for (int l = 0; l < levels; ++l) t.levels.push_back(std::to_string(l));
      for (int i = 0; i < n; ++i) t.level_of_row.push_back(i < levels ? i : static_cast<int>(rng() % levels));
      t.names.resize(levels == 400 ? k : 1);
      t.z = Eigen::MatrixXd::NullaryExpr(n, levels == 400 ? k : 1, [&] { return 1 + 0.3 * normal(rng); });
      m->random.push_back(t);
    }

    for (double share : {0.0, std::numeric_limits<double>::infinity()})
      for (Method method : {Method::ml, Method::reml})
        expect_the_kernels_criterion(m, method, random_lambda(*m, false), LargeOptions{.sparse_product_share = share});
  }
}

TEST(DenseCriterion, AgreesWithTheKernelsOnManyLevels) {
  const auto matrices = crossed_model();
  for (bool singular : {false, true})
    for (Method method : {Method::ml, Method::reml})
      expect_the_kernels_criterion(matrices, method, random_lambda(*matrices, singular), {});
}

TEST(LargeCriterion, AgreesWithTheKernelsAsTBecomesSingular) {
  // From where the dense terms' T is inverted to where it is not.
  const auto matrices = crossed_model();
  for (double scale : {1e-1, 1e-2, 5e-3, 3e-3, 2e-3, 1e-3, 1e-5}) {
    SCOPED_TRACE(scale);
    std::vector<Eigen::MatrixXd> lambda;
    for (const RandomTerm& term : matrices->random)
      lambda.push_back(scale * Eigen::MatrixXd::Identity(term.z.cols(), term.z.cols()));
    expect_the_kernels_criterion(matrices, Method::reml, lambda, LargeOptions{});
  }
}

TEST(SparseCriterion, AgreesWithTheKernels) {
  for (Kind kind : {Kind::nested, Kind::crossed, Kind::partially_crossed, Kind::nested_and_crossed, Kind::deep})
    for (int k : {1, 2, 3})
      for (Method method : {Method::ml, Method::reml})
        for (bool singular : {false, true}) {
          SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " k " << k << " reml "
                                            << (method == Method::reml) << " singular " << singular);
          // Arrange
          const auto matrices = oracle::random_model(kind, k, 1000 * static_cast<int>(kind) + 100 * k);
          const Model small(matrices, method), large(matrices, method, always_large);
          const auto lambda = random_lambda(*matrices, singular);
          const auto expected = make_criterion(small, matrices->y);
          SparseAnalysis analysis;
          const auto found = make_sparse_criterion(large, matrices->y, 1e12, &analysis);

          // Act
          ASSERT_NE(found, nullptr);
          const CriterionValue e = expected->evaluate(kernel_lambda(small, lambda), true);
          const CriterionValue value = found->evaluate(kernel_lambda(large, lambda), false);
          const CriterionValue f = found->evaluate(kernel_lambda(large, lambda), true);

          // Assert
          ASSERT_TRUE(f.ok);
          EXPECT_GT(analysis.operations, 0);
          EXPECT_DOUBLE_EQ(value.deviance, f.deviance);
          EXPECT_NEAR(f.deviance, e.deviance, 1e-11 * std::abs(e.deviance));
          const std::vector<int> order = parameters(small, large);
          // Near a singular T the traces are those of a T moved by 1e-7.
          EXPECT_LT(relative_error(f.gradient, e.gradient(order)), singular ? 1e-5 : 1e-8);
          EXPECT_LT(relative_error(f.information, e.information(order, order)), 1e-9);
          EXPECT_FALSE(f.exact);
          EXPECT_LT(relative_error(found->beta(), expected->beta()), 1e-9);
          EXPECT_LT(relative_error(found->x_information(), expected->x_information()), 1e-9);
          for (int b = 0; b < large.shape().terms; ++b)
            for (int c = 0; c < small.shape().terms; ++c)
              if (small.term_of(c) == large.term_of(b)) {
                EXPECT_LT(relative_error(found->modes(b), expected->modes(c)), 1e-9);
              }
        }
}

TEST(SparseCriterion, IsLeftWhereItCostsTooMuch) {
  const auto matrices = crossed_model();
  const Model model(matrices, Method::ml, always_large);
  SparseAnalysis analysis;
  EXPECT_EQ(make_sparse_criterion(model, matrices->y, 1e3, &analysis), nullptr);
  EXPECT_GT(analysis.operations, 1e3);
}

TEST(LargeCriterion, SaysThatItIsNotFiniteAndRecovers) {
  // Arrange
  const auto matrices = crossed_model();
  const Model model(matrices, Method::ml, always_large);
  const auto criterion = make_large_criterion(model, matrices->y);
  const std::vector<double> lambda(model.shape().lambdas, 0.5),
      infinite(model.shape().lambdas, std::numeric_limits<double>::infinity());
  const CriterionValue before = criterion->evaluate(lambda, true);

  // Act
  const CriterionValue value = criterion->evaluate(infinite, true);
  const CriterionValue after = criterion->evaluate(lambda, true);

  // Assert
  EXPECT_FALSE(value.ok);
  EXPECT_EQ(value.deviance, 1e300);
  EXPECT_TRUE(after.ok);
  EXPECT_EQ(after.deviance, before.deviance);
  EXPECT_EQ(after.hessian, before.hessian);
}

TEST(LargeCriterion, SaysHowMuchMemoryIsMissing) {
  // Arrange: two crossed factors with 300,000 levels each
  constexpr int n = 300'001;
  auto matrices = std::make_shared<ModelMatrices>();
  matrices->y = Eigen::VectorXd::LinSpaced(n, 0, 1);
  matrices->offset = Eigen::VectorXd::Zero(n);
  matrices->X = Eigen::MatrixXd::Ones(n, 1);
  for (int term = 0; term < 2; ++term) {
    RandomTerm t;
    t.names = {"(Intercept)"};
    t.z = Eigen::MatrixXd::Ones(n, 1);
    t.levels.resize(n - 1);
    for (int i = 0; i < n; ++i) t.level_of_row.push_back(term == 0 ? i % (n - 1) : (i == n - 1 ? 1 : i));
    matrices->random.push_back(t);
  }
  const Model model(matrices, Method::ml);

  // Act and Assert
  try {
    make_large_criterion(model, matrices->y);
    FAIL() << "expected ModelError";
  } catch (const ModelError& e) {
    EXPECT_NE(std::string(e.what()).find("300000 columns"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("GiB"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace batchlmm
