// The shared factorization on a CUDA device against the CPU's tiles, replicate by replicate: the bits are the same.
#include <gtest/gtest.h>

#include <algorithm>

#include "batchlmm/error.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"
#include "tests/interpolant_cases.hpp"

namespace batchlmm {
namespace {

using oracle::InterpolantCase;
using oracle::InterpolantResults;

class CudaInterpolant : public testing::Test {
protected:
  void SetUp() override {
    const kernels::CudaStatus status = kernels::cuda_status();
    if (!status.usable) GTEST_SKIP() << status.why;
  }
};

TEST_F(CudaInterpolant, HasTheBitsOfTheCpu) {
  for (const InterpolantCase& c : oracle::interpolant_cases()) {
    SCOPED_TRACE(c.name);
    // Arrange
    constexpr std::uint64_t first = (std::uint64_t{1} << 40) + 5, count = 1003;
    InterpolantResults device(c, first, count), host(c, first, count);

    // Act
    kernels::cuda_interpolate(c.engine->job(), false, device.refused.data(), device.chunk);
    kernels::cpu_kernels().interpolate(c.engine->job(), {host.refused.data(), nullptr, nullptr}, host.chunk);

    // Assert
    EXPECT_EQ(device.refused, host.refused);
    EXPECT_EQ(oracle::differing_items(device.null, host.null), 0U);
    EXPECT_EQ(oracle::differing_items(device.full, host.full), 0U);
    EXPECT_LT(std::count(device.refused.begin(), device.refused.end(), 1), 10);
  }
}

TEST_F(CudaInterpolant, TheEngineGivesTheSameOnBothBackends) {
  // A narrow box: the streaming tier fits some of the replicates.
  const auto m = oracle::DesignBuilder(14).cross(40, 24, 0.1).finish(3);
  const InterpolantCase narrow("a narrow box", oracle::without_last_columns(*m, 1), m, {0.2, 0.3}, Method::ml, 2.0);
  const InterpolantCase wide = oracle::crossed_case();
  for (const InterpolantCase* c : {&narrow, &wide}) {
    SCOPED_TRACE(c->name);
    // Arrange
    InterpolantResults device(*c, 3, 700), host(*c, 3, 700);

    // Act
    c->engine->run({true}, true, device.chunk);
    const std::uint64_t fallbacks = c->engine->fallbacks();
    c->engine->run({}, true, host.chunk);

    // Assert
    EXPECT_EQ(oracle::differing_items(device.null, host.null), 0U);
    EXPECT_EQ(oracle::differing_items(device.full, host.full), 0U);
    EXPECT_EQ(c->engine->fallbacks(), 2 * fallbacks);

    // The counts alone.
    const kernels::StatisticCounts counts = c->engine->summarize({true}, 3, 700, 1.0);
    kernels::StatisticCounts expected;
    for (std::uint64_t i = 0; i < 700; ++i)
      kernels::add_replicate(expected, host.chunk.null, host.chunk.full, i,
                             kernels::outcome(host.chunk.null, host.chunk.full, i), 1.0);
    EXPECT_EQ(counts.replicates, 700U);
    EXPECT_EQ(counts.used, expected.used);
    EXPECT_EQ(counts.extreme, expected.extreme);
    EXPECT_EQ(counts.evaluations_full, expected.evaluations_full);
    EXPECT_EQ(counts.sum.high, expected.sum.high);
    EXPECT_EQ(counts.sum.low, expected.sum.low);
    if (c == &narrow) {
      EXPECT_GT(fallbacks, 0U);
    }
  }
}

TEST_F(CudaInterpolant, AFullDeviceGivesWhatSmallChunksGive) {
  // Arrange
  const InterpolantCase c = oracle::crossed_case();
  const std::uint64_t count = kernels::cuda_interpolant_chunk_length(c.engine->job());
  InterpolantResults whole(c, 0, count);

  // Act
  kernels::cuda_interpolate(c.engine->job(), false, whole.refused.data(), whole.chunk);

  // Assert
  EXPECT_GE(count, 64U);
  EXPECT_LT(std::count(whole.refused.begin(), whole.refused.end(), 1), static_cast<std::ptrdiff_t>(count / 100 + 1));
  EXPECT_EQ(std::count(whole.full.status.begin(), whole.full.status.end(), 99), 0);
  for (const std::uint64_t first : {std::uint64_t{0}, count / 2 + 1, count - 33}) {
    InterpolantResults part(c, first, 33);
    kernels::cpu_kernels().interpolate(c.engine->job(), {part.refused.data(), nullptr, nullptr}, part.chunk);
    for (std::uint64_t i = 0; i < 33; ++i) {
      EXPECT_EQ(whole.refused[first + i], part.refused[i]);
      EXPECT_EQ(whole.full.status[first + i], part.full.status[i]);
      EXPECT_EQ(whole.full.deviance[first + i], part.full.deviance[i]);
      EXPECT_EQ(whole.null.deviance[first + i], part.null.deviance[i]);
    }
  }
}

TEST(CudaInterpolantStatus, WithoutADeviceTheEntriesSaySo) {
  const kernels::CudaStatus status = kernels::cuda_status();
  if (status.usable) GTEST_SKIP() << "there is a device: " << status.device;
  const InterpolantCase c = oracle::crossed_case();
  InterpolantResults results(c, 0, 10);

  EXPECT_THROW(kernels::cuda_interpolate(c.engine->job(), false, results.refused.data(), results.chunk),
               BackendUnavailable);
  EXPECT_THROW((void)kernels::cuda_interpolant_chunk_length(c.engine->job()), BackendUnavailable);
  EXPECT_THROW(c.engine->run({true}, false, results.chunk), BackendUnavailable);
  EXPECT_THROW((void)c.engine->summarize({true}, 0, 10, 1.0), BackendUnavailable);
}

}  // namespace
}  // namespace batchlmm
