// The shared factorization as a device's threads run it, on the CPU: the bits are those of the CPU's tiles.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/cpu.hpp"
#include "kernels/device_interpolant.hpp"
#include "tests/bootstrap_cases.hpp"
#include "tests/host_device.hpp"
#include "tests/interpolant_cases.hpp"

namespace batchlmm {
namespace {

using oracle::HostDevice;
using oracle::InterpolantCase;
using oracle::InterpolantResults;

void expect_same(const InterpolantResults& a, const InterpolantResults& b, const std::string& what) {
  EXPECT_EQ(a.refused, b.refused) << what;
  EXPECT_EQ(oracle::differing_items(a.null, b.null), 0U) << what;
  EXPECT_EQ(oracle::differing_items(a.full, b.full), 0U) << what;
}

TEST(OneLaneInterpolant, HasTheBitsOfTheTiles) {
  for (const InterpolantCase& c : oracle::interpolant_cases()) {
    SCOPED_TRACE(c.name);
    // Arrange
    constexpr std::uint64_t first = (std::uint64_t{1} << 40) + 5, count = 150;
    HostDevice device;
    InterpolantResults one(c, first, count);

    // Act
    kernels::run_interpolants(device, c.engine->job(), false, one.refused.data(), one.chunk);

    // Assert
    for (const kernels::CpuKernels* k : kernels::all_cpu_kernels()) {
      InterpolantResults tiles(c, first, count);
      k->interpolate(c.engine->job(), {tiles.refused.data(), nullptr, nullptr}, tiles.chunk);
      expect_same(one, tiles, k->name);
    }
    // Else nothing of use was compared.
    EXPECT_LT(std::count(one.refused.begin(), one.refused.end(), 1), 3);
    EXPECT_EQ(std::count(one.null.status.begin(), one.null.status.end(), 99), 0);
  }
}

TEST(OneLaneInterpolant, ParametersAreThoseOfTheEngine) {
  for (const InterpolantCase& c : oracle::interpolant_cases()) {
    SCOPED_TRACE(c.name);
    // Arrange
    InterpolantResults one(c, 1000, 60), there(c, 1000, 60);
    HostDevice device;

    // Act
    kernels::run_interpolants(device, c.engine->job(), true, one.refused.data(), one.chunk);
    c.engine->run({}, true, there.chunk);

    // Assert
    ASSERT_EQ(std::count(one.refused.begin(), one.refused.end(), 1), 0);
    EXPECT_EQ(oracle::differing_items(one.null, there.null), 0U);
    EXPECT_EQ(oracle::differing_items(one.full, there.full), 0U);
    EXPECT_GT(*std::min_element(one.null.r2.begin(), one.null.r2.end()), 0);
  }
}

TEST(OneLaneInterpolant, AnyNumberOfThreadsGivesTheSame) {
  // Arrange: fewer threads than a warp, a warp and a part of one, more than there is work for.
  const InterpolantCase c = oracle::crossed_case();
  InterpolantResults all(c, 7, 101);
  HostDevice device;
  kernels::run_interpolants(device, c.engine->job(), false, all.refused.data(), all.chunk);
  for (const std::size_t threads : {1, 5, 32, 70, 1000}) {
    InterpolantResults some(c, 7, 101);
    HostDevice other;
    other.threads = threads;

    // Act
    kernels::run_interpolants(other, c.engine->job(), false, some.refused.data(), some.chunk);

    // Assert
    expect_same(all, some, std::to_string(threads) + " threads");
  }
}

TEST(OneLaneInterpolant, LittleMemoryMeansPieces) {
  // Arrange
  const InterpolantCase c = oracle::crossed_case();
  const kernels::InterpolantJob& job = c.engine->job();
  InterpolantResults all(c, 500, 203), few(c, 500, 203), refused(c, 500, 203);
  const kernels::MemoryNeed need = kernels::memory_need(job, true, all.chunk.null, all.chunk.full);
  HostDevice roomy, small, refusing;
  small.bytes = need.fixed + 3 * need.thread + 30 * need.item;
  refusing.refused_above = small.bytes;

  // Act
  kernels::run_interpolants(roomy, job, true, all.refused.data(), all.chunk);
  kernels::run_interpolants(small, job, true, few.refused.data(), few.chunk);
  kernels::run_interpolants(refusing, job, true, refused.refused.data(), refused.chunk);

  // Assert: two fits a piece, and two evaluations for the parameters.
  EXPECT_EQ(roomy.fits, 4);
  EXPECT_GT(small.fits, 4 * 4);
  EXPECT_EQ(refusing.fits, small.fits);
  expect_same(all, few, "little memory");
  expect_same(all, refused, "memory refused");
}

TEST(OneLaneInterpolant, ASummaryCountsAllThatAreNotRefused) {
  // Arrange: a box so narrow that some are.
  const auto m = oracle::DesignBuilder(11).cross(40, 24, 0.1).finish(3);
  const auto smaller = oracle::without_last_columns(*m, 1);
  const InterpolantCase test("a narrow box", smaller, m, {0.4, 0.5}, Method::ml, 0.7),
      refit("a narrow box, refit", m, m, {0.4, 0.5}, Method::ml, 0.7);
  for (const InterpolantCase* c : {&test, &refit}) {
    SCOPED_TRACE(c->name);
    const std::uint64_t first = 77, n = 203;
    const bool one_model = c->models.refit();
    InterpolantResults results(*c, first, n);
    std::vector<std::uint8_t> refused(n, 9);
    const kernels::MemoryNeed need =
        kernels::memory_need(c->engine->job(), false, results.chunk.null, results.chunk.full);
    HostDevice roomy, small;
    small.bytes = need.fixed + kernels::statistic_scratch_bytes + 5 * need.thread + 40 * need.item;

    // Act
    kernels::run_interpolants(roomy, c->engine->job(), false, results.refused.data(), results.chunk);
    const kernels::StatisticCounts whole = kernels::run_interpolant_summary(roomy, c->engine->job(), first, n, 0.7,
                                                                            one_model, refused.data()),
                                   pieces = kernels::run_interpolant_summary(small, c->engine->job(), first, n, 0.7,
                                                                             one_model, refused.data());

    // Assert
    kernels::StatisticCounts expected;
    for (std::uint64_t i = 0; i < n; ++i)
      if (results.refused[i] == 0)
        kernels::add_replicate(expected, results.chunk.null, results.chunk.full, i,
                               kernels::outcome(results.chunk.null, results.chunk.full, i), 0.7);
    EXPECT_EQ(refused, results.refused);
    EXPECT_GT(expected.used, n / 4);
    EXPECT_LT(expected.used, n);
    for (const kernels::StatisticCounts* counts : {&whole, &pieces}) {
      EXPECT_EQ(counts->replicates, expected.replicates);
      EXPECT_EQ(counts->used, expected.used);
      EXPECT_EQ(counts->extreme, expected.extreme);
      EXPECT_EQ(counts->zero, expected.zero);
      EXPECT_EQ(counts->singular_null, expected.singular_null);
      EXPECT_EQ(counts->evaluations_null, expected.evaluations_null);
      EXPECT_EQ(counts->evaluations_full, expected.evaluations_full);
      EXPECT_EQ(counts->sum.high, expected.sum.high);
      EXPECT_EQ(counts->sum.low, expected.sum.low);
    }
  }
}

TEST(OneLaneInterpolant, TooLittleMemoryIsAnError) {
  // Arrange
  const InterpolantCase c = oracle::crossed_case();
  InterpolantResults results(c, 0, 10);
  HostDevice device;
  device.bytes = 1000;

  // Act, Assert
  EXPECT_THROW(kernels::run_interpolants(device, c.engine->job(), false, results.refused.data(), results.chunk),
               ComputationError);
}

TEST(OneLaneInterpolant, RefusesWhatTheTilesRefuse) {
  // Arrange: a box that ends 0.7 standard deviations beyond the generating values.
  const auto m = oracle::DesignBuilder(11).cross(40, 24, 0.1).finish(3);
  const InterpolantCase c("a narrow box", oracle::without_last_columns(*m, 1), m, {0.4, 0.5}, Method::ml, 0.7);
  InterpolantResults one(c, 0, 200), tiles(c, 0, 200);
  HostDevice device;

  // Act
  kernels::run_interpolants(device, c.engine->job(), false, one.refused.data(), one.chunk);
  kernels::cpu_kernels().interpolate(c.engine->job(), {tiles.refused.data(), nullptr, nullptr}, tiles.chunk);

  // Assert
  const auto refused = std::count(one.refused.begin(), one.refused.end(), 1);
  EXPECT_GT(refused, 30);
  EXPECT_LT(refused, 140);
  expect_same(one, tiles, "tiles");
}

TEST(OneLaneInterpolant, AResponseThatIsNotFiniteIsRefused) {
  // Arrange
  const InterpolantCase c = oracle::crossed_case();
  kernels::BootstrapJob draws = *c.engine->job().bootstrap;
  draws.sampler.chi_square_degrees = std::numeric_limits<double>::infinity();
  kernels::InterpolantJob job = c.engine->job();
  job.bootstrap = &draws;
  InterpolantResults one(c, 0, 20);
  HostDevice device;

  // Act
  kernels::run_interpolants(device, job, true, one.refused.data(), one.chunk);

  // Assert
  EXPECT_EQ(std::count(one.refused.begin(), one.refused.end(), 1), 20);
}

TEST(OneLaneInterpolant, AChunkFillsTheDeviceWithinItsMemory) {
  // Arrange
  const InterpolantCase c = oracle::crossed_case();
  const kernels::InterpolantJob& job = c.engine->job();
  InterpolantResults results(c, 0, 1);
  const kernels::MemoryNeed need = kernels::memory_need(job, true, results.chunk.null, results.chunk.full);
  HostDevice roomy, small;
  roomy.threads = small.threads = 1000;
  small.bytes = need.fixed + 100 * need.thread;

  // Act
  const std::uint64_t most = kernels::interpolant_chunk_items(roomy, job),
                      few = kernels::interpolant_chunk_items(small, job);

  // Assert
  EXPECT_EQ(most, 16000U);
  EXPECT_GE(few, 64U);
  EXPECT_LT(few, 1600U);
}

}  // namespace
}  // namespace batchlmm
