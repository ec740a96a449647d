// Study files: what they say, and what is wrong with them, by line and column.
#include "host/study/study_file.hpp"

#include <gtest/gtest.h>

#include <regex>

#include "batchlmm/error.hpp"

namespace batchlmm::study {
namespace {

const std::string crossed = R"toml([study]
name = "power"
seed = 7
replicates = 100
alpha = 0.01

[design]
kind = "crossed"
units = { subject = 12, item = 8 }
[design.factors.condition]
levels = ["A", "B"]
codes = [-0.5, 0.5]
latin = ["subject", "item"]

[truth]
formula = "y ~ condition + (1 + condition | subject) + (1 | item)"
sigma = 2
[truth.beta]
"(Intercept)" = 1
condition = { normal = [0, 1] }
[truth.random.subject]
sd = { "(Intercept)" = 1, condition = { uniform = [0, 2] } }
correlation = 0.3
[truth.random.item]
sd = { "(Intercept)" = 1 }

[response]
errors = { t = 5 }
[response.missing]
random = 0.1
dropout = { of = "subject", hazard = 0.05 }

[models.full]
formula = "y ~ condition + (1 | subject) + (1 | item)"
[models.null]
formula = "y ~ 1 + (1 | subject) + (1 | item)"
method = "ML"

[selections.best]
kind = "aic"
models = ["full", "null"]

[tests.lrt]
kind = "lrt"
null = "null"
full = "full"
[tests.z]
kind = "wald"
model = "full"
contrast = "condition"

[grid]
"design.units.subject" = [12, 24, 48]
truth.beta.condition = [0, 0.5]
)toml";

/// The file with one text exchanged for another, which must be there.
std::string with(const std::string& from, const std::string& to) {
  std::string text = crossed;
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}
std::string fault(const std::string& text) {
  try {
    const StudyFile file = StudyFile::parse(text, "s.toml");
    for (std::uint64_t cell = 0; cell < file.cells(); ++cell) (void)file.specification(cell);
  } catch (const InputError& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "accepted";
}

TEST(StudyFile, SaysWhatACellIs) {
  const StudyFile file = StudyFile::parse(crossed, "s.toml");

  const Specification s = file.specification(0);

  EXPECT_EQ(s.name, "power");
  EXPECT_EQ(s.seed, 7U);
  EXPECT_EQ(s.replicates, 100U);
  EXPECT_EQ(s.alpha, 0.01);
  ASSERT_EQ(s.design.units.size(), 2U);
  EXPECT_EQ(s.design.units[0].name, "subject");
  EXPECT_EQ(s.design.units[1].count, 8U);
  EXPECT_EQ(s.design.factors[0].codes, (std::vector<double>{-0.5, 0.5}));
  EXPECT_EQ(s.design.factors[0].latin, (std::vector<std::string>{"subject", "item"}));
  EXPECT_EQ(s.truth.random[0].sd[1].second.kind, Quantity::Kind::uniform);
  EXPECT_EQ(s.truth.random[0].correlation[0].second.first, 0.3);
  EXPECT_EQ(s.response.errors.kind, Law::Kind::t);
  ASSERT_EQ(s.response.missing.size(), 2U);
  EXPECT_EQ(s.response.missing[1].kind, Missingness::Kind::dropout);
  EXPECT_EQ(s.models[0].name, "full");
  EXPECT_EQ(s.models[1].method, Method::ml);
  EXPECT_EQ(s.selections[0].models.size(), 2U);
  EXPECT_EQ(s.tests[0].nulls, (std::vector<std::string>{"null"}));
  EXPECT_EQ(s.tests[1].contrast, "condition");
}

TEST(StudyFile, AGridIsAProductTheLastKeyFastest) {
  const StudyFile file = StudyFile::parse(crossed, "s.toml");

  ASSERT_EQ(file.cells(), 6U);
  EXPECT_EQ(file.grid_keys(), (std::vector<std::string>{"design.units.subject", "truth.beta.condition"}));
  EXPECT_EQ(file.grid_values(3)[0].number, 24);
  EXPECT_EQ(file.grid_values(3)[1].number, 0.5);
  const Specification s = file.specification(3);
  EXPECT_EQ(s.design.units[0].count, 24U);
  EXPECT_EQ(s.truth.beta[1].second.kind, Quantity::Kind::fixed);
  EXPECT_EQ(s.truth.beta[1].second.first, 0.5);
}

TEST(StudyFile, PathsWithCommasHaveTheSameValue) {
  const std::string text = with("truth.beta.condition = [0, 0.5]",
                                "\"truth.random.subject.sd.(Intercept), truth.random.item.sd.(Intercept)\" = [0.5, 2]");
  const StudyFile file = StudyFile::parse(text, "s.toml");

  const Specification s = file.specification(1);

  EXPECT_EQ(file.cells(), 6U);
  EXPECT_EQ(s.truth.random[0].sd[0].second.first, 2);
  EXPECT_EQ(s.truth.random[1].sd[0].second.first, 2);
  EXPECT_EQ(file.grid_values(1)[1].number, 2);
}

// What a reader takes over from the cell before must be what the file says of the cell.
TEST(StudyFile, CellsReadOneAfterAnotherAreThoseReadAlone) {
  std::string text = crossed.substr(0, crossed.find("[grid]"));
  text.replace(text.find("condition = { normal = [0, 1] }"), 31, "condition = 0.5");
  text += R"toml([grid]
"design.units.subject" = [12, 24]
"truth.sigma" = [1, 2]
"truth.beta.condition" = [0, { normal = [1, 2] }, 0.25]
"truth.random.subject.sd.condition, truth.random.item.sd.(Intercept)" = [0, 3]
"truth.random.subject.correlation" = [0.1, -0.2]
)toml";
  const StudyFile file = StudyFile::parse(text, "s.toml");
  CellReader reader(file), backwards(file);
  int with_the_rest = 0;

  for (std::uint64_t i = 0; i < file.cells(); ++i)
    for (const auto& [cell, from] : {std::pair(i, &reader), std::pair(file.cells() - 1 - i, &backwards)}) {
      const Specification alone = file.specification(cell), &read = from->read(cell);
      with_the_rest += from->only_truth_changed() ? 0 : 1;

      EXPECT_EQ(read.design.units[0].count, alone.design.units[0].count) << cell;
      EXPECT_EQ(read.truth.sigma.first, alone.truth.sigma.first) << cell;
      EXPECT_EQ(read.truth.beta[1].first, "condition");
      EXPECT_EQ(read.truth.beta[1].second.kind, alone.truth.beta[1].second.kind) << cell;
      EXPECT_EQ(read.truth.beta[1].second.first, alone.truth.beta[1].second.first) << cell;
      EXPECT_EQ(read.truth.beta[1].second.second, alone.truth.beta[1].second.second) << cell;
      for (std::size_t t = 0; t < 2; ++t)
        for (std::size_t s = 0; s < alone.truth.random[t].sd.size(); ++s)
          EXPECT_EQ(read.truth.random[t].sd[s].second.first, alone.truth.random[t].sd[s].second.first) << cell;
      EXPECT_EQ(read.truth.random[0].correlation[0].second.first, alone.truth.random[0].correlation[0].second.first);
    }

  EXPECT_EQ(file.cells(), 48U);
  EXPECT_EQ(with_the_rest, 4);  // the first cell and the one where the design changes, each way
}

TEST(StudyFile, CellsMayBeListed) {
  std::string text = crossed.substr(0, crossed.find("[grid]"));
  text += "[[cells]]\n\"design.units.subject\" = 5\n[[cells]]\n\"study.replicates\" = 9\n\"truth.sigma\" = 3\n";

  const StudyFile file = StudyFile::parse(text, "s.toml");

  ASSERT_EQ(file.cells(), 2U);
  EXPECT_EQ(file.specification(0).design.units[0].count, 5U);
  EXPECT_EQ(file.specification(1).replicates, 9U);
  EXPECT_EQ(file.specification(1).truth.sigma.first, 3);
  EXPECT_EQ(file.grid_values(0).size(), 1U);
}

TEST(StudyFile, FaultsHaveLineAndColumn) {
  EXPECT_EQ(fault("[study]\nreplicates = \n").substr(0, 9), "s.toml:2:") << fault("[study]\nreplicates = \n");
  EXPECT_EQ(
      fault(with("seed = 7", "sed = 7")),
      "s.toml:3:1: unknown key 'study.sed'; did you mean 'seed'? (known: alpha, common_random_numbers, level, name, "
      "precision, replicates, seed, target_power)");
  EXPECT_EQ(fault(with("replicates = 100", "replicates = 0")),
            "s.toml:4:14: 'study.replicates': expected a whole number of at least 1, found 0");
  EXPECT_EQ(fault(with("replicates = 100", "replicates = \"many\"")),
            "s.toml:4:14: 'study.replicates': expected a whole number of at least 1, found 'many'");
  EXPECT_EQ(
      fault(with("kind = \"crossed\"", "kind = \"crosed\"")),
      "s.toml:8:8: 'design.kind': unknown 'crosed'; did you mean 'crossed'? (known: crossed, nested, longitudinal, "
      "split_plot, table)");
  EXPECT_EQ(fault(with("item = 8", "item = 8.5")),
            "s.toml:9:32: 'design.units.item': expected a whole number from 1 to 50000000, found 8.5");
  EXPECT_EQ(fault(with("codes = [-0.5, 0.5]", "codes = [-0.5]")),
            "s.toml:12:9: 'design.factors.condition.codes': expected 2 numbers, one a level, found 1");
  EXPECT_EQ(fault(with("latin = [\"subject\", \"item\"]", "between = \"subjects\"")),
            "s.toml:13:11: 'design.factors.condition.between': unknown 'subjects'; did you mean 'subject'? (known: "
            "subject, item)");
  EXPECT_EQ(fault(with("correlation = 0.3", "correlation = 1.3")),
            "s.toml:23:15: 'truth.random.subject.correlation': expected a number from -1 to 1, found 1.3");
  EXPECT_EQ(fault(with("sigma = 2", "sigma = 0")), "s.toml:17:9: 'truth.sigma': expected a number above 0, found 0");
  EXPECT_EQ(fault(with("condition = { uniform = [0, 2] }", "condition = { uniform = [0] }")),
            "s.toml:22:51: 'truth.random.subject.sd.condition': expected two numbers, found 1");
  EXPECT_EQ(fault(with("full = \"full\"", "full = \"ful\"")),
            "s.toml:46:8: 'tests.lrt.full': unknown 'ful'; did you mean 'full'? (known: full, null, best)");
  EXPECT_EQ(fault(with("null = \"null\"\nfull = \"full\"", "null = \"null\"\nfull = \"best\"")),
            "s.toml:45:8: 'tests.lrt.null': expected a list with something in it, found 'null'");
  EXPECT_EQ(fault(with("[12, 24, 48]", "[]")),
            "s.toml:53:26: 'grid.design.units.subject': expected a list with something in it, found an empty list");
  EXPECT_EQ(fault(with("[12, 24, 48]", "[12, \"x\"]")),
            "s.toml:53:31: 'design.units.subject': expected a whole number from 1 to 50000000, found 'x'");
  EXPECT_EQ(fault(with("\"design.units.subject\"", "\"design.units.subjekt\"")),
            "accepted");  // another unit
  EXPECT_EQ(fault(with("\"design.units.subject\"", "\"design.unit.subject\"")),
            "s.toml:53:1: 'design.unit.subject' is no value of the study that a grid can change");
}

TEST(StudyFile, AMisspeltKeyThatIsNeededIsNotToldAsALackingOne) {
  EXPECT_EQ(fault(with("replicates = 100", "replicats = 100")),
            "s.toml:4:1: unknown key 'study.replicats'; did you mean 'replicates'? (known: alpha, "
            "common_random_numbers, level, name, precision, replicates, seed, target_power)");
  const auto starts = [](const std::string& text, const std::string& start) {
    EXPECT_TRUE(text.starts_with(start)) << text;
  };
  starts(fault(with("kind = \"crossed\"", "knd = \"crossed\"")),
         "s.toml:8:1: unknown key 'design.knd'; did you mean 'kind'? (known: ");
  starts(fault(with("levels = [", "levles = [")),
         "s.toml:11:1: unknown key 'design.factors.condition.levles'; did you mean 'levels'? (known: ");
  starts(fault(with("\nformula = ", "\nformul = ")),
         "s.toml:16:1: unknown key 'truth.formul'; did you mean 'formula'? (known: ");
  starts(fault(with("sigma = 2", "sgma = 2")), "s.toml:17:1: unknown key 'truth.sgma'; did you mean 'sigma'?");
  starts(fault(with("[truth]", "[thruth]")), "s.toml:15:2: unknown key 'thruth'; did you mean 'truth'? (known: ");
  starts(fault(with("null = \"null\"\nfull", "nul = \"null\"\nfull")),
         "s.toml:45:1: unknown key 'tests.lrt.nul'; did you mean 'null'? (known: ");
}

TEST(StudyFile, ImpossibleCorrelationsAreRefused) {
  const std::string three = with("sd = { \"(Intercept)\" = 1, condition = { uniform = [0, 2] } }\ncorrelation = 0.3",
                                 "sd = { \"(Intercept)\" = 1, a = 1, b = 1 }\n"
                                 "correlation = { \"(Intercept),a\" = 0.9, \"(Intercept),b\" = 0.9, \"a,b\" = -0.9 }");

  EXPECT_TRUE(std::regex_match(
      fault(three), std::regex("s.toml:23:15: 'truth.random.subject.correlation': impossible correlations: the matrix "
                               "that they make has the eigenvalue -0\\.\\d+, below 0")))
      << fault(three);
}

}  // namespace
}  // namespace batchlmm::study
