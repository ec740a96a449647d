#include "host/data/factor.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <stdexcept>

namespace batchlmm {
namespace {

using Codes = std::vector<std::int32_t>;
using Levels = std::vector<std::string>;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(FormatNumber, PrintsAsR) {
  // as.character() of R 4.2
  EXPECT_EQ(format_number(0.0), "0");
  EXPECT_EQ(format_number(-0.0), "0");
  EXPECT_EQ(format_number(1.0), "1");
  EXPECT_EQ(format_number(-2.5), "-2.5");
  EXPECT_EQ(format_number(0.1), "0.1");
  EXPECT_EQ(format_number(0.1 + 0.2), "0.3");
  EXPECT_EQ(format_number(1.0 / 3.0), "0.333333333333333");
  EXPECT_EQ(format_number(2.0 / 3.0), "0.666666666666667");
  EXPECT_EQ(format_number(123456.7), "123456.7");
  EXPECT_EQ(format_number(100000.0), "1e+05");
  EXPECT_EQ(format_number(123456.0), "123456");
  EXPECT_EQ(format_number(1e15), "1e+15");
  EXPECT_EQ(format_number(0.0001), "1e-04");
  EXPECT_EQ(format_number(0.00012), "0.00012");
  EXPECT_EQ(format_number(0.000012), "1.2e-05");
  EXPECT_EQ(format_number(-1e-300), "-1e-300");
  EXPECT_EQ(format_number(1.5e300), "1.5e+300");
  EXPECT_EQ(format_number(9.9999999999999995), "10");
  EXPECT_EQ(format_number(std::numeric_limits<double>::infinity()), "Inf");
  EXPECT_EQ(format_number(-std::numeric_limits<double>::infinity()), "-Inf");
}

TEST(MakeFactor, OrdersNumbersByValue) {
  const Numeric values = {10, 9, 100, 9, -1, 10};

  const Factor factor = make_factor(values);

  EXPECT_EQ(factor.levels, (Levels{"-1", "9", "10", "100"}));
  EXPECT_EQ(factor.codes, (Codes{2, 1, 3, 1, 0, 2}));
  EXPECT_FALSE(factor.ordered);
}

TEST(MakeFactor, WholeNumbersHaveNoExponent) {
  const Factor factor = make_factor(Numeric{100000, 9007199254740991, 9007199254740990, -0.0, 0.0});

  EXPECT_EQ(factor.levels, (Levels{"0", "100000", "9007199254740990", "9007199254740991"}));
  EXPECT_EQ(factor.codes, (Codes{1, 3, 2, 0, 0}));
}

TEST(MakeFactor, NumbersThatPrintAlikeAreOneLevel) {
  const Factor factor = make_factor(Numeric{0.1 + 0.2, 0.3, 0.5});

  EXPECT_EQ(factor.levels, (Levels{"0.3", "0.5"}));
  EXPECT_EQ(factor.codes, (Codes{0, 0, 1}));
}

TEST(MakeFactor, MissingNumbersHaveNoLevel) {
  const Factor factor = make_factor(Numeric{kNaN, 2, kNaN, 1});

  EXPECT_EQ(factor.levels, (Levels{"1", "2"}));
  EXPECT_EQ(factor.codes, (Codes{-1, 1, -1, 0}));
  EXPECT_TRUE(make_factor(Numeric{kNaN}).levels.empty());
}

TEST(MakeFactor, OrdersTextByBytes) {
  const Factor factor = make_factor(std::vector<std::string>{"b", "é", "a", "B", "b"});

  EXPECT_EQ(factor.levels, (Levels{"B", "a", "b", "é"}));
  EXPECT_EQ(factor.codes, (Codes{2, 3, 1, 0, 2}));
}

TEST(MakeFactor, LevelsGiveBackTheValues) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> uniform(-1e6, 1e6);
  Numeric values(500);
  for (double& v : values) v = std::round(uniform(random) * 1e3) / 1e3;

  const Factor factor = make_factor(values);

  for (std::size_t i = 0; i < values.size(); ++i)
    ASSERT_DOUBLE_EQ(std::stod(factor.levels[static_cast<std::size_t>(factor.codes[i])]), values[i]);
}

TEST(Interaction, KeepsCombinationsThatOccurInOrder) {
  const Factor batch = {{"A", "B"}, {1, 0, 0, 1, -1, 0}};
  const Factor cask = {{"a", "b", "c"}, {2, 1, 0, 2, 0, -1}};

  const Factor cell = interaction(batch, cask);

  EXPECT_EQ(cell.levels, (Levels{"A:a", "A:b", "B:c"}));
  EXPECT_EQ(cell.codes, (Codes{2, 1, 0, 2, -1, -1}));
}

TEST(Interaction, RefusesFactorsOfDifferentLength) {
  EXPECT_THROW(interaction(Factor{{"a"}, {0}}, Factor{{"a"}, {0, 0}}), std::invalid_argument);
}

TEST(Interaction, OfManyLevelsDoesNotOverflow) {
  constexpr std::size_t n = 70000;  // 70,000 x 70,000 cells are more than 2^32
  Numeric id(n);
  std::iota(id.begin(), id.end(), 0.0);
  const Factor factor = make_factor(id);

  const Factor cell = interaction(factor, factor);

  ASSERT_EQ(cell.levels.size(), n);
  EXPECT_EQ(cell.levels.back(), "69999:69999");
  EXPECT_EQ(cell.codes.back(), 69999);
}

TEST(Subset, DropsUnusedLevelsAndKeepsTheOrder) {
  const Factor factor = {{"low", "mid", "high"}, {0, 2, 1, -1, 2}, true};

  const Factor kept = subset(factor, {1, 3, 4});

  EXPECT_EQ(kept.levels, (Levels{"high"}));
  EXPECT_EQ(kept.codes, (Codes{0, -1, 0}));
  EXPECT_TRUE(kept.ordered);
}

}  // namespace
}  // namespace batchlmm
