// At the ends of what is promised: memory that does not grow with replicates, indices up to the largest, thirty
// covariance parameters, a million rows. BATCHLMM_SCALE_REPLICATES in the environment sets the number of replicates of
// the test of memory (as 10000000).
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <random>

#include "batchlmm/batchlmm.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/batch/starts.hpp"
#include "host/model/criterion.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t thinned = 50;
#else
constexpr std::uint64_t thinned = 1;
#endif

std::uint64_t many_replicates() {
  if (const char* wanted = std::getenv("BATCHLMM_SCALE_REPLICATES")) return std::strtoull(wanted, nullptr, 10);
  return 2'000'000 / thinned;
}

/// Bytes of this process that are in memory.
double resident_bytes() {
  std::ifstream in("/proc/self/statm");
  double total = 0, resident = 0;
  in >> total >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

std::shared_ptr<const ModelMatrices> matrices(const std::string& formula, const std::string& file,
                                              const std::vector<std::string>& factors = {}) {
  return std::make_shared<const ModelMatrices>(
      model_matrices(parse_formula(formula), read_table(std::string(BATCHLMM_TEST_DATA) + "/" + file, {factors})));
}

TEST(Scale, MemoryDoesNotGrowWithReplicates) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer holds freed memory back";
#endif
  // Arrange
  const Model model(matrices("Yield ~ 1 + (1|Batch)", "dyestuff.csv"), Method::reml);
  const Bootstrap bootstrap(model, default_starts(model).front(), 1.0, 1);
  BootstrapRun run;
  run.threads = 2;
  run.count = 40'000 / thinned;
  (void)bootstrap.run(run);
  const double before = resident_bytes();

  // Act
  run.count = many_replicates();
  const ReplicateSummary summary = bootstrap.run(run);

  // Assert: a tenth of a byte a replicate would show at 1e7.
  EXPECT_EQ(summary.replicates, run.count);
  EXPECT_LT(resident_bytes() - before, 1e6);
}

TEST(Scale, MemoryOfABatchOfDesignsDoesNotGrowWithItsItems) {
  // Arrange: a covariate drawn anew, and rows missing at random, for each.
  const auto design = matrices("Reaction ~ Days + (Days|Subject)", "sleepstudy.csv", {"Subject"});
  Batch batch(design, Method::ml);
  const auto make = [&](std::uint64_t i, DesignVariant& v) {
    std::minstd_rand rng(static_cast<unsigned>(i + 1));
    std::uniform_real_distribution<double> uniform;
    v.columns.resize(1);
    v.columns[0].name = "Days";
    v.columns[0].values.resize(design->y.size());
    v.missing.clear();
    for (double& x : v.columns[0].values) {
      x = uniform(rng);
      if (rng() % 20 == 0) v.missing.push_back(static_cast<std::size_t>(&x - v.columns[0].values.data()));
    }
  };
  const std::uint64_t n = 70'000 / thinned;  // more than one block of results
  batch.add(0, n, make);
  BatchOptions options{BackendChoice::cpu, 2, {}};
  double after_first = 0;
  std::uint64_t used = 0;

  // Act
  batch.fit_each(
      [&](std::uint64_t, std::span<const BatchFit> fits) {
        for (const BatchFit& f : fits) used += is_used(f.status) ? 1 : 0;
        if (after_first == 0) after_first = resident_bytes();
      },
      options);

  // Assert
  EXPECT_GT(used, n - n / 1000);
  EXPECT_LT(resident_bytes() - after_first, 4e6);
  EXPECT_LT(batch.memory(options), 2e8);
}

/// Statistics of replicates first, first + 1, ..., and the index of the first of each block.
std::vector<double> statistics(const Bootstrap& bootstrap, std::uint64_t first, std::uint64_t count, int threads) {
  std::vector<double> all;
  BootstrapRun run;
  run.first = first;
  run.count = count;
  run.threads = threads;
  run.collect = [&](const ReplicateBlock& block) {
    EXPECT_EQ(block.first, first + all.size());
    all.insert(all.end(), block.statistic.begin(), block.statistic.end());
  };
  EXPECT_EQ(bootstrap.run(run).replicates, count);
  return all;
}

TEST(Scale, IndicesOfReplicatesGoUpToTheLargest) {
  // Arrange
  const Model null(matrices("frequency ~ gender + (1|subject) + (1|scenario)", "politeness.csv"), Method::ml),
      full(matrices("frequency ~ attitude + gender + (1|subject) + (1|scenario)", "politeness.csv"), Method::ml);
  const Bootstrap bootstrap(null, full, embed(null, full), default_starts(null).front(), 1.0, 1);
  constexpr std::uint64_t beyond = 1ULL << 32U, last = ~std::uint64_t{0};

  for (const std::uint64_t first : {beyond - 3000, beyond * 5 + 77, last - 6000}) {
    SCOPED_TRACE(first);
    // Act
    const std::vector<double> whole = statistics(bootstrap, first, 6000, 2);
    std::vector<double> parts = statistics(bootstrap, first, 2500, 1);
    for (const double s : statistics(bootstrap, first + 2500, 3500, 2)) parts.push_back(s);

    // Assert
    EXPECT_EQ(whole, parts);
    // An index that lost its upper half would be another replicate's.
    const std::vector<double> second_half(whole.begin() + 3000, whole.end());
    EXPECT_NE(second_half, statistics(bootstrap, (first + 3000) & 0xffffffffU, 3000, 2));
  }
}

/// Two crossed factors with five correlated columns each: 15 + 15 covariance parameters.
std::shared_ptr<ModelMatrices> thirty_parameters() {
  constexpr int n = 480, k = 5, a = 24, b = 10;
  auto m = std::make_shared<ModelMatrices>();
  std::mt19937_64 rng(30);
  std::normal_distribution<double> normal;
  m->formula = "y ~ x1 + x2 + x3 + x4 + (x1 + x2 + x3 + x4 | a) + (x1 + x2 + x3 + x4 | b)";
  m->offset = Eigen::VectorXd::Zero(n);
  m->X = Eigen::MatrixXd::NullaryExpr(n, k, [&] { return normal(rng); });
  m->X.col(0).setOnes();
  for (int c = 0; c < k; ++c) m->x_names.push_back("x" + std::to_string(c));
  m->y = m->X.rowwise().sum();
  m->random.resize(2);
  for (int t = 0; t < 2; ++t) {
    RandomTerm& term = m->random[t];
    term.group = t == 0 ? "a" : "b";
    term.names = m->x_names;
    term.z = m->X;
    const int levels = t == 0 ? a : b;
    for (int l = 0; l < levels; ++l) term.levels.push_back(std::to_string(l));
    const Eigen::MatrixXd u = Eigen::MatrixXd::NullaryExpr(levels, k, [&] { return normal(rng); });
    for (int i = 0; i < n; ++i) {
      term.level_of_row.push_back(t == 0 ? i % a : (i / a + i) % b);
      m->y[i] += term.z.row(i).dot(u.row(term.level_of_row[i]));
    }
  }
  for (int i = 0; i < n; ++i) {
    m->y[i] += normal(rng);
    m->rows.push_back(i);
  }
  return m;
}

TEST(Scale, ThirtyParametersAgainstTheDefinitionAndDifferences) {
  for (Method method : {Method::ml, Method::reml}) {
    // Arrange
    const auto m = thirty_parameters();
    const Model model(m, method);
    const kernels::Shape& s = model.shape();
    ASSERT_EQ(s.parameters, 30);
    const std::unique_ptr<Criterion> criterion = make_criterion(model, m->y);
    std::mt19937_64 rng(31);
    std::normal_distribution<double> normal;
    std::vector<double> lambda(s.lambdas);
    std::vector<Eigen::MatrixXd> user(2);
    for (int b = 0; b < s.terms; ++b) {
      Eigen::MatrixXd l(5, 5);
      for (int i = 0; i < 25; ++i) l(i / 5, i % 5) = lambda[s.term[b].lambda + i] = 0.4 * normal(rng);
      user[model.term_of(b)] = model.to_user_lambda(b, l);
    }

    // Act
    const CriterionValue value = criterion->evaluate(lambda, true);

    // Assert
    EXPECT_NEAR(value.deviance, oracle::criterion(*m, user, method), 1e-8);
    // Along random directions D of lambda, T changes by lambda D' + D lambda'.
    for (int direction = 0; direction < 5; ++direction) {
      constexpr double h = 1e-5;
      std::vector<double> up = lambda, down = lambda;
      std::vector<double> d(s.lambdas);
      for (int i = 0; i < s.lambdas; ++i) {
        d[i] = normal(rng);
        up[i] += h * d[i];
        down[i] -= h * d[i];
      }
      Eigen::VectorXd dt(s.parameters);
      for (int a = 0; a < s.parameters; ++a) {
        const int at = s.term[s.parameter_term[a]].lambda, i = s.parameter_row[a], j = s.parameter_column[a];
        dt[a] = 0;
        for (int c = 0; c < 5; ++c)
          dt[a] += lambda[at + 5 * i + c] * d[at + 5 * j + c] + d[at + 5 * i + c] * lambda[at + 5 * j + c];
      }
      const CriterionValue high = criterion->evaluate(up, true), low = criterion->evaluate(down, true);
      const double slope = (high.deviance - low.deviance) / (2 * h),
                   size = value.gradient.cwiseAbs().dot(dt.cwiseAbs());
      EXPECT_NEAR(value.gradient.dot(dt), slope, 1e-6 * size);
      const Eigen::VectorXd change = (high.gradient - low.gradient) / (2 * h), expected = value.hessian * dt;
      EXPECT_LT((change - expected).norm(), 1e-6 * (value.hessian.cwiseAbs() * dt.cwiseAbs()).norm());
    }
  }
}

TEST(Scale, ThirtyParametersAreFittedAndCertified) {
  // Arrange
  const auto m = thirty_parameters();
  Batch batch(m, Method::reml);
  batch.add(m->y);
  batch.add(DesignVariant{0, {}, {}, 10 * m->y});

  // Act
  const Fit single = fit(m, Method::reml);
  const std::vector<BatchFit> lanes = batch.fit();

  // Assert
  EXPECT_TRUE(single.converged);
  EXPECT_LT(single.gradient_norm, 1e-4);
  EXPECT_TRUE(is_used(lanes[0].status));
  EXPECT_NEAR(lanes[0].criterion, single.criterion, 1e-8);
  // The criterion shifts with the response's unit.
  const double degrees = static_cast<double>(m->y.size() - m->X.cols());
  EXPECT_NEAR(lanes[1].criterion, single.criterion + degrees * std::log(100.0), 1e-7);
}

TEST(Scale, AMillionRowsAgainstTheClosedForm) {
  // Arrange: balanced one-way, where REML has a closed form (Searle, Casella and McCulloch 1992, section 4.5).
  constexpr int rows = 20, levels = 50'000 / static_cast<int>(thinned), n = rows * levels;
  auto m = std::make_shared<ModelMatrices>();
  std::mt19937_64 rng(7);
  std::normal_distribution<double> normal;
  m->formula = "y ~ 1 + (1 | g)";
  m->y.resize(n);
  m->offset = Eigen::VectorXd::Zero(n);
  m->X = Eigen::MatrixXd::Ones(n, 1);
  m->x_names = {"(Intercept)"};
  m->random.resize(1);
  RandomTerm& term = m->random[0];
  term.group = "g";
  term.names = {"(Intercept)"};
  term.z = Eigen::MatrixXd::Ones(n, 1);
  double within = 0, between = 0, mean = 0;
  std::vector<double> means;
  for (int l = 0; l < levels; ++l) {
    term.levels.push_back(std::to_string(l));
    const double u = 0.7 * normal(rng);
    for (int r = 0; r < rows; ++r) {
      m->y[l * rows + r] = 100 + u + normal(rng);
      term.level_of_row.push_back(l);
      m->rows.push_back(m->rows.size());
    }
    const auto level = m->y.segment(l * rows, rows);
    means.push_back(level.mean());
    within += (level.array() - level.mean()).square().sum();
    mean += level.mean() / levels;
  }
  for (const double level : means) between += rows * (level - mean) * (level - mean);
  const double error = within / (n - levels), variance = (between / (levels - 1) - error) / rows;
  const double before = resident_bytes(), data = 8.0 * n * 4;  // y, offset, X, z

  // Act
  const Fit result = fit(m, Method::reml);

  // Assert
  EXPECT_TRUE(result.converged);
  EXPECT_NEAR(result.sigma * result.sigma, error, 1e-8);
  EXPECT_NEAR(result.random[0].sd[0] * result.random[0].sd[0], variance, 1e-8);
  EXPECT_NEAR(result.beta[0], mean, 1e-10);
  EXPECT_LT(resident_bytes() - before, 8 * data + 5e7);
}

}  // namespace
}  // namespace batchlmm
