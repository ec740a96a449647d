// The kernels' criterion against its definition, and its derivatives against differences, on random designs of every
// kind.
#include <gtest/gtest.h>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <random>

#include "host/model/criterion.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;

struct Case {
  Kind kind;
  int k;
  Method method;
  bool singular;
};

std::vector<double> random_lambda(const Model& model, std::mt19937_64& rng, bool singular,
                                  std::vector<Eigen::MatrixXd>* user) {
  std::normal_distribution<double> normal;
  const kernels::Shape& s = model.shape();
  std::vector<double> lambda(s.lambdas);
  user->assign(model.matrices().random.size(), {});
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k;
    Eigen::MatrixXd l = Eigen::MatrixXd::NullaryExpr(k, k, [&] { return 0.7 * normal(rng); });
    if (singular)
      l.col(k - 1).setZero();
    else
      l = Eigen::MatrixXd((l * l.transpose() + 0.05 * Eigen::MatrixXd::Identity(k, k)).llt().matrixL());
    for (int i = 0; i < k; ++i)
      for (int j = 0; j < k; ++j) lambda[s.term[b].lambda + i * k + j] = l(i, j);
    (*user)[model.term_of(b)] = model.to_user_lambda(b, l);
  }
  return lambda;
}

double smallest_eigenvalue(const Model& model, const std::vector<double>& lambda, int a) {
  const kernels::TermShape& term = model.shape().term[model.shape().parameter_term[a]];
  const Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> l(
      lambda.data() + term.lambda, term.k, term.k);
  return Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(l * l.transpose()).eigenvalues().minCoeff();
}

/// Moves T along parameter `a` by h: a new factor of the changed T.
std::vector<double> moved(const Model& model, const std::vector<double>& lambda, int a, double h) {
  const kernels::Shape& s = model.shape();
  std::vector<double> out = lambda;
  const kernels::TermShape& term = s.term[s.parameter_term[a]];
  Eigen::MatrixXd l(term.k, term.k);
  for (int i = 0; i < term.k; ++i)
    for (int j = 0; j < term.k; ++j) l(i, j) = lambda[term.lambda + i * term.k + j];
  Eigen::MatrixXd t = l * l.transpose();
  const int i = s.parameter_row[a], j = s.parameter_column[a];
  t(i, j) += h;
  if (i != j) t(j, i) += h;
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(t);
  l = eigen.eigenvectors() * eigen.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal();
  for (int r = 0; r < term.k; ++r)
    for (int c = 0; c < term.k; ++c) out[term.lambda + r * term.k + c] = l(r, c);
  return out;
}

/// Moves the T of kernel term b by h ray ray'.
std::vector<double> moved_along(const Model& model, const std::vector<double>& lambda, int b,
                                const Eigen::VectorXd& ray, double h) {
  const kernels::TermShape& term = model.shape().term[b];
  const Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> l(
      lambda.data() + term.lambda, term.k, term.k);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(l * l.transpose() + h * ray * ray.transpose());
  const Eigen::MatrixXd root = eigen.eigenvectors() * eigen.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal();
  std::vector<double> out = lambda;
  for (int r = 0; r < term.k; ++r)
    for (int c = 0; c < term.k; ++c) out[term.lambda + r * term.k + c] = root(r, c);
  return out;
}

TEST(Deviance, AgreesWithItsDefinitionAndItsDerivativesWithDifferences) {
  int designs = 0;
  double worst_value = 0, worst_gradient = 0, worst_hessian = 0;
  for (Kind kind : {Kind::single, Kind::nested, Kind::crossed, Kind::partially_crossed, Kind::nested_and_crossed,
                    Kind::deep, Kind::same_factor})
    for (int k : {1, 2, 3})
      for (Method method : {Method::ml, Method::reml})
        for (int seed = 0; seed < 5; ++seed) {
          // Arrange
          const auto matrices = oracle::random_model(kind, k, 1000 * static_cast<int>(kind) + 100 * k + seed);
          const Model model(matrices, method);
          const auto criterion = make_criterion(model, matrices->y);
          std::mt19937_64 rng(seed + 7);
          std::vector<Eigen::MatrixXd> user;
          const bool singular = seed == 4;
          const std::vector<double> lambda = random_lambda(model, rng, singular, &user);

          // Act
          const CriterionValue value = criterion->evaluate(lambda, true);

          // Assert
          ASSERT_TRUE(value.ok);
          const double truth = oracle::criterion(*matrices, user, method);
          worst_value = std::max(worst_value, std::abs(value.deviance - truth));
          EXPECT_NEAR(value.deviance, truth, 1e-8 * std::abs(truth) + 1e-8);
          EXPECT_DOUBLE_EQ(criterion->evaluate(lambda, false).deviance, value.deviance);
          ++designs;
          if (singular) {
            // T cannot be moved both ways there: into the cone along w w', gradient and Hessian by one-sided
            // differences.
            for (int b = 0; b < model.shape().terms; ++b) {
              const kernels::TermShape& term = model.shape().term[b];
              const Eigen::VectorXd ray =
                  Eigen::VectorXd::NullaryExpr(term.k, [&] { return std::normal_distribution<double>()(rng); });
              Eigen::VectorXd direction = Eigen::VectorXd::Zero(model.shape().parameters);
              for (int i = 0; i < term.k; ++i)
                for (int j = 0; j <= i; ++j) direction[term.parameter + kernels::triangle(i, j)] = ray[i] * ray[j];
              const double h = 1e-4;
              const CriterionValue one = criterion->evaluate(moved_along(model, lambda, b, ray, h), true);
              const CriterionValue two = criterion->evaluate(moved_along(model, lambda, b, ray, 2 * h), true);
              const CriterionValue three = criterion->evaluate(moved_along(model, lambda, b, ray, 3 * h), true);
              // Third-order one-sided differences.
              const double g =
                  (-11 * value.deviance + 18 * one.deviance - 9 * two.deviance + 2 * three.deviance) / (6 * h);
              EXPECT_NEAR(g, value.gradient.dot(direction), 1e-5 * (1 + value.gradient.cwiseAbs().maxCoeff()));
              const Eigen::VectorXd column =
                  (-11 * value.gradient + 18 * one.gradient - 9 * two.gradient + 2 * three.gradient) / (6 * h);
              EXPECT_LT((column - value.hessian * direction).cwiseAbs().maxCoeff(),
                        1e-5 * (1 + value.hessian.cwiseAbs().maxCoeff()) * (1 + direction.cwiseAbs().maxCoeff()));
            }
            continue;
          }
          const int m = model.shape().parameters;
          for (int a = 0; a < m; ++a) {
            // Fourth-order differences, within the cone of positive definite T.
            const double h = std::min(1e-3, 0.1 * smallest_eigenvalue(model, lambda, a));
            const CriterionValue p1 = criterion->evaluate(moved(model, lambda, a, h), true);
            const CriterionValue m1 = criterion->evaluate(moved(model, lambda, a, -h), true);
            const CriterionValue p2 = criterion->evaluate(moved(model, lambda, a, 2 * h), true);
            const CriterionValue m2 = criterion->evaluate(moved(model, lambda, a, -2 * h), true);
            const double g = (8 * (p1.deviance - m1.deviance) - (p2.deviance - m2.deviance)) / (12 * h);
            worst_gradient =
                std::max(worst_gradient, std::abs(g - value.gradient[a]) / (1 + value.gradient.cwiseAbs().maxCoeff()));
            const Eigen::VectorXd column = (8 * (p1.gradient - m1.gradient) - (p2.gradient - m2.gradient)) / (12 * h);
            worst_hessian = std::max(worst_hessian, (column - value.hessian.col(a)).cwiseAbs().maxCoeff() /
                                                        (1 + value.hessian.cwiseAbs().maxCoeff()));
          }
          const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(value.information);
          EXPECT_GT(eigen.eigenvalues().minCoeff(), -1e-9 * eigen.eigenvalues().maxCoeff());
        }
  EXPECT_GE(designs, 200);
  EXPECT_LT(worst_gradient, 1e-6);
  EXPECT_LT(worst_hessian, 1e-6);
}

}  // namespace
}  // namespace batchlmm
