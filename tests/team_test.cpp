// Replicates fitted by teams (kernels/team_fit.hpp): whatever the number of members, every result has the bits of the
// CPU's tiles. Members take turns on one thread here; the build with a thread sanitizer (CMake preset `tsan`) runs them
// as threads and says that no member reads what another is writing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>

#include "kernels/cpu.hpp"
#include "kernels/device_run.hpp"
#include "tests/bootstrap_cases.hpp"
#include "tests/host_device.hpp"

namespace batchlmm {
namespace {

using kernels::Mapping;
using oracle::BootstrapCase;
using oracle::Dropped;
using oracle::HostDevice;
using oracle::Kind;
using oracle::ResultArrays;
using oracle::streaming_job;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif
constexpr int team_sizes[] = {2, 3, 4, 7};

/// Two teams of so many members, which take turns in this order; threads of their own where a sanitizer looks at them.
HostDevice device_of(int members, int order = 0) {
  HostDevice device;
  device.threads = 2;
  device.members = members;
  device.order = order;
  device.threads_as_members = sanitized;
  return device;
}

struct ChunkArrays {
  ChunkArrays(const kernels::BootstrapJob& job, std::uint64_t first, std::uint64_t n)
      : null(*job.null, n), full(*job.full, n) {
    chunk.first = first;
    chunk.count = n;
    chunk.null = null.pointers();
    chunk.full = full.pointers();
  }
  ResultArrays null, full;
  kernels::BootstrapChunk chunk;
};

/// Fits per launch that were made by teams: of the two models those that have a text for them.
int models_of_teams(const kernels::BootstrapJob& job) {
  return (kernels::has_team_text(*job.null) ? 1 : 0) + (kernels::has_team_text(*job.full) ? 1 : 0);
}
Mapping team_or_thread(const kernels::Shape& s, Mapping mapping) {
  return kernels::has_team_text(s) ? mapping : Mapping::thread;
}
kernels::StreamingWork by_teams(const kernels::BootstrapJob& job, Mapping mapping) {
  return kernels::StreamingWork(job, team_or_thread(*job.null, mapping), team_or_thread(*job.full, mapping));
}

TEST(Team, BootstrapHasTheBitsOfTheTiles) {
  int turn = 0, by_team = 0;
  for (const BootstrapCase& c : oracle::bootstrap_cases()) {
    // Arrange: each case with one size of team, one order and one mapping, whose share of fast memory differs.
    const int members = team_sizes[turn % 4];
    const Mapping mapping = turn % 3 == 0 ? Mapping::lanes : turn % 3 == 1 ? Mapping::warp : Mapping::block;
    ++turn;
    SCOPED_TRACE(c.name + ", team of " + std::to_string(members));
    constexpr std::uint64_t first = (std::uint64_t{1} << 40) + 5, count = sanitized ? 2 : 8;
    kernels::BootstrapJob job = streaming_job(*c.bootstrap);
    job.parameters = true;
    ChunkArrays teams(job, first, count), tiles(job, first, count);
    HostDevice device = device_of(members, turn);

    // Act
    kernels::run_replicates(device, by_teams(job, mapping), teams.chunk);
    kernels::cpu_kernels().bootstrap(job, tiles.chunk);

    // Assert
    EXPECT_EQ(device.team_fits, models_of_teams(job));
    by_team += device.team_fits;
    EXPECT_EQ(oracle::differing_items(teams.null, tiles.null), 0u);
    EXPECT_EQ(oracle::differing_items(teams.full, tiles.full), 0u);
  }
  EXPECT_GT(by_team, turn / 2);
}

TEST(Team, MembersMayBeThreads) {
  // Arrange
  const BootstrapCase c(Kind::single, 2, 10, Dropped::fixed_effect);
  kernels::BootstrapJob job = streaming_job(*c.bootstrap);
  job.parameters = true;
  ChunkArrays teams(job, 7, 1), tiles(job, 7, 1);
  HostDevice device = device_of(2);
  device.threads_as_members = true;

  // Act
  kernels::run_replicates(device, by_teams(job, Mapping::warp), teams.chunk);
  kernels::cpu_kernels().bootstrap(job, tiles.chunk);

  // Assert
  EXPECT_EQ(device.team_fits, 2);
  EXPECT_EQ(oracle::differing_items(teams.null, tiles.null), 0u);
  EXPECT_EQ(oracle::differing_items(teams.full, tiles.full), 0u);
}

TEST(Team, OneMemberIsATeam) {
  for (const BootstrapCase& c : oracle::bootstrap_cases()) {
    SCOPED_TRACE(c.name);
    // Arrange
    constexpr std::uint64_t count = 40;
    const kernels::BootstrapJob& job = streaming_job(*c.bootstrap);
    ChunkArrays teams(job, 0, count), tiles(job, 0, count);
    HostDevice device = device_of(1);

    // Act
    kernels::run_replicates(device, by_teams(job, Mapping::warp), teams.chunk);
    kernels::cpu_kernels().bootstrap(job, tiles.chunk);

    // Assert
    EXPECT_EQ(oracle::differing_items(teams.null, tiles.null), 0u);
    EXPECT_EQ(oracle::differing_items(teams.full, tiles.full), 0u);
  }
}

class TeamFits : public testing::TestWithParam<std::tuple<Kind, int, Method>> {};

TEST_P(TeamFits, HaveTheBitsOfTheTiles) {
  // Arrange: responses of two designs of one shape, some of which cannot be fitted, from several starting points.
  const auto [kind, k, method] = GetParam();
  const auto matrices = oracle::random_model(kind, k, 3);
  const auto other = std::make_shared<ModelMatrices>(*matrices);
  other->X.rightCols(other->X.cols() - 1).array() += 0.3 * other->y.array().replicate(1, other->X.cols() - 1);
  const Model model(matrices, method), second(other, method);
  const kernels::Design<double> designs[] = {model.design(), second.design()};
  const kernels::Shape& s = model.shape();
  if (!kernels::has_team_text(s)) GTEST_SKIP() << "a shape with a text for one thread";
  constexpr int items = sanitized ? 4 : 7;
  std::mt19937_64 rng(4);
  std::normal_distribution<double> normal;
  std::vector<double> response, start(s.lambdas, 0.0);
  std::vector<int> design_of;
  for (int b = 0; b < s.terms; ++b)
    for (int q = 0; q < s.term[b].k; ++q) start[s.term[b].lambda + q * (s.term[b].k + 1)] = 0.5;
  start.resize(2 * start.size(), 0.0);  // the second starting point is singular
  for (int i = 0; i < items; ++i) {
    design_of.push_back(i % 2);
    Eigen::VectorXd y = matrices->y;
    // Little or no effect of the levels: singular fits.
    if (i % 3 == 0) y.setZero();
    for (Eigen::Index r = 0; r < y.size(); ++r) y[r] += normal(rng);
    if (i == 1) y.setZero();
    const std::vector<double> one = (i % 2 == 1 ? second : model).response(y);
    response.insert(response.end(), one.begin(), one.end());
  }
  response[2 * static_cast<std::size_t>(s.response) + 1] = std::numeric_limits<double>::quiet_NaN();
  kernels::FitJob job;
  job.shape = &s;
  job.design = designs;
  job.design_of = design_of.data();
  job.items = items;
  job.response = response.data();
  job.first_start = job.starts = start.data();
  job.options.starts = 2;
  job.parameters = true;
  ResultArrays tiles(s, items);
  job.results = tiles.pointers();
  kernels::cpu_kernels().fit(job);

  for (int members : team_sizes) {
    SCOPED_TRACE(members);
    if (sanitized && members == 7) continue;
    ResultArrays teams(s, items);
    HostDevice device = device_of(members, members / 2);

    // Act
    job.results = teams.pointers();
    kernels::run_fits(device, job, members % 2 == 0 ? Mapping::block : Mapping::lanes);

    // Assert
    EXPECT_EQ(device.team_fits, 1);
    EXPECT_EQ(oracle::differing_items(teams, tiles), 0u);
    EXPECT_EQ(teams.status[1], kernels::fit_not_positive_definite);
    EXPECT_EQ(teams.status[2], kernels::fit_non_finite);
  }
  const auto used = std::count_if(tiles.status.begin(), tiles.status.end(), [](auto status) { return status <= 1; });
  EXPECT_GE(used, items - 3);
}

INSTANTIATE_TEST_SUITE_P(Models, TeamFits,
                         testing::Combine(testing::Values(Kind::single, Kind::nested, Kind::crossed,
                                                          Kind::nested_and_crossed, Kind::deep, Kind::same_factor),
                                          testing::Values(1, 2, 3), testing::Values(Method::ml, Method::reml)));

TEST(Team, LittleMemoryMeansFewerTeams) {
  // Arrange
  const BootstrapCase c(Kind::deep, 2, 5, Dropped::fixed_effect);
  const kernels::BootstrapJob& job = streaming_job(*c.bootstrap);
  const kernels::StreamingWork work = by_teams(job, Mapping::warp);
  ChunkArrays all(job, 1000, 30), few(job, 1000, 30);
  const kernels::MemoryNeed need = kernels::memory_need(work, all.chunk.null, all.chunk.full);
  HostDevice roomy = device_of(2), small = device_of(2);
  small.bytes = need.fixed + need.thread + 7 * need.item;

  // Act
  kernels::run_replicates(roomy, work, all.chunk);
  kernels::run_replicates(small, work, few.chunk);

  // Assert
  EXPECT_EQ(roomy.team_fits, 2);
  EXPECT_GT(small.team_fits, 2);
  EXPECT_EQ(oracle::differing_items(all.full, few.full), 0u);
  EXPECT_EQ(oracle::differing_items(all.null, few.null), 0u);
}

TEST(Team, SmallArraysAreFastBeforeLargeOnes) {
  // Arrange
  const Model model(oracle::random_model(Kind::nested_and_crossed, 2, 3), Method::ml);
  const kernels::Shape& s = model.shape();

  // Act
  const kernels::TeamMemory none = kernels::team_memory(s, std::size_t{0}),
                            some = kernels::team_memory(s, Mapping::lanes),
                            all = kernels::team_memory(s, std::size_t{1} << 30);

  // Assert: what is gone through once an evaluation never takes fast memory, and nothing is lost.
  EXPECT_EQ(none.fast, 0u);
  EXPECT_LE(some.fast, kernels::limits_of(Mapping::lanes).on_chip / 8 + 15);
  EXPECT_GT(some.fast, 0u);
  EXPECT_GE(all.slow, static_cast<std::size_t>(s.nodes[0]) * s.own[0] * (s.columns() + s.own[0]));
  EXPECT_NEAR(static_cast<double>(some.fast + some.slow), static_cast<double>(none.slow), 32);
  EXPECT_NEAR(static_cast<double>(all.fast + all.slow), static_cast<double>(none.slow), 32);
}

TEST(Mapping, FollowsTheTableUnlessTheEnvironmentSaysOtherwise) {
  // Arrange
  const auto shape_of = [](Kind kind, int k) { return Model(oracle::random_model(kind, k, 3), Method::ml).shape(); };
  const kernels::Shape small = shape_of(Kind::single, 2), crossed = shape_of(Kind::crossed, 3),
                       special = shape_of(Kind::crossed, 1);
  ASSERT_EQ(kernels::text_kind(special), kernels::TextKind::crossed_intercepts);
  unsetenv("BATCHLMM_MAPPING");

  // Act, Assert
  EXPECT_EQ(kernels::mapping_of(small), Mapping::thread);
  EXPECT_GT(crossed.columns(), 8);
  EXPECT_EQ(kernels::mapping_of(special), Mapping::thread);
  for (const kernels::MappingLimits& row : kernels::mapping_table) {
    setenv("BATCHLMM_MAPPING", row.name, 1);
    EXPECT_EQ(kernels::mapping_of(small), row.mapping);
    EXPECT_EQ(kernels::mapping_of(crossed), row.mapping);
    EXPECT_EQ(kernels::mapping_of(special), Mapping::thread);
  }
  setenv("BATCHLMM_MAPPING", "fast", 1);
  EXPECT_THROW((void)kernels::mapping_of(small), InputError);
  unsetenv("BATCHLMM_MAPPING");
}

TEST(Mapping, LargerShapesTakeLargerTeams) {
  // Arrange: crossed factors with slopes, the second of more and more levels.
  Mapping before = Mapping::thread;
  std::vector<Mapping> met;
  for (int levels : {2, 3, 4, 6, 10, 16, 30, 60}) {
    auto m = std::make_shared<ModelMatrices>();
    const int n = 40 * levels;
    std::mt19937_64 rng(1);
    std::normal_distribution<double> normal;
    m->formula = "crossed";
    m->X = Eigen::MatrixXd::Ones(n, 1);
    m->offset = Eigen::VectorXd::Zero(n);
    m->y = Eigen::VectorXd::NullaryExpr(n, [&] { return normal(rng); });
    for (int i = 0; i < n; ++i) m->rows.push_back(static_cast<std::size_t>(i));
    for (int term = 0; term < 2; ++term) {
      RandomTerm t;
      const int count = term == 0 ? 70 : levels;
      t.group = term == 0 ? "a" : "b";
      for (int l = 0; l < count; ++l) t.levels.push_back(std::to_string(l));
      for (int i = 0; i < n; ++i) t.level_of_row.push_back(term == 0 ? i % count : (i / 3) % count);
      t.z = Eigen::MatrixXd::Ones(n, 3);
      for (int i = 0; i < n; ++i) t.z(i, 1) = normal(rng), t.z(i, 2) = normal(rng);
      t.names = {"1", "x", "z"};
      m->random.push_back(std::move(t));
    }

    // Act
    const Mapping mapping = kernels::mapping_by_table(Model(m, Method::ml).shape());

    // Assert
    EXPECT_GE(mapping, before) << levels;
    before = mapping;
    met.push_back(mapping);
  }
  EXPECT_EQ(met.front(), Mapping::thread);
  EXPECT_EQ(met.back(), Mapping::block);
  EXPECT_GT(std::count(met.begin(), met.end(), Mapping::warp), 0);
}

}  // namespace
}  // namespace batchlmm
