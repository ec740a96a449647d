// Numbers, names, tables and formulas as R prints them, against what R 4.2.2 printed (tests/data/printed/formats.R).
#include "host/inference/r_format.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "host/inference/r_formula.hpp"
#include "host/inference/r_print.hpp"

namespace batchlmm {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;

const json& printed(const char* subject) {
  static const json all = json::parse(std::ifstream(BATCHLMM_TEST_DATA "/printed/formats.json"));
  const json& cases = all.at(subject);
  EXPECT_FALSE(cases.empty());
  return cases;
}

TEST(RFormat, NumbersShareOneNotation) {
  for (const auto& c : printed("format")) {
    EXPECT_EQ(r_format(c["x"].get<std::vector<double>>(), c["digits"], c["nsmall"]), c["out"].get<Strings>()) << c;
  }
}

TEST(RFormat, SpecialValues) {
  const double infinity = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();

  EXPECT_EQ(r_format({1.0, nan, -infinity}, 7, 2), (Strings{"1.00", " NaN", "-Inf"}));
  EXPECT_EQ(r_format({nan}), (Strings{"NaN"}));
  EXPECT_EQ(r_number(-0.0), "0");
  EXPECT_TRUE(r_format({}).empty());
}

TEST(RFormat, Rounding) {
  for (const auto& c : printed("round")) {
    EXPECT_EQ(r_round(c["x"], c["d"]), c["out"].get<double>()) << c;
  }
}

TEST(RFormat, SmallValuesAreZapped) {
  EXPECT_EQ(r_zapsmall({1e-20, 1.0}), (std::vector<double>{0.0, 1.0}));
  EXPECT_EQ(r_zapsmall({123.456789, 0.001234}, 5), (std::vector<double>{123.457, 0.001}));
}

TEST(RFormat, PValues) {
  EXPECT_EQ(r_format_p_value(0.000653212, 4), "0.0006532");
  EXPECT_EQ(r_format_p_value(7.0716e-10, 4), "7.072e-10");
  EXPECT_EQ(r_format_p_value(1e-30, 4), "< 2.2e-16");
  EXPECT_EQ(r_format_p_value(1, 4), "1");
}

TEST(RPrint, Matrices) {
  for (const auto& c : printed("matrix")) {
    TextMatrix matrix{c["rn"], c["cn"], c["cols"], c["right"]};
    EXPECT_EQ(r_print(matrix), c["out"].get<std::string>());
  }
}

TEST(RPrint, NamedVectors) {
  for (const auto& c : printed("named")) {
    EXPECT_EQ(r_print_named(c["nm"].get<Strings>(), c["x"].get<Strings>()), c["out"].get<std::string>());
  }
}

TEST(RPrint, FilledLines) {
  for (const auto& c : printed("fill")) {
    EXPECT_EQ(r_cat_fill(c["x"].get<Strings>()), c["out"].get<std::string>());
  }
}

TEST(RPrint, Abbreviations) {
  for (const auto& c : printed("abbr")) {
    EXPECT_EQ(r_abbreviate(c["x"].get<Strings>(), c["n"]), c["out"].get<Strings>()) << c;
  }
}

TEST(RPrint, SyntacticNames) {
  for (const auto& c : printed("names")) {
    EXPECT_EQ(r_make_names(c["x"].get<Strings>()), c["out"].get<Strings>()) << c;
  }
  EXPECT_TRUE(r_is_syntactic("subject"));
  EXPECT_FALSE(r_is_syntactic("cask:batch"));
  EXPECT_FALSE(r_is_syntactic("if"));
}

TEST(RFormula, Deparse) {
  for (const auto& c : printed("deparse")) {
    EXPECT_EQ(r_deparse(c["x"]), c["out"].get<Strings>()) << c;
  }
  EXPECT_EQ(r_formula("y~x+(1|g)"), "y ~ x + (1 | g)");
  EXPECT_EQ(r_formula("y ~ ("), "y ~ (");
}

}  // namespace
}  // namespace batchlmm
