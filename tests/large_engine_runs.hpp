/// @file
/// Models for LargeEngine, and its results on a backend for comparison with another's.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "host/batch/large_engine.hpp"
#include "host/model/blas.hpp"
#include "tests/bootstrap_cases.hpp"
#include "tests/large_models.hpp"

namespace batchlmm::oracle {

/// Two crossed factors and a smaller one, the first with slopes where k = 2.
inline std::shared_ptr<ModelMatrices> crossed_on_three_factors(int k, std::uint64_t seed) {
  return crossed_levels(500, {{60, k}, {45, 1}, {5, 1}}, seed);
}

/// The same with one column of X and the first term's slopes less.
inline std::shared_ptr<ModelMatrices> without_slopes(const ModelMatrices& larger) {
  auto smaller = std::make_shared<ModelMatrices>(larger);
  smaller->X = larger.X.leftCols(2).eval();
  smaller->random[0].z = larger.random[0].z.leftCols(1).eval();
  smaller->random[0].names.resize(1);
  return smaller;
}

inline std::vector<double> generating(const Model& model) {
  std::vector<double> lambda(model.shape().lambdas, 0.0);
  for (int b = 0; b < model.shape().terms; ++b)
    for (int i = 0; i < model.shape().term[b].k; ++i)
      lambda[model.shape().term[b].lambda + i * (model.shape().term[b].k + 1)] = 0.6 - 0.2 * i - 0.1 * b;
  return lambda;
}

/// Replicates 0 .. count - 1, a few at a time by several threads.
struct EngineResults {
  /// @param full_model  null: the model is refitted
  EngineResults(const LargeEngine& engine, const Backend& backend, const Model& null_model, const Model* full_model,
                std::uint64_t count, int threads)
      : null(null_model.shape(), count), full((full_model != nullptr ? *full_model : null_model).shape(), count) {
    constexpr std::uint64_t length = 5;
    std::atomic<std::uint64_t> next{0};
    in_parallel(threads, [&](int) {
      for (std::uint64_t first = next.fetch_add(length); first < count; first = next.fetch_add(length)) {
        kernels::BootstrapChunk chunk;
        chunk.first = first;
        chunk.count = std::min(length, count - first);
        chunk.null = part(null, first);
        if (full_model != nullptr) chunk.full = part(full, first);
        engine.run(backend, true, chunk);
      }
    });
  }
  ResultArrays null, full;

private:
  static kernels::FitResults part(ResultArrays& all, std::uint64_t first) {
    const kernels::FitResults r = all.pointers();
    return {r.status + first,
            r.deviance + first,
            r.lambda + first * all.s.lambdas,
            r.boundary + first,
            r.evaluations + first,
            r.beta + first * all.s.p,
            r.r2 + first,
            nullptr,
            r.x_factor + first * kernels::triangle_size(all.s.p)};
  }
};

/// Equal statuses and singular terms, and the same optima: both stop short of it by 1e-9 at most.
inline void expect_the_same_fits(const ResultArrays& found, const ResultArrays& expected) {
  EXPECT_EQ(found.status, expected.status);
  EXPECT_EQ(found.boundary, expected.boundary);
  for (std::uint64_t i = 0; i < expected.items; ++i) {
    EXPECT_NEAR(found.deviance[i], expected.deviance[i], 2e-9) << "replicate " << i;
    EXPECT_NEAR(found.r2[i], expected.r2[i], 1e-3 * expected.r2[i]) << "replicate " << i;
  }
}

}  // namespace batchlmm::oracle
