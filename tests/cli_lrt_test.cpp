// `batchlmm lrt`: chains, REML, stopping rules, pictures, tidy tables.
#include <gtest/gtest.h>

#include "tests/cli_run.hpp"

namespace batchlmm::tests {
namespace {

class CliLrt : public Cli {};

const std::string sleepstudy = BATCHLMM_TEST_DATA "/sleepstudy.csv";
const std::string dyestuff = BATCHLMM_TEST_DATA "/dyestuff.csv";
const std::string model_00 = "frequency ~ 1 + (1|subject) + (1|scenario)";
const std::string model_3 = "frequency ~ attitude * gender + (1|subject) + (1|scenario)";

/// The output without what a second run may change.
json without_time(const std::string& text) {
  json j = json::parse(text);
  const auto strip = [](json& of) {
    for (const char* key : {"seconds", "replicates_per_second", "threads"}) of.erase(key);
  };
  strip(j);
  for (json& step : j["steps"]) strip(step);
  return j;
}

// R 4.2.2, lme4 1.1-31: anova(m0, m1, m2, m3).
TEST_F(CliLrt, AChainIsRsAnova) {
  const std::string text = good({"lrt", model_00, model_0, model_2, model_3, politeness});

  EXPECT_TRUE(
      text.starts_with("Data: politeness.csv\n"
                       "Models:\n"
                       "m0: frequency ~ 1 + (1 | subject) + (1 | scenario)\n"
                       "m1: frequency ~ gender + (1 | subject) + (1 | scenario)\n"
                       "m2: frequency ~ attitude + gender + (1 | subject) + (1 | scenario)\n"
                       "m3: frequency ~ attitude * gender + (1 | subject) + (1 | scenario)\n"
                       "   npar    AIC    BIC  logLik deviance   Chisq Df Pr(>Chisq)    \n"
                       "m0    4 826.63 836.30 -409.31   818.63                          \n"
                       "m1    5 816.72 828.81 -403.36   806.72 11.9059  1  0.0005596 ***\n"
                       "m2    6 807.10 821.61 -397.55   795.10 11.6178  1  0.0006532 ***\n"
                       "m3    7 807.11 824.04 -396.55   793.11  1.9963  1  0.1576796    \n"
                       "---\n"))
      << text;
}

TEST_F(CliLrt, EveryStepHasItsBootstrap) {
  const Strings options{politeness, "--replicates", "400", "--seed", "3", "--json"};
  Strings chain{"lrt", model_00, model_0, model_2}, second{"lrt", model_0, model_2};
  chain.insert(chain.end(), options.begin(), options.end());
  second.insert(second.end(), options.begin(), options.end());

  const json all = without_time(good(chain)), alone = without_time(good(second));

  ASSERT_EQ(all["steps"].size(), 2u);
  EXPECT_FALSE(all.contains("statistic"));
  EXPECT_EQ(all["models"].size(), 3u);
  json step = all["steps"][1];
  EXPECT_EQ(step["null"], "m1");
  EXPECT_EQ(step["full"], "m2");
  for (const auto& [key, value] : alone["steps"][0].items())
    if (key != "null" && key != "full") {
      EXPECT_EQ(step[key], value) << key;
    }
  for (const char* key : {"statistic", "p_bootstrap", "used"}) EXPECT_EQ(alone[key], step[key]);
}

// R 4.2.2, lme4 1.1-31: anova(r1, r2, r3, refit = FALSE).
TEST_F(CliLrt, RemlComparesVarianceComponents) {
  const std::string text = good({"lrt", "Reaction ~ Days + (1|Subject)", "Reaction ~ Days + (Days||Subject)",
                                 "Reaction ~ Days + (Days|Subject)", sleepstudy, "--reml"});

  expect_contains(text,
                  "   npar    AIC    BIC  logLik deviance  Chisq Df Pr(>Chisq)    \n"
                  "m0    4 1794.5 1807.2 -893.23   1786.5                         \n"
                  "m1    5 1753.7 1769.6 -871.83   1743.7 42.796  1  6.076e-11 ***\n"
                  "m2    6 1755.6 1774.8 -871.81   1743.6  0.041  1     0.8395    \n");
  expect_contains(text, "m1: reference law 50:50 mixture of chi-squares with 0 and 1 df");
  EXPECT_EQ(text.find("m2: reference law"), std::string::npos);
  expect_contains(refused({"lrt", model_0, model_2, politeness, "--reml"}), "by REML both models need the same fixed");
}

TEST_F(CliLrt, ANullWithoutRandomEffects) {
  expect_contains(refused({"lrt", "Yield ~ 1", "Yield ~ Sample", dyestuff}), "Sample");
  const std::string text = good({"lrt", "Yield ~ 1", "Yield ~ 1 + (1|Batch)", dyestuff, "--reml", "--replicates",
                                 "2000", "--out", "replicates.csv"});

  expect_contains(text, "m0: Yield ~ 1\n");
  expect_contains(text, " 6.369  1 ");
  expect_contains(text, "  singular   null 0, full ");
  expect_contains(text, "of the replicates' statistics are 0: Gamma, Bartlett and F have no such share");
  const std::string file = contents(work() / "replicates.csv");
  expect_contains(file,
                  "\"deviance_full\",\"null.(Intercept)\",\"null.sigma\",\"full.(Intercept)\","
                  "\"full.theta.Batch.(Intercept)\",\"full.sigma\"\n");
  EXPECT_EQ(std::count(file.begin(), file.end(), '\n'), 2001);
}

TEST_F(CliLrt, StoppingRulesDoNotDependOnThreads) {
  for (const Strings& rule : {Strings{"--until-extremes", "20"}, Strings{"--precision", "0.2"}}) {
    const auto run = [&](const std::string& threads, const std::string& most) {
      return without_time(good({"lrt", model_0, model_2, politeness, "--replicates", most, "--seed", "3", rule[0],
                                rule[1], "--threads", threads, "--json"}));
    };
    const json one = run("1", "200000"), two = run("2", "200000");

    EXPECT_EQ(one, two);
    EXPECT_TRUE(one["stopping_rule"]["met"].get<bool>());
    const double extreme = one["extreme"], used = one["used"];
    EXPECT_EQ(one["p_bootstrap"].get<double>(), rule[0] == "--precision" ? (1 + extreme) / (1 + used) : extreme / used);
    if (rule[0] == "--until-extremes") {
      EXPECT_EQ(extreme, 20);
    }
    // The replicates before its end are those of a run without the rule.
    const json plain = without_time(good({"lrt", model_0, model_2, politeness, "--replicates",
                                          std::to_string(one["replicates"].get<int>()), "--seed", "3", "--json"}));
    for (const char* key : {"extreme", "used", "status", "mean_statistic", "laws"}) EXPECT_EQ(one[key], plain[key]);
    const json few = run("2", "100");
    EXPECT_FALSE(few["stopping_rule"]["met"].get<bool>());
    EXPECT_EQ(few["replicates"], 100);
  }
}

TEST_F(CliLrt, TheTextSaysWhereARuleEndedIt) {
  const std::string text =
      good({"lrt", model_2, model_3, politeness, "--replicates", "5000", "--seed", "3", "--until-extremes", "10"});

  expect_contains(text, "  ends at    10 extreme replicates: met after ");
  expect_contains(text, " of at most 5000 replicates\n");
}

TEST_F(CliLrt, TidyTable) {
  const std::string text =
      good({"lrt", "Yield ~ 1", "Yield ~ 1 + (1|Batch)", dyestuff, "--reml", "--replicates", "500", "--csv"});

  EXPECT_TRUE(text.starts_with("effect,group,term,estimate,std.error,statistic,df,p.value,conf.low,conf.high\n"));
  for (const char* row : {"\nchi-square,", "\nmixture,", "\nbootstrap,", "\nGamma,", "\nBartlett,", "\nF,"})
    expect_contains(text, row);
}

TEST_F(CliLrt, Picture) {
  good({"lrt", "Yield ~ 1", "Yield ~ 1 + (1|Batch)", dyestuff, "--reml", "--replicates", "500", "--plot", "null.svg"});

  const std::string svg = contents(work() / "null.svg");
  EXPECT_TRUE(svg.starts_with("<svg"));
  expect_contains(svg, "observed 6.369");
  expect_contains(svg, "exactly 0: ");
}

TEST_F(CliLrt, BadUsage) {
  const auto lrt = [&](const Strings& options) {
    Strings arguments{"lrt", model_0, model_2, politeness};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return refused(arguments);
  };
  expect_contains(lrt({"--until-extremes", "5"}), "--until-extremes: ends a bootstrap and needs --replicates");
  expect_contains(lrt({"--replicates", "10", "--until-extremes", "0"}), "--until-extremes: expected a whole number");
  expect_contains(lrt({"--replicates", "10", "--precision", "2"}),
                  "--precision: expected a number above 0 and below 1");
  expect_contains(lrt({"--replicates", "10", "--precision", "abc"}), "'abc'");
  expect_contains(lrt({"--plot", "a.svg"}), "--plot: draws the replicates and needs --replicates");
  expect_contains(lrt({"--replicates", "10", "--plot", "a.png"}), "--plot: expected a file ending in .svg");
  expect_contains(lrt({"--replicates", "10", "--plot", "nowhere/a.svg"}), "nowhere/a.svg");
  expect_contains(refused({"lrt", model_00, model_0, model_2, politeness, "--replicates", "9", "--out", "a.csv"}),
                  "--out: keeps the replicates of one test; expected two models, found 3");
  expect_contains(refused({"lrt", model_0, model_00, model_2, politeness}), "not nested");
}

}  // namespace
}  // namespace batchlmm::tests
