// `batchlmm exact` as users run it.
#include "tests/cli_run.hpp"

namespace batchlmm::tests {
namespace {

const std::string dyestuff = BATCHLMM_TEST_DATA "/dyestuff.csv";
const std::string one_way = "Yield ~ 1 + (1|Batch)";

TEST_F(Cli, ExactPrintsTheTest) {
  const std::string out = good({"exact", one_way, dyestuff, "--replicates", "50000"});

  expect_contains(out,
                  "Exact restricted likelihood-ratio test of the variance of (1 | Batch)\n"
                  "Data: dyestuff.csv\nModels:\nm0: Yield ~ 1\nm1: Yield ~ 1 + (1 | Batch)\n");
  expect_contains(out, "  F law      p 0.00439753, probability of 0 0.561089");
  expect_contains(out, "  draws      50000, seed 1; ");
}

TEST_F(Cli, ExactHasJsonCsvDrawsAndAPicture) {
  const Strings base{"exact",
                     "frequency ~ attitude + (1|subject)",
                     politeness,
                     "--null",
                     "frequency ~ 1",
                     "--replicates",
                     "20000",
                     "--threads",
                     "2"};
  const auto with = [&](Strings more) {
    Strings all = base;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };

  const json out = json::parse(good(with({"--json", "--out", "draws.csv", "--plot", "law.svg"})));

  EXPECT_EQ(out["method"], "ML");
  EXPECT_EQ(out["null"], "frequency ~ 1");
  EXPECT_EQ(out["dropped_effects"], 1);
  EXPECT_EQ(out["draws"], 20000);
  EXPECT_TRUE(out["p_f_law"].is_null());
  EXPECT_NEAR(out["p"].get<double>(), (1.0 + out["extreme"].get<double>()) / 20001, 1e-15);
  const std::string draws = contents(work() / "draws.csv");
  EXPECT_EQ(std::count(draws.begin(), draws.end(), '\n'), 20001);
  expect_contains(contents(work() / "law.svg"), "50:50 mixture");
  const std::string csv = good(with({"--csv"}));
  expect_contains(csv, "\nran_pars,subject,sd__(Intercept),");
}

TEST_F(Cli, ExactRefusesOtherModels) {
  expect_contains(refused({"exact", model_1, politeness}), "expected one variance parameter");
  expect_contains(refused({"exact", one_way, dyestuff, "--null", one_way}), "--null: expected fixed effects only");
  expect_contains(refused({"exact", one_way, dyestuff, "--replicates", "0"}), "--replicates: expected a whole number");
  expect_contains(refused({"exact", "frequency ~ 1 + (1|subject)", politeness, "--null", "frequency ~ attitude"}),
                  "expected a null whose fixed effects are among the model's");
}

}  // namespace
}  // namespace batchlmm::tests
