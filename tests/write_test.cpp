#include "host/data/write.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <random>
#include <stdexcept>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "tests/temporary_folder.hpp"

namespace batchlmm {
namespace {

using testing::content_of;
using testing::TemporaryFolder;

const std::vector<OutputColumn> kColumns = {
    {"replicate", OutputType::int64}, {"statistic", OutputType::float64}, {"status", OutputType::text}};

struct Rows {
  std::vector<std::int64_t> replicate;
  std::vector<double> statistic;
  std::vector<std::string> status;
};

Rows make_rows(std::size_t n) {
  std::mt19937_64 random(42);
  std::exponential_distribution<double> exponential(1);
  Rows rows;
  for (std::size_t i = 0; i < n; ++i) {
    rows.replicate.push_back(static_cast<std::int64_t>(i));
    rows.statistic.push_back(i % 11 == 10 ? NAN : exponential(random));
    rows.status.push_back(i % 11 == 10 ? "not converged" : "converged");
  }
  return rows;
}

void append(TableWriter& writer, const Rows& rows, std::size_t begin, std::size_t n) {
  const std::vector<OutputValues> values = {std::span(rows.replicate).subspan(begin, n),
                                            std::span(rows.statistic).subspan(begin, n),
                                            std::span(rows.status).subspan(begin, n)};
  writer.append(values);
}

std::string error_of(const std::string& path) {
  try {
    TableWriter writer(path, kColumns);
    return "no error";
  } catch (const OutputError& e) {
    const std::string message = e.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
}

class WriteFormat : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Endings, WriteFormat, ::testing::Values("parquet", "csv", "arrow"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(WriteFormat, ReadsBackBitForBit) {
  const TemporaryFolder folder;
  const std::string path = folder / (std::string("t.") + GetParam());
  const Rows rows = make_rows(150000);

  TableWriter writer(path, kColumns);
  append(writer, rows, 0, rows.replicate.size());
  writer.close();

  const Table table = read_table(path);
  ASSERT_EQ(table.rows, rows.replicate.size());
  const auto& replicate = std::get<Numeric>(table.at("replicate").data);
  const auto& statistic = std::get<Numeric>(table.at("statistic").data);
  const auto& status = std::get<Factor>(table.at("status").data);
  for (std::size_t i = 0; i < table.rows; ++i) {
    ASSERT_EQ(replicate[i], static_cast<double>(rows.replicate[i]));
    ASSERT_TRUE(statistic[i] == rows.statistic[i] || (std::isnan(statistic[i]) && std::isnan(rows.statistic[i]))) << i;
    ASSERT_EQ(status.levels[static_cast<std::size_t>(status.codes[i])], rows.status[i]);
  }
}

TEST_P(WriteFormat, BytesDoNotDependOnTheBatches) {
  const TemporaryFolder folder;
  const std::string ending = std::string(".") + GetParam();
  const Rows rows = make_rows(140000);
  const auto write = [&](const std::string& name, std::size_t batch) {
    TableWriter writer(folder / (name + ending), kColumns);
    for (std::size_t begin = 0; begin < rows.replicate.size(); begin += batch)
      append(writer, rows, begin, std::min(batch, rows.replicate.size() - begin));
    writer.close();
    return content_of(folder / (name + ending));
  };

  const std::string whole = write("whole", 140000);

  EXPECT_GT(whole.size(), 1000000U);
  EXPECT_TRUE(write("odd", 977) == whole);
  EXPECT_TRUE(write("groups", 65536) == whole);
  EXPECT_TRUE(write("again", 140000) == whole);
}

TEST_P(WriteFormat, WithoutRowsGivesAFileWithColumns) {
  const TemporaryFolder folder;
  const std::string path = folder / (std::string("t.") + GetParam());

  TableWriter(path, kColumns).close();

  try {
    static_cast<void>(read_table(path));
    FAIL() << "a table without rows";
  } catch (const DataError& e) {
    EXPECT_EQ(std::string(e.what()), path + " has column names but no rows of data");
  }
}

TEST_P(WriteFormat, WithoutCloseNothingIsLeft) {
  const TemporaryFolder folder;
  const std::string path = folder.file(std::string("t.") + GetParam(), "earlier");
  const Rows rows = make_rows(70000);

  {
    TableWriter writer(path, kColumns);
    append(writer, rows, 0, 70000);
    EXPECT_EQ(folder.count(), 2);
    EXPECT_EQ(content_of(path), "earlier");
  }

  EXPECT_EQ(folder.count(), 1);
  EXPECT_EQ(content_of(path), "earlier");
}

TEST_P(WriteFormat, CloseReplacesAnEarlierFile) {
  const TemporaryFolder folder;
  const std::string path = folder.file(std::string("t.") + GetParam(), "earlier");
  const Rows rows = make_rows(3);

  TableWriter writer(path, kColumns);
  append(writer, rows, 0, 3);
  writer.close();
  writer.close();

  EXPECT_EQ(folder.count(), 1);
  EXPECT_EQ(read_table(path).rows, 3U);
}

TEST_P(WriteFormat, DiskThatIsFull) {
  const TemporaryFolder folder;
  const std::string path = folder / (std::string("t.") + GetParam());
  const Rows rows = make_rows(140000);
  // A limit on the size of files stands for a full disk: writing past it fails with EFBIG.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limit = before;
  limit.rlim_cur = 100000;

  std::string message = "no error";
  try {
    TableWriter writer(path, kColumns);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    append(writer, rows, 0, 140000);
    writer.close();
  } catch (const OutputError& e) {
    message = e.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);

  EXPECT_EQ(message, "cannot write " + path + ": File too large");
  EXPECT_EQ(folder.count(), 0);
}

TEST(Write, CsvAsText) {
  const TemporaryFolder folder;
  TableWriter writer(folder / "t.csv", kColumns);
  const std::vector<std::int64_t> replicate = {0, 1, 2, 9007199254740993};
  const std::vector<double> statistic = {0.1, NAN, -INFINITY, 1e-300};
  const std::vector<std::string> status = {"converged", "failed, \"badly\"", "", "converged"};

  writer.append(std::vector<OutputValues>{std::span(replicate), std::span(statistic), std::span(status)});
  writer.close();

  EXPECT_EQ(content_of(folder / "t.csv"),
            "\"replicate\",\"statistic\",\"status\"\n"
            "0,0.1,\"converged\"\n"
            "1,NA,\"failed, \"\"badly\"\"\"\n"
            "2,-inf,\"\"\n"
            "9007199254740993,1e-300,\"converged\"\n");
}

TEST(Write, PathsThatCannotBeWritten) {
  const TemporaryFolder folder;
  const std::string absent = folder / "absent/t.csv";
  const std::string directory = folder / "dir.csv";
  ASSERT_EQ(::mkdir(directory.c_str(), 0700), 0);

  EXPECT_EQ(error_of(absent), "cannot write " + absent + ": No such file or directory");
  EXPECT_EQ(error_of(directory), "cannot write " + directory + ": it is a directory");
  EXPECT_EQ(error_of("/proc/t.parquet"), "cannot write /proc/t.parquet: No such file or directory");
  EXPECT_EQ(folder.count(), 1);
}

TEST(Write, PathsWithoutPermission) {
  const TemporaryFolder folder;
  const std::string existing = folder.file("existing.csv", "earlier");
  ASSERT_EQ(::chmod(existing.c_str(), 0444), 0);

  std::string message_new;
  std::string message_existing;
  {
    ASSERT_EQ(::chmod((folder / ".").c_str(), 0555), 0);
    const testing::WithoutPrivileges rights;
    if (!rights.hold()) GTEST_SKIP() << "the superuser's rights cannot be given up here";
    message_new = error_of(folder / "new.csv");
    message_existing = error_of(existing);
  }
  ASSERT_EQ(::chmod((folder / ".").c_str(), 0755), 0);

  EXPECT_EQ(message_new, "cannot write " + (folder / "new.csv") + ": Permission denied");
  EXPECT_EQ(message_existing, "cannot write " + existing + ": Permission denied");
  EXPECT_EQ(folder.count(), 1);
}

TEST(Write, UnknownEndingNamesTheKnown) {
  const TemporaryFolder folder;

  EXPECT_EQ(error_of(folder / "t.txt"),
            "cannot write " + (folder / "t.txt") + ": its name must end in .parquet, .csv or .arrow");
  EXPECT_EQ(error_of(folder / "t"),
            "cannot write " + (folder / "t") + ": its name must end in .parquet, .csv or .arrow");
  EXPECT_EQ(folder.count(), 0);
}

TEST(Write, ThroughASymbolicLink) {
  const TemporaryFolder folder;
  const std::string target = folder.file("target.csv", "earlier");
  ASSERT_EQ(::symlink(target.c_str(), (folder / "link.csv").c_str()), 0);

  TableWriter(folder / "link.csv", kColumns).close();

  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link.csv"));
  EXPECT_EQ(content_of(target), "\"replicate\",\"statistic\",\"status\"\n");
}

TEST(Write, RefusesValuesThatDoNotFitTheColumns) {
  const TemporaryFolder folder;
  const Rows rows = make_rows(3);
  const std::span replicate(rows.replicate);
  const std::span statistic(rows.statistic);
  const std::span status(rows.status);
  TableWriter writer(folder / "t.csv", kColumns);
  using Values = std::vector<OutputValues>;

  EXPECT_THROW(writer.append(Values{replicate, statistic}), std::invalid_argument);
  EXPECT_THROW(writer.append(Values{replicate, statistic, statistic}), std::invalid_argument);
  EXPECT_THROW(writer.append(Values{replicate, statistic.first(2), status}), std::invalid_argument);
  writer.close();
  EXPECT_THROW(writer.append(Values{replicate, statistic, status}), std::invalid_argument);
  EXPECT_THROW(TableWriter(folder / "u.csv", {{"x"}, {"x"}}), std::invalid_argument);
  EXPECT_EQ(folder.count(), 1);
}

}  // namespace
}  // namespace batchlmm
