// `batchlmm study` and `merge` where something fails: a full disk, a folder that cannot be written, a study that has
// changed since, shards that are missing.
#include <sys/resource.h>

#include "tests/cli_run.hpp"

namespace batchlmm::tests {
namespace {

/// 2 cells of 300 replicates: ten shards.
const std::string study_text = R"toml([study]
seed = 5
replicates = 300
[design]
kind = "crossed"
units = { subject = 6, item = 4 }
[design.factors.c]
levels = ["A", "B"]
codes = [-0.5, 0.5]
[truth]
formula = "y ~ c + (1 | subject) + (1 | item)"
sigma = 1
beta = { "(Intercept)" = 0, c = 0.3 }
[truth.random]
subject.sd = { "(Intercept)" = 1 }
item.sd = { "(Intercept)" = 0.7 }
[models.full]
formula = "y ~ c + (1 | subject) + (1 | item)"
[tests.z]
kind = "wald"
model = "full"
contrast = "c"
[grid]
"truth.beta.c" = [0, 0.3]
)toml";

class StudyFailure : public Cli {
protected:
  void SetUp() override {
    Cli::SetUp();
    write("s.toml", study_text);
  }
  void write(const std::string& name, const std::string& text) const { std::ofstream(work() / name) << text; }
  /// What fails: exit code 2, one line, nothing on standard output. @return the line
  [[nodiscard]] std::string failed(const Strings& arguments) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.err << outcome.out;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    return outcome.err;
  }
  /// The same where no file may be longer than `bytes`: that stands for a full disk.
  [[nodiscard]] std::string failed_within(rlim_t bytes, const Strings& arguments) const {
    rlimit before{};
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    rlimit limit = before;
    limit.rlim_cur = bytes;
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    std::string err = failed(arguments);
    ::setrlimit(RLIMIT_FSIZE, &before);
    return err;
  }
  [[nodiscard]] std::string cells(const std::string& folder) const {
    return contents(work() / folder / "cells.parquet");
  }
  /// Files in a folder and below, less whole shards.
  [[nodiscard]] Strings files(const std::string& folder) const {
    Strings out;
    for (const auto& entry : fs::recursive_directory_iterator(work() / folder))
      if (entry.is_regular_file() && entry.path().extension() != ".bin")
        out.push_back(fs::relative(entry.path(), work() / folder));
    std::sort(out.begin(), out.end());
    return out;
  }
};

TEST_F(StudyFailure, AFileThatCannotBeWrittenIsToldAndTheSameCommandGoesOn) {
  good({"study", "s.toml", "--out", "whole", "--keep"});
  const auto size = [&](const char* name) { return static_cast<rlim_t>(fs::file_size(work() / "whole" / name)); };
  const rlim_t shard = size("shards/shard-0000000.bin"), part = size("replicates/part-0000000.parquet"),
               table = size("cells.parquet"), page = size("report.html");
  ASSERT_LT(study_text.size(), shard);
  ASSERT_LT(shard, table);
  ASSERT_LT(table, part);
  ASSERT_LT(table, page);
  struct Case {
    rlim_t bytes;
    bool keep;
    std::string name;
    Strings left;
  };
  const std::vector<Case> cases{
      {100, false, "study.toml", {}},
      {shard - 1, false, "shards/shard-0000000.bin", {"study.toml"}},
      {part - 1, true, "replicates/part-0000000.parquet", {"study.toml"}},
      {table - 1, false, "cells.parquet", {"study.toml"}},
      {page - 1, false, "report.html", {"study.toml"}},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    const std::string out = "out" + std::to_string(one.bytes);
    Strings arguments{"study", "s.toml", "--out", out, "--threads", "1"};
    if (one.keep) arguments.emplace_back("--keep");

    const std::string err = failed_within(one.bytes, arguments);
    const Strings left = files(out);
    good(arguments);

    EXPECT_TRUE(err.starts_with("batchlmm: cannot write " + out + "/" + one.name + ": File too large")) << err;
    EXPECT_EQ(left, one.left);
    EXPECT_EQ(cells(out), cells("whole"));
    for (const char* name : {"report.html", "manifest.json"}) EXPECT_TRUE(fs::exists(work() / out / name)) << name;
  }
}

// On a real file system of 64 KiB, where the system lets a user mount one in a name space of its own.
TEST_F(StudyFailure, ADiskThatIsFullIsToldAndTheSameCommandGoesOn) {
  fs::create_directory(work() / "disk");
  const auto mounted = [&](const std::string& script) {
    const std::string command = "cd " + quoted(work().string()) +
                                " && unshare -r -m sh -c 'mount -t tmpfs -o size=64k tmpfs disk && { " + script +
                                "; }' >/dev/null 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  if (mounted("true") != 0) GTEST_SKIP() << "no name space to mount a small file system in";
  write("s.toml", std::string(study_text).replace(study_text.find("300"), 3, "2000"));
  good({"study", "s.toml", "--out", "whole"});
  // What was there as the disk was full; then there is room.
  ASSERT_EQ(
      mounted(std::string(BATCHLMM_CLI) + " study s.toml --out disk/out >out.txt 2>full.txt; echo $? >code.txt; " +
              "ls -A disk/out >left.txt; ls -A disk/out/shards | grep -c part >parts.txt; " +
              "mount -o remount,size=8m disk && " + BATCHLMM_CLI +
              " study s.toml --out disk/out >again.txt && cp disk/out/cells.parquet cells.parquet"),
      0);

  const std::string err = contents(work() / "full.txt");
  EXPECT_TRUE(err.starts_with("batchlmm: cannot write disk/out/shards/shard-")) << err;
  expect_contains(err,
                  ".bin: No space left on device (shards that are written stay: the same command goes on from them)\n");
  EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
  EXPECT_EQ(contents(work() / "code.txt"), "2\n");
  EXPECT_EQ(contents(work() / "left.txt"), "shards\nstudy.toml\n");
  EXPECT_EQ(contents(work() / "parts.txt"), "0\n");
  const std::string again = contents(work() / "again.txt");
  EXPECT_EQ(again.find(" 0 found"), std::string::npos) << again;
  EXPECT_EQ(contents(work() / "cells.parquet"), cells("whole"));
}

TEST_F(StudyFailure, AFolderThatCannotBeUsedIsToldBeforeAnyWork) {
  write("file", "x");
  fs::create_directories(work() / "taken" / "cells.parquet");
  write("taken/study.toml", study_text);
  fs::create_directories(work() / "half");
  write("half/shards", "x");
  const auto told = [&](const std::string& out, const std::string& what) {
    EXPECT_EQ(failed({"study", "s.toml", "--out", out}), "batchlmm: cannot write " + what + "\n");
  };

  told("file", "file: Not a directory");
  told("file/out", "file/out: Not a directory");
  told("half", "half/shards: Not a directory");
  told("taken", "taken/cells.parquet: it is a directory");
  told("/proc/none", "/proc/none: No such file or directory");
  EXPECT_EQ(files("taken"), Strings{"study.toml"});
  EXPECT_EQ(contents(work() / "file"), "x");
  // A folder whose parent is missing is made with it.
  good({"study", "s.toml", "--out", "new/folder/out"});
}

TEST_F(StudyFailure, AChangedStudyIsToldByItsLine) {
  good({"study", "s.toml", "--out", "out"});
  const std::string before = cells("out");
  write("s.toml", std::string(study_text).replace(study_text.find("c = 0.3"), 7, "c = 0.4"));

  const std::string changed = failed({"study", "s.toml", "--out", "out"});
  write("s.toml", study_text + "[response]\nerrors = { t = 5 }\n");
  const std::string longer = failed({"study", "s.toml", "--out", "out"});

  expect_contains(changed,
                  "--out out: expected results of this study, found those of another: its study.toml differs from the "
                  "study file: line 13 is 'beta = { \"(Intercept)\" = 0, c = 0.3 }' there, 'beta = { \"(Intercept)\" = "
                  "0, c = 0.4 }' here\n");
  expect_contains(longer, ": line 25 is not there, '[response]' here\n");
  EXPECT_EQ(cells("out"), before);
}

TEST_F(StudyFailure, AChangedTableIsToldByItsName) {
  std::string table = "g,y\n";
  for (int i = 0; i < 24; ++i) table += std::to_string(i / 4) + "," + std::to_string((i * 7) % 11) + "\n";
  write("pilot.csv", table);
  write("t.toml",
        "[study]\nreplicates = 64\n[design]\nkind = \"table\"\ndata = \"pilot.csv\"\nfactors = [\"g\"]\n[truth]\n"
        "formula = \"y ~ 1 + (1 | g)\"\nsigma = 1\nbeta = { \"(Intercept)\" = 0 }\n"
        "random.g.sd = { \"(Intercept)\" = 1 }\n[models.m]\nformula = \"y ~ 1 + (1 | g)\"\n");
  good({"study", "t.toml", "--out", "out"});
  write("pilot.csv", table + "6,1\n");

  const std::string err = failed({"study", "t.toml", "--out", "out"});

  expect_contains(err,
                  "shard-0000000.bin: expected a shard of this study, found one of another: the table 'pilot.csv' "
                  "has changed since\n");
}

TEST_F(StudyFailure, AFailedMergeLeavesNothing) {
  good({"study", "s.toml", "--out", "one", "--shard", "1/2"});
  good({"study", "s.toml", "--out", "two", "--shard", "2/2"});
  fs::copy(work() / "two", work() / "gap", fs::copy_options::recursive);
  fs::remove(work() / "gap" / "shards" / "shard-0000007.bin");
  std::string other = study_text;
  write("other.toml", other.replace(other.find("seed = 5"), 8, "seed = 6"));
  good({"study", "other.toml", "--out", "other", "--shard", "2/2"});
  good({"study", "s.toml", "--out", "whole"});
  const rlim_t table = fs::file_size(work() / "whole" / "cells.parquet");
  const rlim_t report = fs::file_size(work() / "whole" / "report.html");

  const std::string gap = failed({"merge", "one", "gap", "--out", "new/merged"});
  const std::string mixed = failed({"merge", "one", "other", "--out", "new/merged"});
  const std::string full = failed_within(table - 1, {"merge", "one", "two", "--out", "new/merged"});
  const std::string page = failed_within(report - 1, {"merge", "one", "two", "--out", "new/merged"});
  const bool there = fs::exists(work() / "new");
  const std::string below = failed({"merge", "one", "two", "--out", "s.toml/merged"});
  good({"merge", "one", "two", "--out", "new/merged"});

  expect_contains(gap, "expected all of 10 shards, found 1 missing: 7\n");
  expect_contains(mixed,
                  "other: expected shards of the study of one, found those of another: of its study.toml line 2 "
                  "is 'seed = 6' there, 'seed = 5' here\n");
  expect_contains(full, "cannot write new/merged/cells.parquet: File too large\n");
  expect_contains(page, "cannot write new/merged/report.html: File too large\n");
  EXPECT_FALSE(there);
  expect_contains(below, "cannot write s.toml/merged: Not a directory\n");
  EXPECT_EQ(cells("new/merged"), cells("whole"));
  EXPECT_EQ(files("new/merged"), (Strings{"cells.parquet", "manifest.json", "report.html", "study.toml"}));
}

TEST_F(StudyFailure, AMergeTakesKeptReplicatesOfAllShardsOrNone) {
  good({"study", "s.toml", "--out", "whole", "--keep"});
  good({"study", "s.toml", "--out", "one", "--shard", "1/2", "--keep"});
  good({"study", "s.toml", "--out", "two", "--shard", "2/2"});

  const std::string err = failed({"merge", "one", "two", "--out", "merged"});
  const bool there = fs::exists(work() / "merged");
  good({"study", "s.toml", "--out", "two", "--shard", "2/2", "--keep"});
  good({"merge", "one", "two", "--out", "merged"});

  expect_contains(err, "expected the kept replicates of all shards or of none, found 5 missing: 5 to 9\n");
  EXPECT_FALSE(there);
  for (int k = 0; k < 10; ++k) {
    const std::string part = "replicates/part-000000" + std::to_string(k) + ".parquet";
    ASSERT_FALSE(contents(work() / "whole" / part).empty());
    EXPECT_EQ(contents(work() / "merged" / part), contents(work() / "whole" / part));
  }
}

}  // namespace
}  // namespace batchlmm::tests
