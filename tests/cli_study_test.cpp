// `batchlmm study` and `merge` as a user meets them: a run that is killed, ranks of MPI, and what is refused.
#include <regex>

#include "tests/cli_run.hpp"

namespace batchlmm::tests {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

/// A study that takes a second or so.
std::string study_text(int replicates) {
  return R"toml(
[study]
seed = 5
replicates = )toml" +
         std::to_string(replicates) + R"toml(
[design]
kind = "crossed"
units = { subject = 12, item = 10 }
[design.factors.c]
levels = ["A", "B"]
codes = [-0.5, 0.5]
[truth]
formula = "y ~ c + (1 + c | subject) + (1 | item)"
sigma = 1
beta = { "(Intercept)" = 0, c = 0.3 }
[truth.random.subject]
sd = { "(Intercept)" = 1, c = 0.5 }
[truth.random.item]
sd = { "(Intercept)" = 0.7 }
[models.full]
formula = "y ~ c + (1 + c | subject) + (1 | item)"
[tests.z]
kind = "wald"
model = "full"
contrast = "c"
[grid]
"truth.beta.c" = [0, 0.3]
)toml";
}

class StudyCli : public Cli {
protected:
  [[nodiscard]] std::string study(int replicates) const {
    const fs::path path = work() / "s.toml";
    std::ofstream(path) << study_text(replicates);
    return path.string();
  }
  /// Runs a shell command in the working directory. @return its exit code
  [[nodiscard]] int shell(const std::string& command) const {
    const std::string whole = "cd " + quoted(work().string()) + " && " + command + " >/dev/null 2>&1";
    const int status = std::system(whole.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  [[nodiscard]] std::string cells(const char* folder) const { return contents(work() / folder / "cells.parquet"); }
  static std::size_t shards(const fs::path& folder) {
    return fs::exists(folder) ? static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), {})) : 0;
  }
};

TEST_F(StudyCli, RunsAndLeavesADataset) {
  const std::string text = good({"study", study(200), "--out", "out"});

  expect_contains(text, "7 of 7 shards: 7 made, 0 found\ncomplete: out/cells.parquet");
  for (const char* name : {"study.toml", "cells.parquet", "manifest.json", "report.html"})
    EXPECT_TRUE(fs::exists(work() / "out" / name)) << name;
  const std::string page = contents(work() / "out" / "report.html");
  expect_contains(page, "<h2>Rejection rates</h2>");
  EXPECT_EQ(page.find("http://"), page.find("http://www.w3.org/2000/svg")) << "the page needs the network";
  const json manifest = json::parse(contents(work() / "out" / "manifest.json"));
  EXPECT_EQ(manifest["cells"], 2);
  EXPECT_EQ(manifest["replicates"]["used"], 400);
}

TEST_F(StudyCli, SaysWherePowerReachesItsTarget) {
  // Arrange: an effect from 0.1 to 0.9 of a standard deviation.
  std::string text = study_text(400);
  const std::string grid = "[0, 0.3]";
  text.replace(text.rfind(grid), grid.size(), "[0.1, 0.3, 0.5, 0.7, 0.9]");
  const fs::path file = work() / "power.toml";
  std::ofstream(file) << text;

  // Act
  const std::string printed = good({"study", file.string(), "--out", "power"});

  // Assert
  expect_contains(printed, "\npower 0.8: z at truth.beta.c 0.");
  const json power = json::parse(contents(work() / "power" / "manifest.json"))["power"];
  EXPECT_EQ(power["target"], 0.8);
  ASSERT_EQ(power["reached"].size(), 1U);
  const json& one = power["reached"][0];
  EXPECT_EQ(one["test"], "z");
  EXPECT_EQ(one["along"], "truth.beta.c");
  EXPECT_LT(one["low"], one["value"]);
  EXPECT_LT(one["value"], one["high"]);
  EXPECT_GT(one["low"], 0.3);
  EXPECT_LT(one["high"], 0.9);
  expect_contains(contents(work() / "power" / "report.html"), "<h2>Where power reaches 0.8</h2>");
}

TEST_F(StudyCli, ADryRunWritesNothing) {
  const std::string file = study(200);

  const std::string text = good({"study", file, "--dry-run"});

  EXPECT_TRUE(std::regex_match(
      text, std::regex("2 cells, 400 replicates, 7 shards\n"
                       "  cell 0: truth.beta.c = 0; 240 rows, 200 replicates, [0-9.]+ m?s on one core, [0-9.]+ MiB\n"
                       "    fitted by (symmetry|streaming): full \\(REML\\)\n"
                       "  cell 1: truth.beta.c = 0.3; 240 rows, 200 replicates, [0-9.]+ m?s on one core, [0-9.]+ MiB\n"
                       "estimated [0-9.]+ m?s and [0-9.]+ MiB on [0-9]+ threads?: an estimate, from a trial of a few "
                       "replicates of the cells above\n")))
      << text;

  EXPECT_EQ(shards(work()), 1U);
}

TEST_F(StudyCli, AKilledRunGoesOnAndEndsInTheSameBytes) {
  const std::string file = study(sanitized ? 2000 : 20000);
  const std::string program = quoted(BATCHLMM_CLI) + " study s.toml --out ";
  ASSERT_EQ(shell(program + "whole"), 0);

  // Killed as soon as some shards are there.
  (void)shell("{ " + program +
              "killed & pid=$!; for i in $(seq 2000); do [ $(ls killed/shards 2>/dev/null | wc -l) -gt 5 ] && break; "
              "sleep 0.005; done; kill -9 $pid; wait $pid; }");
  const std::size_t left = shards(work() / "killed" / "shards");
  const bool ended = fs::exists(work() / "killed" / "cells.parquet");
  const std::string resumed = good({"study", file, "--out", "killed"});

  EXPECT_FALSE(ended);
  EXPECT_GT(left, 0U);
  EXPECT_EQ(resumed.find(" 0 found"), std::string::npos) << resumed;
  EXPECT_EQ(cells("killed"), cells("whole"));
}

TEST_F(StudyCli, PartsAreMerged) {
  const std::string file = study(500);
  good({"study", file, "--out", "whole"});
  for (const char* part : {"1/3", "2/3", "3/3"})
    expect_contains(good({"study", file, "--out", std::string("part") + part[0], "--shard", part}), "still missing");

  expect_contains(good({"merge", "part3", "part1", "part2", "--out", "merged"}), "complete: ");

  EXPECT_EQ(cells("merged"), cells("whole"));
}

TEST_F(StudyCli, RanksOfMpiLeaveTheSameBytesAlsoAfterOneIsKilled) {
  if (sanitized) GTEST_SKIP() << "MPI is not run under a sanitizer";
  const fs::path module = fs::path(BATCHLMM_CLI).parent_path() / "libbatchlmm_mpi.so";
  if (!fs::exists(module) || shell("command -v mpirun") != 0)
    GTEST_SKIP() << "built without MPI, or there is no mpirun";
  (void)study(10000);
  const std::string program = quoted(BATCHLMM_CLI) + " study s.toml --out ";
  const std::string mpirun =
      "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe -n 3 " + program;
  ASSERT_EQ(shell(program + "whole"), 0);

  ASSERT_EQ(shell(mpirun + "ranks --threads 1"), 0);
  const std::string folder = (work() / "killed").string();
  const int code =
      shell("{ " + mpirun + quoted(folder) +
            " --threads 1 & pid=$!; for i in $(seq 2000); do [ $(ls killed/shards 2>/dev/null | wc -l) -gt 5 "
            "] && break; sleep 0.005; done; pkill -9 -n -f " +
            quoted("study s.toml --out " + folder) + "; wait $pid; }");
  const bool ended = fs::exists(work() / "killed" / "cells.parquet");
  ASSERT_EQ(shell(mpirun + quoted(folder) + " --threads 1"), 0);

  EXPECT_NE(code, 0);
  EXPECT_FALSE(ended);
  EXPECT_EQ(cells("ranks"), cells("whole"));
  EXPECT_EQ(cells("killed"), cells("whole"));
}

TEST_F(StudyCli, RefusesWhatCannotBeDone) {
  const std::string file = table(study_text(10));
  expect_contains(refused({"study", file}), "expected --out FOLDER, found none");
  expect_contains(refused({"study", file, "--out", "o", "--shard", "3"}),
                  "--shard: expected I/N, as in 2/8, found '3'");
  expect_contains(refused({"study", file, "--out", "o", "--shard", "4/3"}),
                  "--shard: expected a whole number of at least 1 and at most 3, found '4'");
  expect_contains(refused({"study", "none.toml", "--out", "o"}), "cannot read the study file none.toml");
  expect_contains(refused({"merge", "nowhere", "--out", "o"}),
                  "nowhere: expected a folder of a study, found no study.toml in it");
  const std::string slip = table(study_text(10) + "[resonse]\n");
  expect_contains(refused({"study", slip, "--out", "o"}), ":27:2: unknown key 'resonse'; did you mean 'response'?");
  const std::string column = table([] {
    std::string text = study_text(10);
    return text.replace(text.rfind("(1 | item)"), 10, "(1 | thing)");
  }());
  expect_contains(refused({"study", column, "--out", "o"}), ":20:11: no column 'thing' in the design");
}

TEST_F(StudyCli, AFolderThatCannotBeWrittenIsToldBeforeAnyWork) {
  const std::string file = table(study_text(10));
  std::ofstream(work() / "file") << "x";

  const Outcome outcome = run({"study", file, "--out", "file/out"});

  EXPECT_EQ(outcome.code, 2);
  expect_contains(outcome.err, "cannot write file/out: Not a directory");
}

}  // namespace
}  // namespace batchlmm::tests
