// Tier 1 on a CUDA device, by the kernel text and by code made for the model: the bits of the CPU's tiles.
#include "kernels/cuda_strata.hpp"

#include <gtest/gtest.h>

#include <memory>

#include "host/batch/bootstrap.hpp"
#include "host/batch/chunk_buffers.hpp"
#include "host/batch/strata_engine.hpp"
#include "host/batch/streaming_engine.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/model/model_matrices.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"

namespace batchlmm {
namespace {

/// Results of one chunk of a likelihood-ratio test.
struct Results {
  Results(const kernels::BootstrapJob& job, std::uint64_t first, std::uint64_t n) {
    chunk.first = first;
    chunk.count = n;
    chunk.null = null.resize(*job.null, n, false);
    chunk.full = full.resize(*job.full, n, false);
  }
  FitBuffers null, full;
  kernels::BootstrapChunk chunk;
};

std::uint64_t differing(const FitBuffers& a, const FitBuffers& b) {
  const std::size_t lambdas = a.lambda.size() / a.status.size();
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < a.status.size(); ++i) {
    bool same = a.status[i] == b.status[i] && a.deviance[i] == b.deviance[i] && a.boundary[i] == b.boundary[i] &&
                a.evaluations[i] == b.evaluations[i];
    for (std::size_t q = 0; q < lambdas; ++q) same = same && a.lambda[i * lambdas + q] == b.lambda[i * lambdas + q];
    count += !same;
  }
  return count;
}

class CudaStrata : public testing::Test {
protected:
  void SetUp() override {
    const kernels::CudaStatus status = kernels::cuda_status();
    if (!status.usable) GTEST_SKIP() << status.why;
    const Table table = read_table(BATCHLMM_TEST_DATA "/politeness.csv", {});
    const auto model = [&](const std::string& fixed) {
      return std::make_unique<Model>(
          std::make_shared<const ModelMatrices>(
              model_matrices(parse_formula("frequency ~ " + fixed + " + (1|subject) + (1|scenario)"), table)),
          Method::ml);
    };
    null = model("gender");
    full = model("attitude + gender");
  }
  [[nodiscard]] Bootstrap bootstrap(Tier tier) const {
    return Bootstrap(*null, *full, embed(*null, *full), {0.9, 0.4}, 1.0, 7, tier);
  }
  std::unique_ptr<Model> null, full;
};

constexpr std::uint64_t first = (1ULL << 40) + 3, count = 1'000'000;

TEST_F(CudaStrata, ByTheTextHasTheBitsOfTheCpu) {
  const Bootstrap b = bootstrap(Tier::symmetry);
  const kernels::StrataJob& job = dynamic_cast<const StrataEngine&>(b.engine()).job();
  Results device(job.job, first, 50'000), host(job.job, first, 50'000);

  kernels::cuda_strata_bootstrap(job, device.chunk);
  kernels::cpu_kernels().strata->bootstrap(job, host.chunk);

  EXPECT_EQ(differing(device.null, host.null), 0u);
  EXPECT_EQ(differing(device.full, host.full), 0u);
}

TEST_F(CudaStrata, ByCodeForTheModelHasTheBitsOfTheCpu) {
  // The engine makes the code.
  const Bootstrap b = bootstrap(Tier::symmetry);
  const kernels::StrataJob& job = dynamic_cast<const StrataEngine&>(b.engine()).job();
  Results device(job.job, first, count), host(job.job, first, count);

  b.engine().run(Backend{true}, false, device.chunk);
  b.engine().run(Backend{}, false, host.chunk);

  EXPECT_EQ(differing(device.null, host.null), 0u);
  EXPECT_EQ(differing(device.full, host.full), 0u);
}

TEST_F(CudaStrata, ByRowsAndCodeForTheModelHasTheBitsOfTheCpu) {
  const Bootstrap b = bootstrap(Tier::streaming);
  const kernels::BootstrapJob& job = dynamic_cast<const StreamingEngine&>(b.engine()).job();
  Results device(job, first, count), host(job, first, count);

  b.engine().run(Backend{true}, false, device.chunk);
  b.engine().run(Backend{}, false, host.chunk);

  EXPECT_EQ(differing(device.null, host.null), 0u);
  EXPECT_EQ(differing(device.full, host.full), 0u);
}

}  // namespace
}  // namespace batchlmm
