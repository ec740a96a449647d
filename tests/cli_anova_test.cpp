// `batchlmm anova` as a user meets it.
#include "tests/cli_run.hpp"

namespace batchlmm::tests {
namespace {

TEST_F(Cli, AnovaPrintsTheTableOfTerms) {
  const std::string text = good({"anova", model_2, politeness, "--ddf", "kenward-roger"});

  EXPECT_TRUE(text.starts_with("Type III Analysis of Variance Table with Kenward-Roger's method\n")) << text;
  expect_contains(text, "attitude  8054.5  8054.5     1 70.039  12.470 0.0007361 ***");
  expect_contains(text, "(1 observation deleted due to missingness)\n");
}

TEST_F(Cli, AnovaIsOneTableForOtherPrograms) {
  const json j = json::parse(good({"anova", model_2, politeness, "--type", "2", "--contrast", "genderM", "--json"}));
  const std::string csv = good({"anova", model_2, politeness, "--csv"});

  EXPECT_EQ(j["type"], "II");
  EXPECT_EQ(j["terms"].size(), 2U);
  EXPECT_EQ(j["contrasts"][0]["contrast"], "genderM");
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 3);
}

TEST_F(Cli, AnovaRefusesWhatCannotBeDone) {
  expect_contains(refused({"anova", model_2, politeness, "--type", "IV"}), "--type: expected I, II or III, found 'IV'");
  expect_contains(refused({"anova", model_2, politeness, "--ddf", "none"}),
                  "--ddf: expected satterthwaite or kenward-roger, found 'none'");
  expect_contains(refused({"anova", model_2, politeness, "--ddf", "kenward-roger", "--ml"}),
                  "--ddf kenward-roger: expected a fit by REML, found --ml");
  expect_contains(refused({"anova", model_2, politeness, "--level", "95"}),
                  "--level: expected a number above 0 and below 1, found '95'");
  expect_contains(refused({"anova", model_2, politeness, "--contrast", "genderX"}),
                  "contrast 'genderX', character 1: unknown coefficient 'genderX'; did you mean 'genderM'?");
}

}  // namespace
}  // namespace batchlmm::tests
