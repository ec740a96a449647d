// The batch engine: the same bits however the work is divided, the right distribution, the right optimum, every
// replicate accounted for.
#include "host/batch/bootstrap.hpp"

#include <gtest/gtest.h>

#include <Eigen/Cholesky>
#include <cmath>
#include <cstring>

#include "host/data/read.hpp"
#include "host/inference/fit.hpp"
#include "host/inference/lrt.hpp"
#include "kernels/cpu.hpp"
#include "tests/bootstrap_cases.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;
using oracle::streaming_job;

// Under a sanitizer the same work with fewer replicates.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t thinned = 20;
#else
constexpr std::uint64_t thinned = 1;
#endif

std::shared_ptr<const ModelMatrices> matrices(const std::string& formula, const std::string& file,
                                              const std::vector<std::string>& factors = {}) {
  return std::make_shared<ModelMatrices>(
      model_matrices(parse_formula(formula), read_table(std::string(BATCHLMM_TEST_DATA) + "/" + file, {factors})));
}

/// Two nested models with the null's fit as the truth.
struct Pair {
  Pair(std::shared_ptr<const ModelMatrices> m0, std::shared_ptr<const ModelMatrices> m1, std::uint64_t seed,
       std::optional<Tier> tier = Tier::streaming)
      : null(std::move(m0), Method::ml), full(std::move(m1), Method::ml), embedding(embed(null, full)) {
    const Fit f = fit(null);
    lambda.assign(null.shape().lambdas, 0.0);
    for (int b = 0; b < null.shape().terms; ++b) {
      const kernels::TermShape& t = null.shape().term[b];
      const Eigen::MatrixXd l = null.from_user_lambda(b, f.random[null.term_of(b)].lambda);
      for (int i = 0; i < t.k; ++i)
        for (int j = 0; j < t.k; ++j) lambda[t.lambda + i * t.k + j] = l(i, j);
    }
    bootstrap = std::make_unique<Bootstrap>(null, full, embedding, lambda, f.sigma, seed, tier);
  }
  Model null, full;
  Embedding embedding;
  std::vector<double> lambda;
  std::unique_ptr<Bootstrap> bootstrap;
};

Pair politeness(std::uint64_t seed = 1) {
  return {matrices("frequency ~ gender + (1|subject) + (1|scenario)", "politeness.csv"),
          matrices("frequency ~ attitude + gender + (1|subject) + (1|scenario)", "politeness.csv"), seed};
}

struct Collected {
  std::vector<double> statistic, deviance_null, deviance_full, lambda_full;
  std::vector<Status> status;
  ReplicateSummary summary;
};

Collected collect(const Bootstrap& b, std::uint64_t first, std::uint64_t count, int threads, bool parameters = false) {
  Collected c;
  BootstrapRun run;
  run.first = first;
  run.count = count;
  run.threads = threads;
  run.parameters = parameters;
  run.observed = 3.841458820694124;
  run.collect = [&](const ReplicateBlock& block) {
    EXPECT_EQ(block.first, first + c.statistic.size());
    c.statistic.insert(c.statistic.end(), block.statistic.begin(), block.statistic.end());
    c.deviance_null.insert(c.deviance_null.end(), block.deviance_null.begin(), block.deviance_null.end());
    c.deviance_full.insert(c.deviance_full.end(), block.deviance_full.begin(), block.deviance_full.end());
    c.lambda_full.insert(c.lambda_full.end(), block.lambda_full.begin(), block.lambda_full.end());
    c.status.insert(c.status.end(), block.status.begin(), block.status.end());
  };
  c.summary = b.run(run);
  return c;
}

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

TEST(Bootstrap, HasTheSameBitsForAnyThreadsAndRanges) {
  // Arrange
  const Pair p = politeness();
  const std::uint64_t n = 10'000;

  // Act
  const Collected one = collect(*p.bootstrap, 0, n, 1), two = collect(*p.bootstrap, 0, n, 2);
  Collected parts;
  for (std::uint64_t at = 0; at < n;) {
    const std::uint64_t count = std::min<std::uint64_t>(n - at, 1 + (at * 7919) % 3001);
    const Collected part = collect(*p.bootstrap, at, count, 1 + static_cast<int>(at % 2), true);
    parts.statistic.insert(parts.statistic.end(), part.statistic.begin(), part.statistic.end());
    parts.lambda_full.insert(parts.lambda_full.end(), part.lambda_full.begin(), part.lambda_full.end());
    at += count;
  }

  // Assert
  EXPECT_TRUE(same_bits(one.statistic, two.statistic));
  EXPECT_TRUE(same_bits(one.lambda_full, two.lambda_full));
  EXPECT_TRUE(same_bits(one.statistic, parts.statistic));
  EXPECT_TRUE(same_bits(one.lambda_full, parts.lambda_full));
  EXPECT_EQ(one.summary.sum_statistic, two.summary.sum_statistic);
}

TEST(Bootstrap, HasTheSameBitsOnEveryInstructionSetAndTileWidth) {
  const Pair crossed = politeness();
  const Pair slopes{matrices("Reaction ~ 1 + (Days|Subject)", "sleepstudy.csv", {"Subject"}),
                    matrices("Reaction ~ Days + (Days|Subject)", "sleepstudy.csv", {"Subject"}), 5};
  for (const Pair* pair : {&crossed, &slopes}) {
    const Pair& p = *pair;
    std::vector<std::vector<double>> all;
    const std::uint64_t n = 1500;
    for (const kernels::CpuKernels* k : kernels::all_cpu_kernels()) {
      std::vector<std::uint8_t> s0(n), s1(n);
      std::vector<double> d0(n), d1(n), l0(n * p.null.shape().lambdas), l1(n * p.full.shape().lambdas);
      kernels::BootstrapChunk chunk;
      chunk.first = (1ULL << 32) - 700;  // indices beyond 32 bits
      chunk.count = n;
      chunk.null = {s0.data(), d0.data(), l0.data(), nullptr, nullptr, nullptr, nullptr};
      chunk.full = {s1.data(), d1.data(), l1.data(), nullptr, nullptr, nullptr, nullptr};
      k->bootstrap(streaming_job(*p.bootstrap), chunk);
      d0.insert(d0.end(), d1.begin(), d1.end());
      d0.insert(d0.end(), l1.begin(), l1.end());
      all.push_back(d0);
    }
    for (const auto& other : all) EXPECT_TRUE(same_bits(all.front(), other));
  }
}

TEST(Bootstrap, PolitenessHasTheNullDistributionThatTheTheoryAllows) {
  // Arrange
  const Pair p = politeness(2);
  const std::uint64_t n = 100'000 / thinned;

  // Act
  const Collected c = collect(*p.bootstrap, 0, n, 2);

  // Assert
  EXPECT_EQ(c.summary.replicates, n);
  EXPECT_EQ(c.summary.used, n);
  std::uint64_t counted = 0;
  for (std::uint64_t k : c.summary.status) counted += k;
  EXPECT_EQ(counted, n);
  EXPECT_NEAR(static_cast<double>(c.summary.extreme) / static_cast<double>(n), 0.053, thinned == 1 ? 0.005 : 0.015);
  // One more coefficient: close to chi-square with 1 df, a little longer in the tail; standard error of the mean
  // 0.0046.
  const double mean = c.summary.sum_statistic / static_cast<double>(n);
  EXPECT_NEAR(mean, 1.03, thinned == 1 ? 0.04 : 0.12);
  // P(chi-square_1 <= 1e-8) = 8e-5: exact zeros are as rare as that (Poisson with mean 8: below 30).
  EXPECT_LT(c.summary.zero, 30U);
  for (double t : c.statistic) ASSERT_GE(t, 0);
}

/// Largest excess of the engine's optima over those of a search from every starting point to full precision, and how
/// many exceed 1e-8.
void expect_best_optima(const Pair& p, std::uint64_t replicates, const char* what) {
  const std::uint64_t n = replicates / thinned;
  kernels::BootstrapJob job = streaming_job(*p.bootstrap);
  const auto run = [&](std::vector<double>& d0, std::vector<double>& d1) {
    std::vector<std::uint8_t> s0(n), s1(n);
    std::vector<double> l0(n * p.null.shape().lambdas), l1(n * p.full.shape().lambdas);
    d0.resize(n);
    d1.resize(n);
    kernels::BootstrapChunk chunk;
    chunk.first = 1'000'000;
    chunk.count = n;
    chunk.null = {s0.data(), d0.data(), l0.data(), nullptr, nullptr, nullptr, nullptr};
    chunk.full = {s1.data(), d1.data(), l1.data(), nullptr, nullptr, nullptr, nullptr};
    kernels::cpu_kernels().bootstrap(job, chunk);
    int bad = 0;
    for (std::uint64_t i = 0; i < n; ++i) bad += s0[i] > 1 || s1[i] > 1;
    return bad;
  };
  std::vector<double> a0, a1, b0, b1;
  EXPECT_EQ(run(a0, a1), 0) << what;
  // Every shared starting point (shared_starts): the generating value, three ratios, and every term in turn at zero.
  const auto every = [](const kernels::Shape& shape) {
    return kernels::NewtonOptions{1e-13, 200, 4 + (shape.terms > 1 ? shape.terms : 0)};
  };
  job.null_options = every(p.null.shape());
  job.full_options = every(p.full.shape());
  run(b0, b1);
  int wrong = 0;
  double lower = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    wrong += a0[i] > b0[i] + 1e-8 || a1[i] > b1[i] + 1e-8;
    lower = std::max({lower, b0[i] - a0[i], b1[i] - a1[i]});
  }
  EXPECT_EQ(wrong, 0) << what;
  EXPECT_LT(lower, 1e-8) << what;
}

TEST(Bootstrap, FindsTheBestOptimum) {
  expect_best_optima(politeness(3), 20'000, "politeness");
  if (thinned > 1) GTEST_SKIP() << "the other designs are left out under a sanitizer";
  expect_best_optima({matrices("Reaction ~ 1 + (Days|Subject)", "sleepstudy.csv", {"Subject"}),
                      matrices("Reaction ~ Days + (Days|Subject)", "sleepstudy.csv", {"Subject"}), 4},
                     20'000, "sleepstudy");
  expect_best_optima(
      {matrices("frequency ~ gender + (1 + attitude|subject) + (1 + attitude|scenario)", "politeness.csv"),
       matrices("frequency ~ attitude + gender + (1 + attitude|subject) + (1 + attitude|scenario)", "politeness.csv"),
       5},
      5'000, "politeness, slopes");
  expect_best_optima({matrices("diameter ~ 1 + (1|plate)", "penicillin.csv"),
                      matrices("diameter ~ 1 + (1|plate) + (1|sample)", "penicillin.csv"), 6},
                     5'000, "penicillin, variance");
  expect_best_optima({matrices("strength ~ 1 + (1|batch:cask)", "pastes.csv"),
                      matrices("strength ~ 1 + (1|batch/cask)", "pastes.csv"), 7},
                     5'000, "pastes, nested variance");
}

TEST(Bootstrap, FindsTheBestOptimumInUnbalancedDesigns) {
  // Few levels, most rows in one of them: several minima are common there.
  for (int seed = 0; seed < (thinned > 1 ? 1 : 6); ++seed)
    for (Kind kind : {Kind::single, Kind::crossed, Kind::nested, Kind::partially_crossed}) {
      const auto m1 = oracle::random_model(kind, 1 + seed % 2, 500 + seed);
      for (RandomTerm& term : m1->random)
        for (std::size_t i = term.levels.size(); i < term.level_of_row.size(); ++i)
          if (kind != Kind::nested && i % 3 != 0) term.level_of_row[i] = 0;
      auto m0 = std::make_shared<ModelMatrices>(*m1);
      if (m0->X.cols() < 2) continue;
      m0->X = m1->X.leftCols(1).eval();
      m0->x_names.resize(1);
      expect_best_optima({m0, m1, 8}, 3'000,
                         ("unbalanced " + std::to_string(static_cast<int>(kind)) + " " + std::to_string(seed)).c_str());
    }
}

TEST(Bootstrap, DrawsResponsesWithTheModelsMoments) {
  // Response vectors are linear in y but for y'y: their covariance under the model is known. 5 standard errors over
  // about 2,000 entries.
  for (Kind kind : {Kind::single, Kind::nested, Kind::crossed, Kind::nested_and_crossed, Kind::deep, Kind::same_factor})
    for (bool other_null : {false, true}) {
      // Arrange
      const auto m1 = oracle::random_model(kind, 2, 77);
      auto m0 = std::make_shared<ModelMatrices>(*m1);
      if (m0->X.cols() > 1) m0->X = m1->X.leftCols(1).eval(), m0->x_names.resize(1);
      m0->formula = "null";
      if (other_null && m0->random.size() > 1) m0->random.erase(m0->random.begin());
      if (m0->X.cols() == m1->X.cols() && m0->random.size() == m1->random.size()) continue;
      const Model null(m0, Method::ml), full(m1, Method::ml);
      const Embedding embedding = embed(null, full);
      const kernels::Shape &s0 = null.shape(), &s1 = full.shape();
      std::vector<double> lambda(s0.lambdas);
      for (int i = 0; i < s0.lambdas; ++i) lambda[i] = 0.3 + 0.5 * std::sin(i + 1.0);
      const SamplerData data(full, null, embedding.apply(null, full, lambda));
      const Eigen::Index n = m1->y.size();
      Eigen::MatrixXd V = Eigen::MatrixXd::Identity(n, n);
      for (int b = 0; b < s0.terms; ++b) {
        const int k = s0.term[b].k;
        RandomTerm term = m0->random[null.term_of(b)];
        term.z = null.z_gauge(null.term_of(b)).columns;
        const Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> l(
            lambda.data() + s0.term[b].lambda, k, k);
        const Eigen::MatrixXd z = oracle::dense_z(term);
        for (Eigen::Index g = 0; g < z.cols() / k; ++g)
          V += z.middleCols(g * k, k) * l * l.transpose() * z.middleCols(g * k, k).transpose();
      }
      const auto functionals = [&](const Model& model) {
        Eigen::MatrixXd b(model.shape().response - 1, n);
        for (Eigen::Index i = 0; i < n; ++i) {
          const std::vector<double> r = model.response(Eigen::VectorXd::Unit(n, i));
          b.col(i) = Eigen::Map<const Eigen::VectorXd>(r.data(), model.shape().response - 1);
        }
        return b;
      };
      for (bool which : {false, true}) {
        const Model& model = which ? full : null;
        const Eigen::MatrixXd b = functionals(model);
        const Eigen::MatrixXd truth = b * V * b.transpose();
        // y'y left: tr(M V) with M the projector off the streamed levels.
        double expected_left = 0;
        for (Eigen::Index i = 0; i < n; ++i) {
          const Eigen::VectorXd column = V.col(i);
          const std::vector<double> r = model.response(column), e = model.response(Eigen::VectorXd::Unit(n, i));
          double left = column[i];
          for (int q = 0; q < model.shape().nodes[0] * model.shape().own[0]; ++q) left -= r[q] * e[q];
          expected_left += left;
        }

        // Act
        const int draws = 40'000 / static_cast<int>(thinned);
        std::vector<double> r1(s1.response), r0(s0.response), scratch(s1.columns() + data.sampler().rows + 1);
        Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(truth.rows(), truth.cols());
        Eigen::VectorXd mean = Eigen::VectorXd::Zero(truth.rows());
        double left = 0, left2 = 0;
        for (int i = 0; i < draws; ++i) {
          kernels::draw_replicate<double>(s1, full.design(), data.sampler(), 99, static_cast<std::uint64_t>(i),
                                          r1.data(), r0.data(), scratch.data(), scratch.data() + s1.columns());
          const std::vector<double>& r = which ? r1 : r0;
          const Eigen::Map<const Eigen::VectorXd> v(r.data(), truth.rows());
          mean += v;
          sum.selfadjointView<Eigen::Lower>().rankUpdate(v);
          left += r.back();
          left2 += r.back() * r.back();
        }

        // Assert
        mean /= draws;
        left /= draws;
        const double left_error = std::sqrt((left2 / draws - left * left) / draws);
        EXPECT_NEAR(left, expected_left, 5 * left_error + 1e-9) << static_cast<int>(kind) << which;
        for (Eigen::Index i = 0; i < truth.rows(); ++i) {
          EXPECT_NEAR(mean[i], 0, 5 * std::sqrt(truth(i, i) / draws) + 1e-9);
          for (Eigen::Index j = 0; j <= i; ++j)
            EXPECT_NEAR(sum(i, j) / draws, truth(i, j),
                        5 * std::sqrt((truth(i, i) * truth(j, j) + truth(i, j) * truth(i, j)) / draws) + 1e-8)
                << "kind " << static_cast<int>(kind) << (which ? " full " : " null ") << i << " " << j;
        }
      }
    }
}

TEST(Bootstrap, RefitsAreTheNullFitsOfTheSameModel) {
  const Pair p = politeness(9);
  const Bootstrap refits(p.full, p.embedding.apply(p.null, p.full, p.lambda), 1.0, 9, Tier::streaming);
  const std::uint64_t n = 3'000 / thinned;

  const Collected one = collect(refits, 0, n, 1), two = collect(refits, 0, n, 2);
  const Collected test = collect(*p.bootstrap, 0, n, 1);

  EXPECT_TRUE(same_bits(one.deviance_null, two.deviance_null));
  EXPECT_TRUE(one.deviance_full.empty());
  EXPECT_EQ(one.summary.used, n);
  EXPECT_EQ(one.summary.evaluations_full, 0U);
  // The same draws: the full model's fit of the test's replicate, but for the generating sigma.
  const double shift = p.full.shape().degrees * 2 * std::log(fit(p.null).sigma);
  for (std::uint64_t i = 0; i < n; ++i) ASSERT_NEAR(one.deviance_null[i] + shift, test.deviance_full[i], 1e-8);
}

TEST(Bootstrap, ParametersAreTheFitOfTheReplicate) {
  // A replicate's deviances and parameters, in the user's units, stand in the file that --out writes: checked on the
  // first rows against the identity deviance = n (1 + log(2 pi sigma^2)) + log|V|.
  const auto m0 = matrices("frequency ~ gender + (1|subject) + (1|scenario)", "politeness.csv");
  const auto m1 = matrices("frequency ~ attitude + gender + (1|subject) + (1|scenario)", "politeness.csv");
  BootstrapOptions options;
  options.replicates = 50;
  options.backend = BackendChoice::cpu;
  options.out = testing::TempDir() + "/replicates.csv";
  const LikelihoodRatioTest test = likelihood_ratio_test(m0, m1, options);
  const Table t = read_table(options.out);
  ASSERT_EQ(t.rows, 50U);
  const auto column = [&](const char* name) { return std::get<Numeric>(t.find(name)->data); };
  const Numeric deviance = column("deviance_full"), sigma = column("full.sigma"),
                a = column("full.theta.scenario.(Intercept)"), b = column("full.theta.subject.(Intercept)");
  double mean_intercept = 0;
  for (std::size_t i = 0; i < t.rows; ++i) {
    std::vector<Eigen::MatrixXd> lambda;
    for (const RandomTerm& term : m1->random)
      lambda.emplace_back(Eigen::MatrixXd::Constant(1, 1, term.group == "scenario" ? a[i] : b[i]));
    Eigen::MatrixXd V = Eigen::MatrixXd::Identity(m1->y.size(), m1->y.size());
    for (std::size_t q = 0; q < 2; ++q) {
      const Eigen::MatrixXd z = oracle::dense_z(m1->random[q]) * lambda[q](0, 0);
      V += z * z.transpose();
    }
    const double log_det = 2 * Eigen::MatrixXd(V.llt().matrixL()).diagonal().array().log().sum();
    const double n = static_cast<double>(m1->y.size());
    EXPECT_NEAR(deviance[i], n * (1 + std::log(2 * std::numbers::pi * sigma[i] * sigma[i])) + log_det, 1e-6);
    mean_intercept += column("null.(Intercept)")[i] / 50;
  }
  EXPECT_NEAR(mean_intercept, test.null.beta[0], 5 * std::sqrt(test.null.vcov(0, 0) / 50));
}

}  // namespace
}  // namespace batchlmm
