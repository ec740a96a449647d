// Text and JSON of fits and likelihood-ratio tests, against what R 4.2.2 and lme4 1.1-31 printed from the same numbers
// (tests/data/printed/printed.R).
#include "host/inference/summary.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "host/inference/fit_json.hpp"
#include "host/inference/lrt_report.hpp"

namespace batchlmm {
namespace {

using nlohmann::json;

json read_json(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return json::parse(file);
}

double number(const json& value) {
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

Eigen::VectorXd vector_of(const json& values) {
  Eigen::VectorXd result(static_cast<Eigen::Index>(values.size()));
  for (Eigen::Index i = 0; i < result.size(); ++i) result[i] = number(values[static_cast<std::size_t>(i)]);
  return result;
}

Eigen::MatrixXd matrix_of(const json& rows) {
  Eigen::MatrixXd result(static_cast<Eigen::Index>(rows.size()), static_cast<Eigen::Index>(rows[0].size()));
  for (Eigen::Index i = 0; i < result.rows(); ++i) result.row(i) = vector_of(rows[static_cast<std::size_t>(i)]);
  return result;
}

/// The fit that lme4 held when it printed.
Fit fit_of(const json& j) {
  ModelMatrices model;
  model.formula = j["formula"];
  model.x_names = j["names"];
  model.dropped_columns = j["dropped_columns"];
  model.rows_dropped = j["rows_dropped"];
  model.y = Eigen::VectorXd::Zero(j["nobs"].get<Eigen::Index>());
  Fit fit;
  fit.method = j["REML"].get<bool>() ? Method::reml : Method::ml;
  fit.criterion = j["criterion"];
  fit.log_likelihood = j["logLik"];
  fit.aic = j["AIC"];
  fit.bic = j["BIC"];
  fit.parameters = j["parameters"];
  fit.sigma = j["sigma"];
  fit.beta = vector_of(j["beta"]);
  fit.vcov = matrix_of(j["vcov"]);
  fit.scaled_residuals = vector_of(j["scaled_residuals"]);
  fit.singular = j["singular"];
  fit.converged = true;
  for (const auto& r : j["random"]) {
    RandomTerm term;
    term.group = r["group"];
    term.names = r["names"].get<std::vector<std::string>>();
    term.levels = r["levels"].get<std::vector<std::string>>();
    model.random.push_back(term);
    TermCovariance covariance;
    covariance.sd = vector_of(r["sd"]);
    covariance.corr = matrix_of(r["corr"]);
    covariance.boundary = covariance.sd.minCoeff() == 0;
    fit.random.push_back(covariance);
    fit.modes.push_back(matrix_of(r["modes"]));
  }
  fit.model = std::make_shared<const ModelMatrices>(std::move(model));
  return fit;
}

Fit printed_fit(const std::string& name) {
  return fit_of(read_json(BATCHLMM_TEST_DATA "/printed/fits/" + name + ".json"));
}

/// @return `text` up to the notes that follow the tables, and without the line on missing rows
std::string tables_of(std::string text) {
  for (const char* mark : {"fit warnings:", "boundary (singular)", "optimizer (nloptwrap)"}) {
    text = text.substr(0, text.find(mark));
  }
  const std::string missing = "  (1 observation deleted due to missingness)\n";
  if (const auto at = text.find(missing); at != std::string::npos) text.erase(at, missing.size());
  return text;
}

TEST(Summary, EveryTableIsLme4sToTheByte) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(BATCHLMM_TEST_DATA "/printed/fits")) {
    const json j = read_json(entry.path().string());
    const Fit fit = fit_of(j);

    EXPECT_EQ(tables_of(summary_text(fit, j["csv"])), tables_of(j["summary"])) << entry.path();
    EXPECT_EQ(ranef_text(fit), j["ranef"].get<std::string>()) << entry.path();
    EXPECT_EQ(coef_text(fit), j["coef"].get<std::string>()) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 15);
}

TEST(Summary, SaysHowManyRowsWereLeftOut) {
  const std::string text = summary_text(printed_fit("politeness"), "politeness.csv");

  EXPECT_NE(text.find("subject, 6\n  (1 observation deleted due to missingness)\n"), std::string::npos) << text;
}

TEST(Summary, NamesSingularTermsAndDroppedColumns) {
  EXPECT_TRUE(summary_text(printed_fit("dyestuff2"), "d").ends_with("\nboundary (singular) fit: (1 | Batch)\n"));
  EXPECT_TRUE(summary_text(printed_fit("sleep_deficient"), "d")
                  .ends_with("\nfit warnings:\nfixed-effect model matrix is rank deficient so dropping 1 column / "
                             "coefficient: I(2 * Days)\n"));
}

TEST(Summary, SaysWhyAFitDidNotConverge) {
  Fit fit = printed_fit("sleepstudy");
  fit.converged = false;
  fit.message = "500 evaluations were not enough";

  EXPECT_TRUE(summary_text(fit, "d").ends_with("\nnot converged: 500 evaluations were not enough\n"));
  EXPECT_EQ(json::parse(fit_json(fit))["message"], "500 evaluations were not enough");
}

TEST(Summary, CorrelationWithAZeroDeviationIsNaN) {
  Fit fit = printed_fit("sleepstudy");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  fit.random[0].sd << 24.741, 0;
  fit.random[0].corr << 1, nan, nan, nan;

  const std::string text = summary_text(fit, "sleepstudy.csv");

  EXPECT_NE(text.find("\n Groups   Name        Variance Std.Dev. Corr\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\n          Days          0.0     0.00     NaN\n"), std::string::npos) << text;
}

TEST(Summary, LargeCorrelationIsNotShown) {
  Fit fit = printed_fit("sleepstudy");
  auto model = *fit.model;
  for (int i = 0; i < 19; ++i) model.x_names.push_back("x" + std::to_string(i));
  fit.model = std::make_shared<const ModelMatrices>(model);
  fit.beta = Eigen::VectorXd::Ones(21);
  fit.vcov = Eigen::MatrixXd::Identity(21, 21);

  const std::string text = summary_text(fit, "d");

  EXPECT_NE(text.find("not shown by default, as p = 21 > 20"), std::string::npos) << text;
}

TEST(FitJson, CarriesFullPrecision) {
  const Fit fit = printed_fit("politeness_slopes");

  const json j = json::parse(fit_json(fit));

  for (const char* key : {"formula",
                          "method",
                          "nobs",
                          "dropped",
                          "criterion",
                          "logLik",
                          "AIC",
                          "BIC",
                          "df",
                          "theta",
                          "sigma",
                          "fixed",
                          "vcov",
                          "random",
                          "ranef",
                          "coef",
                          "scaled_residuals",
                          "singular",
                          "boundary_terms",
                          "converged",
                          "evaluations",
                          "gradient_norm"}) {
    EXPECT_TRUE(j.contains(key)) << key;
  }
  EXPECT_EQ(j["method"], "ML");
  EXPECT_EQ(j["dropped"], 1);
  EXPECT_EQ(j["criterion"].get<double>(), fit.criterion);
  EXPECT_EQ(j["fixed"][2]["name"], "genderM");
  EXPECT_EQ(j["fixed"][2]["estimate"].get<double>(), fit.beta[2]);
  EXPECT_EQ(j["fixed"][2]["t"].get<double>(), fit.beta[2] / std::sqrt(fit.vcov(2, 2)));
  EXPECT_EQ(j["vcov"][0][2].get<double>(), fit.vcov(0, 2));
  EXPECT_EQ(j["random"][1]["group"], "subject");
  EXPECT_EQ(j["random"][1]["levels"], 6);
  EXPECT_EQ(j["random"][1]["terms"], (std::vector<std::string>{"(Intercept)", "attitudepol"}));
  EXPECT_EQ(j["random"][1]["corr"][1][0].get<double>(), fit.random[1].corr(1, 0));
  EXPECT_EQ(j["ranef"]["subject"]["values"][3][1].get<double>(), fit.modes[1](3, 1));
  EXPECT_EQ(j["coef"]["subject"]["values"][3][1].get<double>(), fit.beta[1] + fit.modes[1](3, 1));
  EXPECT_EQ(j["scaled_residuals"].size(), 5U);
}

TEST(FitJson, MergesTermsOnOneFactorAndWritesNaNAsNull) {
  Fit fit = printed_fit("sleep_zerocorr");
  fit.random[0].corr(0, 0) = std::numeric_limits<double>::quiet_NaN();

  const json j = json::parse(fit_json(fit));

  EXPECT_EQ(j["ranef"]["Subject"]["terms"], (std::vector<std::string>{"(Intercept)", "Days"}));
  EXPECT_TRUE(j["random"][0]["corr"][0][0].is_null());
}

LikelihoodRatioTest lrt_of(const json& j) {
  LikelihoodRatioTest test;
  for (Fit* fit : {&test.null, &test.full}) {
    const json& m = j["models"][fit == &test.null ? 0 : 1];
    ModelMatrices model;
    model.formula = m["formula"];
    fit->model = std::make_shared<const ModelMatrices>(model);
    fit->method = Method::ml;
    fit->parameters = m["parameters"];
    fit->aic = m["AIC"];
    fit->bic = m["BIC"];
    fit->log_likelihood = m["logLik"];
    fit->criterion = m["deviance"];
    fit->converged = true;
  }
  test.statistic = j["statistic"];
  test.df = j["df"];
  test.p_chisq = j["p"];
  return test;
}

BootstrapTest bootstrap() {
  BootstrapTest result;
  result.replicates = 1000;
  result.used = 998;
  result.extreme = 3;
  result.p = 4.0 / 999;
  result.interval = {0.0008, 0.0087};
  result.mean_statistic = 1.04;
  result.share_zero = 0.02;
  result.status = {600, 398, 2, 0, 0};
  result.singular_null = 381;
  result.singular_full = 390;
  result.backend = "cpu";
  result.threads = 2;
  result.seconds = 0.0125;
  result.replicates_per_second = 80000;
  result.seed = 7;
  return result;
}

TEST(LrtReport, AnovaTableIsRsToTheByte) {
  const json tests = read_json(BATCHLMM_TEST_DATA "/printed/anova.json");
  ASSERT_GE(tests.size(), 8U);
  for (const auto& [name, j] : tests.items()) {
    EXPECT_EQ(lrt_text({lrt_of(j)}, j["data"]), j["text"].get<std::string>()) << name;
  }
}

TEST(LrtReport, SaysWhatTheBootstrapRestsOn) {
  LikelihoodRatioTest test = lrt_of(read_json(BATCHLMM_TEST_DATA "/printed/anova.json")["two_stars"]);
  test.bootstrap = bootstrap();

  const std::string text = lrt_text({test}, "politeness.csv");

  EXPECT_NE(text.find("p-value    0.004004, 95% Monte-Carlo interval 0.0008 to 0.0087\n"), std::string::npos) << text;
  EXPECT_NE(text.find("used       998 of 1000\n"), std::string::npos) << text;
  EXPECT_NE(text.find("not used   2: "), std::string::npos) << text;
  EXPECT_NE(text.find("converged 600, boundary 398, iteration limit 2, not positive definite 0, non finite 0\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("0.0125 s, 80000 replicates per second (cpu, 2 threads, streaming tier)\n"), std::string::npos)
      << text;
}

TEST(LrtReport, NotesNameTheModel) {
  LikelihoodRatioTest test = lrt_of(read_json(BATCHLMM_TEST_DATA "/printed/anova.json")["two_stars"]);
  test.full = printed_fit("dyestuff2");

  const std::string text = lrt_text({test}, "d");

  EXPECT_TRUE(text.ends_with("\nm1: boundary (singular) fit: (1 | Batch)\n")) << text;
}

TEST(LrtReport, JsonHasTheSameFacts) {
  LikelihoodRatioTest test = lrt_of(read_json(BATCHLMM_TEST_DATA "/printed/anova.json")["two_stars"]);
  const json without = json::parse(lrt_json({test}));
  test.bootstrap = bootstrap();
  const json with = json::parse(lrt_json({test}));

  EXPECT_EQ(without["replicates"], 0);
  EXPECT_TRUE(without["p_bootstrap"].is_null());
  EXPECT_EQ(with["models"][1]["npar"], 10);
  EXPECT_EQ(with["statistic"].get<double>(), test.statistic);
  EXPECT_EQ(with["p_chisq"].get<double>(), test.p_chisq);
  EXPECT_EQ(with["p_bootstrap"].get<double>(), 4.0 / 999);
  EXPECT_EQ(with["status"]["iteration_limit"], 2);
  EXPECT_EQ(with["singular"]["full"], 390);
  EXPECT_EQ(with["seed"], 7);
}

TEST(LrtReport, ABootstrapThatWasStoppedSaysSo) {
  LikelihoodRatioTest test = lrt_of(read_json(BATCHLMM_TEST_DATA "/printed/anova.json")["two_stars"]);
  test.bootstrap = bootstrap();
  test.bootstrap->asked = 5000;
  const json whole = json::parse(lrt_json({test}));
  const std::string whole_text = lrt_text({test}, "d");

  test.bootstrap->stopped = "CUDA device 0: fit_kernel failed";

  EXPECT_TRUE(whole["stopped"].is_null());
  EXPECT_EQ(whole_text.find("stopped"), std::string::npos);
  EXPECT_NE(
      lrt_text({test}, "d").find("  stopped    after 1000 of 5000 replicates: CUDA device 0: fit_kernel failed\n"),
      std::string::npos);
  EXPECT_EQ(json::parse(lrt_json({test}))["stopped"], "CUDA device 0: fit_kernel failed");
}

}  // namespace
}  // namespace batchlmm
