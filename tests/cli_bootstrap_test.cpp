// The command `bootstrap`: text, JSON, tidy table, files and pictures, and one line for what it refuses.
#include <algorithm>

#include "tests/cli_run.hpp"

namespace batchlmm::tests {
namespace {

const std::string sleepstudy = BATCHLMM_TEST_DATA "/sleepstudy.csv";
const std::string penicillin = BATCHLMM_TEST_DATA "/penicillin.csv";
const std::string slopes = "Reaction ~ Days + (Days|Subject)";

class CliBootstrap : public Cli {};

TEST_F(CliBootstrap, PrintsEstimatesIntervalsAndCounts) {
  const std::string text = good({"bootstrap", slopes, sleepstudy, "--factor", "Subject", "--replicates", "500",
                                 "--interval", "perc,bca,shortest", "--threads", "1", "--seed", "3"});

  EXPECT_TRUE(
      text.starts_with("Parametric bootstrap of a fit by REML: 500 replicates, seed 3\n"
                       "Formula: Reaction ~ Days + (Days | Subject)\n   Data: sleepstudy.csv\n\n"))
      << text;
  for (const char* part : {"Estimate", "Bias Std. Error", "sd_(Intercept)|Subject", "cor_Days.(Intercept)|Subject",
                           "95% percentile intervals, with Monte-Carlo errors of their ends:", "2.5 %", "97.5 %",
                           "95% bca intervals", "95% shortest intervals", "  used       500 of 500\n",
                           "(Days | Subject)", "  status     converged", "1 thread, symmetry tier"})
    expect_contains(text, part);
}

TEST_F(CliBootstrap, JsonHoldsTheFactsInFullPrecision) {
  for (const char* type : {"parametric", "use-u", "residual", "wild", "case", "block"}) {
    const Strings arguments{"bootstrap",  slopes,     sleepstudy,   "--factor",   "Subject",      "--type",
                            type,         "--json",   "--interval", "all",        "--replicates", "400",
                            "--contrast", "2 * Days", "--expr",     "v = sigma^2"};
    const json found = json::parse(good(arguments));
    json again = json::parse(good(arguments));

    EXPECT_EQ(found["type"], type);
    EXPECT_EQ(found["used"].get<int>() + found["status"]["not_positive_definite"].get<int>() +
                  found["status"]["iteration_limit"].get<int>() + found["status"]["non_finite"].get<int>(),
              400);
    ASSERT_EQ(found["quantities"].size(), 8U);
    for (const json& q : found["quantities"]) {
      EXPECT_EQ(q["intervals"].size(), 6U);
      const json& percentile = q["intervals"]["percentile"];
      EXPECT_LT(percentile["low"].get<double>(), percentile["high"].get<double>());
      EXPECT_GT(percentile["low_mc_error"].get<double>(), 0);
      EXPECT_TRUE(q["intervals"]["bca"].contains("acceleration"));
    }
    EXPECT_EQ(found["covariance"]["names"].size(), 8U);
    EXPECT_EQ(found["covariance"]["values"].size(), 8U);
    EXPECT_EQ(found["singular"]["by_term"][0]["term"], "Days | Subject");
    for (const char* time : {"seconds", "replicates_per_second"}) again[time] = found[time];
    EXPECT_EQ(found, again);
  }
}

TEST_F(CliBootstrap, CsvHasTheColumnsOfTidy) {
  const std::string text =
      good({"bootstrap", slopes, sleepstudy, "--factor", "Subject", "--csv", "--expr", "v = sigma^2"});

  EXPECT_TRUE(
      text.starts_with("effect,group,term,estimate,std.error,statistic,df,p.value,conf.low,conf.high\nran_pars,Subject,"
                       "sd__(Intercept),"))
      << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 8);
  expect_contains(text, "\nran_pars,Residual,sd__Observation,");
  expect_contains(text, "\nfixed,NA,Days,");
  expect_contains(text, "\nexpression,NA,v,");
}

TEST_F(CliBootstrap, ReplicatesAndPicturesGoToFiles) {
  const Strings arguments{"bootstrap", slopes,  sleepstudy, "--factor", "Subject",      "--interval", "all",
                          "--out",     "r.csv", "--plot",   "p.svg",    "--replicates", "100"};
  good(arguments);
  const std::string table = contents(work() / "r.csv"), picture = contents(work() / "p.svg");
  good(arguments);

  EXPECT_TRUE(table.starts_with(R"~("replicate","status","REML","(Intercept)","Days","theta_(Intercept)|Subject",)~"
                                R"~("theta_Days.(Intercept)|Subject","theta_Days|Subject","sigma")~"
                                "\n0,\"converged\","))
      << table.substr(0, 200);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 101);
  expect_contains(picture, "<svg");
  expect_contains(picture, "cor_Days.(Intercept)|Subject");
  expect_contains(picture, "percentile");
  EXPECT_EQ(contents(work() / "r.csv"), table);
  EXPECT_EQ(contents(work() / "p.svg"), picture);
}

TEST_F(CliBootstrap, ShardsAreRangesOfOneRun) {
  const auto rows = [&](const Strings& range) {
    Strings arguments{"bootstrap", slopes, sleepstudy, "--factor", "Subject", "--out", "r.csv"};
    arguments.insert(arguments.end(), range.begin(), range.end());
    good(arguments);
    const std::string text = contents(work() / "r.csv");
    return text.substr(text.find('\n') + 1);
  };
  const std::string all = rows({"--replicates", "150"});
  const std::string first = rows({"--replicates", "70"}), second = rows({"--replicates", "80", "--first", "70"});
  EXPECT_EQ(all, first + second);
}

TEST_F(CliBootstrap, RefusesInOneLine) {
  const auto says = [&](const Strings& more, const std::string& part) {
    Strings arguments{"bootstrap", slopes, sleepstudy, "--factor", "Subject"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    expect_contains(refused(arguments), part);
  };
  says({"--type", "cases"}, "--type: expected parametric, use-u, residual, wild, case or block, found 'cases'");
  says({"--interval", "wald"}, "--interval: expected percentile, basic, normal, studentized, bca, shortest or all");
  says({"--replicates", "20"}, "--replicates: 95% percentile intervals need at least 39, found 20");
  says({"--replicates", "-1"}, "--replicates: expected a whole number");
  says({"--level", "95"}, "--level: expected a number between 0 and 1, found '95'");
  says({"--level", "x"}, "--level: expected a number between 0 and 1, found 'x'");
  says({"--case", "Subject"}, "--case: belongs to --type case, found --type parametric");
  says({"--type", "case", "--case", "Subjekt"}, "found 'Subjekt'; did you mean 'Subject'?");
  says({"--aux-dist", "webb"}, "--aux-dist: belongs to --type wild, found --type parametric");
  says({"--type", "wild", "--aux-dist", "cauchy"}, "--aux-dist: expected mammen, rademacher, webb or normal");
  says({"--type", "wild", "--hccme", "hc4"}, "--hccme: expected hc2 or hc3, found 'hc4'");
  says({"--type", "block", "--reb-type", "3"}, "--reb-type: expected a whole number");
  says({"--type", "wild", "--tier", "symmetry"}, "--tier: belongs to --type parametric, found --type wild");
  says({"--expr", "log(-sigma)"}, "is not a number at the estimates");
  says({"--expr", "sigme"}, "did you mean 'sigma'?");
  says({"--contrast", "Day"}, "did you mean 'Days'?");
  says({"--plot", "p.png"}, "--plot: expected a file ending in .svg, found 'p.png'");
  says({"--out", "r.txt"}, "--out: expected a file ending in .parquet, .csv or .arrow");
  says({"--csv", "--json"}, "--json");
  const std::string crossed = "diameter ~ 1 + (1|plate) + (1|sample)";
  expect_contains(
      refused({"bootstrap", crossed, penicillin, "--type", "case"}),
      "the grouping factors plate, sample are crossed; expected --case with the one whose levels are drawn");
  expect_contains(refused({"bootstrap", crossed, penicillin, "--type", "wild"}), "are crossed");
  expect_contains(refused({"bootstrap", crossed, penicillin, "--type", "block"}), "expected one grouping factor");
  const std::string slopes_of_attitude = "frequency ~ attitude + gender + (attitude|subject)";
  expect_contains(refused({"bootstrap", slopes_of_attitude, politeness, "--type", "block", "--reb-type", "2"}),
                  "replicates have a variance of 0, which has no logarithm; expected --reb-type 0 or 1");
  good({"bootstrap", crossed, penicillin, "--type", "case", "--case", "plate", "--replicates", "50"});
}

}  // namespace
}  // namespace batchlmm::tests
