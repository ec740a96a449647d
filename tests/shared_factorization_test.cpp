// The shared factorization against the streaming tier: the same replicates, fitted on an interpolant and exactly.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "batchlmm/error.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/fit.hpp"
#include "kernels/cpu.hpp"
#include "kernels/interpolant.hpp"
#include "tests/interpolant_cases.hpp"

namespace batchlmm {
namespace {

// Under a sanitizer the same work with fewer replicates.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t thinned = 20;
#else
constexpr std::uint64_t thinned = 1;
#endif

using oracle::DesignBuilder;
using oracle::without_last_columns;
using oracle::without_last_term;
using Case = oracle::InterpolantCase;

/// Every replicate's deviance within 1e-8 of the streaming tier's; the share of boundary fits.
double expect_same_fits(const Case& c, std::uint64_t replicates) {
  const std::uint64_t n = std::max<std::uint64_t>(replicates / thinned, 32);
  const ChunkBuffers here = c.run(*c.engine, 0, n), there = c.run(c.engine->streaming(), 0, n);
  std::uint64_t singular = 0;
  const auto compare = [&](const char* which, const Model& model, const FitBuffers& a, const FitBuffers& b) {
    double worst = 0, lambda = 0;
    std::uint64_t unlike = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
      const double difference = std::abs(a.deviance[i] - b.deviance[i]);
      if (!(difference <= worst)) worst = difference;
      unlike += a.status[i] != b.status[i] || a.boundary[i] != b.boundary[i] || a.evaluations[i] == 0;
      singular += a.boundary[i] != 0;
      const auto k = static_cast<std::uint64_t>(model.shape().lambdas);
      for (std::uint64_t q = i * k; q < (i + 1) * k; ++q)
        lambda = std::max(lambda, std::abs(a.lambda[q] - b.lambda[q]) / (1 + b.lambda[q]));
    }
    EXPECT_LE(worst, 1e-8) << c.name << ", " << which;
    EXPECT_EQ(unlike, 0U) << c.name << ", " << which;
    // sqrt of the rounding of a variance ratio at 0 is what remains of it.
    EXPECT_LE(lambda, 1e-4) << c.name << ", " << which;
  };
  compare("null", *c.null, here.null, there.null);
  if (!c.models.refit()) compare("full", *c.full, here.full, there.full);
  // Else nothing was compared.
  EXPECT_LE(static_cast<double>(c.engine->fallbacks()), 0.01 * static_cast<double>(n) + 1) << c.name;
  EXPECT_LE(c.engine->null_tables().error(), 1e-9) << c.name;
  return static_cast<double>(singular) / static_cast<double>(n);
}

TEST(SharedFactorization, FitsCrossedDesignsAsTheStreamingTierDoes) {
  const auto balanced = DesignBuilder(1).cross(40, 24, 0).finish(4);
  const auto missing = DesignBuilder(2).cross(40, 24, 0.1).finish(4);
  const auto unbalanced = DesignBuilder(3).cross(50, 15, 0.7).finish(3);
  const auto skewed = DesignBuilder(3).skew(50, 20, 600).finish(3);

  expect_same_fits({"balanced", without_last_columns(*balanced, 1), balanced, {0.4, 0.5}}, 1000);
  expect_same_fits({"missing rows", without_last_columns(*missing, 1), missing, {0.4, 0.5}}, 2000);
  expect_same_fits({"three tested columns", without_last_columns(*missing, 3), missing, {1.0, 0.2}}, 1000);
  expect_same_fits({"unbalanced", without_last_columns(*unbalanced, 1), unbalanced, {0.7, 0.3}}, 1000);
  expect_same_fits({"skewed", without_last_columns(*skewed, 1), skewed, {0.5, 0.5}}, 1000);
}

TEST(SharedFactorization, FitsBoundaryReplicatesAsTheStreamingTierDoes) {
  const auto m = DesignBuilder(4).cross(40, 20, 0.3).finish(3);

  const double one = expect_same_fits({"one variance is zero", without_last_columns(*m, 1), m, {0.0, 0.4}}, 2000);
  const double both = expect_same_fits({"both variances are zero", without_last_columns(*m, 1), m, {0.0, 0.0}}, 2000);

  // About half of the estimates of a variance of zero are zero.
  EXPECT_GT(one, 0.5);
  EXPECT_GT(both, 1.0);
}

TEST(SharedFactorization, FitsOtherClassesOfModelsAsTheStreamingTierDoes) {
  DesignBuilder nested(5);
  {
    std::vector<int> inner, outer;
    for (int i = 0; i < 300; ++i) inner.push_back(i < 70 ? i : nested.pick(70));
    for (int l : inner) outer.push_back(l % 12);
    nested.factor(inner).factor(outer);
  }
  DesignBuilder single(6);
  {
    std::vector<int> level;
    level.reserve(240);
    for (int i = 0; i < 240; ++i) level.push_back(i < 60 ? i : single.pick(60));
    single.factor(level);
  }
  DesignBuilder three(7);
  {
    std::vector<int> a, b, c;
    for (int i = 0; i < 600; ++i) {
      a.push_back(i < 60 ? i : three.pick(60));
      b.push_back(i < 9 ? i : three.pick(9));
      c.push_back(i < 6 ? i : three.pick(6));
    }
    three.factor(a).factor(b).factor(c);
  }
  const auto n = nested.finish(3), s = single.finish(5), t = three.finish(2),
             slopes = DesignBuilder(8).cross(40, 12, 0.2).finish(3, true);

  expect_same_fits({"nested", without_last_columns(*n, 1), n, {0.6, 0.5}}, 1000);
  expect_same_fits({"single factor", without_last_columns(*s, 1), s, {0.5}}, 1000);
  expect_same_fits({"three factors", without_last_columns(*t, 1), t, {0.5, 0.4, 0.6}}, 300);
  expect_same_fits({"independent slopes", without_last_columns(*slopes, 1), slopes, {0.5, 0.4, 0.3}}, 300);
}

TEST(SharedFactorization, TestsARandomEffect) {
  const auto m = DesignBuilder(9).cross(40, 24, 0.1).finish(2);

  const double singular = expect_same_fits({"a random effect is tested", without_last_term(*m), m, {0.5}}, 1500);

  EXPECT_GT(singular, 0.3);
}

TEST(SharedFactorization, RefitsOneModel) {
  const auto m = DesignBuilder(10).cross(40, 24, 0.1).finish(4);

  expect_same_fits({"ML", m, m, {0.4, 0.5}}, 1000);
  expect_same_fits({"REML", m, m, {0.4, 0.5}, Method::reml}, 1000);
}

TEST(SharedFactorization, GivesReplicatesBeyondTheBoxToTheStreamingTier) {
  const auto m = DesignBuilder(11).cross(40, 24, 0.1).finish(3);
  const std::uint64_t n = 600;
  const Case c("a narrow box", without_last_columns(*m, 1), m, {0.4, 0.5}, Method::ml, 0.7);

  const ChunkBuffers here = c.run(*c.engine, 0, n), there = c.run(c.engine->streaming(), 0, n);

  // An estimate lies 0.7 standard deviations above its mean in a quarter of the replicates, of two in up to a half.
  EXPECT_GT(c.engine->fallbacks(), n / 6);
  EXPECT_LT(c.engine->fallbacks(), n * 2 / 3);
  double worst = 0;
  for (std::uint64_t i = 0; i < n; ++i)
    worst = std::max({worst, std::abs(here.null.deviance[i] - there.null.deviance[i]),
                      std::abs(here.full.deviance[i] - there.full.deviance[i])});
  EXPECT_LE(worst, 1e-8);
  EXPECT_EQ(here.null.status, there.null.status);
  EXPECT_EQ(here.full.status, there.full.status);
}

TEST(SharedFactorization, RefusesReplicatesThatItsTablesAreNotFor) {
  const auto m = DesignBuilder(12).cross(40, 24, 0.1).finish(3);
  const Case c("tables", without_last_columns(*m, 1), m, {0.3, 0.3});
  const std::uint64_t n = 200;
  std::vector<std::uint8_t> refused(n);
  const kernels::InterpolantChunk also{refused.data(), nullptr, nullptr};
  ChunkBuffers buffers;
  buffers.resize(c.null->shape(), &c.full->shape(), 0, n, false);
  const auto count = [&] { return std::count(refused.begin(), refused.end(), 1); };

  // Responses from variances a hundred times as large.
  const std::vector<double> far(c.full->shape().lambdas, 3.0);
  kernels::BootstrapJob draws = *c.engine->job().bootstrap;
  draws.sampler.lambda = far.data();
  kernels::InterpolantJob job = c.engine->job();
  job.bootstrap = &draws;
  kernels::cpu_kernels().interpolate(job, also, buffers.chunk);
  EXPECT_EQ(count(), static_cast<std::ptrdiff_t>(n));

  // What is held out is never exactly hit.
  job = c.engine->job();
  kernels::cpu_kernels().interpolate(job, also, buffers.chunk);
  EXPECT_EQ(count(), 0);
  job.null.tolerance = 1e-16;
  kernels::cpu_kernels().interpolate(job, also, buffers.chunk);
  EXPECT_EQ(count(), static_cast<std::ptrdiff_t>(n));

  // A response that is not finite.
  draws = *c.engine->job().bootstrap;
  draws.sampler.chi_square_degrees = std::numeric_limits<double>::infinity();
  job = c.engine->job();
  job.bootstrap = &draws;
  kernels::cpu_kernels().interpolate(job, also, buffers.chunk);
  EXPECT_EQ(count(), static_cast<std::ptrdiff_t>(n));
}

TEST(SharedFactorization, HeldOutNodesSeeAnInterpolantThatIsTooCoarse) {
  // A table entry is damaged: the interpolant is wrong and its optimum no longer to be trusted.
  const auto m = DesignBuilder(13).cross(40, 24, 0.1).finish(3);
  const Case c("tables", without_last_columns(*m, 1), m, {0.4, 0.5});
  const std::uint64_t n = 100;
  kernels::InterpolantJob job = c.engine->job();
  kernels::InterpolantLevel& level = job.null.level[1];
  const std::size_t one = kernels::packed_size(level.nodes + 1, level.columns);
  std::vector<double> shrink(level.shrink, level.shrink + one * static_cast<std::size_t>(level.parents));
  for (std::size_t i = 0; i < one; ++i) shrink[3 * one + i] *= 1 + 1e-8;
  level.shrink = shrink.data();
  std::vector<std::uint8_t> refused(n);
  ChunkBuffers buffers;
  buffers.resize(c.null->shape(), &c.full->shape(), 0, n, false);

  kernels::cpu_kernels().interpolate(job, {refused.data(), nullptr, nullptr}, buffers.chunk);

  EXPECT_EQ(std::count(refused.begin(), refused.end(), 1), static_cast<std::ptrdiff_t>(n));
}

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](double x, double y) {
           return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y);
         });
}

TEST(SharedFactorization, HasTheSameBitsForAnyChunksThreadsAndRanges) {
  const auto m = DesignBuilder(14).cross(40, 24, 0.1).finish(3);
  const Case c("bits", without_last_columns(*m, 1), m, {0.2, 0.3}, Method::ml, 2.0);
  const std::uint64_t first = (1ULL << 33) + 5, n = 500;

  const ChunkBuffers whole = c.run(*c.engine, first, n);
  std::vector<double> deviance0, deviance1, lambda0, lambda1;
  for (std::uint64_t begin = 0, length = 1; begin < n; begin += length, length = length * 2 + 1) {
    const ChunkBuffers part = c.run(*c.engine, first + begin, std::min(length, n - begin));
    deviance0.insert(deviance0.end(), part.null.deviance.begin(), part.null.deviance.end());
    deviance1.insert(deviance1.end(), part.full.deviance.begin(), part.full.deviance.end());
    lambda0.insert(lambda0.end(), part.null.lambda.begin(), part.null.lambda.end());
    lambda1.insert(lambda1.end(), part.full.lambda.begin(), part.full.lambda.end());
  }

  EXPECT_TRUE(same_bits(whole.null.deviance, deviance0));
  EXPECT_TRUE(same_bits(whole.full.deviance, deviance1));
  EXPECT_TRUE(same_bits(whole.null.lambda, lambda0));
  EXPECT_TRUE(same_bits(whole.full.lambda, lambda1));
  // Some of them by the streaming tier: a fall-back depends on the replicate alone.
  EXPECT_GT(c.engine->fallbacks(), 0U);

  const Bootstrap bootstrap(*c.null, *c.full, c.embedding, c.models.lambda, 2.0, 11, Tier::shared_factorization);
  std::vector<std::vector<double>> collected;
  for (int threads : {1, 2}) {
    BootstrapRun run;
    run.first = 100;
    run.count = 5000 / thinned;
    run.threads = threads;
    collected.emplace_back();
    run.collect = [&](const ReplicateBlock& block) {
      collected.back().insert(collected.back().end(), block.deviance_full.begin(), block.deviance_full.end());
    };
    const ReplicateSummary summary = bootstrap.run(run);
    EXPECT_EQ(summary.used, run.count);
  }
  EXPECT_TRUE(same_bits(collected[0], collected[1]));
}

TEST(SharedFactorization, HasTheSameBitsOnEveryInstructionSet) {
  const auto crossed = DesignBuilder(15).cross(40, 24, 0.1).finish(3);
  // Far from balanced: the other coordinate of the variance ratios.
  const auto skewed = DesignBuilder(16).skew(50, 20, 600).finish(3);
  for (const auto& m : {crossed, skewed}) {
    const Case c("bits", without_last_columns(*m, 1), m, {0.2, 0.5});
    EXPECT_EQ(c.engine->job().null.level[0].logarithmic, m == skewed);
    const std::uint64_t n = 70;
    std::vector<std::vector<double>> all;
    for (const kernels::CpuKernels* k : kernels::all_cpu_kernels()) {
      std::vector<std::uint8_t> refused(n);
      ChunkBuffers buffers;
      buffers.resize(c.null->shape(), &c.full->shape(), 3, n, false);
      k->interpolate(c.engine->job(), {refused.data(), nullptr, nullptr}, buffers.chunk);
      all.push_back(buffers.null.deviance);
      for (const std::vector<double>* more : {&buffers.full.deviance, &buffers.null.lambda, &buffers.full.lambda})
        all.back().insert(all.back().end(), more->begin(), more->end());
      all.back().insert(all.back().end(), refused.begin(), refused.end());
    }
    for (const std::vector<double>& other : all) EXPECT_TRUE(same_bits(all.front(), other));
  }
}

TEST(SharedFactorization, ParametersAreThoseOfTheStreamingTier) {
  const auto m = DesignBuilder(17).cross(40, 24, 0.1).finish(4);
  const Case c("parameters", without_last_columns(*m, 1), m, {0.1, 0.5});
  const std::uint64_t n = 200;

  const ChunkBuffers here = c.run(*c.engine, 0, n, true), there = c.run(c.engine->streaming(), 0, n, true),
                     without = c.run(*c.engine, 0, n);

  EXPECT_TRUE(same_bits(here.null.deviance, without.null.deviance));
  EXPECT_TRUE(same_bits(here.full.lambda, without.full.lambda));
  const auto compare = [](const std::vector<double>& a, const std::vector<double>& b, double relative) {
    double worst = 0;
    for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]) / (1 + std::abs(b[i])));
    EXPECT_LE(worst, relative);
  };
  // The optima are the same to 1e-9 in deviance: to the root of it in the variance ratios, which beta and r^2 follow.
  compare(here.null.r2, there.null.r2, 1e-4);
  compare(here.full.r2, there.full.r2, 1e-4);
  compare(here.null.beta, there.null.beta, 1e-4);
  compare(here.full.beta, there.full.beta, 1e-4);
}

TEST(SharedFactorization, SaysWhatItDoesNotTake) {
  const auto m = DesignBuilder(18).cross(40, 24, 0.1).finish(3);
  auto vector_term = std::make_shared<ModelMatrices>(*m);
  vector_term->random[0].z.conservativeResize(Eigen::NoChange, 2);
  vector_term->random[0].z.col(1) = m->X.col(1);
  vector_term->random[0].names.emplace_back("slope");
  const auto message = [](auto&& make) -> std::string {
    try {
      make();
    } catch (const ModelError& error) {
      return error.what();
    }
    return "no error";
  };

  const Model two(vector_term, Method::ml), one(m, Method::ml);
  const Eigen::MatrixXd x = Eigen::MatrixXd::Identity(3, 3);
  EXPECT_EQ(message([&] {
              SharedFactorization(two, x, {1, 0, 0, 1, 1});
            }),
            "shared factorization: it takes random-effects terms of one column each");
  EXPECT_NE(message([&] { SharedFactorization(one, x, {1e5, 1e5}); }), "no error");
}

TEST(SharedFactorization, IsChosenWhereItPays) {
  const auto large = DesignBuilder(19).cross(56, 32, 0.1).finish(8);
  const auto small = DesignBuilder(20).cross(7, 6, 0.0).finish(3);
  // Whatever the backend: a replicate must not depend on it.
  const auto tier_of = [](const std::shared_ptr<ModelMatrices>& m, bool cuda) {
    const Model full(m, Method::ml), null(without_last_columns(*m, 1), Method::ml);
    const Bootstrap bootstrap(null, full, embed(null, full), {0.4, 0.5}, 1.0, 1, std::nullopt, {cuda});
    return bootstrap.engine().tier();
  };

  for (const bool cuda : {false, true}) {
    EXPECT_EQ(tier_of(large, cuda), Tier::shared_factorization);
    EXPECT_NE(tier_of(small, cuda), Tier::shared_factorization);
  }
}

TEST(SharedFactorization, FitsKronmuellerAndBarr) {
  const std::string file = std::string(BATCHLMM_SHARED) + "/data/kb07.csv";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " is not there";
  const Table table = read_table(file);
  const auto matrices = [&](const std::string& fixed) {
    return std::make_shared<ModelMatrices>(
        model_matrices(parse_formula("rt_raw ~ " + fixed + " + (1 | subj) + (1 | item)"), table));
  };
  const auto m1 = matrices("spkr * prec * load"), m0 = matrices("(spkr + prec + load)^2");
  const Model null(m0, Method::ml);
  const Fit f = fit(null);
  const std::vector<double> lambda(f.theta.begin(), f.theta.end());

  expect_same_fits({"kb07", m0, m1, lambda}, 3000);
}

}  // namespace
}  // namespace batchlmm
