// The Thrust code of the CUDA backend, compiled for the CPU where the CUDA toolkit's headers are found.
#include <gtest/gtest.h>

#if __has_include(<thrust/sort.h>)

#include <thrust/system/cpp/execution_policy.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/cpu.hpp"
#include "kernels/device_statistics.hpp"
#include "tests/bootstrap_cases.hpp"
#include "tests/host_device.hpp"

namespace batchlmm {
namespace {

/// The tests' device with the statistics by Thrust, as the CUDA device has them.
struct ThrustDevice : oracle::HostDevice {
  using HostDevice::launch;
  void launch(const kernels::StatisticArguments& a) {
    kernels::add(*a.counts, kernels::count_replicates(thrust::cpp::par, a));
  }
  void launch(const kernels::DistributionArguments& a) { kernels::distribution(thrust::cpp::par, a); }
};

TEST(DeviceStatistics, CountsAreThoseOfALoop) {
  // Arrange
  const oracle::BootstrapCase c(oracle::Kind::crossed, 1, 50, oracle::Dropped::random_term);
  const kernels::BootstrapJob& job = oracle::streaming_job(*c.bootstrap);
  oracle::HostDevice loop;
  ThrustDevice by_thrust;

  for (bool refit : {false, true}) {
    // Act
    const kernels::StatisticCounts a = kernels::run_summary(loop, kernels::StreamingWork(job), 5, 300, 1.0, refit),
                                   b = kernels::run_summary(by_thrust, kernels::StreamingWork(job), 5, 300, 1.0, refit);

    // Assert
    EXPECT_EQ(a.replicates, 300u);
    EXPECT_TRUE(oracle::same_counts(a, b));
  }
}

struct Values {
  explicit Values(std::size_t n) : values(n), status(n) {
    std::mt19937_64 rng(n);
    for (std::size_t i = 0; i < n; ++i) {
      status[i] = static_cast<std::uint8_t>(rng() % 5);
      // Ties, zeros, and NaN where nothing was fitted.
      values[i] = status[i] > 2 ? std::nan("") : std::floor(static_cast<double>(rng() % 1000)) / 16;
      if (status[i] <= 1) used.push_back(values[i]);
    }
  }
  std::vector<double> values, used;
  std::vector<std::uint8_t> status;
};

TEST(DeviceStatistics, DistributionIsThatOfTheUsedValues) {
  const std::vector<double> probabilities{0, 0.025, 0.5, 0.731, 0.975, 1}, edges{0, 1, 1.0625, 20, 30, 62.4375};
  for (std::size_t n : {1u, 7u, 1000u, 20'011u}) {
    SCOPED_TRACE(n);
    // Arrange
    const Values v(n);
    ThrustDevice device;

    // Act
    const kernels::Distribution d = kernels::run_distribution(device, v.values, v.status, 31.25, probabilities, edges);

    // Assert
    EXPECT_EQ(d.used, v.used.size());
    EXPECT_EQ(d.at_least, std::count_if(v.used.begin(), v.used.end(), [](double x) { return x >= 31.25; }));
    ASSERT_EQ(d.histogram.size(), 5u);
    for (std::size_t b = 0; b < 5; ++b)
      EXPECT_EQ(
          d.histogram[b],
          std::count_if(v.used.begin(), v.used.end(),
                        [&](double x) { return x >= edges[b] && (x < edges[b + 1] || (b == 4 && x == edges[b + 1])); }))
          << "bin " << b;
    if (v.used.empty()) {
      EXPECT_TRUE(d.quantiles.empty());
      continue;
    }
    std::vector<double> sorted = v.used;
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t q = 0; q < probabilities.size(); ++q) {
      const double h = static_cast<double>(sorted.size() - 1) * probabilities[q], low = std::floor(h);
      const double x0 = sorted[static_cast<std::size_t>(low)], x1 = sorted[static_cast<std::size_t>(std::ceil(h))];
      EXPECT_NEAR(d.quantiles[q], x0 + (h - low) * (x1 - x0), 1e-13) << "p " << probabilities[q];
    }
  }
}

TEST(DeviceStatistics, QuantilesAreThoseOfR) {
  // quantile(c(3.1, -2, 7.25, 0.5, 11, 4), c(0.1, 0.25, 0.5, 0.9))
  const std::vector<double> values{3.1, -2, 7.25, 0.5, 11, 4}, probabilities{0.1, 0.25, 0.5, 0.9},
      expected{-0.75, 1.15, 3.55, 9.125};
  const std::vector<std::uint8_t> status(6, 0);
  ThrustDevice device;

  const kernels::Distribution d = kernels::run_distribution(device, values, status, 3.1, probabilities, {});

  for (int q = 0; q < 4; ++q) EXPECT_NEAR(d.quantiles[q], expected[q], 1e-14);
  EXPECT_EQ(d.at_least, 4u);
  EXPECT_TRUE(d.histogram.empty());
}

TEST(DeviceStatistics, NothingUsedIsNoQuantile) {
  const std::vector<double> values(5, std::nan("")), half{0.5}, edges{0, 1, 2};
  const std::vector<std::uint8_t> status(5, kernels::fit_non_finite);
  ThrustDevice device;

  const kernels::Distribution d = kernels::run_distribution(device, values, status, 0, half, edges),
                              none = kernels::run_distribution(device, {}, {}, 0, half, edges);

  EXPECT_EQ(d.used, 0u);
  EXPECT_TRUE(d.quantiles.empty());
  EXPECT_EQ(d.histogram, (std::vector<std::uint64_t>{0, 0}));
  EXPECT_EQ(none.histogram, d.histogram);
}

TEST(DeviceStatistics, ValuesThatDoNotFitAreAnError) {
  const Values v(1000);
  ThrustDevice device;
  device.bytes = 10'000;

  EXPECT_THROW(kernels::run_distribution(device, v.values, v.status, 0, {}, {}), ComputationError);
}

}  // namespace
}  // namespace batchlmm

#else

TEST(DeviceStatistics, NeedsThrust) { GTEST_SKIP() << "no headers of Thrust (CUDA toolkit) were found"; }

#endif
