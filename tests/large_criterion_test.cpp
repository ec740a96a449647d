// The criterion with a dense LAPACK node against the kernels' criterion, on random designs of every kind.
#include "host/model/large_criterion.hpp"

#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>
#include <limits>
#include <random>

#include "batchlmm/error.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;

constexpr Kind kinds[] = {
    Kind::single, Kind::nested,     Kind::crossed, Kind::partially_crossed, Kind::nested_and_crossed,
    Kind::deep,   Kind::same_factor};

/// Every dense Schur complement, even an empty one, counts as large.
constexpr int always_large = -1;

/// User-scale lambdas, per model term: models that order their terms differently can be compared.
std::vector<Eigen::MatrixXd> random_lambda(const ModelMatrices& matrices, bool singular, std::mt19937_64& rng) {
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

std::vector<double> kernel_lambda(const Model& model, const std::vector<Eigen::MatrixXd>& user) {
  const kernels::Shape& s = model.shape();
  std::vector<double> lambda(s.lambdas);
  for (int b = 0; b < s.terms; ++b) {
    const Eigen::MatrixXd l = model.from_user_lambda(b, user[model.term_of(b)]);
    for (int i = 0; i < l.rows(); ++i)
      for (int j = 0; j < l.cols(); ++j) lambda[s.term[b].lambda + i * l.cols() + j] = l(i, j);
  }
  return lambda;
}

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

double relative_error(const Eigen::MatrixXd& found, const Eigen::MatrixXd& expected) {
  if (expected.size() == 0) return 0;
  return (found - expected).cwiseAbs().maxCoeff() / (1e-3 + expected.cwiseAbs().maxCoeff());
}

void expect_the_kernels_criterion(const std::shared_ptr<ModelMatrices>& matrices, Method method, bool singular,
                                  const LargeOptions& options) {
  // Arrange
  const Model small(matrices, method), large(matrices, method, always_large);
  ASSERT_FALSE(small.is_large());
  ASSERT_TRUE(large.is_large());
  std::mt19937_64 rng(99);
  const std::vector<Eigen::MatrixXd> lambda = random_lambda(*matrices, singular, rng);
  const auto expected = make_criterion(small, matrices->y);
  const auto found = make_large_criterion(large, matrices->y, options);

  // Act
  const CriterionValue e = expected->evaluate(kernel_lambda(small, lambda), true);
  const CriterionValue value = found->evaluate(kernel_lambda(large, lambda), false);
  const CriterionValue f = found->evaluate(kernel_lambda(large, lambda), true);

  // Assert
  ASSERT_TRUE(e.ok);
  ASSERT_TRUE(f.ok);
  EXPECT_DOUBLE_EQ(value.deviance, f.deviance);
  EXPECT_NEAR(f.deviance, e.deviance, 1e-11 * std::abs(e.deviance));
  EXPECT_NEAR(f.r2, e.r2, 1e-11 * e.r2);
  const std::vector<int> order = parameters(small, large);
  EXPECT_LT(relative_error(f.gradient, e.gradient(order)), 1e-9);
  EXPECT_LT(relative_error(f.information, e.information(order, order)), 1e-9);
  if (options.largest_exact_hessian > 0)
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

void expect_the_kernels_criterion_on_every_kind(const LargeOptions& options) {
  for (Kind kind : kinds)
    for (int k : {1, 2, 3})
      for (Method method : {Method::ml, Method::reml})
        for (int seed = 0; seed < 5; ++seed) {
          SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " k " << k << " reml "
                                            << (method == Method::reml) << " seed " << seed);
          const auto matrices = oracle::random_model(kind, k, 1000 * static_cast<int>(kind) + 100 * k + seed);
          if (seed == 3) matrices->X.resize(matrices->X.rows(), 0);
          expect_the_kernels_criterion(matrices, method, seed == 4, options);
        }
}

TEST(LargeCriterion, AgreesWithTheKernelsEntryByEntry) {
  expect_the_kernels_criterion_on_every_kind({.dense_share = std::numeric_limits<double>::infinity()});
}

TEST(LargeCriterion, AgreesWithTheKernelsThroughDensePanels) {
  expect_the_kernels_criterion_on_every_kind({.dense_share = 0});
}

TEST(LargeCriterion, AgreesWithTheKernelsWhereLevelsAreMixed) {
  expect_the_kernels_criterion_on_every_kind({.dense_share = 0.6});
}

TEST(LargeCriterion, GivesTheAverageInformationWhereTheExactHessianIsTooExpensive) {
  expect_the_kernels_criterion_on_every_kind({.largest_exact_hessian = -1});
}

}  // namespace
}  // namespace batchlmm
