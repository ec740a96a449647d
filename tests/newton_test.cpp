// The optimizer: its coordinates' derivatives are those of differences; for terms whose sizes are known at compile time
// it has the bits of the one for run-time sizes.
#include "kernels/newton.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "kernels/deviance.hpp"
#include "kernels/replicate.hpp"
#include "tests/bootstrap_cases.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;
using oracle::ResultArrays;

/// Fits `responses` one after the other, with the optimizer for the sizes S.
template <class S>
void fit_all(const Model& model, const S& sizes, const std::vector<double>& responses,
             const std::vector<double>& starts, ResultArrays& results) {
  const kernels::Shape& s = model.shape();
  kernels::Arena<double*> count{nullptr};
  (void)kernels::make_workspace(s, count);
  (void)kernels::make_newton<double>(sizes, count);
  std::vector<double> memory(count.used, 0.0), response(s.response);
  kernels::Arena<double*> arena{memory.data()};
  const auto w = kernels::make_workspace(s, arena);
  auto n = kernels::make_newton<double>(sizes, arena);
  kernels::NewtonOptions options;
  options.starts = static_cast<int>(starts.size()) / s.lambdas;
  std::uint64_t next = 0;
  kernels::fit_lanes<double>(
      sizes, w, n, [&] { return kernels::evaluate<0, double>(s, model.design(), response.data(), w, true); },
      [&](std::uint64_t& i) {
        i = next++;
        return i < results.items;
      },
      [&](std::uint64_t i, int) {
        std::copy_n(responses.begin() + static_cast<std::ptrdiff_t>(i * s.response), s.response, response.begin());
        return true;
      },
      [&](std::uint64_t, int, double* lambda) { std::copy_n(starts.begin(), s.lambdas, lambda); },
      [&](std::uint64_t) { return options.starts; },
      [](std::uint64_t) { return std::numeric_limits<double>::infinity(); }, starts.data(), options, true,
      results.pointers());
}

template <int... K>
void expect_same_bits(Kind kind, int k, std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "kind " << static_cast<int>(kind) << ", k " << k);
  // Arrange: the first random model whose terms have these sizes.
  const std::vector<int> wanted{K...};
  std::unique_ptr<Model> model;
  std::shared_ptr<ModelMatrices> matrices;
  for (;; ++seed) {
    ASSERT_LT(seed, 1000U);
    matrices = oracle::random_model(kind, k, seed);
    model = std::make_unique<Model>(matrices, Method::ml);
    std::vector<int> have;
    have.reserve(model->shape().terms);
    for (int b = 0; b < model->shape().terms; ++b) have.push_back(model->shape().term[b].k);
    if (have == wanted) break;
  }
  const kernels::Shape& s = model->shape();
  kernels::Terms<K...> sizes{{}, s.p};
  for (int b = 0; b < s.terms; ++b) {
    sizes.scales[b] = s.term[b].scale;
    EXPECT_EQ(sizes.term[b].parameter, s.term[b].parameter);
    EXPECT_EQ(sizes.term[b].lambda, s.term[b].lambda);
  }
  EXPECT_EQ(sizes.parameters, s.parameters);
  EXPECT_EQ(sizes.lambdas, s.lambdas);
  constexpr int items = 100;
  std::mt19937_64 rng(7);
  std::normal_distribution<double> normal;
  std::vector<double> responses, starts;
  for (int i = 0; i < items; ++i) {
    Eigen::VectorXd y = matrices->y * (i % 3);
    for (Eigen::Index r = 0; r < y.size(); ++r) y[r] += normal(rng);
    const std::vector<double> one = model->response(y);
    responses.insert(responses.end(), one.begin(), one.end());
  }
  for (double ratio : {1.0, 0.01})
    for (int b = 0; b < s.terms; ++b)
      for (int q = 0; q < s.term[b].k * s.term[b].k; ++q) starts.push_back(q % (s.term[b].k + 1) == 0 ? ratio : 0.0);
  ResultArrays fixed(s, items), plain(s, items);

  // Act
  fit_all(*model, sizes, responses, starts, fixed);
  fit_all(*model, s, responses, starts, plain);

  // Assert
  EXPECT_EQ(oracle::differing_items(fixed, plain), 0U);
  EXPECT_GT(std::count_if(fixed.status.begin(), fixed.status.end(), [](auto status) { return status <= 1; }), 90);
}

/// Derivatives by the optimizer's coordinates against differences of the deviance along them.
void expect_derivatives_of_differences(const Model& model, const std::vector<double>& lambda) {
  // Arrange
  const kernels::Shape& s = model.shape();
  const std::vector<double> response = model.response(model.matrices().y);
  kernels::Arena<double*> count{nullptr};
  (void)kernels::make_workspace(s, count);
  (void)kernels::make_newton<double>(s, count);
  std::vector<double> memory(count.used, 0.0);
  kernels::Arena<double*> arena{memory.data()};
  const auto w = kernels::make_workspace(s, arena);
  const auto n = kernels::make_newton<double>(s, arena);
  std::copy(lambda.begin(), lambda.end(), w.lambda);
  ASSERT_TRUE((kernels::evaluate<0, double>(s, model.design(), response.data(), w, true).ok));
  const int m = s.parameters;
  std::vector<double> direction(m), moved(s.lambdas), scratch(memory.size());
  kernels::Arena<double*> other{scratch.data()};
  const auto there = kernels::make_workspace(s, other);

  // Act
  kernels::to_coordinates<double>(s, w.lambda, n.next, n.small);
  kernels::by_coordinates<double>(s, w, n);
  kernels::by_charts<double>(s, n);
  const auto deviance = [&](int a, double x, int b, double y) {
    std::fill(direction.begin(), direction.end(), 0.0);
    direction[a] += x;
    direction[b] += y;
    kernels::from_coordinates<double>(s, n.next, direction.data(), 1.0, there.lambda);
    return kernels::evaluate<0, double>(s, model.design(), response.data(), there, false).deviance;
  };

  // Assert: errors of differences by h of a deviance of some hundreds, exact to 1e-12
  constexpr double h = 1e-4;
  for (int a = 0; a < m; ++a) {
    EXPECT_NEAR(n.x_gradient[a], (deviance(a, h, a, 0) - deviance(a, -h, a, 0)) / (2 * h),
                1e-5 * (1 + std::abs(n.x_gradient[a])))
        << a;
    for (int b = 0; b <= a; ++b) {
      const double second =
          (deviance(a, h, b, h) - deviance(a, h, b, -h) - deviance(a, -h, b, h) + deviance(a, -h, b, -h)) / (4 * h * h);
      const double exact = n.x_hessian[kernels::triangle(a, b)];
      EXPECT_NEAR(exact, second, 1e-3 * (1 + std::abs(exact))) << a << " " << b;
    }
  }
}

TEST(Newton, DerivativesByTheCoordinatesAreThoseOfDifferences) {
  for (Kind kind : {Kind::single, Kind::crossed, Kind::same_factor})
    for (int k : {1, 2, 3})
      for (std::uint64_t seed = 0; seed < 4; ++seed)
        for (double size : {0.05, 1.0, 4.0}) {  // columns by the entries of l, and by regression
          SCOPED_TRACE(testing::Message()
                       << "kind " << static_cast<int>(kind) << ", k " << k << ", seed " << seed << ", size " << size);
          const Model model(oracle::random_model(kind, k, 300 + seed), Method::ml);
          const kernels::Shape& s = model.shape();
          std::mt19937_64 rng(seed);
          std::uniform_real_distribution<double> uniform(0.3, 1.0);
          std::vector<double> lambda(s.lambdas, 0.0);
          for (int b = 0; b < s.terms; ++b)
            for (int i = 0; i < s.term[b].k; ++i)
              for (int j = 0; j <= i; ++j)
                lambda[s.term[b].lambda + i * s.term[b].k + j] = size * uniform(rng) * (i == j ? 1 : -0.5);
          expect_derivatives_of_differences(model, lambda);
        }
}

TEST(Newton, SizesKnownAtCompileTimeChangeNoBit) {
  expect_same_bits<1>(Kind::single, 1, 1);
  expect_same_bits<2>(Kind::single, 2, 1);
  expect_same_bits<3>(Kind::single, 3, 1);
  expect_same_bits<1, 1>(Kind::crossed, 1, 1);
  expect_same_bits<2, 1>(Kind::nested, 2, 1);
  expect_same_bits<2, 2>(Kind::crossed, 2, 1);
  expect_same_bits<1, 1, 1>(Kind::deep, 1, 1);
}

}  // namespace
}  // namespace batchlmm
