// Against lme4, broom.mixed and performance (tests/data/predictions/predictions.R says versions and calls), against
// Henderson's equations by dense algebra in R, and against the closed forms of balanced designs.
#include "host/inference/predict.hpp"

#include <gtest/gtest.h>

#include <Eigen/LU>
#include <algorithm>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "batchlmm/error.hpp"
#include "host/data/factor.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/diagnostics.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;
using Names = std::vector<std::string>;

const std::string data_folder = BATCHLMM_TEST_DATA;
const double missing = std::numeric_limits<double>::quiet_NaN();

/// A fit with all that predictions need of it.
struct Fitted {
  Table table;
  std::shared_ptr<const ModelMatrices> matrices;
  std::unique_ptr<NewData> data;
  Fit fit;

  Fitted(const std::string& formula, Table from, Method method, const ModelOptions& options = {})
      : table(std::move(from)) {
    const Formula parsed = parse_formula(formula);
    matrices = std::make_shared<const ModelMatrices>(model_matrices(parsed, table, options));
    data = std::make_unique<NewData>(parsed, table, options, matrices);
    fit = batchlmm::fit(matrices, method);
  }

  /// @param re  "all", "none", or what NewData::columns_named takes
  [[nodiscard]] PredictOptions options(const std::string& re) const {
    PredictOptions options;
    options.modes = re == "all" ? all_modes(*matrices) : re == "none" ? no_modes(*matrices) : data->columns_named(re);
    options.allow_new_levels = true;
    return options;
  }
  [[nodiscard]] Predictions on(const Table& rows, const PredictOptions& options) const {
    return predict(fit, data->rows(rows, needed_terms(*matrices, options)), options);
  }
  [[nodiscard]] Predictions own(const PredictOptions& options) const { return predict(fit, data->own_rows(), options); }
};

class Lme4 : public testing::TestWithParam<const char*> {
protected:
  Lme4() : golden(json::parse(std::ifstream(data_folder + "/predictions/" + GetParam() + ".json"))) {}

  [[nodiscard]] Fitted fitted() const {
    ModelOptions options;
    if (golden["options"].size() == 2) options.contrasts = {{"attitude", Contrast::sum}, {"gender", Contrast::helmert}};
    return {golden["formula"], read_table(data_folder + "/" + golden["file"].get<std::string>()),
            golden["reml"].get<bool>() ? Method::reml : Method::ml, options};
  }
  static double number(const json& value) { return value.is_number() ? value.get<double>() : missing; }

  const json golden;
};

INSTANTIATE_TEST_SUITE_P(Cases, Lme4,
                         testing::Values("sleep", "sleep_transformed", "politeness", "politeness_sum", "pastes",
                                         "penicillin"));

// The optima of both sides are accurate to some 1e-8 in theta.
constexpr double relative = 1e-8;

TEST_P(Lme4, PredictsRowsOfOtherDataAsOfItsOwn) {
  const Fitted model = fitted();
  const Table rows = read_table(data_folder + "/predictions/" + GetParam() + ".csv");
  ASSERT_NEAR(model.fit.criterion, golden["criterion"].get<double>(), 1e-9);

  for (const json& expected : golden["predictions"]) {
    const Predictions found = model.on(rows, model.options(expected["re"]));

    ASSERT_EQ(found.fit.size(), expected["fit"].size());
    for (std::size_t i = 0; i < found.fit.size(); ++i) {
      const double value = number(expected["fit"][i]);
      if (std::isnan(value)) {
        EXPECT_TRUE(std::isnan(found.fit[i])) << expected["re"] << ", row " << i;
        EXPECT_TRUE(std::isnan(found.se[i]));
      } else {
        EXPECT_NEAR(found.fit[i], value, relative * std::abs(value)) << expected["re"] << ", row " << i;
        EXPECT_GT(found.se[i], 0);
      }
    }
  }
}

TEST_P(Lme4, PredictsItsOwnRows) {
  const Fitted model = fitted();

  for (const json& expected : golden["own"]) {
    const Predictions found = model.own(model.options(expected["re"]));

    ASSERT_EQ(found.fit.size(), model.table.rows);
    for (std::size_t i = 0; i < model.matrices->rows.size(); ++i) {
      const double value = expected["fit"][i];
      EXPECT_NEAR(found.fit[model.matrices->rows[i]], value, relative * std::abs(value));
    }
  }
}

TEST_P(Lme4, TheFitsDataReadAnewGiveTheSamePredictions) {
  const Fitted model = fitted();

  for (const char* re : {"all", "none"}) {
    const Predictions own = model.own(model.options(re)), anew = model.on(model.table, model.options(re));

    for (const std::size_t row : model.matrices->rows) {
      EXPECT_NEAR(own.fit[row], anew.fit[row], 1e-10 * std::abs(own.fit[row]));
      EXPECT_NEAR(own.se[row], anew.se[row], 1e-10 * own.se[row]);
    }
  }
}

TEST_P(Lme4, StandardErrorsFollowHendersonsEquations) {
  const Fitted model = fitted();

  const Predictions all = model.own(model.options("all")), none = model.own(model.options("none"));

  for (std::size_t i = 0; i < model.matrices->rows.size(); ++i) {
    const std::size_t row = model.matrices->rows[i];
    EXPECT_NEAR(all.se[row], golden["se_all"][i].get<double>(), 1e-7 * all.se[row]);
    EXPECT_NEAR(none.se[row], golden["se_none"][i].get<double>(), 1e-7 * none.se[row]);
  }
}

TEST_P(Lme4, ModesHaveItsConditionalStandardDeviations) {
  const Fitted model = fitted();
  const JointCovariance joint(model.fit);
  std::size_t compared = 0;

  for (std::size_t t = 0; t < model.matrices->random.size(); ++t) {
    const RandomTerm& term = model.matrices->random[t];
    const MatrixXd sd = joint.conditional_sd(static_cast<int>(t));
    ASSERT_EQ(sd.rows(), static_cast<Index>(term.levels.size()));
    for (const json& mode : golden["modes"]) {
      if (mode["group"] != term.group) continue;
      const auto level = std::find(term.levels.begin(), term.levels.end(), mode["level"].get<std::string>());
      const auto column = std::find(term.names.begin(), term.names.end(), mode["term"].get<std::string>());
      ASSERT_NE(level, term.levels.end());
      ASSERT_NE(column, term.names.end());
      const double found = sd(level - term.levels.begin(), column - term.names.begin());
      EXPECT_NEAR(found, mode["sd"].get<double>(), 1e-7 * (1 + found));
      EXPECT_NEAR(model.fit.modes[t](level - term.levels.begin(), column - term.names.begin()),
                  mode["value"].get<double>(), 1e-7 * (1 + found));
      ++compared;
    }
  }
  EXPECT_EQ(compared, golden["modes"].size());
}

TEST_P(Lme4, LeveragesResidualsAndCooksDistances) {
  const Fitted model = fitted();
  const RowDiagnostics rows = row_diagnostics(model.fit, JointCovariance(model.fit));
  const auto n = static_cast<std::size_t>(rows.hat.size());
  ASSERT_EQ(n, golden["hat"].size());
  const double sigma = model.fit.sigma;
  double sum = 0;

  for (std::size_t i = 0; i < n; ++i) {
    const auto row = static_cast<Index>(i);
    EXPECT_NEAR(rows.hat[row], golden["hat"][i].get<double>(), 1e-8);
    EXPECT_NEAR(rows.cooks_distance[row], golden["cooks"][i].get<double>(), 1e-7 * (1 + rows.cooks_distance[row]));
    EXPECT_NEAR(rows.fitted[row], golden["fitted"][i].get<double>(), relative * std::abs(rows.fitted[row]));
    EXPECT_NEAR(rows.residual[row], golden["residuals"][i].get<double>(), 1e-7 * sigma);
    EXPECT_NEAR(rows.scaled[row], golden["scaled"][i].get<double>(), 1e-7);
    sum += golden["hat"][i].get<double>();
  }
  EXPECT_NEAR(rows.effective_parameters, sum, 1e-6);
}

TEST_P(Lme4, ExplainedVarianceIsThatOfPerformance) {
  const Fitted model = fitted();

  const ExplainedVariance found = explained_variance(model.fit);

  EXPECT_NEAR(found.r2_marginal, golden["r2_marginal"].get<double>(), 1e-8);
  EXPECT_NEAR(found.r2_conditional, golden["r2_conditional"].get<double>(), 1e-8);
  EXPECT_NEAR(found.icc_adjusted, golden["icc_adjusted"].get<double>(), 1e-8);
  EXPECT_NEAR(found.icc_unadjusted, golden["icc_unadjusted"].get<double>(), 1e-8);
}

/// y by group, `each` of them in each of 6 groups, with an unsystematic pattern.
Table one_way(int each) {
  Table table;
  table.source = "oneway.csv";
  Numeric y, g;
  for (int i = 0; i < 6; ++i)
    for (int j = 0; j < each; ++j) {
      y.push_back(10 + 3 * std::sin(2.3 * i + 1) + 1.5 * std::cos(5.1 * (i * each + j)));
      g.push_back(i + 1);
    }
  table.rows = y.size();
  table.columns = {{"y", y}, {"g", g}};
  return table;
}

TEST(OneWay, ModesCovariancesAndLeveragesHaveClosedForms) {
  for (const int each : {2, 5}) {
    const Fitted model("y ~ 1 + (1 | g)", one_way(each), Method::reml);
    const double sigma2 = model.fit.sigma * model.fit.sigma,
                 tau2 = model.fit.random[0].sd[0] * model.fit.random[0].sd[0];
    const double n = each, groups = 6, shrinkage = n * tau2 / (n * tau2 + sigma2);
    ASSERT_GT(tau2, 0.1);
    const VectorXd& y = model.matrices->y;

    const JointCovariance joint(model.fit);
    const RowDiagnostics rows = row_diagnostics(model.fit, joint);

    for (int g = 0; g < 6; ++g) {
      const double mean = y.segment(g * each, each).mean();
      EXPECT_NEAR(model.fit.modes[0](g, 0), shrinkage * (mean - y.mean()), 1e-9);
      EXPECT_NEAR(joint.conditional(0, g)(0, 0), tau2 * sigma2 / (n * tau2 + sigma2), 1e-12);
    }
    const double leverage = 1 / (n * groups) + shrinkage * (1 / n - 1 / (n * groups));
    for (Index i = 0; i < rows.hat.size(); ++i) EXPECT_NEAR(rows.hat[i], leverage, 1e-12);
    EXPECT_NEAR(rows.effective_parameters, 1 + (groups - 1) * shrinkage, 1e-11);
    const ExplainedVariance explained = explained_variance(model.fit);
    EXPECT_NEAR(explained.icc_adjusted, tau2 / (tau2 + sigma2), 1e-12);
    EXPECT_NEAR(explained.r2_marginal, 0, 1e-20);
  }
}

TEST(OneWay, StandardErrorsAndIntervalsHaveClosedForms) {
  const int each = 4;
  const Fitted model("y ~ 1 + (1 | g)", one_way(each), Method::reml);
  const double sigma2 = model.fit.sigma * model.fit.sigma, tau2 = model.fit.random[0].sd[0] * model.fit.random[0].sd[0];
  Table rows;
  rows.source = "new.csv";
  rows.rows = 2;
  rows.columns = {{"g", Numeric{2, 77}}};
  const double mean_variance = (tau2 + sigma2 / each) / 6;
  const double shrinkage = each * tau2 / (each * tau2 + sigma2);
  const double known = sigma2 * (1.0 / (6 * each) + shrinkage * (1.0 / each - 1.0 / (6 * each)));
  const double q = 1.6448536269514722;  // normal quantile of 0.95

  PredictOptions options = model.options("all");
  options.level = 0.9;
  options.interval = PredictionInterval::confidence;
  const Predictions confidence = model.on(rows, options);
  options.interval = PredictionInterval::prediction;
  const Predictions prediction = model.on(rows, options);
  options.modes = no_modes(*model.matrices);
  const Predictions population = model.on(rows, options);

  EXPECT_NEAR(confidence.se[0], std::sqrt(known), 1e-10);
  EXPECT_NEAR(confidence.se[1], std::sqrt(mean_variance + tau2), 1e-10) << "a new level";
  EXPECT_NEAR(confidence.fit[1], model.fit.beta[0], 1e-12);
  EXPECT_NEAR(confidence.high[0] - confidence.fit[0], q * std::sqrt(known), 1e-9);
  EXPECT_NEAR(prediction.high[0] - prediction.fit[0], q * std::sqrt(known + sigma2), 1e-9);
  EXPECT_NEAR(prediction.fit[1] - prediction.low[1], q * std::sqrt(mean_variance + tau2 + sigma2), 1e-9);
  EXPECT_NEAR(population.se[0], std::sqrt(mean_variance), 1e-10);
  EXPECT_NEAR(population.high[0] - population.fit[0], q * std::sqrt(mean_variance + tau2 + sigma2), 1e-9);
}

/// A crossed design of 20 x 15 levels of which a fifth of the cells is filled: combinations of new rows are not among
/// those of the fit.
Table crossed() {
  Table table;
  table.source = "crossed.csv";
  Numeric y, x, a, b;
  for (int i = 0; i < 20; ++i)
    for (int j = 0; j < 15; ++j) {
      if ((i * 7 + j * 3) % 5 != 0) continue;
      x.push_back(std::sin(1.7 * i + 0.3 * j));
      y.push_back(2 * std::sin(3.1 * i) + 1.5 * std::cos(2.2 * j) + x.back() + std::sin(12.9 * i + 7.3 * j));
      a.push_back(i);
      b.push_back(j);
    }
  table.rows = y.size();
  table.columns = {{"y", y}, {"x", x}, {"a", a}, {"b", b}};
  return table;
}

TEST(JointCovarianceOf, CombinationsThatTheDataLackIsThatOfTheDenseEquations) {
  const Fitted model("y ~ x + (1 + x | a) + (1 | b)", crossed(), Method::reml);
  const ModelMatrices& m = *model.matrices;
  const JointCovariance joint(model.fit);
  std::vector<Index> first;
  Index q = 0;
  for (const RandomTerm& term : m.random) {
    first.push_back(q);
    q += term.z.cols() * static_cast<Index>(term.levels.size());
  }
  const auto spread = [&](std::size_t t, Index level, const Eigen::RowVectorXd& z, Eigen::RowVectorXd& out) {
    out.segment(first[t] + level * z.size(), z.size()) += z * model.fit.random[t].lambda;
  };
  MatrixXd w = MatrixXd::Zero(m.y.size(), q);
  for (Index i = 0; i < w.rows(); ++i)
    for (std::size_t t = 0; t < m.random.size(); ++t) {
      Eigen::RowVectorXd row = Eigen::RowVectorXd::Zero(q);
      spread(t, m.random[t].level_of_row[i], m.random[t].z.row(i), row);
      w.row(i) += row;
    }
  MatrixXd equations(q + 2, q + 2);
  equations << w.transpose() * w + MatrixXd::Identity(q, q), w.transpose() * m.X, m.X.transpose() * w,
      m.X.transpose() * m.X;
  const MatrixXd inverse = equations.inverse();

  for (int i = 0; i < 20; ++i)
    for (int j = 0; j < 15; ++j) {
      const VectorXd x = (VectorXd(2) << 1, 0.1 * i).finished();
      std::vector<RowEffect> effects;
      Eigen::RowVectorXd row = Eigen::RowVectorXd::Zero(q);
      for (std::size_t t = 0; t < 2; ++t) {
        const bool is_a = m.random[t].group == "a";
        const VectorXd z = is_a ? x : VectorXd(VectorXd::Ones(1));
        effects.push_back({static_cast<int>(t), is_a ? i : j, z});
        spread(t, is_a ? i : j, z.transpose(), row);
      }
      Eigen::RowVectorXd all(q + 2);
      all << row, x.transpose();
      const double expected = model.fit.sigma * model.fit.sigma * (all * inverse * all.transpose())(0, 0);

      EXPECT_NEAR(joint.variance(x, effects), expected, 1e-11 * expected) << i << " " << j;
    }
}

/// Some of a table's rows, as if they were all: factors keep the levels that occur alone.
Table some_rows(const Table& table, const std::vector<std::size_t>& rows) {
  Table out;
  out.source = "some.csv";
  out.rows = rows.size();
  for (const Column& column : table.columns) {
    if (const auto* factor = std::get_if<Factor>(&column.data)) {
      out.columns.push_back({column.name, subset(*factor, rows)});
      continue;
    }
    Numeric values;
    for (const std::size_t row : rows) values.push_back(std::get<Numeric>(column.data)[row]);
    out.columns.push_back({column.name, std::move(values)});
  }
  return out;
}

class Codings : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(
    Formulas, Codings,
    testing::Values("log(frequency) ~ attitude:gender + I(scenario^2) + (1 | subject)",
                    "frequency ~ 0 + factor(scenario) + scale(log(scenario), scale = FALSE) + (0 + attitude | subject)",
                    "frequency ~ ordered(scenario) + offset(2 * scenario) + (1 | subject:attitude)",
                    "frequency ~ poly(scenario, 2, raw = TRUE) * attitude + (1 | factor(scenario))",
                    "frequency ~ poly(scenario, 5) + gender + (1 + attitude | scenario) + (1 | subject)",
                    "frequency ~ scale(scenario) + log(scale(scenario) + 3) + (scale(scenario) || subject)",
                    "frequency ~ 1 + (1 | gender/subject)", "frequency ~ 0 + (1 | subject)"));

TEST_P(Codings, OfSomeRowsAreThoseOfTheFit) {
  const Fitted model(GetParam(), read_table(data_folder + "/politeness.csv"), Method::reml);
  const std::vector<std::size_t> rows = {0, 3, 5, 29, 30};  // two subjects, four scenarios
  const Table some = some_rows(model.table, rows);

  for (const char* re : {"all", "none"}) {
    const Predictions own = model.own(model.options(re)), found = model.on(some, model.options(re));

    for (std::size_t i = 0; i < rows.size(); ++i) {
      EXPECT_NEAR(found.fit[i], own.fit[rows[i]], 1e-10 * (1 + std::abs(own.fit[rows[i]]))) << re << " " << i;
      EXPECT_NEAR(found.se[i], own.se[rows[i]], 1e-9 * (1 + own.se[rows[i]])) << re << " " << i;
    }
  }
}

TEST(NewDataRows, MissingValuesGiveMissingPredictionsOnlyWhereTheyAreNeeded) {
  const Fitted model("Reaction ~ Days + (Days | Subject)", read_table(data_folder + "/sleepstudy.csv"), Method::reml);
  Table rows;
  rows.source = "new.csv";
  rows.rows = 3;
  rows.columns = {{"Days", Numeric{1, missing, 2}}, {"Subject", Numeric{308, 308, missing}}};

  const Predictions all = model.on(rows, model.options("all")), none = model.on(rows, model.options("none"));

  EXPECT_FALSE(std::isnan(all.fit[0]));
  EXPECT_TRUE(std::isnan(all.fit[1]));
  EXPECT_TRUE(std::isnan(all.fit[2]));
  EXPECT_TRUE(std::isnan(none.fit[1]));
  EXPECT_NEAR(none.fit[2], model.fit.beta[0] + 2 * model.fit.beta[1], 1e-10);
}

/// The message of the error that `work` throws.
template <class E, class Work>
std::string message_of(Work work) {
  try {
    work();
  } catch (const E& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(NewDataRows, WhatDoesNotFitTheModelIsSaidInOneLine) {
  const Fitted model("frequency ~ attitude + (1 | subject) + (1 | scenario)",
                     read_table(data_folder + "/politeness.csv"), Method::reml);
  Table rows;
  rows.source = "new.csv";
  rows.rows = 2;
  rows.columns = {{"attitude", make_factor(Names{"pol", "rude"})},
                  {"subject", make_factor(Names{"F1", "X9"})},
                  {"scenario", Numeric{1, 2}}};
  PredictOptions options = model.options("none");

  const std::string level = message_of<DataError>([&] { (void)model.on(rows, options); });
  rows.columns[0].data = make_factor(Names{"pol", "inf"});
  options = model.options("all");
  options.allow_new_levels = false;
  const std::string subject = message_of<ModelError>([&] { (void)model.on(rows, options); });
  rows.columns.erase(rows.columns.begin());
  const std::string column = message_of<FormulaError>([&] { (void)model.on(rows, options); });
  const std::string term = message_of<InputError>([&] { (void)model.data->columns_named("subjekt"); });
  const std::string slope =
      message_of<InputError>([&] { (void)model.data->columns_named("(1 + attitude | subject)"); });
  const std::string fixed = message_of<InputError>([&] { (void)model.data->columns_named("x + (1 | subject)"); });

  EXPECT_NE(level.find("'attitude' is 'rude' in data row 2 of new.csv"), std::string::npos) << level;
  EXPECT_NE(subject.find("'subject' has levels that the fit does not know: 'X9'"), std::string::npos) << subject;
  EXPECT_NE(column.find("attitude"), std::string::npos) << column;
  EXPECT_NE(term.find("'subjekt'; did you mean 'subject'?"), std::string::npos) << term;
  EXPECT_NE(slope.find("no 'attitudepol' by 'subject'"), std::string::npos) << slope;
  EXPECT_NE(fixed.find("random-effects terms only"), std::string::npos) << fixed;
}

TEST(NewDataRows, TextWhereTheFitHadNumbersIsRefused) {
  const Fitted model("Reaction ~ Days + (Days | Subject)", read_table(data_folder + "/sleepstudy.csv"), Method::reml);
  Table rows;
  rows.source = "new.csv";
  rows.rows = 1;
  rows.columns = {{"Days", make_factor(Names{"many"})}, {"Subject", Numeric{308}}};

  const std::string message = message_of<DataError>([&] { (void)model.on(rows, model.options("none")); });

  EXPECT_EQ(message, "'Days' has text in new.csv; expected numbers, as in the data of the fit");
}

TEST(Simulate, MomentsAreThoseOfTheModel) {
  const Fitted model("Reaction ~ Days + (Days | Subject)", read_table(data_folder + "/sleepstudy.csv"), Method::reml);
  const NewRows rows = model.data->own_rows();
  const std::uint64_t count = 20'000;
  const RandomTerm& term = model.matrices->random[0];
  const MatrixXd sigma_b =
      model.fit.sigma * model.fit.sigma * model.fit.random[0].lambda * model.fit.random[0].lambda.transpose();

  const MatrixXd y = simulate(model.fit, rows, {}, count);

  // Five standard deviations of a mean, variance and covariance of normals.
  const VectorXd mean = model.matrices->X * model.fit.beta;
  for (const Index i : {0, 1, 9, 10, 100}) {
    for (const Index j : {0, 1, 9, 10, 100}) {
      const bool together = term.level_of_row[i] == term.level_of_row[j];
      const auto covariance_of = [&](Index a, Index b) {
        return (together || a == b ? (term.z.row(a) * sigma_b * term.z.row(b).transpose())(0, 0) : 0) +
               (a == b ? model.fit.sigma * model.fit.sigma : 0);
      };
      const double expected = covariance_of(i, j), vi = covariance_of(i, i), vj = covariance_of(j, j);
      const VectorXd a = y.row(i).transpose().array() - mean[i], b = y.row(j).transpose().array() - mean[j];

      const double found = a.dot(b) / static_cast<double>(count);

      EXPECT_NEAR(found, expected, 5 * std::sqrt((vi * vj + expected * expected) / static_cast<double>(count)));
      EXPECT_NEAR(a.mean(), 0, 5 * std::sqrt(vi / static_cast<double>(count)));
    }
  }
}

TEST(Simulate, AReplicateDependsOnSeedAndIndexAlone) {
  const Fitted model("frequency ~ attitude + (1 | subject) + (1 | scenario)",
                     read_table(data_folder + "/politeness.csv"), Method::reml);
  const NewRows rows = model.data->own_rows();

  const MatrixXd ten = simulate(model.fit, rows, {.seed = 5}, 10),
                 last = simulate(model.fit, rows, {.seed = 5, .first = 7}, 3),
                 other = simulate(model.fit, rows, {.seed = 6}, 1);

  EXPECT_EQ(ten.rightCols(3), last);
  EXPECT_NE(ten.col(0), other.col(0));
  EXPECT_NE(ten.col(0), ten.col(1));
}

TEST(Simulate, KeepingTheModesDrawsErrorsAlone) {
  const Fitted model("frequency ~ attitude + (1 | subject) + (1 | scenario)",
                     read_table(data_folder + "/politeness.csv"), Method::reml);
  const std::uint64_t count = 4000;

  const MatrixXd y = simulate(model.fit, model.data->own_rows(), {.use_modes = true}, count);

  // Five standard deviations of a mean and of a variance.
  const double sigma2 = model.fit.sigma * model.fit.sigma;
  for (Index i = 0; i < y.rows(); i += 9) {
    const VectorXd e = y.row(i).transpose().array() - model.fit.fitted[i];
    EXPECT_NEAR(e.mean(), 0, 5 * std::sqrt(sigma2 / static_cast<double>(count)));
    EXPECT_NEAR(e.squaredNorm() / static_cast<double>(count), sigma2,
                5 * sigma2 * std::sqrt(2.0 / static_cast<double>(count)));
  }
}

TEST(Simulate, NewLevelsAreDrawnOrRefusedWithKeptModes) {
  const Fitted model("y ~ 1 + (1 | g)", one_way(5), Method::reml);
  Table table;
  table.source = "new.csv";
  table.rows = 2;
  table.columns = {{"g", Numeric{41, 42}}};
  const NewRows rows = model.data->rows(table, {TermUse::levels});
  const std::uint64_t count = 4000;

  const MatrixXd y = simulate(model.fit, rows, {}, count);

  const double variance = model.fit.sigma * model.fit.sigma + model.fit.random[0].sd[0] * model.fit.random[0].sd[0];
  const VectorXd a = y.row(0).transpose().array() - model.fit.beta[0],
                 b = y.row(1).transpose().array() - model.fit.beta[0];
  EXPECT_NEAR(a.squaredNorm() / static_cast<double>(count), variance,
              5 * variance * std::sqrt(2.0 / static_cast<double>(count)));
  EXPECT_NEAR(a.dot(b) / static_cast<double>(count), 0, 5 * variance / std::sqrt(static_cast<double>(count)));
  EXPECT_THROW((void)simulate(model.fit, rows, {.use_modes = true}, 1), ModelError);
}

}  // namespace
}  // namespace batchlmm
