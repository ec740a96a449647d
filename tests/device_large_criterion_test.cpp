// The device's criterion on the host's device against the other criteria: every formula and step that a card runs, with
// OpenBLAS in place of cuBLAS and cuSOLVER.
#include "host/model/device_large_criterion.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "host/model/large_criterion.hpp"
#include "tests/host_large_device.hpp"
#include "tests/large_models.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::HostLargeDevice;
using oracle::kernel_lambda;
using oracle::Kind;
using oracle::random_lambda;
using oracle::relative_error;

constexpr Kind kinds[] = {
    Kind::single, Kind::nested,     Kind::crossed, Kind::partially_crossed, Kind::nested_and_crossed,
    Kind::deep,   Kind::same_factor};

std::unique_ptr<Criterion> on_the_host(const Model& model, const DeviceLargeOptions& options = {}) {
  const auto device = std::make_shared<HostLargeDevice>();
  return make_device_large_criterion(std::make_shared<DeviceLargeModel>(model, *device, options), device,
                                     model.matrices().y);
}

void expect_the_same(const ModelMatrices& matrices, const Model& model, const std::vector<double>& lambda,
                     const DeviceLargeOptions& options) {
  // Arrange
  const SerialBlas serial;
  const auto expected = make_large_criterion(model, matrices.y);
  const auto found = on_the_host(model, options);
  const std::vector<double> response = model.response(matrices.y);
  std::vector<double> other = response;
  for (double& x : other) x *= 2;
  other.back() *= 2;

  // Act: a value, derivatives, and other responses at factors that are kept
  const CriterionValue e = expected->evaluate_with_information(lambda);
  const CriterionValue value = found->evaluate(lambda, false);
  const CriterionValue f = found->evaluate_with_information(lambda);
  const CriterionValue exact = found->evaluate(lambda, true), e_exact = expected->evaluate(lambda, true);
  found->set_response(other);
  const CriterionValue doubled = found->evaluate_with_information(lambda);
  found->set_response(response);
  const CriterionValue again = found->evaluate_with_information(lambda);

  // Assert
  ASSERT_TRUE(e.ok);
  ASSERT_TRUE(f.ok);
  EXPECT_EQ(value.deviance, f.deviance);
  EXPECT_FALSE(f.exact);
  EXPECT_NEAR(f.deviance, e.deviance, 1e-11 * std::abs(e.deviance));
  EXPECT_NEAR(f.r2, e.r2, 1e-11 * e.r2);
  EXPECT_LT(relative_error(f.gradient, e.gradient), 1e-9);
  EXPECT_LT(relative_error(f.information, e.information), 1e-9);
  EXPECT_EQ(f.hessian, f.information);
  EXPECT_LT(relative_error(f.forms, e.forms), 1e-9);
  EXPECT_TRUE(exact.exact);
  EXPECT_EQ(exact.deviance, f.deviance);
  EXPECT_EQ(exact.gradient, f.gradient);
  EXPECT_EQ(exact.information, f.information);
  EXPECT_LT(relative_error(exact.hessian, e_exact.hessian), 1e-9);
  EXPECT_NEAR(doubled.r2, 4 * f.r2, 1e-11 * f.r2);
  EXPECT_LT(relative_error(doubled.gradient, f.gradient), 1e-9);
  EXPECT_NEAR(again.deviance, f.deviance, 1e-12 * std::abs(f.deviance));
  EXPECT_LT(relative_error(again.gradient, f.gradient), 1e-10);
  EXPECT_LT(relative_error(again.information, f.information), 1e-10);
  EXPECT_LT(relative_error(found->beta(), expected->beta()), 1e-9);
  EXPECT_LT(relative_error(found->x_information(), expected->x_information()), 1e-9);
  for (int b = 0; b < model.shape().terms; ++b) EXPECT_LT(relative_error(found->modes(b), expected->modes(b)), 1e-9);
}

void expect_the_same_on_every_kind(const DeviceLargeOptions& options) {
  for (Kind kind : kinds)
    for (int k : {1, 2, 3})
      for (Method method : {Method::ml, Method::reml})
        for (int seed = 0; seed < 5; ++seed) {
          SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " k " << k << " reml "
                                            << (method == Method::reml) << " seed " << seed);
          const auto matrices = oracle::random_model(kind, k, 1000 * static_cast<int>(kind) + 100 * k + seed);
          if (seed == 3) matrices->X.resize(matrices->X.rows(), 0);
          const Model model(matrices, method, oracle::always_large);
          expect_the_same(*matrices, model, kernel_lambda(model, random_lambda(*matrices, seed == 4)), options);
        }
}

TEST(DeviceLargeCriterion, AgreesWithLargeCriterionPairByPair) {
  expect_the_same_on_every_kind({.dense_share = std::numeric_limits<double>::infinity()});
}

TEST(DeviceLargeCriterion, AgreesWithLargeCriterionByPanels) {
  expect_the_same_on_every_kind({.dense_share = 0, .panel_levels = 3});
}

TEST(DeviceLargeCriterion, AgreesWithLargeCriterionWhereLevelsAreMixed) {
  expect_the_same_on_every_kind({.dense_share = 0.6});
  expect_the_same_on_every_kind({.dense_share = 10, .most_pairs = 100, .panel_levels = 2});
}

TEST(DeviceLargeCriterion, AgreesWithLargeCriterionOnManyLevels) {
  for (const int k : {1, 2})
    for (Method method : {Method::ml, Method::reml})
      for (bool singular : {false, true})
        for (double dense_share : {0.0, 0.15, 2.0}) {
          SCOPED_TRACE(::testing::Message() << "k " << k << " reml " << (method == Method::reml) << " singular "
                                            << singular << " dense share " << dense_share);
          const auto matrices = oracle::crossed_levels(700, {{90, k}, {61, k}, {7, 1}}, 5);
          const Model model(matrices, method, oracle::always_large);
          expect_the_same(*matrices, model, kernel_lambda(model, random_lambda(*matrices, singular)),
                          {.dense_share = dense_share});
        }
}

TEST(DeviceLargeCriterion, AgreesWithLargeCriterionAsTBecomesSingular) {
  // From where the dense terms' T is inverted to where it is not, and to nothing.
  const auto matrices = oracle::crossed_levels(700, {{90, 2}, {61, 2}, {7, 1}}, 5);
  for (Method method : {Method::ml, Method::reml}) {
    const Model model(matrices, method, oracle::always_large);
    for (double scale : {1e-1, 1e-2, 5e-3, 3e-3, 2e-3, 1e-3, 1e-5, 0.0}) {
      SCOPED_TRACE(scale);
      std::vector<Eigen::MatrixXd> lambda;
      for (const RandomTerm& term : matrices->random)
        lambda.push_back(scale * Eigen::MatrixXd::Identity(term.z.cols(), term.z.cols()));
      expect_the_same(*matrices, model, kernel_lambda(model, lambda), {});
    }
  }
}

TEST(DeviceLargeCriterion, HasTheSameBitsInEveryRun) {
  const auto matrices = oracle::crossed_levels(700, {{90, 2}, {61, 2}, {7, 1}}, 5);
  const Model model(matrices, Method::reml, oracle::always_large);
  const std::vector<double> lambda = kernel_lambda(model, random_lambda(*matrices, false));
  const auto one = on_the_host(model), two = on_the_host(model);

  const CriterionValue a = one->evaluate_with_information(lambda), b = two->evaluate_with_information(lambda);

  EXPECT_EQ(a.deviance, b.deviance);
  EXPECT_EQ(a.gradient, b.gradient);
  EXPECT_EQ(a.information, b.information);
}

TEST(DeviceLargeCriterion, SaysThatItIsNotFiniteAndRecovers) {
  // Arrange
  const auto matrices = oracle::crossed_levels(700, {{90, 2}, {61, 2}, {7, 1}}, 5);
  const Model model(matrices, Method::ml, oracle::always_large);
  const auto criterion = on_the_host(model);
  const std::vector<double> lambda(model.shape().lambdas, 0.5),
      infinite(model.shape().lambdas, std::numeric_limits<double>::infinity());
  const CriterionValue before = criterion->evaluate_with_information(lambda);

  // Act
  const CriterionValue value = criterion->evaluate_with_information(infinite);
  const CriterionValue after = criterion->evaluate_with_information(lambda);

  // Assert
  EXPECT_FALSE(value.ok);
  EXPECT_EQ(value.deviance, 1e300);
  EXPECT_TRUE(after.ok);
  EXPECT_EQ(after.deviance, before.deviance);
  EXPECT_EQ(after.information, before.information);
}

TEST(DeviceLargeCriterion, GivesTheAverageInformationWhereTheExactHessianIsTooExpensive) {
  const auto matrices = oracle::crossed_levels(300, {{40, 1}, {31, 1}}, 6);
  const Model model(matrices, Method::ml, oracle::always_large);
  const auto criterion = on_the_host(model, {.largest_exact_hessian = -1});

  const CriterionValue value = criterion->evaluate(std::vector<double>(model.shape().lambdas, 0.5), true);

  EXPECT_FALSE(value.exact);
  EXPECT_EQ(value.hessian, value.information);
}

TEST(DeviceLargeCriterion, SaysThatMemoryIsMissing) {
  const auto matrices = oracle::crossed_levels(300, {{40, 1}, {31, 1}}, 6);
  const Model model(matrices, Method::ml, oracle::always_large);
  const auto memory = std::make_shared<oracle::HostLargeMemory>();
  const auto device = std::make_shared<HostLargeDevice>(memory);
  const auto constants = std::make_shared<DeviceLargeModel>(model, *device);
  memory->bytes = memory->taken + static_cast<std::size_t>(constants->criterion_bytes()) - 1;

  EXPECT_THROW(make_device_large_criterion(constants, device, matrices->y), kernels::DeviceMemoryError);
  memory->bytes += 1;
  EXPECT_NO_THROW(make_device_large_criterion(constants, device, matrices->y));
}

}  // namespace
}  // namespace batchlmm
