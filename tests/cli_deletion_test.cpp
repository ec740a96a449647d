// `batchlmm ranova` and `batchlmm drop1`, to the byte what R prints. R 4.2.2, lme4 1.1-31, lmerTest 3.1-3.
#include <gtest/gtest.h>

#include "tests/cli_run.hpp"

namespace batchlmm::tests {
namespace {

class CliDeletion : public Cli {};

const std::string sleepstudy = BATCHLMM_TEST_DATA "/sleepstudy.csv";
const std::string dyestuff = BATCHLMM_TEST_DATA "/dyestuff.csv";
const std::string legend = "---\nSignif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1\n";

void expect_start(const std::string& text, const std::string& start) { EXPECT_TRUE(text.starts_with(start)) << text; }

TEST_F(CliDeletion, RanovaReducesATerm) {
  expect_start(good({"ranova", "Reaction ~ Days + (Days|Subject)", sleepstudy}),
               "ANOVA-like table for random-effects: Single term deletions\n\nModel:\n"
               "Reaction ~ Days + (Days | Subject)\n"
               "                         npar  logLik    AIC    LRT Df Pr(>Chisq)    \n"
               "<none>                      6 -871.81 1755.6                         \n"
               "Days in (Days | Subject)    4 -893.23 1794.5 42.837  2   4.99e-10 ***\n" +
                   legend);
}

TEST_F(CliDeletion, RanovaRemovesAWholeTerm) {
  expect_start(good({"ranova", "Reaction ~ Days + (Days|Subject)", sleepstudy, "--whole-terms"}),
               "ANOVA-like table for random-effects: Single term deletions\n\nModel:\n"
               "Reaction ~ Days + (Days | Subject)\n"
               "                 npar  logLik    AIC    LRT Df Pr(>Chisq)    \n"
               "<none>              6 -871.81 1755.6                         \n"
               "(Days | Subject)    3 -946.83 1899.7 150.03  3  < 2.2e-16 ***\n" +
                   legend);
}

TEST_F(CliDeletion, RanovaOfUncorrelatedEffects) {
  expect_start(good({"ranova", "Reaction ~ Days + (Days||Subject)", sleepstudy}),
               "ANOVA-like table for random-effects: Single term deletions\n\nModel:\n"
               "Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)\n"
               "                             npar  logLik    AIC    LRT Df Pr(>Chisq)    \n"
               "<none>                          5 -871.83 1753.7                         \n"
               "(1 | Subject)                   4 -883.26 1774.5 22.856  1  1.746e-06 ***\n"
               "Days in (0 + Days | Subject)    4 -893.23 1794.5 42.796  1  6.076e-11 ***\n" +
                   legend);
}

TEST_F(CliDeletion, RanovaOfCrossedTermsWithAMissingValue) {
  expect_start(good({"ranova", model_2, politeness}),
               "ANOVA-like table for random-effects: Single term deletions\n\nModel:\n"
               "frequency ~ attitude + gender + (1 | subject) + (1 | scenario)\n"
               "               npar  logLik    AIC    LRT Df Pr(>Chisq)    \n"
               "<none>            6 -387.73 787.45                         \n"
               "(1 | subject)     5 -402.50 815.00 29.546  1  5.461e-08 ***\n"
               "(1 | scenario)    5 -393.37 796.74 11.289  1  0.0007796 ***\n" +
                   legend + "  (1 observation deleted due to missingness)\n");
}

TEST_F(CliDeletion, RanovaByMlOnTwoBlocksOfColumns) {
  expect_start(
      good({"ranova", "frequency ~ attitude + gender + (1+attitude|subject) + (1|scenario)", politeness, "--ml"}),
      "ANOVA-like table for random-effects: Single term deletions\n\nModel:\n"
      "frequency ~ attitude + gender + (1 + attitude | subject) + (1 | scenario)\n"
      "                                     npar  logLik    AIC     LRT Df Pr(>Chisq)\n"
      "<none>                                  8 -397.54 811.07                      \n"
      "attitude in (1 + attitude | subject)    6 -397.55 807.10  0.0275  2  0.9863415\n"
      "(1 | scenario)                          7 -403.15 820.31 11.2354  1  0.0008025\n"
      "                                        \n"
      "<none>                                  \n"
      "attitude in (1 + attitude | subject)    \n"
      "(1 | scenario)                       ***\n" +
          legend);
}

TEST_F(CliDeletion, RanovaOfTheOnlyTermAgainstALinearModel) {
  const std::string text = good({"ranova", "Yield ~ 1 + (1|Batch)", dyestuff, "--replicates", "20000"});

  expect_start(text,
               "ANOVA-like table for random-effects: Single term deletions\n\nModel:\n"
               "Yield ~ (1 | Batch)\n"
               "            npar  logLik    AIC   LRT Df Pr(>Chisq)  \n"
               "<none>         3 -159.83 325.65                      \n"
               "(1 | Batch)    2 -163.01 330.02 6.369  1    0.01161 *\n" +
                   legend);
  expect_contains(text, "(1 | Batch): reference law 50:50 mixture of chi-squares with 0 and 1 df");
  expect_contains(text, "Parametric bootstrap: 20000 replicates a term, seed 1\n");
}

TEST_F(CliDeletion, AnEffectWithoutInterceptIsRemovedWhereNothingSmallerIsLeft) {
  // lmerTest compares with (1 | Subject), which is no smaller model: 0 degrees of freedom.
  const json j = json::parse(good({"ranova", "Reaction ~ Days + (0+Days|Subject)", sleepstudy, "--json"}));

  EXPECT_EQ(j["terms"][0]["term"], "Days in (0 + Days | Subject)");
  EXPECT_EQ(j["terms"][0]["formula"], "Reaction ~ Days");
  EXPECT_EQ(j["terms"][0]["npar"], 3);
  EXPECT_EQ(j["terms"][0]["test"]["df"], 1);
  // A factor's columns hold the intercept.
  const json factor =
      json::parse(good({"ranova", "frequency ~ attitude + (0+attitude|subject)", politeness, "--json"}));
  EXPECT_EQ(factor["terms"][0]["formula"], "frequency ~ attitude + (1 | subject)");
  EXPECT_EQ(factor["terms"][0]["test"]["df"], 2);
}

TEST_F(CliDeletion, Drop1IsRs) {
  expect_start(good({"drop1", model_2, politeness}),
               "Single term deletions\n\nModel:\n"
               "frequency ~ attitude + gender + (1 | subject) + (1 | scenario)\n"
               "         npar    AIC    LRT   Pr(Chi)    \n"
               "<none>        807.10                     \n"
               "attitude    1 816.72 11.618 0.0006532 ***\n"
               "gender      1 817.04 11.938 0.0005500 ***\n" +
                   legend);
  expect_start(good({"drop1", "frequency ~ attitude * gender + (1|subject) + (1|scenario)", politeness}),
               "Single term deletions\n\nModel:\n"
               "frequency ~ attitude * gender + (1 | subject) + (1 | scenario)\n"
               "                npar    AIC    LRT Pr(Chi)\n"
               "<none>               807.11               \n"
               "attitude:gender    1 807.10 1.9963  0.1577\n");
  expect_start(good({"drop1", "Reaction ~ Days + I(Days^2) + (1+Days|Subject)", sleepstudy}),
               "Single term deletions\n\nModel:\n"
               "Reaction ~ Days + I(Days^2) + (1 + Days | Subject)\n"
               "          npar    AIC    LRT  Pr(Chi)   \n"
               "<none>         1764.3                   \n"
               "Days         1 1769.2 6.9029 0.008606 **\n"
               "I(Days^2)    1 1763.9 1.6577 0.197907   \n" +
                   legend);
}

TEST_F(CliDeletion, EveryTermsBootstrapIsThatOfItsTwoModels) {
  const Strings options{politeness, "--replicates", "500", "--seed", "4", "--json"};
  Strings all{"drop1", model_2}, one{"lrt", model_0, model_2};
  all.insert(all.end(), options.begin(), options.end());
  one.insert(one.end(), options.begin(), options.end());

  const json terms = json::parse(good(all)), test = json::parse(good(one));

  ASSERT_EQ(terms["terms"].size(), 2u);
  EXPECT_EQ(terms["terms"][0]["term"], "attitude");
  for (const char* key : {"statistic", "df", "p_bootstrap", "used", "status", "mean_statistic"})
    EXPECT_EQ(terms["terms"][0]["test"][key], test[key]) << key;
  for (const json& term : terms["terms"]) {
    int replicates = 0;
    for (const auto& count : term["test"]["status"]) replicates += count.get<int>();
    EXPECT_EQ(replicates, 500);
  }
}

TEST_F(CliDeletion, NullsAreFittedToTheModelsRows) {
  // x is missing where y is not: without x there would be one row more.
  const std::string data = table("y,x,g\n1,5,a\n2,3,a\n4,NA,b\n3,1,b\n5,2,c\n7,9,c\n2,4,d\n3,3,d\n6,1,b\n2,8,a\n");

  const json j = json::parse(good({"drop1", "y ~ x + (1|g)", data, "--json"}));

  EXPECT_EQ(j["nobs"], 9);
  EXPECT_EQ(j["dropped"], 1);
  EXPECT_EQ(j["terms"][0]["test"]["df"], 1);
}

TEST_F(CliDeletion, ATermThatOthersHoldHasNoTest) {
  const std::string data = table("y,x,g\n1,5,a\n2,3,a\n4,6,b\n3,1,b\n5,2,c\n7,9,c\n2,4,d\n3,3,d\n6,1,b\n2,8,a\n");

  const std::string text = good({"drop1", "y ~ x + I(2*x) + (1|g)", data});

  expect_contains(text, "I(2 * x): the model without it has as many parameters, there is no test\n");
}

TEST_F(CliDeletion, TidyTables) {
  const std::string text = good({"ranova", model_2, politeness, "--csv", "--replicates", "100"});

  expect_contains(text, "\nchi-square,NA,(1 | subject),NA,NA,29.5");
  expect_contains(text, "\nbootstrap,NA,(1 | scenario),");
}

TEST_F(CliDeletion, BadUsage) {
  expect_contains(refused({"drop1", "Yield ~ 1 + (1|Batch)", dyestuff}), "no fixed-effects term that could be dropped");
  expect_contains(refused({"ranova", "Yield ~ 1", dyestuff}), "no random-effects term");
  expect_contains(refused({"ranova", model_2, politeness, "--precision", "0.1"}), "needs --replicates");
  EXPECT_TRUE(has_caret(refused({"drop1", "frequency ~ attitude $ gender", politeness})));
}

}  // namespace
}  // namespace batchlmm::tests
