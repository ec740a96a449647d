// Responses reduced by sparse products, on the host's device, against Model::response.
#include "host/model/response_reduction.hpp"

#include <gtest/gtest.h>

#include <random>

#include "tests/host_large_device.hpp"
#include "tests/large_models.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;

constexpr Kind kinds[] = {
    Kind::single, Kind::nested,     Kind::crossed, Kind::partially_crossed, Kind::nested_and_crossed,
    Kind::deep,   Kind::same_factor};

Eigen::MatrixXd random_responses(const ModelMatrices& m, Eigen::Index count) {
  std::mt19937_64 rng(8);
  std::normal_distribution<double> normal;
  Eigen::MatrixXd y = Eigen::MatrixXd::NullaryExpr(m.y.size(), count, [&] { return normal(rng); });
  y.colwise() += 100 * m.y;
  return y;
}

/// Model::response after the part on X has been taken off, and that part's coefficients.
Eigen::VectorXd expected_of(const Model& model, const Eigen::VectorXd& y) {
  const Eigen::MatrixXd& x = model.x_gauge().columns;
  Eigen::VectorXd centered = y - model.matrices().offset;
  const Eigen::VectorXd ols = x.transpose() * centered / static_cast<double>(y.size());
  centered -= x * ols;
  const std::vector<double> response = model.response(centered);
  Eigen::VectorXd all(response.size() + ols.size());
  all << Eigen::Map<const Eigen::VectorXd>(response.data(), static_cast<Eigen::Index>(response.size())), ols;
  return all;
}

TEST(ResponseReduction, GivesTheResponseOfEveryKindOfModel) {
  for (Kind kind : kinds)
    for (int k : {1, 2, 3})
      for (bool x : {false, true}) {
        SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " k " << k << " X " << x);
        // Arrange
        const auto matrices = oracle::random_model(kind, k, 1000 * static_cast<int>(kind) + 100 * k);
        if (!x) matrices->X.resize(matrices->X.rows(), 0);
        matrices->offset = Eigen::VectorXd::LinSpaced(matrices->y.size(), -3, 5);
        const Model model(matrices, Method::reml);
        const Eigen::MatrixXd y = random_responses(*matrices, 9);
        ResponseReduction reduction(model, std::make_shared<oracle::HostLargeDevice>());
        Eigen::MatrixXd found(reduction.length(), y.cols());

        // Act
        reduction.reduce(y.data(), y.cols(), found.data());

        // Assert
        for (Eigen::Index i = 0; i < y.cols(); ++i) {
          const Eigen::VectorXd expected = expected_of(model, y.col(i));
          EXPECT_LT(oracle::relative_error(found.col(i), expected), 1e-13);
          const int last = model.shape().response - 1;
          EXPECT_NEAR(found(last, i), expected[last], 1e-12 * expected[last]);
        }
      }
}

TEST(ResponseReduction, AResponseHasItsBitsInAnyPanel) {
  // Arrange
  const auto matrices = oracle::random_model(Kind::crossed, 2, 5);
  const Model model(matrices, Method::ml);
  ResponseReduction reduction(model, std::make_shared<oracle::HostLargeDevice>());
  const Eigen::Index count = 2 * reduction.panel() + 7;
  const Eigen::MatrixXd y = random_responses(*matrices, count);
  Eigen::MatrixXd all(reduction.length(), count), one(reduction.length(), 1);

  // Act and Assert
  reduction.reduce(y.data(), count, all.data());
  for (const Eigen::Index i : {Eigen::Index{0}, Eigen::Index{reduction.panel()}, count - 1}) {
    reduction.reduce(y.col(i).data(), 1, one.data());
    EXPECT_EQ(one.col(0), all.col(i)) << i;
  }
}

}  // namespace
}  // namespace batchlmm
