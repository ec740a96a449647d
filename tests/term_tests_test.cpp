// F tests of fixed-effects terms and contrasts, against lmerTest and pbkrtest and by what they must be.
#include "host/inference/term_tests.hpp"

#include <gtest/gtest.h>

#include <Eigen/QR>
#include <fstream>
#include <nlohmann/json.hpp>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "host/data/table.hpp"
#include "host/formula/formula.hpp"

namespace batchlmm {
namespace {

using nlohmann::json;

Table keep(const Table& table, const std::vector<std::size_t>& rows) {
  Table out = table;
  out.rows = rows.size();
  for (Column& column : out.columns)
    std::visit(
        [&](auto& data) {
          if constexpr (std::is_same_v<std::decay_t<decltype(data)>, Factor>) {
            const auto codes = data.codes;
            data.codes.clear();
            for (const std::size_t i : rows) data.codes.push_back(codes[i]);
          } else {
            const Numeric values = data;
            data.clear();
            for (const std::size_t i : rows) data.push_back(values[i]);
          }
        },
        column.data);
  return out;
}

std::string cell_text(const Table& table, const char* name, std::size_t row) {
  const Column& column = table.at(name);
  if (const auto* factor = std::get_if<Factor>(&column.data))
    return factor->levels[static_cast<std::size_t>(factor->codes[row])];
  return std::to_string(static_cast<int>(std::get<Numeric>(column.data)[row]));
}

/// The table with an empty cell, and unequal ones, as term_tests.R makes it.
Table unequal_cells(const Table& table) {
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < table.rows; ++i) {
    const std::string scenario = cell_text(table, "scenario", i);
    if (scenario == "3" && cell_text(table, "attitude", i) == "pol") continue;
    if (cell_text(table, "subject", i) == "F1" && (scenario == "1" || scenario == "2")) continue;
    rows.push_back(i);
  }
  return keep(table, rows);
}

struct Case {
  Table table;
  Formula formula;
  ModelOptions options;
  std::shared_ptr<const ModelMatrices> model;
};

Case case_of(const std::string& formula, const std::string& factor = "", bool unequal = false,
             ModelOptions options = {}) {
  ReadOptions read;
  if (!factor.empty()) read.factors = {factor};
  Table table = read_table(BATCHLMM_TEST_DATA "/politeness.csv", read);
  if (unequal) table = unequal_cells(table);
  Case out{std::move(table), parse_formula(formula), std::move(options), nullptr};
  out.model = std::make_shared<const ModelMatrices>(model_matrices(out.formula, out.table, out.options));
  return out;
}

std::vector<TermHypothesis> hypotheses(const Case& c, TermTestType type) {
  return term_hypotheses(c.formula, c.table, c.options, *c.model, type);
}

TEST(TermTests, TablesAreThoseOfLmerTest) {
  std::ifstream file(BATCHLMM_TEST_DATA "/term_tests.json");
  const json cases = json::parse(file);
  ASSERT_EQ(cases.size(), 30U);

  for (const json& expected : cases) {
    SCOPED_TRACE(expected.dump());
    ModelOptions options;
    if (expected["contrasts"] != "") options.contrasts = {{"attitude", Contrast::sum}, {"scenario", Contrast::helmert}};
    const Case c = case_of(expected["formula"], expected["factor"], expected["rows"] == "cell", options);
    const auto type = static_cast<TermTestType>(expected["type"].get<int>());
    const SmallSample method =
        expected["ddf"] == "satterthwaite" ? SmallSample::satterthwaite : SmallSample::kenward_roger;

    const TermTests tests = test_terms(fit(c.model, Method::reml), hypotheses(c, type), type, method);

    ASSERT_EQ(tests.terms.size(), expected["terms"].size());
    for (std::size_t i = 0; i < tests.terms.size(); ++i) {
      ASSERT_TRUE(tests.terms[i].test);
      const FTest& f = *tests.terms[i].test;
      EXPECT_EQ(tests.terms[i].term, expected["terms"][i]);
      EXPECT_EQ(f.df1, expected["df1"][i].get<double>());
      // lme4's optimum and lmerTest's numerical derivatives leave some 1e-6.
      const auto near = [&](double value, const char* key, double relative) {
        const double reference = expected[key][i];
        EXPECT_NEAR(value, reference, relative * std::abs(reference)) << key << " of " << tests.terms[i].term;
      };
      near(tests.terms[i].sum_square, "sum_sq", 2e-5);
      near(f.df2, "df2", 1e-5);
      near(f.f, "f", 2e-5);
      near(f.p, "p", 1e-4);
    }
  }
}

TEST(TermTests, AreEqualInEveryCoding) {
  for (const TermTestType type : {TermTestType::one, TermTestType::two, TermTestType::three}) {
    ModelOptions sum;
    sum.unordered = Contrast::sum;
    const Case a = case_of("frequency ~ attitude * scenario + gender + (1 | subject)", "scenario", true);
    const Case b = case_of("frequency ~ attitude * scenario + gender + (1 | subject)", "scenario", true, sum);

    const TermTests in_a =
        test_terms(fit(a.model, Method::reml), hypotheses(a, type), type, SmallSample::kenward_roger);
    const TermTests in_b =
        test_terms(fit(b.model, Method::reml), hypotheses(b, type), type, SmallSample::kenward_roger);

    for (std::size_t i = 0; i < in_a.terms.size(); ++i) {
      // Type II of a term that no other contains is written in its own coefficients: the same hypothesis.
      EXPECT_NEAR(in_a.terms[i].test->f / in_b.terms[i].test->f, 1, 1e-8) << in_a.terms[i].term;
      EXPECT_NEAR(in_a.terms[i].test->df2 / in_b.terms[i].test->df2, 1, 1e-8) << in_a.terms[i].term;
    }
  }
}

// Type III with sum-to-zero coding and no empty cell: each term's own coefficients.
TEST(TermTests, TypeThreeOfFullCellsIsSumCodingsCoefficients) {
  ModelOptions sum;
  sum.unordered = Contrast::sum;
  const Case c = case_of("frequency ~ attitude * gender + (1 | subject) + (1 | scenario)", "", false, sum);

  const auto found = hypotheses(c, TermTestType::three);

  ASSERT_EQ(found.size(), 3U);
  for (std::size_t t = 0; t < 3; ++t) {
    ASSERT_EQ(found[t].rows.rows(), 1);
    Eigen::VectorXd row = found[t].rows.row(0);
    const Eigen::Index own = static_cast<Eigen::Index>(t) + 1;
    const double scale = row[own];
    row[own] = 0;
    EXPECT_LT(row.cwiseAbs().maxCoeff(), 1e-9 * std::abs(scale)) << found[t].term;
  }
}

// The last term in order is tested alike by all types: the model without it is the hypothesis.
TEST(TermTests, TheLastTermIsTestedAlikeByAllTypes) {
  const Case c = case_of("frequency ~ attitude * scenario + (1 | subject)", "scenario", true);
  const Fit fitted = fit(c.model, Method::reml);
  std::vector<double> f;
  for (const TermTestType type : {TermTestType::one, TermTestType::two, TermTestType::three})
    f.push_back(test_terms(fitted, hypotheses(c, type), type, SmallSample::kenward_roger).terms.back().test->f);

  EXPECT_NEAR(f[0], f[1], 1e-9 * f[0]);
  EXPECT_NEAR(f[0], f[2], 1e-9 * f[0]);
}

TEST(TermTests, TextIsLmerTestsWithContrastsBelow) {
  const Case c = case_of("frequency ~ attitude * scenario + (1 | subject)", "scenario");

  const std::string text =
      term_tests_text(test_terms(fit(c.model, Method::reml), hypotheses(c, TermTestType::two), TermTestType::two,
                                 SmallSample::kenward_roger, {"attitudepol", "scenario2; scenario3"}));

  const std::string table =
      "Type II Analysis of Variance Table with Kenward-Roger's method\n"
      "                   Sum Sq Mean Sq NumDF  DenDF F value    Pr(>F)    \n"
      "attitude           8105.0  8105.0     1 64.001 12.8996 0.0006381 ***\n"
      "scenario          19445.5  3240.9     6 64.001  5.1581 0.0002226 ***\n"
      "attitude:scenario  5002.4   833.7     6 64.002  1.3269 0.2582609    \n"
      "---\n"
      "Signif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1\n"
      "  (1 observation deleted due to missingness)\n";
  EXPECT_EQ(text.substr(0, table.size()), table);
  EXPECT_NE(text.find("\nContrasts (95% intervals):\n            Estimate Std. Error"), std::string::npos) << text;
  EXPECT_NE(text.find("\nJoint hypotheses:\n"), std::string::npos) << text;
}

// lmerTest 3.1-3: contest1D(lmer(frequency ~ gender * scenario + (1|subject)), c(0, 1, 4, 0), confint = TRUE).
TEST(TermTests, ContrastsHaveLmerTestsIntervals) {
  const Case c = case_of("frequency ~ gender * scenario + (1 | subject)");

  const TermTests tests = test_terms(fit(c.model, Method::reml), {}, TermTestType::three, SmallSample::satterthwaite,
                                     {"genderM + 4 * scenario", "genderM; genderM:scenario"});

  const ContrastResult& one = tests.contrasts[0];
  EXPECT_NEAR(one.t->estimate, -129.8284, 1e-3);
  EXPECT_NEAR(one.t->df, 15.36954, 1e-4);
  EXPECT_NEAR(one.conf_low, -193.4714, 1e-2);
  EXPECT_NEAR(one.conf_high, -66.18549, 1e-2);
  // contestMD(m, rbind(c(0, 1, 0, 0), c(0, 0, 0, 1)))
  EXPECT_FALSE(tests.contrasts[1].t);
  EXPECT_NEAR(tests.contrasts[1].f.f, 13.37353, 1e-4);
  EXPECT_NEAR(tests.contrasts[1].f.df2, 12.16564, 1e-3);
}

TEST(TermTests, TablesForOtherProgramsHoldEverything) {
  const Case c = case_of("frequency ~ attitude + (1 | subject)");
  const TermTests tests = test_terms(fit(c.model, Method::reml), hypotheses(c, TermTestType::three),
                                     TermTestType::three, SmallSample::satterthwaite, {"attitudepol"});

  const json j = json::parse(term_tests_json(tests));
  const std::string csv = term_tests_csv(tests);

  EXPECT_EQ(j["terms"][0]["term"], "attitude");
  EXPECT_EQ(j["terms"][0]["F"].get<double>(), tests.terms[0].test->f);
  EXPECT_EQ(j["contrasts"][0]["estimate"].get<double>(), tests.contrasts[0].t->estimate);
  EXPECT_TRUE(csv.starts_with("term,sumsq,meansq,NumDF,DenDF,statistic,p.value\nattitude,")) << csv;
  EXPECT_NE(csv.find("\nattitudepol,NA,NA,1,"), std::string::npos) << csv;
}

}  // namespace
}  // namespace batchlmm
