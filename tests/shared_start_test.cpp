// The shared first evaluation: its sums are those of an evaluation, and its scoring step takes the place of one.
#include "host/batch/shared_start.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "host/batch/chunk_buffers.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/model/model_matrices.hpp"
#include "kernels/cpu.hpp"
#include "tests/bootstrap_cases.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;

std::vector<double> some_lambda(const kernels::Shape& s, std::uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::uniform_real_distribution<double> uniform(0.2, 1.2);
  std::vector<double> lambda(s.lambdas, 0.0);
  for (int b = 0; b < s.terms; ++b)
    for (int i = 0; i < s.term[b].k; ++i)
      for (int j = 0; j <= i; ++j) lambda[s.term[b].lambda + i * s.term[b].k + j] = uniform(rng) * (i == j ? 1 : -0.4);
  return lambda;
}

TEST(SharedStart, SumsAreThoseOfAnEvaluation) {
  for (Kind kind : {Kind::single, Kind::crossed, Kind::partially_crossed, Kind::same_factor})
    for (int k : {1, 2, 3})
      for (Method method : {Method::ml, Method::reml}) {
        SCOPED_TRACE(testing::Message() << "kind " << static_cast<int>(kind) << ", k " << k);
        // Arrange
        const Model model(oracle::random_model(kind, k, 40 + k), method);
        const kernels::Shape& s = model.shape();
        const std::vector<double> lambda = some_lambda(s, 3);
        const auto shared = SharedStartData::make(model, lambda.data());
        ASSERT_NE(shared, nullptr);
        kernels::Arena<double*> count{nullptr};
        (void)kernels::make_shared_start_scratch(s, count);
        std::vector<double> memory(count.used), scratch(kernels::cpu_kernels().scratch(s));
        kernels::Arena<double*> arena{memory.data()};
        const auto x = kernels::make_shared_start_scratch(s, arena);
        std::mt19937_64 rng(9);
        std::normal_distribution<double> normal;
        for (int trial = 0; trial < 3; ++trial) {
          Eigen::VectorXd y = model.matrices().y;
          for (double& value : y) value += normal(rng);
          const std::vector<double> response = model.response(y);

          // Act
          const double r2 = kernels::shared_sums<double>(s, shared->constants(), response.data(), x);
          const kernels::ScalarEvaluation e =
              kernels::cpu_kernels().evaluate(s, model.design(), response.data(), lambda.data(), scratch.data(), true);

          // Assert: c = Z'Py is left by the evaluation, streamed levels first
          ASSERT_TRUE(e.ok);
          EXPECT_NEAR(r2, e.r2, 1e-10 * e.r2);
          std::vector<double> sums(s.parameters, 0.0);
          for (int b = 0; b < s.terms; ++b) {
            const kernels::TermShape& term = s.term[b];
            const int levels = term.stage == 0 ? s.nodes[0] : term.levels, stride = term.stage == 0 ? s.own[0] : term.k,
                      first = (term.stage == 0 ? 0 : s.nodes[0] * s.own[0]) + term.column;
            for (int l = 0; l < levels; ++l)
              for (int i = 0; i < term.k; ++i)
                for (int j = 0; j <= i; ++j)
                  sums[term.parameter + kernels::triangle(i, j)] +=
                      e.modes[first + l * stride + i] * e.modes[first + l * stride + j] * (i == j ? 1 : 2);
          }
          for (int a = 0; a < s.parameters; ++a) EXPECT_NEAR(x.s[a], sums[a], 1e-9 * (1 + std::abs(sums[a]))) << a;
        }
      }
}

TEST(SharedStart, NestedFactorsHaveNone) {
  const Model model(oracle::random_model(Kind::nested, 1, 5), Method::ml);
  const std::vector<double> lambda = some_lambda(model.shape(), 3);
  EXPECT_EQ(SharedStartData::make(model, lambda.data()), nullptr);
}

TEST(SharedStart, TakesThePlaceOfAnEvaluation) {
  // Where the truth is well inside the cone half an evaluation a fit or more is saved, and no optimum changes.
  const auto m =
      std::make_shared<ModelMatrices>(model_matrices(parse_formula("Reaction ~ Days + (Days|Subject)"),
                                                     read_table(BATCHLMM_TEST_DATA "/sleepstudy.csv", {{"Subject"}})));
  for (RandomTerm& term : m->random) ASSERT_EQ(term.z.cols(), 2);
  const Model model(m, Method::ml);
  const std::vector<double> truth = some_lambda(model.shape(), 1);
  const Bootstrap bootstrap(model, truth, 1.0, 11, Tier::streaming);
  kernels::BootstrapJob job = oracle::streaming_job(bootstrap);
  ASSERT_NE(job.null_shared, nullptr);
  constexpr std::uint64_t n = 2'000;
  ChunkBuffers with, without;
  with.resize(model.shape(), nullptr, 0, n, false);
  without.resize(model.shape(), nullptr, 0, n, false);
  kernels::cpu_kernels().bootstrap(job, with.chunk);
  job.null_shared = nullptr;
  kernels::cpu_kernels().bootstrap(job, without.chunk);
  const auto evaluations = [](const ChunkBuffers& b) {
    return std::accumulate(b.null.evaluations.begin(), b.null.evaluations.end(), 0.0) / static_cast<double>(n);
  };
  EXPECT_LT(evaluations(with), evaluations(without) - 0.5);
  for (std::uint64_t i = 0; i < n; ++i) {
    EXPECT_NEAR(with.null.deviance[i], without.null.deviance[i], 1e-8) << i;
    EXPECT_LE(with.null.status[i], 1);
  }
}

}  // namespace
}  // namespace batchlmm
