// `batchlmm profile` as users run it.
#include "tests/cli_run.hpp"

namespace batchlmm::tests {
namespace {

const std::string dyestuff = BATCHLMM_TEST_DATA "/dyestuff.csv";
const std::string one_way = "Yield ~ 1 + (1|Batch)";

TEST_F(Cli, ProfilePrintsIntervals) {
  const std::string out = good({"profile", one_way, dyestuff});

  expect_contains(out, "Profile likelihood of the fit by maximum likelihood\nFormula: Yield ~ 1 + (1 | Batch)\n");
  expect_contains(out,
                  "                     Estimate   2.5 %  97.5 %\n"
                  "sd_(Intercept)|Batch    37.26   12.20   84.06\n"
                  "sigma                   49.51   38.23   67.66\n"
                  "(Intercept)           1527.50 1486.45 1568.55\n");
}

TEST_F(Cli, ProfileHasJsonAndTidyCsv) {
  const json out = json::parse(good({"profile", one_way, dyestuff, "--json", "--level", "0.9", "--parm", "sigma"}));

  EXPECT_EQ(out["level"], 0.9);
  ASSERT_EQ(out["parameters"].size(), 1);
  const json& sigma = out["parameters"][0];
  EXPECT_EQ(sigma["label"], "sigma");
  EXPECT_LT(sigma["low"]["value"], sigma["estimate"]);
  EXPECT_GT(sigma["points"].size(), 10);
  EXPECT_TRUE(sigma["points"][0]["certified"]);

  const std::string csv = good({"profile", one_way, dyestuff, "--csv"});
  EXPECT_TRUE(
      csv.starts_with("effect,group,term,estimate,std.error,statistic,df,p.value,conf.low,conf.high\n"
                      "ran_pars,Batch,sd__(Intercept),37.26"))
      << csv;
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 4);
}

TEST_F(Cli, ProfileKeepsPointsAndDraws) {
  good({"profile", one_way, dyestuff, "--out", "points.csv", "--plot", "zeta.svg"});

  const std::string points = contents(work() / "points.csv");
  EXPECT_TRUE(
      points.starts_with("\"parameter\",\"value\",\"zeta\",\"deviance\",\"certified\",\"sd_(Intercept)|Batch\","
                         "\"sigma\",\"(Intercept)\"\n\"sd_(Intercept)|Batch\",0,-2.32"))
      << points;
  const std::string figure = contents(work() / "zeta.svg");
  EXPECT_TRUE(figure.starts_with("<svg") || figure.starts_with("<?xml")) << figure.substr(0, 100);
  expect_contains(figure, "sd_(Intercept)|Batch");
}

TEST_F(Cli, ProfileRefusesWhatIsNoParameter) {
  expect_contains(refused({"profile", one_way, dyestuff, "--parm", "Batch"}), "expected a parameter of the model");
  // A column that the design fixes: `twice` is dropped, so that it is no parameter.
  const std::string file =
      table("y,x,twice,g\n1,1,2,a\n2.5,2,4,a\n2,3,6,b\n4.5,4,8,b\n5,5,10,c\n5.5,6,12,c\n7,7,14,d\n9,9,18,d\n");
  const std::string err = refused({"profile", "y ~ x + twice + (1|g)", file, "--parm", "twice"});
  expect_contains(err, "expected a parameter of the model, found 'twice'");
  expect_contains(refused({"profile", one_way, dyestuff, "--level", "95"}),
                  "--level: expected a number above 0 and below 1");
  expect_contains(refused({"profile", one_way, dyestuff, "--plot", "zeta.png"}),
                  "--plot: expected a file ending in .svg");
  expect_contains(refused({"profile", one_way, dyestuff, "--out", "points.txt"}), "--out: expected a file ending in");
}

}  // namespace
}  // namespace batchlmm::tests
