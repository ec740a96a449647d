// A model's parameters by lme4's and broom.mixed's names, and tidy tables of them.
#include "host/inference/parameters.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm {
namespace {

Fit sleepstudy_fit(const std::string& formula) {
  const Table table = read_table(BATCHLMM_TEST_DATA "/sleepstudy.csv");
  return fit(std::make_shared<const ModelMatrices>(model_matrices(parse_formula(formula), table)), Method::reml);
}

// Names as lme4 1.1-31's confint(oldNames = FALSE) and broom.mixed 0.2.9.4's tidy have them.
TEST(Parameters, HaveTheNamesOfConfintAndTidy) {
  const Fit fit = sleepstudy_fit("Reaction ~ Days + (Days | Subject)");

  const std::vector<Parameter> parameters = model_parameters(*fit.model);

  std::vector<std::string> labels, tidy;
  for (const Parameter& parameter : parameters) {
    labels.push_back(parameter.label);
    tidy.push_back(parameter.effect + "/" + parameter.group + "/" + parameter.tidy_term);
  }
  EXPECT_EQ(labels, (std::vector<std::string>{"sd_(Intercept)|Subject", "cor_Days.(Intercept)|Subject",
                                              "sd_Days|Subject", "sigma", "(Intercept)", "Days"}));
  EXPECT_EQ(tidy, (std::vector<std::string>{"ran_pars/Subject/sd__(Intercept)",
                                            "ran_pars/Subject/cor__(Intercept).Days", "ran_pars/Subject/sd__Days",
                                            "ran_pars/Residual/sd__Observation", "fixed//(Intercept)", "fixed//Days"}));
}

TEST(Parameters, HaveTheFitsValues) {
  const Fit fit = sleepstudy_fit("Reaction ~ Days + (Days | Subject)");
  const std::vector<Parameter> parameters = model_parameters(*fit.model);

  const auto value = [&](const char* label) {
    return parameter_value(parameters[find_parameter(parameters, label)], fit);
  };

  EXPECT_DOUBLE_EQ(value("sd_(Intercept)|Subject"), fit.random[0].sd[0]);
  EXPECT_DOUBLE_EQ(value(".sig02"), fit.random[0].corr(1, 0));
  EXPECT_DOUBLE_EQ(value("sd_Days|Subject"), fit.random[0].sd[1]);
  EXPECT_DOUBLE_EQ(value(".sigma"), fit.sigma);
  EXPECT_DOUBLE_EQ(value("Days"), fit.beta[1]);
}

TEST(Parameters, CorrelationWithoutVarianceIsNotANumber) {
  const Fit fit = sleepstudy_fit("Reaction ~ Days + (Days | Subject)");
  const std::vector<Parameter> parameters = model_parameters(*fit.model);

  const double value = parameter_value(parameters[1], fit.beta, {Eigen::MatrixXd::Zero(2, 2)}, 1);

  EXPECT_TRUE(std::isnan(value));
}

TEST(Parameters, UnknownNameTellsTheNearest) {
  const Fit fit = sleepstudy_fit("Reaction ~ Days + (1 | Subject)");

  try {
    find_parameter(model_parameters(*fit.model), "Dayz");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(),
                 "expected a parameter of the model, found 'Dayz'; did you mean 'Days'? (parameters: "
                 "sd_(Intercept)|Subject, sigma, (Intercept), Days)");
  }
}

TEST(Tidy, MissingValuesAreNAAndTextsAreQuotedWhereTheyMustBe) {
  TidyRow row{"fixed", "", "poly(x, 2)1", 0.1};
  row.p_value = 1e-20;

  EXPECT_EQ(tidy_csv({row}),
            "effect,group,term,estimate,std.error,statistic,df,p.value,conf.low,conf.high\n"
            "fixed,NA,\"poly(x, 2)1\",0.1,NA,NA,NA,1e-20,NA,NA\n");
}

}  // namespace
}  // namespace batchlmm
