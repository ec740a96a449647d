// Replicates fitted by teams of a device's threads (kernels/team_fit.hpp) have the bits of the CPU's tiles, whichever
// teams fit them. Parallel to team_test.cpp, which runs the same text on the host.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"
#include "tests/bootstrap_cases.hpp"

namespace batchlmm {
namespace {

using oracle::BootstrapCase;
using oracle::Kind;
using oracle::ResultArrays;
using oracle::streaming_job;

class CudaTeam : public testing::TestWithParam<const char*> {
protected:
  void SetUp() override {
    const kernels::CudaStatus status = kernels::cuda_status();
    if (!status.usable) GTEST_SKIP() << status.why;
    setenv("BATCHLMM_MAPPING", GetParam(), 1);
  }
  void TearDown() override { unsetenv("BATCHLMM_MAPPING"); }
};

TEST_P(CudaTeam, BootstrapHasTheBitsOfTheCpu) {
  for (const BootstrapCase& c : oracle::bootstrap_cases()) {
    SCOPED_TRACE(c.name);
    // Arrange
    constexpr std::uint64_t first = (std::uint64_t{1} << 40) + 5, count = 1000;
    kernels::BootstrapJob job = streaming_job(*c.bootstrap);
    job.parameters = true;
    kernels::BootstrapChunk on_device, on_host;
    ResultArrays null_device(*job.null, count), full_device(*job.full, count), null_host(*job.null, count),
        full_host(*job.full, count);
    on_device.first = on_host.first = first;
    on_device.count = on_host.count = count;
    on_device.null = null_device.pointers();
    on_device.full = full_device.pointers();
    on_host.null = null_host.pointers();
    on_host.full = full_host.pointers();

    // Act
    kernels::cuda_bootstrap(job, on_device);
    kernels::cpu_kernels().bootstrap(job, on_host);

    // Assert
    EXPECT_EQ(oracle::differing_items(null_device, null_host), 0u);
    EXPECT_EQ(oracle::differing_items(full_device, full_host), 0u);
  }
}

TEST_P(CudaTeam, FitsHaveTheBitsOfTheCpu) {
  for (Kind kind : {Kind::single, Kind::crossed, Kind::deep})
    for (int k : {1, 3})
      for (Method method : {Method::ml, Method::reml}) {
        SCOPED_TRACE(testing::Message() << "kind " << static_cast<int>(kind) << ", k " << k);
        // Arrange
        const auto matrices = oracle::random_model(kind, k, 11);
        const Model model(matrices, method);
        const kernels::Design<double> design = model.design();
        const kernels::Shape& s = model.shape();
        constexpr int items = 500;
        std::mt19937_64 rng(4);
        std::normal_distribution<double> normal;
        std::vector<double> response, start(s.lambdas, 0.0);
        for (int b = 0; b < s.terms; ++b)
          for (int q = 0; q < s.term[b].k; ++q) start[s.term[b].lambda + q * (s.term[b].k + 1)] = 0.5;
        for (int i = 0; i < items; ++i) {
          Eigen::VectorXd y = matrices->y;
          if (i % 3 == 0) y.setZero();  // singular fits
          for (Eigen::Index r = 0; r < y.size(); ++r) y[r] += normal(rng);
          const std::vector<double> one = model.response(y);
          response.insert(response.end(), one.begin(), one.end());
        }
        kernels::FitJob job;
        job.shape = &s;
        job.design = &design;
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
      }
}

INSTANTIATE_TEST_SUITE_P(Mappings, CudaTeam, testing::Values("thread", "lanes", "warp", "block"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace batchlmm
