#include "host/inference/statistic_histogram.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace batchlmm {
namespace {

ReplicateBlock block_of(const std::vector<Status>& status, const std::vector<double>& statistic) {
  ReplicateBlock block;
  block.status = status;
  block.statistic = statistic;
  return block;
}

TEST(StatisticHistogram, CountsEveryUsedReplicateOnce) {
  // Arrange
  StatisticHistogram histogram(40, 1, 5.0);
  const std::vector<double>& edges = histogram.edges();
  std::vector<double> statistic{0, 0, edges[1], edges[7], edges[39], edges[40], 1e9, 3.0};
  std::vector<Status> status(statistic.size(), Status::converged);
  status.back() = Status::iteration_limit;
  std::mt19937_64 rng(1);
  for (int i = 0; i < 5000; ++i) {
    statistic.push_back(static_cast<double>(rng() >> 11) * 0x1p-53 * 1.2 * edges.back());
    status.push_back(i % 3 == 0 ? Status::boundary : Status::converged);
  }

  // Act
  const auto half = static_cast<std::ptrdiff_t>(status.size() / 2);
  histogram.add(block_of({status.begin(), status.begin() + half}, {statistic.begin(), statistic.begin() + half}));
  histogram.add(block_of({status.begin() + half, status.end()}, {statistic.begin() + half, statistic.end()}));

  // Assert
  std::vector<std::uint64_t> expected(40);
  std::uint64_t above = 0;
  for (std::size_t i = 0; i < statistic.size(); ++i) {
    if (!is_used(status[i]) || statistic[i] == 0) continue;
    std::size_t bin = 0;
    while (bin < 40 && statistic[i] >= edges[bin + 1]) ++bin;
    if (bin == 40)
      ++above;
    else
      ++expected[bin];
  }
  EXPECT_EQ(histogram.counts(), expected);
  EXPECT_EQ(histogram.above(), above);
  EXPECT_EQ(histogram.zeros(), 2u);
  EXPECT_EQ(histogram.total(), statistic.size() - 1);
  EXPECT_EQ(std::accumulate(expected.begin(), expected.end(), std::uint64_t{0}) + above + 2, histogram.total());
}

TEST(StatisticHistogram, TheRangeHoldsTheObservedOneUnlessItIsFarOut) {
  // qchisq(0.999, 1) = 10.827566
  EXPECT_NEAR(StatisticHistogram(10, 1, 5.0).edges().back(), 10.827566, 1e-6);
  EXPECT_NEAR(StatisticHistogram(10, 1, 20.0).edges().back(), 22.0, 1e-12);
  EXPECT_NEAR(StatisticHistogram(10, 1, 900.0).edges().back(), 4 * 10.827566, 1e-5);
}

}  // namespace
}  // namespace batchlmm
