// Chunks, workers, counts and lost devices, with an engine whose results are plain functions of the index.
#include "host/batch/run_replicates.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <mutex>
#include <random>
#include <set>

#include "host/batch/chunk_buffers.hpp"

namespace batchlmm {
namespace {

DeviceLost loss() {
  return DeviceLost({"fit_kernel", "cudaErrorIllegalAddress", "an illegal memory access", "here:1", 0});
}

kernels::Shape one_theta() {
  kernels::Shape s;
  s.lambdas = 1;
  s.p = 1;
  return s;
}

/// Results by a hash of the index: all statuses, zeros, and a full fit above the null's now and then.
class HashEngine final : public ReplicateEngine {
public:
  std::uint64_t length = 100;
  bool counts_alone = false;
  std::function<void(std::uint64_t first)> before;  ///< called before each chunk, by its first replicate
  mutable std::atomic<int> runs{0}, summaries{0};

  [[nodiscard]] Tier tier() const override { return Tier::streaming; }
  [[nodiscard]] std::uint64_t chunk_length(const Backend&) const override { return length; }
  [[nodiscard]] bool summarizes(const Backend&) const override { return counts_alone; }
  void run(const Backend&, bool, kernels::BootstrapChunk& chunk) const override {
    ++runs;
    if (before) before(chunk.first);
    for (std::uint64_t i = 0; i < chunk.count; ++i) {
      std::mt19937_64 rng(chunk.first + i);
      const auto draw = [&] { return static_cast<double>(rng() >> 11) * 0x1p-53; };
      const double u = draw();
      fill(chunk.null, i, u < 0.02 ? rng() % 5 : 0, 100 * draw(), rng() % 7 == 0, rng() % 9);
      if (chunk.full.status == nullptr) continue;
      const double t = u > 0.9 ? 1e-9 : u > 0.85 ? -1e-3 : std::exp(8 * draw() - 5);
      fill(chunk.full, i, rng() % 50 == 0 ? rng() % 5 : 0, chunk.null.deviance[i] - t, rng() % 5 == 0, rng() % 11);
    }
  }
  kernels::StatisticCounts summarize(const Backend& backend, std::uint64_t first, std::uint64_t count,
                                     double observed) const override {
    ++summaries;
    const kernels::Shape s = one_theta();
    ChunkBuffers buffers;
    buffers.resize(s, &s, first, count, false);
    run(backend, false, buffers.chunk);
    kernels::StatisticCounts counts;
    // In another order than that of the indices.
    for (std::uint64_t i = count; i-- > 0;)
      kernels::add_replicate(counts, buffers.chunk.null, buffers.chunk.full, i,
                             kernels::outcome(buffers.chunk.null, buffers.chunk.full, i), observed);
    return counts;
  }

private:
  static void fill(const kernels::FitResults& r, std::uint64_t i, std::uint64_t status, double deviance, bool singular,
                   std::uint64_t evaluations) {
    r.status[i] = static_cast<std::uint8_t>(status);
    r.deviance[i] = status > 2 ? std::nan("") : deviance;
    r.lambda[i] = deviance;
    r.boundary[i] = singular ? 2 : 0;
    r.evaluations[i] = static_cast<std::uint16_t>(evaluations);
  }
};

struct Collected {
  std::vector<double> statistic;
  std::vector<Status> status;
  ReplicateSummary summary;
};

Collected run(const HashEngine& engine, std::uint64_t first, std::uint64_t count, int workers, bool collect = true,
              bool refit = false, const StoppingRule& stop = {}) {
  const kernels::Shape s = one_theta();
  ReplicateUnits units;
  units.null = &s;
  units.full = refit ? nullptr : &s;
  Collected c;
  BootstrapRun run;
  run.first = first;
  run.count = count;
  run.observed = 3.84;
  run.stop = stop;
  if (collect)
    run.collect = [&](const ReplicateBlock& block) {
      EXPECT_EQ(block.first, first + c.statistic.size());
      c.statistic.insert(c.statistic.end(), block.statistic.begin(), block.statistic.end());
      c.status.insert(c.status.end(), block.status.begin(), block.status.end());
    };
  c.summary = run_replicates(engine, units, run, workers);
  return c;
}

/// NaN equals NaN.
bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

void expect_same(const ReplicateSummary& a, const ReplicateSummary& b) {
  EXPECT_EQ(a.replicates, b.replicates);
  EXPECT_EQ(a.used, b.used);
  EXPECT_EQ(a.extreme, b.extreme);
  EXPECT_EQ(a.zero, b.zero);
  EXPECT_EQ(a.status, b.status);
  EXPECT_EQ(a.singular_null, b.singular_null);
  EXPECT_EQ(a.singular_full, b.singular_full);
  EXPECT_EQ(a.evaluations_null, b.evaluations_null);
  EXPECT_EQ(a.evaluations_full, b.evaluations_full);
  EXPECT_EQ(a.sum_statistic, b.sum_statistic);
  EXPECT_EQ(a.sum_squares, b.sum_squares);
  EXPECT_EQ(a.rule_met, b.rule_met);
}

TEST(RunReplicates, CountsAreTheBlocksCounts) {
  // Arrange, Act
  const HashEngine engine;
  const Collected c = run(engine, 250, 4321, 3);

  // Assert
  ReplicateSummary by_hand;
  for (std::size_t i = 0; i < c.statistic.size(); ++i) {
    ++by_hand.status[static_cast<int>(c.status[i])];
    if (!is_used(c.status[i])) continue;
    ++by_hand.used;
    by_hand.extreme += c.statistic[i] >= 3.84;
    by_hand.zero += c.statistic[i] == 0;
    by_hand.sum_statistic += c.statistic[i];
    by_hand.sum_squares += c.statistic[i] * c.statistic[i];
    ASSERT_GE(c.statistic[i], 0);
  }
  EXPECT_EQ(c.statistic.size(), 4321u);
  EXPECT_EQ(c.summary.replicates, 4321u);
  EXPECT_EQ(c.summary.used, by_hand.used);
  EXPECT_EQ(c.summary.extreme, by_hand.extreme);
  EXPECT_EQ(c.summary.zero, by_hand.zero);
  EXPECT_EQ(c.summary.status, by_hand.status);
  // 4321 roundings to a multiple of 2^-60 on one side, of the running sum on the other.
  EXPECT_NEAR(c.summary.sum_statistic, by_hand.sum_statistic, 1e-11 * by_hand.sum_statistic);
  EXPECT_NEAR(c.summary.sum_squares, by_hand.sum_squares, 1e-11 * by_hand.sum_squares);
  for (const std::uint64_t n : c.summary.status) EXPECT_GT(n, 0u);
  EXPECT_GT(c.summary.zero, 0u);
  EXPECT_TRUE(c.summary.stopped.empty());
}

TEST(RunReplicates, TheSummaryDoesNotDependOnWorkersChunksOrWhoCounts) {
  HashEngine one, other;
  other.length = 37;
  HashEngine alone;
  alone.counts_alone = true;

  const Collected a = run(one, 11, 5000, 1), b = run(other, 11, 5000, 4), c = run(alone, 11, 5000, 3, false);

  expect_same(a.summary, b.summary);
  expect_same(a.summary, c.summary);
  EXPECT_EQ(alone.summaries, 51);
  EXPECT_TRUE(same_bits(a.statistic, b.statistic));
  EXPECT_TRUE(c.statistic.empty());
}

TEST(RunReplicates, WhoCollectsGetsTheReplicates) {
  HashEngine alone;
  alone.counts_alone = true;

  const Collected c = run(alone, 0, 500, 2);

  EXPECT_EQ(alone.summaries, 0);
  EXPECT_EQ(c.statistic.size(), 500u);
}

TEST(RunReplicates, RefitsHaveNoStatistic) {
  const HashEngine engine;

  const Collected c = run(engine, 0, 1000, 2, true, true);

  EXPECT_EQ(c.summary.extreme + c.summary.zero + c.summary.singular_full + c.summary.evaluations_full, 0u);
  EXPECT_EQ(c.summary.sum_statistic, 0);
  EXPECT_GT(c.summary.used, 900u);
}

TEST(StoppingRules, TheRunEndsWithTheReplicateThatMeetsTheRule) {
  // Arrange
  const HashEngine engine;
  const Collected all = run(engine, 11, 5000, 1);
  for (const StoppingRule& rule : {StoppingRule{25, 0}, StoppingRule{1, 0}, StoppingRule{0, 0.1}, StoppingRule{0, 0.05},
                                   StoppingRule{40, 0.1}, StoppingRule{300, 0.1}}) {
    SCOPED_TRACE(testing::Message() << rule.extremes << " " << rule.precision);
    // One replicate after the other, by the definition.
    std::uint64_t used = 0, extreme = 0, last = 0;
    for (bool met = false; !met; ++last) {
      ASSERT_LT(last, all.status.size());
      if (!is_used(all.status[last])) continue;
      ++used;
      extreme += all.statistic[last] >= 3.84;
      const double p = (1.0 + static_cast<double>(extreme)) / (1.0 + static_cast<double>(used));
      met =
          (rule.extremes > 0 && extreme == rule.extremes) ||
          (rule.precision > 0 && used >= 100 && std::sqrt((1 - p) / (p * static_cast<double>(used))) < rule.precision);
    }

    // Act
    const Collected stopped = run(engine, 11, 5000, 1, true, false, rule);
    const Collected whole = run(engine, 11, last, 1);

    // Assert
    EXPECT_TRUE(stopped.summary.rule_met);
    EXPECT_EQ(stopped.summary.used, used);
    EXPECT_EQ(stopped.summary.extreme, extreme);
    EXPECT_EQ(stopped.statistic.size(), last);
    ReplicateSummary expected = whole.summary;
    expected.rule_met = true;
    expect_same(stopped.summary, expected);
    EXPECT_TRUE(same_bits(stopped.statistic, whole.statistic));
  }
}

TEST(StoppingRules, WorkersChunksAndTheMostReplicatesDoNotMatter) {
  for (const StoppingRule& rule : {StoppingRule{120, 0}, StoppingRule{0, 0.08}}) {
    const HashEngine engine;
    const Collected a = run(engine, 11, 5000, 1, true, false, rule);
    for (const std::uint64_t length : {1, 37, 100, 1000, 7000}) {
      for (const int workers : {1, 2, 5}) {
        HashEngine other;
        other.length = length;
        other.counts_alone = true;
        const Collected b = run(other, 11, 4000, workers, length % 2 == 0, false, rule);
        expect_same(a.summary, b.summary);
        if (length % 2 == 0) {
          EXPECT_TRUE(same_bits(a.statistic, b.statistic));
        }
      }
    }
  }
}

TEST(StoppingRules, ARuleThatIsNotMetEndsNothing) {
  const HashEngine engine;

  const Collected a = run(engine, 0, 700, 2), b = run(engine, 0, 700, 2, true, false, {100'000, 0});

  EXPECT_FALSE(b.summary.rule_met);
  expect_same(a.summary, b.summary);
}

TEST(StoppingRules, AFailureBehindTheLastReplicateIsNone) {
  // Arrange: chunks of 100; those from 300 on cannot be done.
  HashEngine broken;
  broken.before = [](std::uint64_t first) {
    if (first >= 300) throw loss();
  };

  for (const int workers : {1, 3}) {
    const Collected c = run(broken, 0, 5000, workers, true, false, {30, 0});

    EXPECT_TRUE(c.summary.rule_met);
    EXPECT_TRUE(c.summary.stopped.empty());
  }
}

class LostDevice : public testing::TestWithParam<std::tuple<int, bool>> {};

TEST_P(LostDevice, LeavesWhatWasFinished) {
  for (const std::uint64_t lost_from : {100, 700, 4900}) {
    SCOPED_TRACE(lost_from);
    // Arrange: chunks of 100; none from `lost_from` on can be done.
    const auto [workers, counts_alone] = GetParam();
    HashEngine whole, broken;
    broken.counts_alone = counts_alone;
    broken.before = [&](std::uint64_t first) {
      if (first >= lost_from) throw loss();
    };

    // Act
    const Collected before = run(whole, 0, lost_from, 1), c = run(broken, 0, 5000, workers, !counts_alone);

    // Assert
    expect_same(c.summary, before.summary);
    EXPECT_EQ(c.summary.replicates, lost_from);
    EXPECT_EQ(c.summary.stopped,
              "CUDA device 0: fit_kernel failed: an illegal memory access (cudaErrorIllegalAddress, here:1)");
    EXPECT_TRUE(counts_alone || same_bits(c.statistic, before.statistic));
  }
}

TEST_P(LostDevice, IsAnErrorWhereNothingWasFinished) {
  const auto [workers, counts_alone] = GetParam();
  HashEngine broken;
  broken.counts_alone = counts_alone;
  broken.before = [](std::uint64_t) { throw loss(); };

  EXPECT_THROW(run(broken, 0, 5000, workers, !counts_alone), DeviceLost);
}

INSTANTIATE_TEST_SUITE_P(Workers, LostDevice, testing::Combine(testing::Values(1, 2, 5), testing::Bool()));

TEST(RunReplicates, AnotherDeviceTakesTheChunkOfALostOne) {
  // Arrange: each of the first chunks fails once, as on a device that another one stands in for.
  HashEngine whole, broken;
  std::mutex mutex;
  std::set<std::uint64_t> failed;
  broken.before = [&](std::uint64_t first) {
    const std::lock_guard lock(mutex);
    if (first >= 1000 && first < 1200 && failed.insert(first).second) throw loss();
  };

  // Act
  const Collected a = run(whole, 0, 3000, 1), b = run(broken, 0, 3000, 2);

  // Assert
  EXPECT_EQ(failed.size(), 2u);
  expect_same(a.summary, b.summary);
  EXPECT_TRUE(b.summary.stopped.empty());
}

TEST(RunReplicates, OtherErrorsEndTheRun) {
  HashEngine broken;
  broken.before = [](std::uint64_t first) {
    if (first == 700) throw ComputationError("no luck");
  };

  for (int workers : {1, 4}) EXPECT_THROW(run(broken, 0, 5000, workers), ComputationError);
}

TEST(RunReplicates, WhatTheCollectorThrowsEndsTheRun) {
  const HashEngine engine;
  const kernels::Shape s = one_theta();
  ReplicateUnits units;
  units.null = units.full = &s;
  BootstrapRun run;
  run.count = 2000;
  run.collect = [](const ReplicateBlock& block) {
    if (block.first >= 500) throw OutputError("the disk is full");
  };

  EXPECT_THROW(run_replicates(engine, units, run, 3), OutputError);
}

TEST(ExactSum, IsTheSumOfTheRoundedNumbersInAnyOrder) {
  // Arrange: numbers of all sizes that a statistic may have, and beyond.
  std::mt19937_64 rng(7);
  std::vector<double> x{
      0, 1e-8, 0x1p-61, 0x1p-62, 0x1.8p-60, 1, 15.999999999999998, 16, 0x1p40, 1e300, 0x1.fffffffffffffp39};
  for (int i = 0; i < 20'000; ++i)
    x.push_back(std::ldexp(static_cast<double>(rng() >> 11), static_cast<int>(rng() % 60) - 85));
  unsigned __int128 truth = 0;
  for (double value : x) {
    const long double scaled = std::min(value, 0x1p40) * 0x1p60L;  // 53 bits: exact
    const auto whole = static_cast<unsigned __int128>(scaled);
    truth += whole + (scaled - static_cast<long double>(whole) >= 0.5L ? 1 : 0);
  }

  for (int order = 0; order < 3; ++order) {
    // Act
    kernels::ExactSum all, parts[3];
    for (std::size_t i = 0; i < x.size(); ++i) kernels::add(parts[rng() % 3], kernels::exact(x[i]));
    for (const kernels::ExactSum& part : parts) kernels::add(all, part);

    // Assert
    EXPECT_EQ(all.high, static_cast<std::uint64_t>(truth >> 64));
    EXPECT_EQ(all.low, static_cast<std::uint64_t>(truth));
    EXPECT_NEAR(kernels::value(all), static_cast<double>(static_cast<long double>(truth) * 0x1p-60L),
                1e-15 * kernels::value(all));
    std::shuffle(x.begin(), x.end(), rng);
  }
}

}  // namespace
}  // namespace batchlmm
