// Large models on a card: what device_large_criterion_test.cpp and large_engine_test.cpp say of the host's device.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "host/batch/batch.hpp"
#include "host/model/device_large_criterion.hpp"
#include "host/model/large_criterion.hpp"
#include "host/model/response_reduction.hpp"
#include "kernels/cuda.hpp"
#include "kernels/cuda_large.hpp"
#include "kernels/cuda_library_status.hpp"
#include "tests/large_engine_runs.hpp"
#include "tests/large_models.hpp"

namespace batchlmm {
namespace {

using oracle::kernel_lambda;
using oracle::random_lambda;
using oracle::relative_error;

class CudaLarge : public testing::Test {
protected:
  void SetUp() override {
    const kernels::CudaStatus status = kernels::cuda_status();
    if (!status.usable) GTEST_SKIP() << status.why;
    for (const kernels::CudaLibraryStatus& library : kernels::cuda_libraries())
      if (!library.usable) GTEST_SKIP() << library.why;
  }
};

void expect_the_same(const ModelMatrices& matrices, const Model& model, const std::vector<double>& lambda,
                     const DeviceLargeOptions& options) {
  // Arrange
  const SerialBlas serial;
  const auto expected = make_large_criterion(model, matrices.y);
  const std::shared_ptr<kernels::LargeDevice> device = kernels::make_cuda_large_device(0);
  const auto found =
      make_device_large_criterion(std::make_shared<DeviceLargeModel>(model, *device, options), device, matrices.y);
  const std::vector<double> response = model.response(matrices.y);
  std::vector<double> other = response;
  for (double& x : other) x *= 2;
  other.back() *= 2;

  // Act
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
  EXPECT_NEAR(f.deviance, e.deviance, 1e-11 * std::abs(e.deviance));
  EXPECT_LT(relative_error(f.gradient, e.gradient), 1e-9);
  EXPECT_LT(relative_error(f.information, e.information), 1e-9);
  EXPECT_LT(relative_error(f.forms, e.forms), 1e-9);
  EXPECT_EQ(exact.exact, e_exact.exact);
  EXPECT_EQ(exact.gradient, f.gradient);
  EXPECT_LT(relative_error(exact.hessian, e_exact.hessian), 1e-9);
  EXPECT_NEAR(doubled.r2, 4 * f.r2, 1e-11 * f.r2);
  EXPECT_LT(relative_error(again.gradient, f.gradient), 1e-10);
  EXPECT_LT(relative_error(found->beta(), expected->beta()), 1e-9);
  EXPECT_LT(relative_error(found->x_information(), expected->x_information()), 1e-9);
  for (int b = 0; b < model.shape().terms; ++b) EXPECT_LT(relative_error(found->modes(b), expected->modes(b)), 1e-9);
}

TEST_F(CudaLarge, CriterionAgreesWithTheCpu) {
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

TEST_F(CudaLarge, CriterionAgreesWithTheCpuWithoutXAndWithoutDenseTerms) {
  for (oracle::Kind kind : {oracle::Kind::single, oracle::Kind::nested, oracle::Kind::same_factor})
    for (Method method : {Method::ml, Method::reml})
      for (bool x : {false, true}) {
        const auto matrices = oracle::random_model(kind, 2, 17);
        if (!x) matrices->X.resize(matrices->X.rows(), 0);
        const Model model(matrices, method, oracle::always_large);
        expect_the_same(*matrices, model, kernel_lambda(model, random_lambda(*matrices, false)), {});
      }
}

TEST_F(CudaLarge, CriterionAgreesWithTheCpuOnManyColumns) {
  // The blocked ways of the libraries, and a system of the size of InstEval's.
  const auto matrices = oracle::crossed_levels(20'000, {{1500, 1}, {1000, 1}, {30, 1}}, 6);
  const Model model(matrices, Method::reml);
  expect_the_same(*matrices, model, kernel_lambda(model, random_lambda(*matrices, false)), {});
}

TEST_F(CudaLarge, EngineFitsWhatTheCpuFits) {
  for (int k : {1, 2}) {
    // Arrange
    const auto larger = oracle::crossed_on_three_factors(2, 8);
    const Model null(k == 1 ? oracle::without_slopes(*larger) : larger, Method::ml), full(larger, Method::ml);
    const Embedding embedding = embed(null, full);
    const LargeEngine engine({&null, &full, &embedding, oracle::generating(null), 12});
    constexpr std::uint64_t replicates = 100;

    // Act
    const oracle::EngineResults device(engine, {true}, null, &full, replicates, engine.device_workers()),
        again(engine, {true}, null, &full, replicates, 2), cpu(engine, {false}, null, &full, replicates, 2);

    // Assert
    oracle::expect_the_same_fits(device.null, cpu.null);
    oracle::expect_the_same_fits(device.full, cpu.full);
    EXPECT_EQ(oracle::differing_items(device.null, again.null), 0u);
    EXPECT_EQ(oracle::differing_items(device.full, again.full), 0u);
  }
}

TEST_F(CudaLarge, ResponsesAreReducedAsOnTheCpu) {
  for (oracle::Kind kind : {oracle::Kind::single, oracle::Kind::nested_and_crossed, oracle::Kind::crossed}) {
    // Arrange
    const auto matrices = oracle::random_model(kind, 2, 21);
    matrices->offset = Eigen::VectorXd::LinSpaced(matrices->y.size(), -3, 5);
    const Model model(matrices, Method::reml);
    const Eigen::MatrixXd& x = model.x_gauge().columns;
    ResponseReduction reduction(model, kernels::make_cuda_large_device(0));
    const Eigen::Index count = reduction.panel() + 9;
    std::mt19937_64 rng(8);
    std::normal_distribution<double> normal;
    Eigen::MatrixXd y = Eigen::MatrixXd::NullaryExpr(matrices->y.size(), count, [&] { return normal(rng); });
    y.colwise() += 100 * matrices->y;
    Eigen::MatrixXd found(reduction.length(), count), again(reduction.length(), count), one(reduction.length(), 1);

    // Act
    reduction.reduce(y.data(), count, found.data());
    reduction.reduce(y.data(), count, again.data());
    reduction.reduce(y.col(3).data(), 1, one.data());

    // Assert
    EXPECT_EQ(found, again);
    EXPECT_EQ(one.col(0), found.col(3));
    for (Eigen::Index i = 0; i < count; ++i) {
      Eigen::VectorXd centered = y.col(i) - matrices->offset;
      const Eigen::VectorXd ols = x.transpose() * centered / static_cast<double>(centered.size());
      centered -= x * ols;
      const std::vector<double> response = model.response(centered);
      const auto length = static_cast<Eigen::Index>(response.size());
      EXPECT_LT(relative_error(found.col(i).head(length), Eigen::Map<const Eigen::VectorXd>(response.data(), length)),
                1e-12);
      EXPECT_LT(relative_error(found.col(i).tail(x.cols()), ols), 1e-12);
    }
  }
}

TEST_F(CudaLarge, ABatchTakesResponsesThatADeviceReduced) {
  // Arrange
  const auto design = oracle::random_model(oracle::Kind::crossed, 2, 11);
  std::mt19937_64 rng(5);
  std::normal_distribution<double> normal;
  Eigen::MatrixXd y = Eigen::MatrixXd::NullaryExpr(design->y.size(), 40, [&] { return normal(rng); });
  y.colwise() += design->y;
  Batch device(design, Method::reml), cpu(design, Method::reml);

  // Act
  device.add_responses(0, y, BackendChoice::cuda);
  cpu.add_responses(0, y);

  // Assert
  const std::vector<BatchFit> found = device.fit({BackendChoice::cpu, 1, {}}),
                              expected = cpu.fit({BackendChoice::cpu, 1, {}});
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].status, expected[i].status) << i;
    EXPECT_NEAR(found[i].criterion, expected[i].criterion, 1e-9) << i;
  }
}

TEST_F(CudaLarge, SaysThatMemoryIsMissing) {
  const std::unique_ptr<kernels::LargeDevice> device = kernels::make_cuda_large_device(0);

  EXPECT_THROW((void)device->allocate(std::size_t{1} << 50), kernels::DeviceMemoryError);
  EXPECT_NO_THROW((void)device->allocate(1 << 20));
  EXPECT_GT(device->usable_bytes(), 0u);
}

TEST(CudaLargeStatus, WithoutADeviceEveryEntrySaysSo) {
  if (kernels::cuda_status().usable) GTEST_SKIP() << "there is a device";
  EXPECT_THROW((void)kernels::cuda_large_devices(), BackendUnavailable);
  EXPECT_THROW((void)kernels::make_cuda_large_device(0), BackendUnavailable);
}

}  // namespace
}  // namespace batchlmm
