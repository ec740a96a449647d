// What memory there is, by whichever limit is the narrowest, and the error that says so.
#include "host/model/memory.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batchlmm/error.hpp"
#include "host/model/model.hpp"
#include "tests/temporary_folder.hpp"

namespace batchlmm {
namespace {

constexpr double mib = 1 << 20;

/// /proc and /sys of a machine that does not exist.
struct Machine : testing::TemporaryFolder {
  void write(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories(std::filesystem::path(*this / name).parent_path());
    (void)file(name, content);
  }
  [[nodiscard]] std::filesystem::path root() const { return *this / ""; }
};

TEST(AvailableMemory, IsWhatTheMachineHasWithoutLimits) {
  Machine machine;
  machine.write("proc/meminfo", "MemTotal: 9999999 kB\nMemFree: 5 kB\nMemAvailable:  307200 kB\n");

  EXPECT_EQ(available_memory(machine.root()), 300 * mib);
}

TEST(AvailableMemory, IsWhatControlGroupsLeave) {
  Machine machine;
  machine.write("proc/meminfo", "MemAvailable: 30720000 kB\n");
  machine.write("proc/self/cgroup", "0::/jobs/one\n");
  machine.write("sys/fs/cgroup/jobs/one/memory.max", "max\n");
  machine.write("sys/fs/cgroup/jobs/one/memory.current", "1\n");
  machine.write("sys/fs/cgroup/jobs/memory.max", std::to_string(std::size_t{500} << 20) + "\n");
  machine.write("sys/fs/cgroup/jobs/memory.current", std::to_string(std::size_t{200} << 20) + "\n");
  machine.write("sys/fs/cgroup/jobs/memory.stat", "anon 1\ninactive_file " + std::to_string(50 << 20) + "\n");

  // The parent's limit, less what is used, and the page cache that can be given back.
  EXPECT_EQ(available_memory(machine.root()), 350 * mib);
}

TEST(AvailableMemory, KnowsTheFirstVersionOfControlGroupsAndItsRootInAContainer) {
  Machine machine;
  machine.write("proc/meminfo", "MemAvailable: 30720000 kB\n");
  machine.write("proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/outside/of/the/container\n");
  machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", std::to_string(std::size_t{64} << 20) + "\n");
  machine.write("sys/fs/cgroup/memory/memory.usage_in_bytes", std::to_string(std::size_t{14} << 20) + "\n");
  machine.write("sys/fs/cgroup/memory/memory.stat", "cache 5\ntotal_inactive_file 0\n");

  EXPECT_EQ(available_memory(machine.root()), 50 * mib);
}

TEST(AvailableMemory, IsKnownOnThisMachine) {
  EXPECT_GT(available_memory(), 16 * mib);
  EXPECT_LT(available_memory(), 1e15);
}

#if !defined(__SANITIZE_ADDRESS__)  // reserves terabytes of address space itself
TEST(AvailableMemory, RespectsTheLimitOnAddressSpace) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const rlimit limit{std::size_t{600} << 20, std::size_t{600} << 20};
    _exit(setrlimit(RLIMIT_AS, &limit) == 0 && available_memory() < 600 * mib ? 0 : 1);
  }
  int status = 1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}
#endif

TEST(FormatBytes, RoundsUpToWhatFits) {
  EXPECT_EQ(format_bytes(12), "12 bytes");
  EXPECT_EQ(format_bytes(1.5 * mib), "1.5 MiB");
  EXPECT_EQ(format_bytes(310 * mib), "310 MiB");
  EXPECT_EQ(format_bytes(1001 * mib), "1.0 GiB");
  EXPECT_EQ(format_bytes(12.3 * 1024 * mib), "13 GiB");
}

TEST(RequireMemory, SaysWhatIsNeededAndWhatThereIs) {
  EXPECT_NO_THROW(require_memory(20 * mib, "a test"));
  try {
    require_memory(1e17, "the bootstrap on 8 threads");
    FAIL() << "1e17 bytes were granted";
  } catch (const ModelError& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("the bootstrap on 8 threads needs 89 PiB of memory; available"))
        << error.what();
  }
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(RequireMemory, AModelThatDoesNotFitIsRefusedBeforeItIsAssembled) {
  // The constants of the streamed levels take levels x (columns of the crossed factor and X) doubles: 694 MiB.
  auto m = std::make_shared<ModelMatrices>();
  const int levels = 300'000, crossed = 300, rows = levels + crossed;
  m->formula = "y ~ 1 + (1 | many) + (1 | crossed)";
  m->y = Eigen::VectorXd::LinSpaced(rows, 0, 1);
  m->offset = Eigen::VectorXd::Zero(rows);
  m->X = Eigen::MatrixXd::Ones(rows, 1);
  m->x_names = {"(Intercept)"};
  m->random.resize(2);
  for (int t = 0; t < 2; ++t) {
    RandomTerm& term = m->random[t];
    term.names = {"(Intercept)"};
    term.z = Eigen::MatrixXd::Ones(rows, 1);
    term.levels.resize(t == 0 ? levels : crossed);
    for (int i = 0; i < rows; ++i) term.level_of_row.push_back(t == 0 ? i % levels : (i + i / levels) % crossed);
  }
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
  const rlimit limit{std::size_t{600} << 20, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);

  std::string message;
  try {
    const Model model(m, Method::ml);
  } catch (const ModelError& error) {
    message = error.what();
  }
  setrlimit(RLIMIT_AS, &before);

  EXPECT_TRUE(
      message.starts_with("the model \"y ~ 1 + (1 | many) + (1 | crossed)\" needs 692 MiB of memory; available"))
      << message;
}
#endif

}  // namespace
}  // namespace batchlmm
