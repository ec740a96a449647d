// Studies from file to dataset: exact anchors, the same bytes however the work is divided, and what goes wrong.
#include "host/study/run.hpp"

#include <gtest/gtest.h>

#include <boost/math/distributions/fisher_f.hpp>
#include <boost/math/distributions/non_central_f.hpp>
#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "host/data/temporary_file.hpp"
#include "host/study/cell.hpp"
#include "host/study/dataset.hpp"
#include "host/study/f1_f2.hpp"
#include "tests/temporary_folder.hpp"

namespace batchlmm::study {
namespace {

namespace fs = std::filesystem;

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t thin = 20;
#else
constexpr std::uint64_t thin = 1;
#endif

const std::string small = R"toml(
[study]
seed = 3
replicates = 150
[design]
kind = "crossed"
units = { subject = 8, item = 6 }
[design.factors.c]
levels = ["A", "B"]
codes = [-0.5, 0.5]
latin = ["subject", "item"]
[truth]
formula = "y ~ c + (1 | subject) + (1 | item)"
sigma = 1
[truth.beta]
"(Intercept)" = 0
c = 0.5
[truth.random.subject]
sd = { "(Intercept)" = 1 }
[truth.random.item]
sd = { "(Intercept)" = 0.7 }
[models.full]
formula = "y ~ c + (1 | subject) + (1 | item)"
method = "ML"
[models.null]
formula = "y ~ 1 + (1 | subject) + (1 | item)"
method = "ML"
[models.subjects]
formula = "y ~ c + (1 | subject)"
method = "ML"
[selections.best]
kind = "aic"
models = ["full", "subjects"]
[tests.lrt]
kind = "lrt"
null = "null"
full = "full"
[tests.z]
kind = "wald"
model = "full"
contrast = "c"
[tests.chosen]
kind = "wald"
model = "best"
contrast = "c"
[tests.f1]
kind = "f1"
factor = "c"
subjects = "subject"
[grid]
"truth.beta.c" = [0, 0.5, 1]
"design.units.item" = [6, 12]
)toml";

std::string bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

RunOptions into(const fs::path& out, int threads = 2) {
  RunOptions options;
  options.out = out.string();
  options.threads = threads;
  return options;
}

/// "subject/term/estimand" of one cell of a dataset.
std::map<std::string, std::pair<double, double>> cell_of(const fs::path& folder, int cell) {
  const Table table = read_table((folder / "cells.parquet").string());
  const auto number = [&](const char* name) { return std::get<Numeric>(table.at(name).data); };
  const auto text = [&](const char* name, std::size_t row) {
    const Factor& f = std::get<Factor>(table.at(name).data);
    return f.codes[row] < 0 ? std::string() : f.levels[static_cast<std::size_t>(f.codes[row])];
  };
  std::map<std::string, std::pair<double, double>> out;
  for (std::size_t i = 0; i < table.rows; ++i)
    if (number("cell")[i] == cell)
      out[text("subject", i) + "/" + text("term", i) + "/" + text("estimand", i)] = {number("value")[i],
                                                                                     number("mcse")[i]};
  return out;
}

TEST(StudyRun, TheSameBytesForThreadsShardsAndRestarts) {
  const testing::TemporaryFolder folder;
  const fs::path root(folder / "root");
  fs::create_directory(root);
  const StudyFile study = StudyFile::parse(small, "s.toml");
  ASSERT_GT(ShardPlan(study).shards(), 8U);

  const RunOutcome whole = run_study(study, into(root / "whole", 1));
  run_study(study, into(root / "threads", 2));
  std::vector<std::string> parts;
  for (std::uint64_t part = 0; part < 3; ++part) {
    RunOptions options = into(root / ("part" + std::to_string(part)), part == 1 ? 2 : 1);
    options.part = part;
    options.parts = 3;
    EXPECT_FALSE(run_study(study, options).complete);
    parts.push_back(options.out);
  }
  const RunOutcome merged = merge_studies({parts[2], parts[0], parts[1]}, (root / "merged").string());
  // A run that was ended: some shards lost, one torn.
  fs::copy(root / "whole", root / "again", fs::copy_options::recursive);
  fs::remove(root / "again" / "cells.parquet");
  fs::remove(root / "again" / "shards" / shard_name(3));
  const std::string torn = bytes(root / "again" / "shards" / shard_name(5));
  std::ofstream(root / "again" / "shards" / shard_name(5), std::ios::binary) << torn.substr(0, torn.size() / 2);
  const RunOutcome resumed = run_study(study, into(root / "again"));

  EXPECT_TRUE(whole.complete);
  EXPECT_TRUE(merged.complete);
  EXPECT_EQ(resumed.made, 2U);
  EXPECT_EQ(resumed.found, resumed.shards - 2);
  const std::string expected = bytes(root / "whole" / "cells.parquet");
  ASSERT_FALSE(expected.empty());
  for (const char* name : {"threads", "merged", "again"})
    EXPECT_EQ(bytes(root / name / "cells.parquet"), expected) << name;
}

TEST(StudyRun, KeptReplicatesAreTheSameForAnyThreads) {
  const testing::TemporaryFolder folder;
  const fs::path root(folder / "root");
  fs::create_directory(root);
  const StudyFile study = StudyFile::parse(small, "s.toml");
  RunOptions one = into(root / "one", 1), two = into(root / "two", 2);
  one.keep = two.keep = true;

  run_study(study, one);
  run_study(study, two);

  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(root / "one" / "replicates")) {
    ++files;
    EXPECT_EQ(bytes(entry.path()), bytes(root / "two" / "replicates" / entry.path().filename()));
  }
  EXPECT_EQ(files, ShardPlan(study).shards());
}

TEST(StudyRun, AMergeNamesWhatIsMissing) {
  const testing::TemporaryFolder folder;
  const fs::path root(folder / "root");
  fs::create_directory(root);
  const StudyFile study = StudyFile::parse(small, "s.toml");
  RunOptions options = into(root / "part");
  options.parts = 2;
  run_study(study, options);

  try {
    merge_studies({options.out}, (root / "merged").string());
    FAIL();
  } catch (const InputError& error) {
    const std::uint64_t shards = ShardPlan(study).shards();
    EXPECT_EQ(std::string(error.what()),
              "expected all of " + std::to_string(shards) + " shards, found " + std::to_string(shards - shards / 2) +
                  " missing: " + std::to_string(shards / 2) + " to " + std::to_string(shards - 1));
  }
  EXPECT_FALSE(fs::exists(root / "merged" / "cells.parquet"));
}

TEST(StudyRun, AFolderOfAnotherStudyIsLeftAlone) {
  const testing::TemporaryFolder folder;
  const fs::path root(folder / "root");
  fs::create_directory(root);
  std::string changed = small;
  changed.replace(changed.find("seed = 3"), 8, "seed = 4");
  run_study(StudyFile::parse(small, "s.toml"), into(root / "out"));
  const std::string before = bytes(root / "out" / "cells.parquet");
  fs::create_directory(root / "other");
  std::ofstream(root / "other" / "thesis.tex") << "text";

  EXPECT_THROW(run_study(StudyFile::parse(changed, "s.toml"), into(root / "out")), InputError);
  EXPECT_THROW(run_study(StudyFile::parse(small, "s.toml"), into(root / "other")), InputError);

  EXPECT_EQ(bytes(root / "out" / "cells.parquet"), before);
  EXPECT_FALSE(fs::exists(root / "other" / "study.toml"));
}

TEST(StudyRun, AModelThatDoesNotFitTheTableIsToldWithItsPlace) {
  const testing::TemporaryFolder folder;
  std::string text = small;
  text.replace(text.find("y ~ c + (1 | subject)\""), 22, "y ~ c + (1 | person)\"");

  try {
    run_study(StudyFile::parse(text, "s.toml"), into(folder / "out"));
    FAIL();
  } catch (const InputError& error) {
    EXPECT_EQ(std::string(error.what()).substr(0, 58), "s.toml:29:11: no column 'person' in the design (columns: s");
  }
  EXPECT_FALSE(fs::exists(folder / "out"));
}

const std::string paired = R"toml(
[study]
seed = 3
replicates = 1
[design]
kind = "crossed"
units = { subject = 10 }
replications = 3
[design.factors.c]
levels = ["A", "B"]
codes = [-0.5, 0.5]
[truth]
formula = "y ~ c + (1 + c | subject)"
sigma = 1
[truth.beta]
"(Intercept)" = 0
c = 0
[truth.random.subject]
sd = { "(Intercept)" = 1, c = 0.8 }
correlation = 0.3
[models.slopes]
formula = "y ~ c + (1 + c | subject)"
[models.null]
formula = "y ~ 1 + (1 + c | subject)"
[tests.f1]
kind = "f1"
factor = "c"
subjects = "subject"
[tests.z]
kind = "wald"
model = "slopes"
contrast = "c"
)toml";

double rate_of(Cell& cell, const std::vector<SeriesSums>& sums, const std::string& subject, const std::string& name) {
  for (const Estimand& e : estimands(cell.series(), sums))
    if (e.subject == subject && e.name == name) return e.value;
  ADD_FAILURE() << subject << " " << name;
  return 0;
}

// By subjects the test is a paired t test: power by the noncentral F. Rates within 4 Monte-Carlo standard errors.
TEST(StudyRun, PowerOfTheTestBySubjectsIsThatOfThePairedTTest) {
  DesignCache cache;
  for (const double effect : {0.0, 0.9}) {
    std::string text = paired;
    text.replace(text.find("c = 0\n"), 6, "c = " + std::to_string(effect) + "\n");
    Cell cell(StudyFile::parse(text, "s.toml").specification(0), "", 11, cache);
    const std::uint64_t replicates = 100000 / thin;

    const std::vector<SeriesSums> sums = cell.run(0, replicates, 0);

    // A subject's difference: effect + slope + the difference of two means of three errors.
    const double variance = 0.8 * 0.8 + 2.0 / 3, noncentrality = 10 * effect * effect / variance;
    const double critical = boost::math::quantile(boost::math::fisher_f(1, 9), 0.95);
    const double power =
        effect == 0
            ? 0.05
            : boost::math::cdf(boost::math::complement(boost::math::non_central_f(1, 9, noncentrality), critical));
    EXPECT_NEAR(rate_of(cell, sums, "f1", "rejection_rate"), power,
                4 * std::sqrt(power * (1 - power) / static_cast<double>(replicates)));
    // Balanced: the model's estimate and its true standard error are those of the differences' mean.
    EXPECT_NEAR(rate_of(cell, sums, "slopes", "bias"), 0,
                4 * std::sqrt(variance / 10 / static_cast<double>(replicates)))
        << "of the first coefficient";
  }
}

// The same by a balanced design's mixed model where no variance is estimated as 0: t = z with the standard error that
// the differences' variance gives, so that the z test rejects where |t| on 9 degrees of freedom is above 1.96. Where
// the slope's variance is estimated as 0, errors are smaller: the share of such fits bounds what they add.
TEST(StudyRun, TheZTestRejectsAsTheTOfTheDifferencesDoes) {
  DesignCache cache;
  Cell cell(StudyFile::parse(paired, "s.toml").specification(0), "", 12, cache);
  const std::uint64_t replicates = 40000 / thin;

  const std::vector<SeriesSums> sums = cell.run(0, replicates, 0);

  const double z = boost::math::quantile(boost::math::normal(), 0.975);
  const double expected = boost::math::cdf(boost::math::complement(boost::math::fisher_f(1, 9), z * z));
  const double singular = rate_of(cell, sums, "slopes", "singular_share");
  const double rate = rate_of(cell, sums, "z", "rejection_rate");
  const double bound = 4 * std::sqrt(expected * (1 - expected) / static_cast<double>(replicates));
  EXPECT_GT(rate, expected - bound - singular);
  EXPECT_LT(rate, expected + bound + singular);
  EXPECT_NEAR(rate + rate_of(cell, sums, "z", "coverage"), 1, 1e-12);
}

/// Power of an F test by the noncentral F law; alpha where there is no effect.
double power_of(double df1, double df2, double noncentrality, double alpha = 0.05) {
  if (noncentrality == 0) return alpha;
  const double critical = boost::math::quantile(boost::math::fisher_f(df1, df2), 1 - alpha);
  return boost::math::cdf(boost::math::complement(boost::math::non_central_f(df1, df2, noncentrality), critical));
}

/// A study file of one cell. @param design_and_truth  without models and tests
std::string one_cell(const std::string& design_and_truth, const std::string& formula, const std::string& contrast) {
  std::string text = "[study]\nreplicates = 1\n" + design_and_truth + "\n[models.m]\nformula = \"" + formula + "\"\n";
  for (const char* kind : {"satterthwaite", "kenward_roger"})
    text +=
        std::string("[tests.") + kind + "]\nkind = \"" + kind + "\"\nmodel = \"m\"\ncontrast = \"" + contrast + "\"\n";
  return text;
}

// Both small-sample tests are the exact test of a balanced design wherever no variance is estimated as 0: rates within
// 3 Monte-Carlo standard errors at 100,000 replicates, and the share of singular fits.
void expect_exact_power(const std::string& text, double power) {
  DesignCache cache;
  Cell cell(StudyFile::parse(text, "s.toml").specification(0), "", 21, cache);
  const std::uint64_t replicates = 100000 / thin;

  const std::vector<SeriesSums> sums = cell.run(0, replicates, 0);

  const double singular = rate_of(cell, sums, "m", "singular_share");
  EXPECT_LT(singular, 0.004);
  const double bound = 3 * std::sqrt(power * (1 - power) / static_cast<double>(replicates)) + singular;
  EXPECT_NEAR(rate_of(cell, sums, "satterthwaite", "rejection_rate"), power, bound);
  EXPECT_NEAR(rate_of(cell, sums, "kenward_roger", "rejection_rate"), power, bound);
}

TEST(StudyRun, PowerOfAPairedTTestIsExact) {
  for (const double effect : {0.0, 3.0}) {
    const std::string text = one_cell(
        "[design]\nkind = \"crossed\"\nunits = { subject = 10 }\nreplications = 3\n"
        "[design.factors.c]\nlevels = [\"A\", \"B\"]\ncodes = [-0.5, 0.5]\n"
        "[truth]\nformula = \"y ~ c + (1 + c | subject)\"\nsigma = 1\nbeta = { \"(Intercept)\" = 0, c = " +
            std::to_string(effect) +
            " }\n[truth.random.subject]\nsd = { \"(Intercept)\" = 3, c = 3 }\ncorrelation = 0\n",
        "y ~ c + (1 + c | subject)", "c");

    expect_exact_power(text, power_of(1, 9, 10 * effect * effect / (9 + 2.0 / 3)));
  }
}

TEST(StudyRun, PowerOfACrossedTestWithinSubjectsAndItemsIsExact) {
  for (const double effect : {0.0, 0.4}) {
    const std::string text = one_cell(
        "[design]\nkind = \"crossed\"\nunits = { subject = 10, item = 8 }\n"
        "[design.factors.c]\nlevels = [\"A\", \"B\"]\ncodes = [-0.5, 0.5]\n"
        "[truth]\nformula = \"y ~ c + (1 | subject) + (1 | item)\"\nsigma = 1\nbeta = { \"(Intercept)\" = 0, c = " +
            std::to_string(effect) +
            " }\n[truth.random.subject]\nsd = { \"(Intercept)\" = 2 }\n"
            "[truth.random.item]\nsd = { \"(Intercept)\" = 2 }\n",
        "y ~ c + (1 | subject) + (1 | item)", "c");

    expect_exact_power(text, power_of(1, 160 - 2 - 9 - 7, 160 * effect * effect / 4));
  }
}

TEST(StudyRun, PowerOfASplitPlotsWholePlotTestIsExact) {
  for (const double effect : {0.0, 6.0}) {
    const std::string text = one_cell(
        "[design]\nkind = \"split_plot\"\nunits = { block = 6, plot = 3 }\n"
        "[design.factors.v]\nlevels = [\"A\", \"B\", \"C\"]\nbetween = \"plot\"\n"
        "[design.factors.n]\nlevels = [\"0\", \"1\", \"2\", \"3\"]\n"
        "[truth]\nformula = \"y ~ v + (1 | block) + (1 | plot)\"\nsigma = 1\n"
        "beta = { \"(Intercept)\" = 0, vB = " +
            std::to_string(effect) +
            ", vC = 0 }\n[truth.random.block]\nsd = { \"(Intercept)\" = 20 }\n"
            "[truth.random.plot]\nsd = { \"(Intercept)\" = 5 }\n",
        "y ~ v + (1 | block) + (1 | plot)", "vB; vC");

    // Variety means over 6 plots, whose means have the variance 25 + 1/4.
    const double spread = effect * effect * 2 / 3;  // of (0, effect, 0) about its mean
    expect_exact_power(text, power_of(2, 10, 6 * spread / 25.25));
  }
}

// One-way layout: the variance is estimated as 0 where F < 1 (REML), exactly.
TEST(StudyRun, ShareOfSingularFitsOfAOneWayLayoutIsExact) {
  for (const double sd : {0.0, 0.4}) {
    std::string text = one_cell(
        "[design]\nkind = \"crossed\"\nunits = { batch = 6 }\nreplications = 5\n"
        "[truth]\nformula = \"y ~ 1 + (1 | batch)\"\nsigma = 1\nbeta = { \"(Intercept)\" = 0 }\n"
        "[truth.random.batch]\nsd = { \"(Intercept)\" = " +
            std::to_string(sd) + " }\n",
        "y ~ 1 + (1 | batch)", "(Intercept)");
    DesignCache cache;
    Cell cell(StudyFile::parse(text, "s.toml").specification(0), "", 22, cache);
    const std::uint64_t replicates = 100000 / thin;

    const std::vector<SeriesSums> sums = cell.run(0, replicates, 0);

    const double share = boost::math::cdf(boost::math::fisher_f(5, 24), 1 / (1 + 5 * sd * sd));
    EXPECT_NEAR(rate_of(cell, sums, "m", "singular_share"), share,
                3 * std::sqrt(share * (1 - share) / static_cast<double>(replicates)));
  }
}

TEST(StudyRun, PrecisionEndsACellAtTheSameShardHoweverItIsRun) {
  const testing::TemporaryFolder folder;
  std::string text = small;
  text.replace(text.find("replicates = 150"), 16, "replicates = 2000\nprecision = 0.02");
  text = text.substr(0, text.find("[grid]")) + "[grid]\n\"truth.beta.c\" = [0, 0.6]\n";
  const StudyFile study = StudyFile::parse(text, "s.toml");

  const RunOutcome one = run_study(study, into(folder / "one", 1));
  run_study(study, into(folder / "two", 2));

  EXPECT_TRUE(one.complete);
  EXPECT_GT(one.skipped, 0U);
  EXPECT_EQ(bytes(fs::path(folder / "one") / "cells.parquet"), bytes(fs::path(folder / "two") / "cells.parquet"));
  for (const auto& [name, value] : cell_of(folder / "one", 1))
    if (name.ends_with("rejection_rate")) {
      EXPECT_LE(value.second, 0.021) << name;
    }
}

TEST(StudyRun, ADryRunDoesNothingAndTellsSizes) {
  const DryRun plan = dry_run(StudyFile::parse(small, "s.toml"), {});

  EXPECT_EQ(plan.cells, 6U);
  EXPECT_EQ(plan.replicates, 900U);
  ASSERT_EQ(plan.lines.size(), 6U);
  EXPECT_EQ(plan.lines[1].rows, 96U);
  for (const DryRun::Line& line : plan.lines) {
    EXPECT_GT(line.seconds, 0);
    EXPECT_GT(line.bytes, 8.0 * static_cast<double>(line.rows * 64));  // the responses of a shard at least
    ASSERT_EQ(line.fits.size(), 3U);  // each model once, though tests and selections name them again
    EXPECT_EQ(line.fits[0].model, "full");
    EXPECT_EQ(line.fits[2].model, "subjects");
    EXPECT_EQ(line.fits[2].tier, Tier::symmetry);  // a single factor, balanced
  }
  EXPECT_GT(plan.seconds, 0);
}

TEST(StudyRun, ADryRunOfManyCellsTriesOneOfEachDesign) {
  std::string many = small.substr(0, small.find("[grid]"));
  many +=
      "[grid]\n\"truth.beta.c\" = [0, 0.1, 0.2, 0.3, 0.4]\n\"design.units.item\" = [6, 12]\n\"truth.sigma\" = [1, 2, "
      "3]\n";
  const StudyFile study = StudyFile::parse(many + "[response]\nmissing = { random = 0.05 }\n", "s.toml");

  const DryRun plan = dry_run(study, {}, 10);

  EXPECT_EQ(plan.cells, 30U);
  EXPECT_EQ(plan.groups, 2U);
  ASSERT_EQ(plan.lines.size(), 2U);
  EXPECT_EQ(plan.lines[0].cell, 0U);
  EXPECT_EQ(plan.lines[1].cell, 3U);
  EXPECT_EQ(plan.lines[0].rows, 48U);
  EXPECT_EQ(plan.lines[1].rows, 96U);
  for (const DryRun::Line& line : plan.lines) {
    EXPECT_EQ(line.cells, 15U);
    for (const FittedName& fit : line.fits) EXPECT_EQ(fit.tier, Tier::streaming) << fit.model;  // rows are missing
  }
}

// Hand-made: means by subject and condition of a table of six.
TEST(MeansTest, IsTheAnalysisOfVarianceOfTheMeans) {
  // Differences 1, 2, 3: t = 2 / (1 / sqrt(3)), F = 12 on 1 and 2 degrees of freedom.
  const std::vector<double> y{0, 1, 5, 7, 2, 5};
  const std::vector<std::int32_t> unit{0, 0, 1, 1, 2, 2}, condition{0, 1, 0, 1, 0, 1};

  const MeansTest within = means_test(y, unit, 3, condition, 2);
  // Between: groups {0, 5}, {1, 7}: means 2.5 and 4, F = 2.25 / 15.25 on 1 and 2.
  const MeansTest between = means_test(std::vector<double>{0, 5, 1, 7}, {0, 1, 2, 3}, 4, {0, 0, 1, 1}, 2);
  const MeansTest one_missing = means_test(y, unit, 3, condition, 2, {1});
  const MeansTest both = min_f({12, 1, 2, 0}, {4, 1, 5, 0});

  EXPECT_NEAR(within.f, 12, 1e-12);
  EXPECT_EQ(within.df2, 2);
  EXPECT_NEAR(within.p, boost::math::cdf(boost::math::complement(boost::math::fisher_f(1, 2), 12)), 1e-12);
  EXPECT_NEAR(between.f, 2.25 / 15.25, 1e-12);
  EXPECT_EQ(between.df2, 2);
  EXPECT_NEAR(one_missing.f, 25, 1e-12);  // differences 2, 3
  EXPECT_EQ(one_missing.df2, 1);
  EXPECT_NEAR(both.f, 3, 1e-12);
  EXPECT_NEAR(both.df2, 256 / (144.0 / 5 + 16.0 / 2), 1e-12);
}

}  // namespace
}  // namespace batchlmm::study
