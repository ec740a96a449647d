// Rows that a regular design lacks: found where a few are left out, refused where the design is irregular, and the
// deviance of the completed design with indicator columns is that of the observed rows.
#include "host/model/completed_design.hpp"

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/model/model.hpp"
#include "host/model/symmetry.hpp"
#include "tests/designs.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using designs::Design;
using Eigen::MatrixXd;
using Orders = std::vector<std::pair<int, int>>;

/// A row as it stands in X and in the terms, with levels by their names.
std::vector<std::string> row_text(const ModelMatrices& m, Eigen::Index row) {
  std::vector<std::string> out;
  const auto add = [&](double x) { out.push_back(std::to_string(x)); };
  for (Eigen::Index c = 0; c < m.X.cols(); ++c) add(m.X(row, c));
  for (const RandomTerm& term : m.random) {
    out.push_back(term.levels[static_cast<std::size_t>(term.level_of_row[static_cast<std::size_t>(row)])]);
    for (Eigen::Index c = 0; c < term.z.cols(); ++c) add(term.z(row, c));
  }
  return out;
}

std::multiset<std::vector<std::string>> row_texts(const ModelMatrices& m) {
  std::multiset<std::vector<std::string>> out;
  for (Eigen::Index i = 0; i < m.X.rows(); ++i) out.insert(row_text(m, i));
  return out;
}

struct Case {
  std::string name;
  Design design;
};

std::vector<Case> regular_designs() {
  Design with_gender = designs::crossed(12, 9);
  with_gender.x = {"1", "c", "group"};
  Design intercepts = with_gender;
  intercepts.terms = {{"s", {"1"}}, {"i", {"1"}}};
  Design split_plot = designs::split_plot(12, 3, 4);
  split_plot.x = {"1", "v1", "v2", "n"};
  return {{"crossed", designs::crossed(12, 9)},    {"crossed, a covariate between", with_gender},
          {"crossed, intercepts", intercepts},     {"longitudinal", designs::longitudinal(18, 10)},
          {"eight lists", designs::lists(24, 16)}, {"split plot", split_plot},
          {"nested", designs::nested(12, 3, 6)}};
}

TEST(CompletedDesign, FindsTheRowsThatWereLeftOut) {
  for (const Case& c : regular_designs())
    for (int missing : {1, 2, 3})
      for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        const auto all = c.design.matrices(), observed = c.design.with_missing(missing, seed).matrices();
        const std::string what = c.name + ", " + std::to_string(missing) + ", " + std::to_string(seed);

        const std::optional<CompletedDesign> completed = complete_design(*observed);

        ASSERT_TRUE(completed) << what;
        EXPECT_EQ(completed->missing.size(), static_cast<std::size_t>(missing)) << what;
        EXPECT_TRUE(row_texts(*completed->matrices) == row_texts(*all)) << what;
        const std::size_t n = observed->y.size();
        ASSERT_EQ(completed->observed.size(), n);
        for (std::size_t i = 0; i < n; ++i) {
          EXPECT_EQ(row_text(*completed->matrices, completed->observed[i]),
                    row_text(*observed, static_cast<Eigen::Index>(i)));
          EXPECT_EQ(completed->matrices->y[completed->observed[i]], observed->y[static_cast<Eigen::Index>(i)]);
        }
        for (int row : completed->missing) EXPECT_EQ(completed->matrices->y[row], 0);
      }
}

TEST(CompletedDesign, HasTheStrataOfTheRegularDesign) {
  for (const auto& [missing, subjects, items] :
       {std::tuple(1, 12, 7), std::tuple(20, 50, 20), std::tuple(78, 50, 20)}) {
    const auto observed = designs::crossed(subjects, items).with_missing(missing, 3).matrices();

    const std::optional<CompletedDesign> completed = complete_design(*observed);

    ASSERT_TRUE(completed) << missing;
    EXPECT_EQ(completed->missing.size(), static_cast<std::size_t>(missing));
    std::string why;
    const std::optional<Strata> strata = find_strata(Model(completed->matrices, Method::ml), {}, &why);
    ASSERT_TRUE(strata) << why;
    ASSERT_EQ(strata->strata.size(), 3U);
    EXPECT_EQ(strata->strata[2].m, subjects - 1);
  }
}

TEST(CompletedDesign, CriterionWithIndicatorsIsThatOfTheObservedRows) {
  for (const Case& c : regular_designs()) {
    const auto observed = c.design.with_missing(2, 9).matrices();
    const std::optional<CompletedDesign> completed = complete_design(*observed);
    ASSERT_TRUE(completed) << c.name;
    std::vector<MatrixXd> lambda;
    for (const RandomTerm& term : observed->random) {
      MatrixXd l = MatrixXd::Identity(term.z.cols(), term.z.cols()) * 0.7;
      if (l.rows() > 1) l(1, 0) = 0.3;
      lambda.push_back(l);
    }
    ModelMatrices with_indicators = *completed->matrices;
    const Eigen::Index p = with_indicators.X.cols();
    with_indicators.X.conservativeResize(Eigen::NoChange, p + 2);
    with_indicators.X.rightCols(2).setZero();
    for (int j = 0; j < 2; ++j) with_indicators.X(completed->missing[static_cast<std::size_t>(j)], p + j) = 1;

    const double expected = oracle::criterion(*observed, lambda, Method::reml);
    const double found = oracle::criterion(with_indicators, lambda, Method::reml);

    EXPECT_NEAR(found, expected, 1e-9 * std::abs(expected)) << c.name;
  }
}

TEST(CompletedDesign, CompletesBothModelsByTheSameRows) {
  Design full = designs::crossed(12, 9).with_missing(3, 4), null = full;
  null.x = {"1"};
  null.terms = {{"s", {"1", "c"}}, {"i", {"1"}}};

  const std::optional<CompletedDesign> completed = complete_design(*full.matrices(), *null.matrices());

  ASSERT_TRUE(completed);
  ASSERT_TRUE(completed->second);
  Design all = designs::crossed(12, 9), all_null = all;
  all_null.x = null.x;
  all_null.terms = null.terms;
  EXPECT_TRUE(row_texts(*completed->matrices) == row_texts(*all.matrices()));
  EXPECT_TRUE(row_texts(*completed->second) == row_texts(*all_null.matrices()));
  for (int row : completed->missing)
    EXPECT_EQ(completed->matrices->random[0].level_of_row[static_cast<std::size_t>(row)],
              completed->second->random[0].level_of_row[static_cast<std::size_t>(row)]);
}

TEST(CompletedDesign, AWholePlotThatIsMissingIsANewLevel) {
  const Design design = designs::split_plot(40, 3, 4);

  const std::optional<CompletedDesign> completed = complete_design(*design.without({16, 17, 18, 19}).matrices());

  ASSERT_TRUE(completed);
  EXPECT_EQ(completed->missing.size(), 4U);
  EXPECT_EQ(completed->matrices->random[0].levels.size(), 120U);
  std::string why;
  const std::optional<Strata> strata = find_strata(Model(completed->matrices, Method::ml), {}, &why);
  ASSERT_TRUE(strata) << why;
  EXPECT_EQ(strata->strata.size(), 2U);
}

TEST(CompletedDesign, NumericCovariatesOfXDoNotMatter) {
  std::mt19937_64 rng(3);
  Design design = designs::crossed(12, 9);
  for (std::size_t i = 0; i < design.rows(); ++i)
    design.number["trial"].push_back(static_cast<double>(rng() >> 11U) * 0x1p-53);
  design.x.emplace_back("trial");

  const std::optional<CompletedDesign> completed = complete_design(*design.with_missing(3, 4).matrices());

  ASSERT_TRUE(completed);
  EXPECT_EQ(completed->missing.size(), 3U);
  std::string why;
  EXPECT_TRUE(find_strata(Model(completed->matrices, Method::ml), {}, &why)) << why;
}

TEST(CompletedDesign, NothingIsCompletedWhereNothingIsMissingOrTooMuch) {
  std::mt19937_64 rng(3);
  std::normal_distribution<double> normal;
  Design unique_times = designs::longitudinal(30, 6);
  for (double& t : unique_times.number["t"]) t += 0.3 * normal(rng);
  for (const Case& c : regular_designs()) EXPECT_FALSE(complete_design(*c.design.matrices())) << c.name;

  EXPECT_FALSE(complete_design(*unique_times.matrices()));
  EXPECT_FALSE(complete_design(*designs::crossed(50, 20).with_missing(200, 3).matrices()));
  EXPECT_FALSE(complete_design(*designs::dropout({30, 18, 12}, {6, 4, 3}).matrices()));
  CompletionOptions options;
  options.most_missing = 2;
  EXPECT_FALSE(complete_design(*designs::crossed(50, 20).with_missing(3, 3).matrices(), options));
  for (oracle::Kind kind : {oracle::Kind::single, oracle::Kind::crossed, oracle::Kind::deep}) {
    const auto m = oracle::random_model(kind, 2, 17);
    EXPECT_FALSE(complete_design(*m)) << static_cast<int>(kind);
  }
}

// Winter & Grawunder (2012): one frequency of 84 is missing.
TEST(CompletedDesign, Politeness) {
  const Table table = read_table(std::string(BATCHLMM_TEST_DATA) + "/politeness.csv");
  for (const char* terms : {"(1|subject) + (1|scenario)", "(1 + attitude|subject) + (1 + attitude|scenario)"}) {
    const auto full = model_matrices(parse_formula(std::string("frequency ~ attitude + gender + ") + terms), table);
    const auto null = model_matrices(parse_formula(std::string("frequency ~ gender + ") + terms), table);
    ASSERT_EQ(full.y.size(), 83);

    const std::optional<CompletedDesign> completed = complete_design(full, null);

    ASSERT_TRUE(completed);
    ASSERT_EQ(completed->missing.size(), 1U);
    // The subject's own gender, and the attitude that is missing there: each makes half of the rows.
    const Eigen::VectorXd sums = completed->matrices->X.colwise().sum();
    EXPECT_EQ(sums[1], 42);
    EXPECT_EQ(sums[2], 42);
    EXPECT_EQ(completed->second->X.colwise().sum()[1], 42);
    std::string why;
    const std::optional<Strata> strata = find_strata(Model(completed->matrices, Method::ml), {}, &why);
    ASSERT_TRUE(strata) << why;
    EXPECT_EQ(strata->strata.size(), 3U);
    EXPECT_EQ(strata->strata[2].m, 6);
  }
}

// Kronmueller & Barr (2007): three rows of 1792 are missing.
TEST(CompletedDesign, CounterbalancedListsOfAPublishedExperiment) {
  const std::string path = std::string(BATCHLMM_SHARED) + "/data/kb07.csv";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const Table table = read_table(path);
  for (const char* terms : {"(1|subj) + (1|item)", "(1 + spkr*prec*load|subj) + (1 + spkr*prec*load|item)"}) {
    const auto full = model_matrices(parse_formula(std::string("rt_trunc ~ 1 + spkr*prec*load + ") + terms), table);

    const std::optional<CompletedDesign> completed = complete_design(full);

    ASSERT_TRUE(completed);
    EXPECT_EQ(completed->missing.size(), 3U);
    // Each of the eight conditions has 1792 / 8 rows.
    std::map<std::vector<double>, int> cells;
    for (const auto& row : completed->matrices->X.rowwise()) ++cells[std::vector<double>(row.begin(), row.end())];
    EXPECT_EQ(cells.size(), 8U);
    for (const auto& [cell, count] : cells) EXPECT_EQ(count, 224);
    std::string why;
    const std::optional<Strata> strata = find_strata(Model(completed->matrices, Method::ml), {}, &why);
    ASSERT_TRUE(strata) << why;
    for (const Stratum& s : strata->strata) EXPECT_LE(s.d, 16);
  }
}

}  // namespace
}  // namespace batchlmm
