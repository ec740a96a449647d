// The text that a device's threads run, on the CPU: thread after thread, with the memory that a device would have.
// Every result has the bits that the CPU's tiles give.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <random>

#include "kernels/cpu.hpp"
#include "kernels/device_run.hpp"
#include "tests/bootstrap_cases.hpp"
#include "tests/host_device.hpp"

namespace batchlmm {
namespace {

using oracle::BootstrapCase;
using oracle::Dropped;
using oracle::HostDevice;
using oracle::Kind;
using oracle::ResultArrays;
using oracle::streaming_job;

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

TEST(OneLane, BootstrapHasTheBitsOfTheTiles) {
  for (const BootstrapCase& c : oracle::bootstrap_cases()) {
    SCOPED_TRACE(c.name);
    // Arrange
    constexpr std::uint64_t first = (std::uint64_t{1} << 40) + 5, count = 150;
    kernels::BootstrapJob job = streaming_job(*c.bootstrap);
    job.parameters = true;
    ChunkArrays one(job, first, count);
    HostDevice device;

    // Act
    kernels::run_replicates(device, kernels::StreamingWork(job), one.chunk);

    // Assert
    for (const kernels::CpuKernels* k : kernels::all_cpu_kernels()) {
      ChunkArrays tiles(job, first, count);
      k->bootstrap(job, tiles.chunk);
      EXPECT_EQ(oracle::differing_items(one.null, tiles.null), 0u) << k->name;
      EXPECT_EQ(oracle::differing_items(one.full, tiles.full), 0u) << k->name;
    }
    const auto used = std::count_if(one.full.status.begin(), one.full.status.end(), [](auto s) { return s <= 1; });
    EXPECT_GT(used, count * 9 / 10);
  }
}

TEST(OneLane, BootstrapWithoutParametersAndWithSeveralStarts) {
  // Arrange
  const BootstrapCase c(Kind::crossed, 2, 77, Dropped::fixed_effect);
  kernels::BootstrapJob job = streaming_job(*c.bootstrap);
  job.null_options.starts = job.full_options.starts = 3;
  ChunkArrays one(job, 0, 64), tiles(job, 0, 64);
  HostDevice device;

  // Act
  kernels::run_replicates(device, kernels::StreamingWork(job), one.chunk);
  kernels::cpu_kernels().bootstrap(job, tiles.chunk);

  // Assert
  EXPECT_EQ(oracle::differing_items(one.null, tiles.null), 0u);
  EXPECT_EQ(oracle::differing_items(one.full, tiles.full), 0u);
}

TEST(OneLane, LittleMemoryMeansPieces) {
  // Arrange
  const BootstrapCase c(Kind::nested, 2, 5, Dropped::fixed_effect);
  const kernels::BootstrapJob& job = streaming_job(*c.bootstrap);
  ChunkArrays all(job, 1000, 200), few(job, 1000, 200), refused(job, 1000, 200);
  const kernels::MemoryNeed need = kernels::memory_need(kernels::StreamingWork(job), all.chunk.null, all.chunk.full);
  HostDevice roomy, small, refusing;
  small.bytes = need.fixed + 3 * need.thread + 20 * need.item;
  refusing.refused_above = small.bytes;

  // Act
  kernels::run_replicates(roomy, kernels::StreamingWork(job), all.chunk);
  kernels::run_replicates(small, kernels::StreamingWork(job), few.chunk);
  kernels::run_replicates(refusing, kernels::StreamingWork(job), refused.chunk);

  // Assert
  EXPECT_EQ(roomy.fits, 2);
  EXPECT_GT(small.fits, 2);
  EXPECT_EQ(refusing.fits, small.fits);
  EXPECT_EQ(oracle::differing_items(all.full, few.full), 0u);
  EXPECT_EQ(oracle::differing_items(all.full, refused.full), 0u);
  EXPECT_EQ(oracle::differing_items(all.null, few.null), 0u);
}

TEST(OneLane, ASummaryHasTheCountsOfTheChunks) {
  for (const BootstrapCase& c : oracle::bootstrap_cases()) {
    SCOPED_TRACE(c.name);
    // Arrange
    constexpr std::uint64_t first = 77, count = 50;
    const kernels::BootstrapJob& job = streaming_job(*c.bootstrap);
    ChunkArrays tiles(job, first, count);
    HostDevice roomy, small;
    const kernels::MemoryNeed need =
        kernels::memory_need(kernels::StreamingWork(job), tiles.chunk.null, tiles.chunk.full);
    small.bytes = need.fixed + kernels::statistic_scratch_bytes + 3 * need.thread + 20 * need.item;
    const auto counts_of = [&](bool refit) {
      kernels::StatisticCounts counts;
      const kernels::FitResults full = refit ? kernels::FitResults{} : tiles.chunk.full;
      for (std::uint64_t i = 0; i < count; ++i)
        kernels::add_replicate(counts, tiles.chunk.null, full, i, kernels::outcome(tiles.chunk.null, full, i), 0.7);
      return counts;
    };
    kernels::cpu_kernels().bootstrap(job, tiles.chunk);

    for (bool refit : {false, true}) {
      // Act
      const kernels::StatisticCounts whole = kernels::run_summary(roomy, kernels::StreamingWork(job), first, count, 0.7,
                                                                  refit),
                                     pieces = kernels::run_summary(small, kernels::StreamingWork(job), first, count,
                                                                   0.7, refit);
      kernels::StatisticCounts ranges = kernels::run_summary(roomy, kernels::StreamingWork(job), first, 21, 0.7, refit);
      kernels::add(ranges,
                   kernels::run_summary(roomy, kernels::StreamingWork(job), first + 21, count - 21, 0.7, refit));

      // Assert
      EXPECT_TRUE(oracle::same_counts(whole, pieces));
      EXPECT_TRUE(oracle::same_counts(whole, ranges));
      EXPECT_EQ(whole.replicates, count);
      EXPECT_TRUE(oracle::same_counts(whole, counts_of(refit)));
    }
  }
}

TEST(OneLane, TooLittleMemoryIsAnError) {
  // Arrange
  const BootstrapCase c(Kind::single, 1, 5, Dropped::fixed_effect);
  ChunkArrays chunk(streaming_job(*c.bootstrap), 0, 10);
  HostDevice device;
  device.bytes = 1000;

  // Act, Assert
  EXPECT_THROW(kernels::run_replicates(device, kernels::StreamingWork(streaming_job(*c.bootstrap)), chunk.chunk),
               ComputationError);
}

TEST(OneLane, AChunkFillsTheDeviceWithinItsMemory) {
  // Arrange
  const BootstrapCase c(Kind::crossed, 1, 5, Dropped::fixed_effect);
  const kernels::BootstrapJob& job = streaming_job(*c.bootstrap);
  ChunkArrays chunk(job, 0, 1);
  const kernels::MemoryNeed need =
      kernels::memory_need(kernels::StreamingWork(job), chunk.chunk.null, chunk.chunk.full);
  HostDevice roomy, small;
  roomy.threads = small.threads = 1000;
  small.bytes = need.fixed + 100 * need.thread;

  // Act
  const std::uint64_t most = kernels::chunk_items(roomy, kernels::StreamingWork(job)),
                      few = kernels::chunk_items(small, kernels::StreamingWork(job));

  // Assert
  EXPECT_EQ(most, 32'000u);
  EXPECT_GE(few, 64u);
  EXPECT_LT(few, 3'200u);
}

/// A model of the same shape as `like`, with other values of the covariates.
std::shared_ptr<ModelMatrices> with_other_covariates(const ModelMatrices& like, std::uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> normal;
  auto m = std::make_shared<ModelMatrices>(like);
  for (Eigen::Index c = 1; c < m->X.cols(); ++c)
    for (Eigen::Index i = 0; i < m->X.rows(); ++i) m->X(i, c) = normal(rng);
  for (RandomTerm& term : m->random)
    for (Eigen::Index c = 1; c < term.z.cols(); ++c)
      for (Eigen::Index i = 0; i < term.z.rows(); ++i) term.z(i, c) = normal(rng);
  return m;
}

class OneLaneFits : public testing::TestWithParam<std::tuple<Kind, int, Method>> {};

TEST_P(OneLaneFits, HaveTheBitsOfTheTiles) {
  // Arrange: responses of three designs, some of which cannot be fitted.
  const auto [kind, k, method] = GetParam();
  std::vector<std::shared_ptr<ModelMatrices>> matrices{oracle::random_model(kind, k, 3)};
  for (std::uint64_t seed : {1, 2}) matrices.push_back(with_other_covariates(*matrices[0], seed));
  std::vector<std::unique_ptr<Model>> models;
  std::vector<kernels::Design<double>> designs;
  for (const auto& m : matrices) {
    models.push_back(std::make_unique<Model>(m, method));
    designs.push_back(models.back()->design());
  }
  const kernels::Shape& s = models[0]->shape();
  // The designs of one shape may differ in their degrees of freedom.
  const double fewer_degrees = s.degrees - 3;
  designs[1].degrees = &fewer_degrees;
  constexpr int items = 60;
  std::mt19937_64 rng(9);
  std::normal_distribution<double> normal;
  std::vector<double> response[2], first_start;
  std::vector<int> design_of;
  const auto draw_response = [&](int design, int i) {
    Eigen::VectorXd y = matrices[design]->y;
    for (Eigen::Index r = 0; r < y.size(); ++r) y[r] += normal(rng);
    if (i % 17 == 4) y.setZero();
    std::vector<double> one = models[design]->response(y);
    if (i % 17 == 7) one[i % one.size()] = std::numeric_limits<double>::quiet_NaN();
    if (i % 17 == 9) one[i % one.size()] = -std::numeric_limits<double>::infinity();
    return one;
  };
  for (int i = 0; i < items; ++i) {
    design_of.push_back(static_cast<int>(rng() % 3));
    for (const bool many : {false, true}) {
      const std::vector<double> one = draw_response(many ? design_of[i] : 0, i);
      response[many].insert(response[many].end(), one.begin(), one.end());
    }
    for (int b = 0; b < s.terms; ++b)
      for (int q = 0; q < s.term[b].k * s.term[b].k; ++q)
        first_start.push_back(q % (s.term[b].k + 1) == 0 ? 0.2 + 0.01 * i : 0.0);
  }
  kernels::FitJob job;
  job.shape = &s;
  job.design = designs.data();
  job.items = items;
  job.first_start = first_start.data();
  job.starts = first_start.data();
  job.options.starts = 2;
  job.parameters = true;

  for (bool many : {false, true})
    for (bool one_start : {false, true}) {
      SCOPED_TRACE(testing::Message() << "many designs " << many << ", one start " << one_start);
      job.response = response[many].data();
      job.design_of = many ? design_of.data() : nullptr;
      job.one_start = one_start;
      ResultArrays one(s, items), small(s, items);
      HostDevice device, little;
      little.bytes = 300'000;
      little.threads = 2;

      // Act
      job.results = one.pointers();
      kernels::run_fits(device, job);
      job.results = small.pointers();
      kernels::run_fits(little, job);

      // Assert
      for (const kernels::CpuKernels* cpu : kernels::all_cpu_kernels()) {
        ResultArrays tiles(s, items);
        job.results = tiles.pointers();
        cpu->fit(job);
        EXPECT_EQ(oracle::differing_items(one, tiles), 0u) << cpu->name;
        EXPECT_EQ(oracle::differing_items(small, tiles), 0u) << cpu->name;
      }
      EXPECT_EQ(one.status[4], kernels::fit_not_positive_definite);
      EXPECT_EQ(one.status[7], kernels::fit_non_finite);
      EXPECT_EQ(one.status[9], kernels::fit_non_finite);
      EXPECT_TRUE(std::isnan(one.lambda[4 * s.lambdas]) && std::isnan(one.deviance[4]));
      EXPECT_GT(std::count_if(one.status.begin(), one.status.end(), [](auto status) { return status <= 1; }), 40);
    }
}

INSTANTIATE_TEST_SUITE_P(Models, OneLaneFits,
                         testing::Combine(testing::Values(Kind::single, Kind::crossed, Kind::deep),
                                          testing::Values(1, 2), testing::Values(Method::ml, Method::reml)));

}  // namespace
}  // namespace batchlmm
