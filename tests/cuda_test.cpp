// The CUDA backend against the CPU's tiles, replicate by replicate. Multiply-adds, square roots and divisions are
// specified, so the bits are the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "batchlmm/error.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"
#include "tests/bootstrap_cases.hpp"

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
  if (status.usable) return;
  // Without a device every entry says so by name.
  kernels::BootstrapChunk chunk;
  EXPECT_THROW(kernels::cuda_bootstrap({}, chunk), BackendUnavailable);
  EXPECT_THROW(kernels::cuda_chunk_length({}), BackendUnavailable);
  EXPECT_THROW(kernels::cuda_fit({}), BackendUnavailable);
}

}  // namespace
}  // namespace batchlmm
