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

/// What a run leaves of every replicate.
struct Collected {
  std::vector<Status> status;
  std::vector<double> statistic, deviance_null, deviance_full;
  ReplicateSummary summary;
};

Collected collect(const Bootstrap& bootstrap, const Backend& backend) {
  Collected all;
  BootstrapRun run;
  run.first = first;
  run.count = count;
  run.observed = 3.84;
  run.backend = backend;
  run.threads = thread_count(0);
  run.collect = [&](const ReplicateBlock& block) {
    all.status.insert(all.status.end(), block.status.begin(), block.status.end());
    all.statistic.insert(all.statistic.end(), block.statistic.begin(), block.statistic.end());
    all.deviance_null.insert(all.deviance_null.end(), block.deviance_null.begin(), block.deviance_null.end());
    all.deviance_full.insert(all.deviance_full.end(), block.deviance_full.begin(), block.deviance_full.end());
  };
  all.summary = bootstrap.run(run);
  return all;
}

struct TestModel {
  const char *name, *table, *factors, *null, *full;  ///< full: null where the model is refitted
  Tier tier;
};
void PrintTo(const TestModel& model, std::ostream* out) { *out << model.name; }

class CudaTestModels : public testing::TestWithParam<TestModel> {};

TEST_P(CudaTestModels, AMillionReplicatesHaveTheBitsOfTheCpu) {
  const kernels::CudaStatus found = kernels::cuda_status();
  if (!found.usable) GTEST_SKIP() << found.why;
  // Arrange
  const TestModel& c = GetParam();
  const Table table =
      read_table(std::string(BATCHLMM_TEST_DATA) + "/" + c.table + ".csv",
                 {c.factors == nullptr ? std::vector<std::string>{} : std::vector<std::string>{c.factors}});
  const auto model = [&](const char* formula) {
    return std::make_unique<Model>(std::make_shared<const ModelMatrices>(model_matrices(parse_formula(formula), table)),
                                   Method::ml);
  };
  const std::unique_ptr<Model> null = model(c.null), full = c.full == nullptr ? nullptr : model(c.full);
  std::vector<double> lambda(null->shape().lambdas, 0.0);
  for (int b = 0; b < null->shape().terms; ++b)
    for (int i = 0; i < null->shape().term[b].k; ++i)
      lambda[null->shape().term[b].lambda + i * null->shape().term[b].k + i] = 0.6;
  const Bootstrap bootstrap = full == nullptr ? Bootstrap(*null, lambda, 1.0, 11, c.tier)
                                              : Bootstrap(*null, *full, embed(*null, *full), lambda, 1.0, 11, c.tier);

  // Act
  const Collected device = collect(bootstrap, Backend{true}), host = collect(bootstrap, Backend{});

  // Assert: statuses, statistics and deviances, bit by bit; and the counts, with and without replicates coming home.
  EXPECT_EQ(device.status, host.status);
  EXPECT_EQ(device.statistic, host.statistic);
  EXPECT_EQ(device.deviance_null, host.deviance_null);
  EXPECT_EQ(device.deviance_full, host.deviance_full);
  BootstrapRun counted;
  counted.first = first;
  counted.count = count;
  counted.observed = 3.84;
  counted.backend = Backend{true};
  const ReplicateSummary alone = bootstrap.run(counted);
  EXPECT_EQ(alone.used, host.summary.used);
  EXPECT_EQ(alone.extreme, host.summary.extreme);
  EXPECT_EQ(alone.zero, host.summary.zero);
  EXPECT_EQ(alone.status, host.summary.status);
  EXPECT_EQ(alone.sum_statistic, host.summary.sum_statistic);
}

INSTANTIATE_TEST_SUITE_P(
    Models, CudaTestModels,
    testing::Values(
        TestModel{"politeness", "politeness", nullptr, "frequency ~ gender + (1|subject) + (1|scenario)",
                  "frequency ~ attitude + gender + (1|subject) + (1|scenario)", Tier::symmetry},
        TestModel{"politeness_rows", "politeness", nullptr, "frequency ~ gender + (1|subject) + (1|scenario)",
                  "frequency ~ attitude + gender + (1|subject) + (1|scenario)", Tier::streaming},
        TestModel{"sleepstudy", "sleepstudy", "Subject", "Reaction ~ Days + (Days|Subject)", nullptr, Tier::symmetry},
        TestModel{"sleepstudy_rows", "sleepstudy", "Subject", "Reaction ~ 1 + (Days|Subject)",
                  "Reaction ~ Days + (Days|Subject)", Tier::streaming},
        TestModel{"dyestuff", "dyestuff", nullptr, "Yield ~ 1 + (1|Batch)", nullptr, Tier::symmetry},
        TestModel{"pastes", "pastes", nullptr, "strength ~ 1 + (1|sample)", "strength ~ 1 + (1|sample) + (1|batch)",
                  Tier::streaming},
        TestModel{"penicillin", "penicillin", nullptr, "diameter ~ 1 + (1|plate)",
                  "diameter ~ 1 + (1|plate) + (1|sample)", Tier::symmetry}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace batchlmm
