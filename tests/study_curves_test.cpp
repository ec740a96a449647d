// Power curves of a study's cells and where they reach a target.
#include "host/study/curves.hpp"

#include <gtest/gtest.h>

#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <vector>

namespace batchlmm::study {
namespace {

constexpr double mcse = 0.01;

ReportCell cell(const std::vector<std::pair<std::string, double>>& values, double power) {
  ReportCell out;
  for (const auto& [key, number] : values) {
    GridValue value;
    value.key = key;
    value.number = number;
    value.is_number = true;
    out.values.push_back(value);
  }
  Estimand estimand;
  estimand.subject = "lrt";
  estimand.name = "rejection_rate";
  estimand.value = power;
  estimand.mcse = mcse;
  out.estimands.push_back(estimand);
  return out;
}

double probit(double p) { return boost::math::quantile(boost::math::normal(), p); }

TEST(StudyCurves, ReachTheirTargetBetweenPointsOnTheProbitScale) {
  // Arrange
  const std::vector<ReportCell> cells{cell({{"design.units.item", 10}}, 0.5), cell({{"design.units.item", 30}}, 0.9),
                                      cell({{"design.units.item", 20}}, 0.75)};
  const Curves curves({"design.units.item"}, cells);

  // Act
  const std::vector<ReachedPower> reached = reached_power(curves, 0.8);

  // Assert
  ASSERT_EQ(reached.size(), 1U);
  EXPECT_EQ(reached[0].test, "lrt");
  EXPECT_EQ(reached[0].key, "design.units.item");
  EXPECT_EQ(curves.name_of(reached[0].key), "item");
  EXPECT_EQ(reached[0].where, "");
  const auto at = [](double shift) {
    constexpr double z = 1.959963984540054;
    const double a = probit(0.75 + shift * z * mcse), b = probit(0.9 + shift * z * mcse);
    return 20 + 10 * (probit(0.8) - a) / (b - a);
  };
  EXPECT_NEAR(reached[0].size.x, at(0), 1e-12);
  EXPECT_NEAR(reached[0].size.low, at(1), 1e-12);
  EXPECT_NEAR(reached[0].size.high, at(-1), 1e-12);
  EXPECT_FALSE(reached[0].size.at_first);
}

TEST(StudyCurves, TellTheirCellsApartByTheOtherKeys) {
  // Arrange: power rises along items, and falls along the error's standard deviation.
  std::vector<ReportCell> cells;
  for (const double sigma : {1.0, 2.0})
    for (const double items : {10.0, 20.0})
      cells.push_back(cell({{"design.units.item", items}, {"truth.sigma", sigma}}, items / 20 - 0.3 * (sigma - 1)));

  // Act
  const std::vector<ReachedPower> reached = reached_power(Curves({"design.units.item", "truth.sigma"}, cells), 0.6);

  // Assert
  ASSERT_EQ(reached.size(), 2U);
  EXPECT_EQ(reached[0].where, "sigma = 1");
  EXPECT_EQ(reached[1].where, "sigma = 2");
  EXPECT_LT(reached[0].size.x, reached[1].size.x);
}

TEST(StudyCurves, AboveOrBelowTheTargetThroughout) {
  const std::vector<ReportCell> above{cell({{"n", 10}}, 0.85), cell({{"n", 20}}, 0.95)},
      below{cell({{"n", 10}}, 0.2), cell({{"n", 20}}, 0.79)};

  const std::vector<ReachedPower> at_first = reached_power(Curves({"n"}, above), 0.8),
                                  never = reached_power(Curves({"n"}, below), 0.8);

  ASSERT_EQ(at_first.size(), 1U);
  EXPECT_TRUE(at_first[0].size.at_first);
  EXPECT_EQ(at_first[0].size.x, 10);
  EXPECT_TRUE(never.empty());
}

TEST(StudyCurves, KeysThatEndAlikeKeepTheirWholeNames) {
  const std::vector<ReportCell> cells{cell({{"truth.random.a.sd", 1}, {"truth.random.b.sd", 1}}, 0.5)};

  const Curves curves({"truth.random.a.sd", "truth.random.b.sd"}, cells);

  EXPECT_EQ(curves.name_of("truth.random.a.sd"), "truth.random.a.sd");
  EXPECT_TRUE(curves.axes().empty());
}

}  // namespace
}  // namespace batchlmm::study
