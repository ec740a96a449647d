// Many models in one batch: each item is the single fit of its own response and design.
#include "batchlmm/batchlmm.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;

/// Models with crossed effects get dense bases; a batch keeps the streamed rows in order.
void expect_single_fit(const BatchFit& item, const std::shared_ptr<const ModelMatrices>& m, Method method) {
  const Fit single = fit(m, method);
  EXPECT_TRUE(is_used(item.status));
  EXPECT_NEAR(item.criterion, single.criterion, 1e-8);
  EXPECT_NEAR(item.sigma, single.sigma, 1e-4 * single.sigma);
  ASSERT_EQ(item.theta.size(), single.theta.size());
  ASSERT_EQ(item.beta.size(), single.beta.size());
  for (Eigen::Index i = 0; i < item.beta.size(); ++i)
    EXPECT_NEAR(item.beta[i], single.beta[i], 1e-3 * std::sqrt(single.vcov(i, i)));
}

TEST(Batch, ManyResponsesOnOneDesign) {
  for (Kind kind : {Kind::single, Kind::nested, Kind::crossed})
    for (Method method : {Method::ml, Method::reml}) {
      // Arrange
      const auto design = oracle::random_model(kind, 2, 11);
      Batch batch(design, method);
      std::mt19937_64 rng(5);
      std::normal_distribution<double> normal;
      std::vector<std::shared_ptr<ModelMatrices>> singles;
      for (int i = 0; i < 37; ++i) {
        auto m = std::make_shared<ModelMatrices>(*design);
        for (double& y : m->y) y += 2 * normal(rng) + 1e4;  // a large mean costs no digits
        batch.add(m->y);
        singles.push_back(m);
      }

      // Act
      const std::vector<BatchFit> fits = batch.submit({BackendChoice::cpu, 2}).get();

      // Assert
      ASSERT_EQ(fits.size(), singles.size());
      for (std::size_t i = 0; i < fits.size(); ++i) expect_single_fit(fits[i], singles[i], method);
    }
}

TEST(Batch, ManyDesignsOfOneShape) {
  for (Kind kind : {Kind::single, Kind::nested, Kind::crossed, Kind::deep})
    for (Method method : {Method::ml, Method::reml}) {
      // Arrange: the same groups, covariates and slopes drawn anew.
      const auto design = oracle::random_model(kind, 2, 12);
      Batch batch(design, method);
      std::mt19937_64 rng(6);
      std::normal_distribution<double> normal;
      std::vector<std::shared_ptr<ModelMatrices>> singles;
      for (int i = 0; i < 21; ++i) {
        auto m = std::make_shared<ModelMatrices>(*design);
        for (Eigen::Index c = 1; c < m->X.cols(); ++c)
          for (double& x : m->X.col(c)) x = normal(rng);
        for (RandomTerm& term : m->random)
          for (Eigen::Index c = 1; c < term.z.cols(); ++c)
            for (double& z : term.z.col(c)) z = normal(rng);
        for (double& y : m->y) y += normal(rng);
        batch.add(m);
        singles.push_back(m);
      }

      // Act
      const std::vector<BatchFit> fits = batch.fit({BackendChoice::cpu, 1});

      // Assert
      for (std::size_t i = 0; i < fits.size(); ++i) expect_single_fit(fits[i], singles[i], method);
    }
}

TEST(Batch, AnotherShapeIsRefused) {
  Batch batch(oracle::random_model(Kind::crossed, 2, 13), Method::ml);
  EXPECT_THROW(batch.add(oracle::random_model(Kind::crossed, 1, 13)), ModelError);
  EXPECT_THROW(batch.add(oracle::random_model(Kind::single, 2, 13)), ModelError);
  EXPECT_THROW(batch.add(Eigen::VectorXd::Zero(3)), ModelError);
  EXPECT_EQ(batch.size(), 0U);
}

TEST(Batch, AResponseThatIsNotFiniteIsReportedAndHarmsNoOther) {
  const auto design = oracle::random_model(Kind::crossed, 1, 14);
  Batch batch(design, Method::ml);
  Eigen::VectorXd y = design->y;
  batch.add(y);
  y[3] = std::numeric_limits<double>::quiet_NaN();
  batch.add(y);
  batch.add(design->y);
  const std::vector<BatchFit> fits = batch.fit();
  EXPECT_EQ(fits[1].status, Status::non_finite);
  EXPECT_TRUE(std::isnan(fits[1].criterion));
  EXPECT_TRUE(is_used(fits[0].status));
  EXPECT_EQ(fits[0].criterion, fits[2].criterion);
}

}  // namespace
}  // namespace batchlmm
