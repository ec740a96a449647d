// Designs: which rows a study simulates responses for.
#include "host/study/design.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "batchlmm/error.hpp"
#include "host/study/study_file.hpp"

namespace batchlmm::study {
namespace {

/// The design of a study file with this text in place of its [design].
DesignTable made(const std::string& design, std::uint64_t seed = 1) {
  const StudyFile file = StudyFile::parse("[study]\nreplicates = 1\n" + design +
                                              "\n[truth]\nformula = \"y ~ 1 + (1 | g)\"\nsigma = 1\n"
                                              "[models.m]\nformula = \"y ~ 1 + (1 | g)\"\n",
                                          "s.toml");
  return make_design(file.specification(0).design, "", seed);
}
const Factor& factor(const DesignTable& design, const char* name) {
  return std::get<Factor>(design.table.at(name).data);
}
const Numeric& numbers(const DesignTable& design, const char* name) {
  return std::get<Numeric>(design.table.at(name).data);
}

TEST(StudyDesign, CrossedUnitsSeeEveryLevelOfAFactorWithinThem) {
  const DesignTable design = made(
      "[design]\nkind = \"crossed\"\nunits = { subject = 3, item = 2 }\nreplications = 2\n"
      "[design.factors.c]\nlevels = [\"A\", \"B\"]\n");

  EXPECT_EQ(design.table.rows, 3U * 2 * 2 * 2);
  std::map<std::tuple<int, int, int>, int> count;
  for (std::size_t i = 0; i < design.table.rows; ++i)
    ++count[{factor(design, "subject").codes[i], factor(design, "item").codes[i], factor(design, "c").codes[i]}];
  EXPECT_EQ(count.size(), 12U);
  for (const auto& cell : count) EXPECT_EQ(cell.second, 2);
  EXPECT_EQ(factor(design, "subject").levels, (std::vector<std::string>{"1", "2", "3"}));
}

TEST(StudyDesign, ALatinSquareShowsEveryItemInEveryConditionToAsManySubjects) {
  const DesignTable design = made(
      "[design]\nkind = \"crossed\"\nunits = { subject = 6, item = 9 }\n"
      "[design.factors.c]\nlevels = [\"A\", \"B\", \"C\"]\ncodes = [-1, 0, 1]\nlatin = [\"subject\", \"item\"]\n");

  EXPECT_EQ(design.table.rows, 54U);
  std::map<std::pair<int, double>, int> by_item, by_subject;
  for (std::size_t i = 0; i < design.table.rows; ++i) {
    ++by_item[{factor(design, "item").codes[i], numbers(design, "c")[i]}];
    ++by_subject[{factor(design, "subject").codes[i], numbers(design, "c")[i]}];
  }
  EXPECT_EQ(by_item.size(), 27U);
  for (const auto& cell : by_item) EXPECT_EQ(cell.second, 2);
  EXPECT_EQ(by_subject.size(), 18U);
  for (const auto& cell : by_subject) EXPECT_EQ(cell.second, 3);
}

TEST(StudyDesign, FactorsBetweenTheSameUnitsRunThroughTheirCombinations) {
  const DesignTable design = made(
      "[design]\nkind = \"crossed\"\nunits = { subject = 8 }\n"
      "[design.factors.a]\nlevels = [\"1\", \"2\"]\nbetween = \"subject\"\n"
      "[design.factors.b]\nlevels = [\"1\", \"2\"]\nbetween = \"subject\"\n");

  std::map<std::pair<int, int>, int> count;
  for (std::size_t i = 0; i < 8; ++i) ++count[{factor(design, "a").codes[i], factor(design, "b").codes[i]}];
  EXPECT_EQ(count.size(), 4U);
  for (const auto& cell : count) EXPECT_EQ(cell.second, 2);
}

TEST(StudyDesign, NestedUnitsHaveNamesOfTheirOwn) {
  const DesignTable design = made("[design]\nkind = \"nested\"\nunits = { school = 3, class = 2, pupil = 10 }\n");

  EXPECT_EQ(design.table.rows, 60U);
  EXPECT_EQ(factor(design, "class").levels.size(), 6U);
  EXPECT_EQ(factor(design, "pupil").levels.size(), 60U);
  EXPECT_EQ(factor(design, "class").levels[3], "2.2");
  EXPECT_EQ(factor(design, "pupil").levels.back(), "3.2.10");
  for (std::size_t i = 0; i < 60; ++i)
    EXPECT_EQ(factor(design, "class").codes[i] / 2, factor(design, "school").codes[i]);
}

TEST(StudyDesign, ASplitPlotHasOneWholePlotLevelAPlotAndAllSubplotLevels) {
  const DesignTable design = made(
      "[design]\nkind = \"split_plot\"\nunits = { block = 4, plot = 3 }\n"
      "[design.factors.variety]\nlevels = [\"x\", \"y\", \"z\"]\nbetween = \"plot\"\n"
      "[design.factors.nitro]\nlevels = [\"0\", \"1\"]\n");

  EXPECT_EQ(design.table.rows, 24U);
  std::map<int, std::set<int>> variety_of_plot, nitro_of_plot;
  std::map<std::pair<int, int>, int> by_block;
  for (std::size_t i = 0; i < 24; ++i) {
    variety_of_plot[factor(design, "plot").codes[i]].insert(factor(design, "variety").codes[i]);
    nitro_of_plot[factor(design, "plot").codes[i]].insert(factor(design, "nitro").codes[i]);
    ++by_block[{factor(design, "block").codes[i], factor(design, "variety").codes[i]}];
  }
  for (const auto& plot : variety_of_plot) EXPECT_EQ(plot.second.size(), 1U);
  for (const auto& plot : nitro_of_plot) EXPECT_EQ(plot.second.size(), 2U);
  EXPECT_EQ(by_block.size(), 12U);
}

TEST(StudyDesign, TimePointsAndCovariates) {
  const std::string text =
      "[design]\nkind = \"longitudinal\"\nunits = { subject = 40 }\n"
      "[design.covariates.Days]\nvalues = [0, 1, 2.5]\n"
      "[design.covariates.age]\nnormal = [30, 5]\nby = \"subject\"\n"
      "[design.covariates.noise]\nuniform = [2, 3]\n";
  const DesignTable design = made(text), again = made(text), other = made(text, 2);

  EXPECT_EQ(design.table.rows, 120U);
  EXPECT_EQ(numbers(design, "Days")[2], 2.5);
  EXPECT_EQ(numbers(design, "age")[0], numbers(design, "age")[2]);
  EXPECT_NE(numbers(design, "age")[0], numbers(design, "age")[3]);
  double sum = 0;
  for (const double x : numbers(design, "age")) sum += x / 120;
  EXPECT_NEAR(sum, 30, 4 * 5 / std::sqrt(40.0));
  for (const double x : numbers(design, "noise")) EXPECT_TRUE(x > 2 && x < 3);
  EXPECT_EQ(numbers(design, "noise"), numbers(again, "noise"));
  EXPECT_NE(numbers(design, "noise"), numbers(other, "noise"));
}

TEST(StudyDesign, CovariatesDrawnAnewAreAFunctionOfTheReplicate) {
  const DesignTable design = made(
      "[design]\nkind = \"crossed\"\nunits = { subject = 5, item = 2 }\n"
      "[design.covariates.x]\nnormal = [0, 1]\nby = \"subject\"\nanew = true\n");
  Table first = design.table, second = design.table, again = design.table;

  draw_covariates(design, 9, 1, first);
  draw_covariates(design, 9, 2, second);
  draw_covariates(design, 9, 1, again);

  const auto& x = std::get<Numeric>(first.at("x").data);
  EXPECT_EQ(x, std::get<Numeric>(again.at("x").data));
  EXPECT_NE(x, std::get<Numeric>(second.at("x").data));
  EXPECT_EQ(x[0], x[1]);
}

TEST(StudyDesign, ATableIsExtendedAlongAFactor) {
  const DesignTable design =
      made("[design]\nkind = \"table\"\ndata = \"" BATCHLMM_TEST_DATA
           "/sleepstudy.csv\"\nfactors = [\"Subject\"]\nextend = { along = \"Subject\", to = 25 }\n");
  const DesignTable cut =
      made("[design]\nkind = \"table\"\ndata = \"" BATCHLMM_TEST_DATA
           "/sleepstudy.csv\"\nfactors = [\"Subject\"]\nextend = { along = \"Subject\", to = 5 }\n");

  EXPECT_EQ(design.table.rows, 250U);
  EXPECT_EQ(factor(design, "Subject").levels[18], factor(design, "Subject").levels[0] + "_2");
  EXPECT_EQ(numbers(design, "Days")[180], 0);
  EXPECT_EQ(numbers(design, "Reaction")[181], numbers(design, "Reaction")[1]);
  EXPECT_EQ(cut.table.rows, 50U);
}

TEST(StudyDesign, AColumnOfNumbersIsNotExtended) {
  EXPECT_THROW(made("[design]\nkind = \"table\"\ndata = \"" BATCHLMM_TEST_DATA
                    "/sleepstudy.csv\"\nextend = { along = \"Days\", to = 5 }\n"),
               InputError);
}

}  // namespace
}  // namespace batchlmm::study
