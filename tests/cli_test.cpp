// The program as a user meets it: exit codes, standard output, standard error and files.
#include "tests/cli_run.hpp"

#include <cstdio>

namespace batchlmm::tests {
namespace {

TEST_F(Cli, VersionAndHelp) {
  expect_contains(good({"--version"}), "batchlmm 0.");
  expect_contains(good({"--help"}), "fit");
  expect_contains(good({"fit", "--help"}), "--ranef");
  expect_contains(good({"lrt", "--help"}), "--replicates");
  expect_contains(good({"plan", "--help"}), "NULL");
}

// The printed digits of Winter's tutorial (arXiv:1308.5499) and of lme4 on the same data.
TEST_F(Cli, FitPrintsThePolitenessExample) {
  const std::string expected = json::parse(contents(BATCHLMM_TEST_DATA "/printed/fits/politeness.json"))["summary"];
  std::string with_missing = expected;
  with_missing.insert(with_missing.find("\n\nFixed effects:") + 1, "  (1 observation deleted due to missingness)\n");

  EXPECT_EQ(good({"fit", model_2, politeness, "--factor", "scenario"}), with_missing);
}

TEST_F(Cli, FitPrintsTheFirstPolitenessModel) {
  const std::string text = good({"fit", model_1, politeness});

  expect_contains(text, "Formula: frequency ~ attitude + (1 | subject) + (1 | scenario)\n");
  expect_contains(text, "REML criterion at convergence: 793.5\n");
  expect_contains(text, " scenario (Intercept)  219     14.80   \n");
  expect_contains(text, " subject  (Intercept) 4015     63.36   \n");
  expect_contains(text, " Residual              646     25.42   \n");
  expect_contains(text, "(Intercept)  202.588     26.754   7.572\n");
  expect_contains(text, "attitudepol  -19.695      5.585  -3.527\n");
}

TEST_F(Cli, FitPrintsModesAndCoefficients) {
  const std::string coef = good({"fit", model_2, politeness, "--coef"});
  const std::string ranef = good({"fit", model_2, politeness, "--ranef"});
  const json printed = json::parse(contents(BATCHLMM_TEST_DATA "/printed/fits/politeness.json"));

  expect_contains(coef, "$subject\n   (Intercept) attitudepol   genderM\nF1    242.9386");
  expect_contains(ranef, "$scenario\n  (Intercept)\n1 ");
  EXPECT_EQ(coef.find("$scenario") < coef.find("$subject"), true);
  expect_contains(coef, "1    243.3398");
  expect_contains(coef, "M7    223.0857");
}

TEST_F(Cli, FitByMaximumLikelihood) {
  const std::string text = good({"fit", model_2, politeness, "--ml"});

  expect_contains(text, "Linear mixed model fit by maximum likelihood  ['lmerMod']\n");
  expect_contains(text,
                  "     AIC      BIC   logLik deviance df.resid \n   807.1    821.6   -397.6    795.1       77 \n");
}

TEST_F(Cli, FitNamesTheSingularTerm) {
  const std::string formula = "frequency ~ attitude + gender + (1 + attitude|subject) + (1 + attitude|scenario)";

  const std::string text = good({"fit", formula, politeness, "--ml"});

  expect_contains(text, "   814.9    839.1   -397.4    794.9       73 \n");
  expect_contains(text, "\nboundary (singular) fit: (1 + attitudepol | subject)\n");
}

TEST_F(Cli, FitAsJson) {
  const json j = json::parse(good({"fit", model_2, politeness, "--json"}));

  EXPECT_EQ(j["formula"], "frequency ~ attitude + gender + (1 | subject) + (1 | scenario)");
  EXPECT_EQ(j["nobs"], 83);
  EXPECT_EQ(j["dropped"], 1);
  EXPECT_EQ(j["converged"], true);
  EXPECT_NEAR(j["fixed"][1]["estimate"].get<double>(), -19.721, 1e-3);
  EXPECT_NEAR(j["fixed"][1]["se"].get<double>(), 5.584, 1e-3);
  EXPECT_EQ(j["theta"].size(), 2U);
}

TEST_F(Cli, FitWithDegreesOfFreedom) {
  const std::string text = good({"fit", model_2, politeness, "--ddf", "satterthwaite"});
  const json j = json::parse(good({"fit", model_2, politeness, "--ddf", "kenward-roger", "--json"}));

  expect_contains(text, "attitudepol  -19.721      5.584   70.054  -3.532 0.000735 ***\n");
  EXPECT_EQ(j["ddf"], "kenward-roger");
  EXPECT_NEAR(j["fixed"][1]["df"].get<double>(), 70.0388, 1e-3);
}

TEST_F(Cli, ContrastsChangeTheCoding) {
  const std::string one = good({"fit", model_2, politeness, "--contrasts", "sum"});
  const std::string other = good({"fit", model_2, politeness, "--contrasts", "attitude=sum,gender=sum"});

  expect_contains(one, "attitude1");
  EXPECT_EQ(one, other);
}

TEST_F(Cli, LrtPrintsTheAnovaTable) {
  const json printed = json::parse(contents(BATCHLMM_TEST_DATA "/printed/anova.json"));

  const std::string text = good({"lrt", model_0, model_2, politeness});
  const std::string interaction =
      good({"lrt", model_2, "frequency ~ attitude*gender + (1|subject) + (1|scenario)", politeness});

  const auto without_missing = [](std::string table) {
    const std::string line = "  (1 observation deleted due to missingness)\n";
    const auto at = table.find(line);
    EXPECT_NE(at, std::string::npos) << table;
    return table.erase(at, line.size());
  };
  EXPECT_EQ(without_missing(text), printed["three_stars"]["text"].get<std::string>());
  EXPECT_EQ(without_missing(interaction), printed["no_star"]["text"].get<std::string>());
}

TEST_F(Cli, LrtOfRandomSlopes) {
  const std::string slopes = " + (1 + attitude|subject) + (1 + attitude|scenario)";

  const std::string text =
      good({"lrt", "frequency ~ gender" + slopes, "frequency ~ attitude + gender" + slopes, politeness});

  expect_contains(text, "m0    9 819.61 841.37 -400.80   801.61                        \n");
  expect_contains(text, "m1   10 814.90 839.09 -397.45   794.90 6.7082  1   0.009597 **\n");
}

TEST_F(Cli, BootstrapAccountsForEveryReplicate) {
  const json j = json::parse(good({"lrt", model_0, model_2, politeness, "--replicates", "2000", "--seed", "3",
                                   "--backend", "cpu", "--threads", "1", "--json"}));

  std::int64_t by_status = 0;
  for (const auto& [status, count] : j["status"].items()) by_status += count.get<std::int64_t>();
  EXPECT_EQ(by_status, 2000);
  EXPECT_EQ(j["replicates"], 2000);
  EXPECT_EQ(j["used"], 2000);
  EXPECT_EQ(j["backend"], "cpu");
  EXPECT_EQ(j["threads"], 1);
  EXPECT_EQ(j["seed"], 3);
  EXPECT_DOUBLE_EQ(j["p_bootstrap"].get<double>(), (1 + j["extreme"].get<double>()) / 2001);
  EXPECT_LT(j["p_bootstrap_interval"][0].get<double>(), j["p_bootstrap"].get<double>());
  EXPECT_NEAR(j["statistic"].get<double>(), 11.618, 1e-3);
  EXPECT_NEAR(j["p_chisq"].get<double>(), 0.0006532, 1e-7);
}

TEST_F(Cli, BootstrapInText) {
  const std::string text = good({"lrt", model_0, model_2, politeness, "--replicates", "200", "--seed", "3"});

  expect_contains(text, "\nParametric bootstrap: 200 replicates, seed 3\n");
  expect_contains(text, "  used       200 of 200\n");
  EXPECT_EQ(text.find("not used"), std::string::npos);
}

TEST_F(Cli, EveryReplicateIsKept) {
  good({"lrt", model_0, model_2, politeness, "--replicates", "100", "--seed", "3", "--out", "all.csv"});
  good({"lrt", model_0, model_2, politeness, "--replicates", "60", "--seed", "3", "--first", "40", "--threads", "1",
        "--out", "last.csv"});

  const std::string all = contents(work() / "all.csv");
  const std::string last = contents(work() / "last.csv");
  EXPECT_TRUE(all.starts_with("replicate,status,statistic,deviance_null,deviance_full,") ||
              all.starts_with("\"replicate\",\"status\",\"statistic\",\"deviance_null\",\"deviance_full\","))
      << all.substr(0, 200);
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 101);
  const std::string header = all.substr(0, all.find('\n') + 1);
  ASSERT_TRUE(last.starts_with(header));
  EXPECT_TRUE(all.ends_with(last.substr(header.size())));
  EXPECT_EQ(std::distance(fs::directory_iterator(work()), {}), 2);
}

TEST_F(Cli, UnknownCommandsAndOptions) {
  expect_contains(refused({}), "found none");
  expect_contains(refused({"frobnicate"}), "'frobnicate'");
  expect_contains(refused({"--frobnicate"}), "'--frobnicate'");
  expect_contains(refused({"fit", model_1, politeness, "--frobnicate"}), "--frobnicate");
  expect_contains(refused({"fit", model_1, politeness, "extra"}), "extra");
  expect_contains(refused({"fit", model_1, politeness, "--ml", "--reml"}), "--ml");
  expect_contains(refused({"fit", model_1}), "DATA");
  expect_contains(refused({"lrt", model_0, model_2}), "DATA");
}

TEST_F(Cli, BadOptionValues) {
  const auto lrt = [&](const Strings& options) {
    Strings arguments{"lrt", model_0, model_2, politeness};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return refused(arguments);
  };

  expect_contains(lrt({"--replicates", "-3"}), "--replicates: expected a whole number of at least 0, found '-3'");
  expect_contains(lrt({"--replicates", "ten"}), "'ten'");
  expect_contains(lrt({"--replicates", "1e5"}), "'1e5'");
  expect_contains(lrt({"--replicates", ""}), "''");
  expect_contains(lrt({"--replicates", "99999999999999999999"}), "99999999999999999999");
  expect_contains(lrt({"--replicates"}), "--replicates");
  expect_contains(lrt({"--seed", "x"}), "--seed");
  expect_contains(lrt({"--first", "-1"}), "--first");
  expect_contains(lrt({"--threads", "0"}), "--threads");
  expect_contains(lrt({"--backend", "abacus"}), "'abacus'");
  expect_contains(refused({"fit", model_1, politeness, "--ddf", "kr"}),
                  "--ddf: expected satterthwaite or kenward-roger, found 'kr'");
  expect_contains(refused({"fit", model_1, politeness, "--ddf", "kenward-roger", "--ml"}),
                  "--ddf kenward-roger: expected a fit by REML, found --ml");
  expect_contains(refused({"fit", model_1, politeness, "--factor", "nowhere"}), "nowhere");
  expect_contains(refused({"fit", model_1, politeness, "--factor", "scenario,"}), "--factor");
  expect_contains(refused({"fit", model_1, politeness, "--contrasts", "attitude=dummy"}), "'dummy'");
  expect_contains(refused({"fit", model_1, politeness, "--contrasts", "nowhere=sum"}), "'nowhere'");
}

TEST_F(Cli, UnreadableData) {
  expect_contains(refused({"fit", model_1, "nowhere.csv"}), "nowhere.csv");
  expect_contains(refused({"fit", model_1, table("")}), "table.csv");
  expect_contains(refused({"fit", "y ~ x + (1|g)", table("y,x,g\n1,2,a\n2,3\n3,4,b\n")}), "table.csv");
  expect_contains(refused({"fit", "y ~ 1 + (1|g)", table("y,g\n")}), "table.csv");
}

TEST_F(Cli, DataThatMakeNoModel) {
  expect_contains(refused({"fit", "frequency ~ mood + (1|subject)", politeness}), "mood");
  expect_contains(refused({"fit", "frequency ~ attitude + (1|nobody)", politeness}), "nobody");
  refused({"fit", "subject ~ attitude + (1|scenario)", politeness});
  const std::string balanced =
      "y,x,g,one,each\n1,5,a,k,r1\n2,3,a,k,r2\n4,6,b,k,r3\n3,1,b,k,r4\n5,2,c,k,r5\n7,9,c,k,r6\n";
  const std::string data = table(balanced);
  expect_contains(refused({"fit", "y ~ x + (1|one)", data}), "one");
  expect_contains(refused({"fit", "y ~ x + (1|each)", data}), "each");
  expect_contains(refused({"fit", "y ~ 1 + (1 + x|g)", data}), "g");
}

TEST_F(Cli, ConstantResponse) {
  const std::string data = table("y,g\n2,a\n2,a\n2,b\n2,b\n2,c\n2,c\n");

  refused({"fit", "y ~ 1 + (1|g)", data});
}

TEST_F(Cli, MalformedFormulasShowThePlace) {
  for (const char* formula : {"", "frequency", "frequency ~", "~ attitude", "frequency ~ attitude + (1|subject",
                              "frequency ~ attitude + + (1||)", "frequency ~ (1|subject) ) + 1",
                              "frequency ~ attitude $ gender", "frequency ~ unknown_function(attitude) + (1|subject)",
                              "frequency ~ a ~ b", "frequency ~ `attitude + (1|subject)", "frequency ~ 1 +* 2"}) {
    const std::string err = refused({"fit", formula, politeness});
    EXPECT_TRUE(has_caret(err)) << err;
    expect_contains(err, "\n" + std::string(formula) + "\n");
  }
  refused_at("frequency ~ attitude $ gender + (1|subject)", 21);
}

TEST_F(Cli, ModelsThatCannotBeCompared) {
  const Strings few{"--replicates", "10"};
  refused(
      {"lrt", "frequency ~ attitude + (1|subject)", "frequency ~ gender + (1|subject)", politeness, few[0], few[1]});
  refused({"lrt", "frequency ~ gender + (1|subject)", "log(frequency) ~ attitude + gender + (1|subject)", politeness});
  refused({"lrt", "frequency ~ 1 + (1|subject) + (1|scenario)", "frequency ~ attitude + (1|subject)", politeness});
  refused({"lrt", model_2, model_2, politeness});
  refused({"lrt", model_2, model_0, politeness});
}

TEST_F(Cli, UnwritableOutput) {
  const auto lrt = [&](const std::string& out) {
    return refused({"lrt", model_0, model_2, politeness, "--replicates", "10", "--out", out});
  };

  expect_contains(lrt("nowhere/replicates.csv"), "nowhere/replicates.csv");
  expect_contains(lrt("/proc/replicates.parquet"), "/proc/replicates.parquet");
  expect_contains(lrt("replicates.xlsx"), "replicates.xlsx");
  expect_contains(refused({"lrt", model_0, model_2, politeness, "--out", "replicates.csv"}), "--replicates");
}

TEST_F(Cli, FailedRunLeavesNoOutput) {
  refused({"lrt", model_0, model_1, politeness, "--replicates", "10", "--out", "replicates.csv"});
}

TEST_F(Cli, CudaIsRefusedWhereThereIsNoDevice) {
  const Strings arguments{"lrt", model_0, model_2, politeness, "--replicates", "10", "--backend", "cuda", "--json"};
  const Outcome outcome = run(arguments);
  if (outcome.code == 0) {
    EXPECT_EQ(json::parse(outcome.out)["backend"], "cuda");
    return;
  }

  expect_contains(refused(arguments), "cuda");
}

TEST_F(Cli, DevicesListsTheProcessorAndTheCardsOrSaysWhyThereIsNone) {
  const Outcome text = run({"devices"}), as_json = run({"devices", "--json"});

  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_EQ(as_json.code, 0) << as_json.err;
  EXPECT_EQ(text.err, "");
  expect_contains(text.out, "cpu     ");
  expect_contains(text.out, "\ncuda ");
  const json facts = json::parse(as_json.out);
  EXPECT_GE(facts["cpu"]["threads"].get<int>(), 1);
  EXPECT_EQ(facts["cuda"]["usable"].get<bool>(), facts["cuda"]["why"].is_null());
}

TEST_F(Cli, OutputThatCannotBeWrittenIsAFailure) {
  const Outcome full = run({"fit", model_1, politeness}, ">/dev/full");
  EXPECT_EQ(full.code, 1);
  EXPECT_EQ(full.err, "batchlmm: cannot write to standard output: No space left on device\n");

  const Outcome closed = run({"--version"}, ">&-");
  EXPECT_EQ(closed.code, 1);
  EXPECT_EQ(std::count(closed.err.begin(), closed.err.end(), '\n'), 1) << closed.err;
}

TEST_F(Cli, ClosedPipeIsAFailureAndNoSignal) {
  const fs::path code = work() / "code";
  const fs::path err = work() / "err";
  const std::string command = "{ sleep 0.2; " + quoted(BATCHLMM_CLI) + " --help 2>" + quoted(err.string()) +
                              "; echo $? >" + quoted(code.string()) + "; } | true";

  ASSERT_EQ(std::system(command.c_str()), 0);

  EXPECT_EQ(contents(code), "1\n");
  EXPECT_EQ(contents(err), "batchlmm: cannot write to standard output: Broken pipe\n");
}

TEST_F(Cli, PlanShowsWhatWillBeDone) {
  const std::string text = good({"plan", model_2, politeness, model_0});

  expect_contains(text, "Data: politeness.csv\n");
  expect_contains(text, "rows                   83 (1 row left out for missing values)\n");
  expect_contains(text, "random effects         13 in 2 terms, 2 theta\n");
  expect_contains(text, "scenario             7 levels x 1 column: streamed\n");
  expect_contains(text, "subject              6 levels x 1 column: dense Schur complement\n");
  expect_contains(text, "Bootstrap of the likelihood-ratio test (ML)\n");
  expect_contains(text, "memory available");
  expect_contains(good({"plan", model_2, politeness}), "Bootstrap of refits (REML)\n");
  expect_contains(good({"plan", model_2, politeness, "--ml"}), "Bootstrap of refits (ML)\n");
}

TEST_F(Cli, PlanAsJson) {
  const json plan =
      json::parse(good({"plan", model_2, politeness, model_0, "--json", "--threads", "3", "--tier", "streaming"}));

  EXPECT_EQ(plan["method"], "ML");
  EXPECT_EQ(plan["model"]["rows"], 83);
  EXPECT_EQ(plan["model"]["schur"], 6);
  EXPECT_EQ(plan["model"]["factors"][0]["elimination"], "streamed");
  EXPECT_EQ(plan["model"]["factors"][1]["elimination"], "dense");
  EXPECT_EQ(plan["null"]["fixed_effects"], 2);
  EXPECT_GT(plan["model"]["multiply_adds"]["with_derivatives"], plan["model"]["multiply_adds"]["value"]);
  EXPECT_EQ(plan["bootstrap"]["tier"], "streaming");
  EXPECT_GT(plan["bootstrap"]["multiply_adds"], plan["model"]["multiply_adds"]["with_derivatives"]);
  EXPECT_GT(plan["bootstrap"]["evaluations"], 1);
  EXPECT_EQ(plan["machine"]["threads"], 3);
  // A processor of this decade does at least a tenth of a multiply-add a nanosecond and at most 1000.
  EXPECT_GT(plan["machine"]["multiply_adds_per_second"], 1e8);
  EXPECT_LT(plan["machine"]["multiply_adds_per_second"], 1e12);
}

TEST_F(Cli, PlanRefusesWhatCannotBeFitted) {
  expect_contains(refused({"plan", model_1, politeness, model_2}), "not nested");
  expect_contains(refused({"plan", "frequency ~ 1 + (1|attitude:gender:scenario:subject)", politeness}), "levels");
  refused({"plan", model_1});
}

#if !defined(__SANITIZE_ADDRESS__)  // reserves more address space than the limit
TEST_F(Cli, WhatDoesNotFitIntoMemoryIsRefusedBeforeWorkStarts) {
  const fs::path err = work() / "err";
  std::string command = "ulimit -v 3000000; " + quoted(BATCHLMM_CLI);
  for (const auto& argument : Strings{"lrt", model_0, model_2, politeness, "--replicates", "1000000000000", "--threads",
                                      "4096", "--tier", "streaming"})
    command += " " + quoted(argument);

  const int status = std::system((command + " 2>" + quoted(err.string())).c_str());

  EXPECT_EQ(WEXITSTATUS(status), 2);
  const std::string message = contents(err);
  EXPECT_TRUE(message.starts_with("batchlmm: the bootstrap of \"")) << message;
  expect_contains(message, "on 4096 threads needs ");
  expect_contains(message, " GiB of memory; available are ");
}
#endif

}  // namespace
}  // namespace batchlmm::tests
