// The CUDA backend against the CPU's tiles, replicate by replicate. Multiply-adds, square roots and divisions are
// specified, so the bits are the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>

#include "batchlmm/error.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"
#include "tests/bootstrap_cases.hpp"
#include "tests/host_device.hpp"

namespace batchlmm {
namespace {

using oracle::BootstrapCase;
using oracle::Dropped;
using oracle::Kind;
using oracle::ResultArrays;
using oracle::streaming_job;

class Cuda : public testing::Test {
protected:
  void SetUp() override {
    const kernels::CudaStatus status = kernels::cuda_status();
    if (!status.usable) GTEST_SKIP() << status.why;
  }
};

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

TEST_F(Cuda, BootstrapHasTheBitsOfTheCpu) {
  for (const BootstrapCase& c : oracle::bootstrap_cases()) {
    SCOPED_TRACE(c.name);
    // Arrange
    constexpr std::uint64_t first = (std::uint64_t{1} << 40) + 5, count = 1000;
    kernels::BootstrapJob job = streaming_job(*c.bootstrap);
    job.parameters = true;
    ChunkArrays device(job, first, count), host(job, first, count);

    // Act
    kernels::cuda_bootstrap(job, device.chunk);
    kernels::cpu_kernels().bootstrap(job, host.chunk);

    // Assert
    EXPECT_EQ(oracle::differing_items(device.null, host.null), 0u);
    EXPECT_EQ(oracle::differing_items(device.full, host.full), 0u);
    for (std::uint64_t i = 0; i < count; ++i) {
      ASSERT_EQ(device.full.status[i], host.full.status[i]) << "replicate " << i;
      ASSERT_NEAR(device.full.deviance[i], host.full.deviance[i], 1e-10) << "replicate " << i;
      ASSERT_NEAR(device.null.deviance[i], host.null.deviance[i], 1e-10) << "replicate " << i;
    }
  }
}

TEST_F(Cuda, AFullDeviceGivesWhatSmallChunksGive) {
  // Arrange
  const BootstrapCase c(Kind::crossed, 1, 20, Dropped::fixed_effect);
  const kernels::BootstrapJob& job = streaming_job(*c.bootstrap);
  const std::uint64_t count = kernels::cuda_chunk_length(job);
  ChunkArrays whole(job, 0, count);

  // Act
  kernels::cuda_bootstrap(job, whole.chunk);

  // Assert
  EXPECT_GE(count, 64u);
  for (std::uint64_t first : {std::uint64_t{0}, count / 2, count - 33}) {
    ChunkArrays part(job, first, 33);
    kernels::cpu_kernels().bootstrap(job, part.chunk);
    for (std::uint64_t i = 0; i < 33; ++i) {
      EXPECT_EQ(whole.full.status[first + i], part.full.status[i]);
      EXPECT_EQ(whole.full.deviance[first + i], part.full.deviance[i]);
      EXPECT_EQ(whole.null.deviance[first + i], part.null.deviance[i]);
    }
  }
  EXPECT_EQ(std::count(whole.full.status.begin(), whole.full.status.end(), 99), 0);
}

TEST_F(Cuda, ASummaryHasTheCountsOfTheCpu) {
  for (const BootstrapCase& c : oracle::bootstrap_cases()) {
    SCOPED_TRACE(c.name);
    const kernels::BootstrapJob& job = streaming_job(*c.bootstrap);
    ChunkArrays host(job, 100, 2000);
    kernels::cpu_kernels().bootstrap(job, host.chunk);
    for (const bool refit : {false, true}) {
      const kernels::FitResults full = refit ? kernels::FitResults{} : host.chunk.full;
      kernels::StatisticCounts counts;
      for (std::uint64_t i = 0; i < 2000; ++i)
        kernels::add_replicate(counts, host.chunk.null, full, i, kernels::outcome(host.chunk.null, full, i), 0.7);

      EXPECT_TRUE(oracle::same_counts(kernels::cuda_summarize(job, 100, 2000, 0.7, refit), counts));
    }
  }
}

TEST_F(Cuda, ABootstrapOnAllPlacesIsThatOfTheCpu) {
  // Arrange: a range that is no multiple of a chunk.
  const BootstrapCase c(Kind::crossed, 1, 20, Dropped::fixed_effect);
  BootstrapRun run;
  run.first = 777;
  run.count = 20'001;
  run.observed = 1.0;
  std::vector<double> collected[2];
  ReplicateSummary summary[3];

  // Act: replicates of the CPU, of the device, and the device's counts alone.
  for (const bool cuda : {false, true}) {
    run.backend.cuda = cuda;
    run.collect = [&](const ReplicateBlock& block) {
      ASSERT_EQ(block.first, run.first + collected[cuda].size());
      collected[cuda].insert(collected[cuda].end(), block.statistic.begin(), block.statistic.end());
    };
    summary[cuda] = c.bootstrap->run(run);
  }
  run.collect = nullptr;
  summary[2] = c.bootstrap->run(run);

  // Assert
  ASSERT_EQ(collected[0].size(), run.count);
  ASSERT_EQ(collected[1].size(), run.count);
  EXPECT_EQ(std::memcmp(collected[0].data(), collected[1].data(), run.count * sizeof(double)), 0);
  for (const int other : {1, 2}) {
    EXPECT_EQ(summary[0].used, summary[other].used);
    EXPECT_EQ(summary[0].extreme, summary[other].extreme);
    EXPECT_EQ(summary[0].zero, summary[other].zero);
    EXPECT_EQ(summary[0].status, summary[other].status);
    EXPECT_EQ(summary[0].evaluations_null, summary[other].evaluations_null);
    EXPECT_EQ(summary[0].evaluations_full, summary[other].evaluations_full);
    EXPECT_EQ(summary[0].sum_statistic, summary[other].sum_statistic);
    EXPECT_TRUE(summary[other].stopped.empty());
  }
}

TEST_F(Cuda, DistributionIsThatOfTheUsedValues) {
  // Arrange
  constexpr std::size_t n = 100'000;
  std::vector<double> values(n), sorted;
  std::vector<std::uint8_t> status(n);
  std::mt19937_64 rng(3);
  for (std::size_t i = 0; i < n; ++i) {
    status[i] = static_cast<std::uint8_t>(rng() % 5);
    values[i] = status[i] > 2 ? std::nan("") : static_cast<double>(rng() % 100'000) / 64;
    if (status[i] <= 1) sorted.push_back(values[i]);
  }
  std::sort(sorted.begin(), sorted.end());
  const std::vector<double> probabilities{0, 0.025, 0.5, 0.975, 1}, edges{0, 500, 1000, 1562.484375};

  // Act
  const kernels::Distribution d = kernels::cuda_distribution(values, status, 1000, probabilities, edges);

  // Assert
  EXPECT_EQ(d.used, sorted.size());
  EXPECT_EQ(d.at_least, std::count_if(sorted.begin(), sorted.end(), [](double x) { return x >= 1000; }));
  ASSERT_EQ(d.histogram.size(), 3u);
  EXPECT_EQ(d.histogram[0] + d.histogram[1], sorted.size() - d.at_least);
  EXPECT_EQ(d.histogram[2], d.at_least);
  for (std::size_t q = 0; q < probabilities.size(); ++q) {
    const double h = static_cast<double>(sorted.size() - 1) * probabilities[q], low = std::floor(h);
    const double x0 = sorted[static_cast<std::size_t>(low)], x1 = sorted[static_cast<std::size_t>(std::ceil(h))];
    EXPECT_NEAR(d.quantiles[q], x0 + (h - low) * (x1 - x0), 1e-10);
  }
}

TEST_F(Cuda, CallsOfManyThreadsGiveWhatOneGives) {
  // Arrange: more threads than places of work.
  const BootstrapCase c(Kind::crossed, 1, 20, Dropped::fixed_effect);
  const kernels::BootstrapJob& job = streaming_job(*c.bootstrap);
  const int threads = 2 * kernels::cuda_slots() + 1;
  const std::uint64_t count = 500;
  const kernels::StatisticCounts whole = kernels::cuda_summarize(job, 0, count * threads, 1.0, false);
  std::vector<kernels::StatisticCounts> parts(threads);

  // Act
  {
    std::vector<std::jthread> pool;
    pool.reserve(threads);
    for (int t = 0; t < threads; ++t)
      pool.emplace_back([&, t] { parts[t] = kernels::cuda_summarize(job, t * count, count, 1.0, false); });
  }

  // Assert
  kernels::StatisticCounts sum;
  for (const kernels::StatisticCounts& part : parts) kernels::add(sum, part);
  EXPECT_TRUE(oracle::same_counts(whole, sum));
}

TEST_F(Cuda, FitsHaveTheBitsOfTheCpu) {
  for (Kind kind : {Kind::single, Kind::crossed, Kind::deep})
    for (int k : {1, 2})
      for (bool many : {false, true}) {
        SCOPED_TRACE(testing::Message() << "kind " << static_cast<int>(kind) << ", k " << k << ", many " << many);
        // Arrange: two designs of one shape, the second with its columns of X scaled.
        const auto matrices = oracle::random_model(kind, k, 11);
        const auto other = std::make_shared<ModelMatrices>(*matrices);
        other->X.rightCols(other->X.cols() - 1).array() += 0.3 * other->y.array().replicate(1, other->X.cols() - 1);
        const Model model(matrices, Method::reml), second(other, Method::reml);
        const kernels::Design<double> designs[] = {model.design(), second.design()};
        const kernels::Shape& s = model.shape();
        constexpr int items = 500;
        std::mt19937_64 rng(4);
        std::normal_distribution<double> normal;
        std::vector<double> response, start(s.lambdas, 0.0);
        std::vector<int> design_of;
        for (int b = 0; b < s.terms; ++b)
          for (int q = 0; q < s.term[b].k; ++q) start[s.term[b].lambda + q * (s.term[b].k + 1)] = 0.5;
        for (int i = 0; i < items; ++i) {
          design_of.push_back(i % 2);
          Eigen::VectorXd y = matrices->y;
          for (Eigen::Index r = 0; r < y.size(); ++r) y[r] += normal(rng);
          if (i == 100) y.setZero();
          const std::vector<double> one = (many && i % 2 == 1 ? second : model).response(y);
          response.insert(response.end(), one.begin(), one.end());
        }
        response[200 * static_cast<std::size_t>(s.response)] = std::nan("");
        kernels::FitJob job;
        job.shape = &s;
        job.design = designs;
        job.design_of = many ? design_of.data() : nullptr;
        job.items = items;
        job.response = response.data();
        job.first_start = job.starts = start.data();
        job.parameters = true;
        ResultArrays device(s, items), host(s, items);

        // Act
        job.results = device.pointers();
        kernels::cuda_fit(job);
        job.results = host.pointers();
        kernels::cpu_kernels().fit(job);

        // Assert
        EXPECT_EQ(oracle::differing_items(device, host), 0u);
        EXPECT_EQ(device.status[100], kernels::fit_not_positive_definite);
        EXPECT_EQ(device.status[200], kernels::fit_non_finite);
      }
}

TEST(CudaStatus, SaysWhyOrNamesTheDevice) {
  const kernels::CudaStatus status = kernels::cuda_status();
  EXPECT_EQ(status.why.empty(), status.usable);
  EXPECT_EQ(status.device.empty(), !status.usable);
  EXPECT_EQ(status.why.find('\n'), std::string::npos);
  const kernels::CudaInventory inventory = kernels::cuda_inventory();
  EXPECT_EQ(std::any_of(inventory.devices.begin(), inventory.devices.end(), [](const auto& d) { return d.usable; }),
            status.usable);
  EXPECT_EQ(inventory.why.empty(), !inventory.devices.empty());
  if (status.usable) return;
  // Without a device every entry says so by name.
  kernels::BootstrapChunk chunk;
  EXPECT_THROW(kernels::cuda_bootstrap({}, chunk), BackendUnavailable);
  EXPECT_THROW(kernels::cuda_chunk_length({}), BackendUnavailable);
  EXPECT_THROW(kernels::cuda_fit({}), BackendUnavailable);
  EXPECT_THROW(kernels::cuda_summarize({}, 0, 1, 0, false), BackendUnavailable);
  EXPECT_THROW(kernels::cuda_distribution({}, {}, 0, {}, {}), BackendUnavailable);
  EXPECT_THROW(kernels::cuda_slots(), BackendUnavailable);
}

}  // namespace
}  // namespace batchlmm
