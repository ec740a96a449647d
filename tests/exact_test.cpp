// Exact laws of the tests of one variance component: each draw against brute force, the law against fits of simulated
// responses, balanced designs against the F law, unbalanced ones against RLRsim.
#include "host/inference/exact.hpp"

#include <gtest/gtest.h>

#include <Eigen/QR>
#include <algorithm>
#include <boost/math/distributions/fisher_f.hpp>
#include <cmath>
#include <numeric>
#include <random>

#include "batchlmm/error.hpp"
#include "host/batch/batch.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/exact_report.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cpu_spectral.hpp"
#include "kernels/spectral.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int thinning = 10;
#else
constexpr int thinning = 1;
#endif

/// Groups of these sizes; X of an intercept and a covariate where p = 2; a slope in place of the random intercept.
std::shared_ptr<ModelMatrices> groups_of(const std::vector<int>& sizes, int p = 1, bool slope = false) {
  auto m = std::make_shared<ModelMatrices>();
  std::mt19937_64 rng(17);
  std::normal_distribution<double> normal;
  const int n = std::accumulate(sizes.begin(), sizes.end(), 0);
  m->formula = "y ~ x + (1 | g)";
  m->X = MatrixXd::Ones(n, p);
  for (int c = 1; c < p; ++c)
    for (int i = 0; i < n; ++i) m->X(i, c) = normal(rng);
  for (int c = 0; c < p; ++c) m->x_names.push_back("x" + std::to_string(c));
  m->offset = VectorXd::Zero(n);
  m->y = VectorXd::NullaryExpr(n, [&] { return normal(rng); });
  RandomTerm term;
  term.group = "g";
  term.names = {slope ? "z" : "(Intercept)"};
  term.text = slope ? "0 + z | g" : "1 | g";
  for (std::size_t g = 0; g < sizes.size(); ++g) {
    term.levels.push_back(std::to_string(g));
    term.level_of_row.insert(term.level_of_row.end(), sizes[g], static_cast<std::int32_t>(g));
  }
  term.z = MatrixXd::Ones(n, 1);
  for (int i = 0; slope && i < n; ++i) term.z(i, 0) = normal(rng);
  m->random.push_back(term);
  for (int i = 0; i < n; ++i) m->rows.push_back(i);
  return m;
}

struct LawCase {
  const char* name;
  std::vector<int> sizes;
  int p;
  bool slope;
  Method method;
  int dropped;
};
std::vector<LawCase> law_cases() {
  std::vector<int> many(30);
  std::iota(many.begin(), many.end(), 1);
  return {{"balanced", {5, 5, 5, 5, 5, 5}, 1, false, Method::reml, 0},
          {"balanced ML", {5, 5, 5, 5, 5, 5}, 1, false, Method::ml, 0},
          {"balanced, covariate", {5, 5, 5, 5, 5, 5}, 2, false, Method::ml, 1},
          {"unbalanced", {2, 3, 4, 5, 6, 8}, 1, false, Method::reml, 0},
          {"unbalanced ML", {2, 3, 4, 5, 6, 8}, 2, false, Method::ml, 1},
          {"several minima", {1, 1, 1, 1, 20}, 1, false, Method::reml, 0},
          {"several minima ML", {1, 1, 1, 1, 20}, 1, false, Method::ml, 0},
          {"pairs and a crowd", {2, 2, 2, 2, 2, 2, 2, 60}, 1, false, Method::reml, 0},
          {"slope", {4, 4, 4, 4, 9, 9, 9}, 2, true, Method::reml, 0},
          {"slope ML", {4, 4, 4, 4, 9, 9, 9}, 2, true, Method::ml, 0},
          {"one residual degree", {2, 1, 1, 1}, 1, false, Method::reml, 0},
          {"many", many, 1, false, Method::reml, 0}};
}

/// N log((U + sum S + C) / ...) by a fine grid in log(lambda) and golden sections around its best places.
double brute_force(const kernels::SpectralLaw& law, const std::vector<double>& s, double residual, double dropped) {
  const auto objective = [&](double log_lambda) {
    const double lambda = std::exp(log_lambda);
    double q = residual, logs = 0;
    for (int i = 0; i < law.groups; ++i) q += s[i] / (1 + lambda * law.ratio[i]);
    for (int j = 0; j < law.logs; ++j) logs += law.log_count[j] * std::log1p(lambda * law.log_ratio[j]);
    return law.n * std::log(q) + logs;
  };
  const double sum = residual + std::accumulate(s.begin(), s.end(), 0.0);
  double best = law.n * std::log(sum);
  constexpr int nodes = 600;
  constexpr double low = -22, high = 40;
  std::vector<double> values(nodes + 1);
  const auto at = [&](int i) { return low + (high - low) * i / nodes; };
  for (int i = 0; i <= nodes; ++i) values[i] = objective(at(i));
  for (int i = 1; i < nodes; ++i) {
    if (values[i] > values[i - 1] || values[i] > values[i + 1]) continue;
    double a = at(i - 1), b = at(i + 1);
    constexpr double golden = 0.6180339887498949;
    for (int step = 0; step < 60; ++step) {
      const double c = b - golden * (b - a), d = a + golden * (b - a);
      if (objective(c) < objective(d))
        b = d;
      else
        a = c;
    }
    best = std::min(best, objective(0.5 * (a + b)));
  }
  return law.n * std::log(dropped + sum) - best;
}

TEST(SpectralLaw, EveryDrawIsTheGlobalMaximum) {
  for (const LawCase& c : law_cases()) {
    SCOPED_TRACE(c.name);
    // Arrange
    const SpectralLaw law(*groups_of(c.sizes, c.p, c.slope), c.method, c.dropped);
    const kernels::SpectralLaw& k = law.kernel();
    const std::uint64_t count = 2003 / thinning;
    constexpr std::uint64_t first = 40;

    // Act
    std::vector<double> statistics(count);
    const std::uint64_t searched = law.draw(7, first, count, statistics.data());

    // Assert: what the lanes drew, drawn again one by one
    std::vector<double> s(k.groups);
    std::uint64_t not_settled = 0;
    int zeros = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto draw = kernels::draw_spectral<double>(k, 7, first + i, s.data());
      bool settled = true;
      const double one =
          k.closed ? kernels::closed_statistic<double>(k, draw) : kernels::spectral_statistic<double>(k, draw, settled);
      const double searching =
          kernels::spectral_kernels(kernels::cpu_kernels()).statistic(k, s.data(), draw.residual, draw.dropped);
      EXPECT_EQ(statistics[i], settled ? one : searching);
      EXPECT_NEAR(statistics[i], searching, 1e-9);
      if (i % 4 == 0) {
        EXPECT_NEAR(statistics[i], brute_force(k, s, draw.residual, draw.dropped), 1e-8) << i;
      }
      not_settled += settled ? 0 : 1;
      zeros += statistics[i] < 1e-8;
    }
    EXPECT_EQ(searched, not_settled);
    EXPECT_EQ(zeros > 0, c.dropped == 0);
  }
}

TEST(SpectralLaw, DrawsHaveTheSameBitsOnAllInstructionSets) {
  for (const LawCase& c : law_cases()) {
    SCOPED_TRACE(c.name);
    const SpectralLaw law(*groups_of(c.sizes, c.p, c.slope), c.method, c.dropped);
    const std::uint64_t count = 5000 / thinning;
    std::vector<double> expected(count), found(count);
    (void)law.draw(3, 0, count, expected.data());
    for (const kernels::CpuKernels* isa : kernels::all_cpu_kernels()) {
      // In pieces that are no multiples of the lanes.
      for (std::uint64_t from = 0; from < count; from += 333)
        kernels::spectral_kernels(*isa).draw(law.kernel(), 3, from, std::min<std::uint64_t>(333, count - from),
                                             found.data() + from);
      EXPECT_EQ(found, expected) << isa->name;
    }
  }
}

/// Of draws i.i.d. with share p a count is within this of n p, but for one in 10^5.
double count_bound(double n, double p) { return 4.5 * std::sqrt(n * p * (1 - p)) + 1; }

TEST(SpectralLaw, StatisticOfAResponseIsThatOfTheFits) {
  for (const LawCase& c : law_cases()) {
    SCOPED_TRACE(c.name);
    // Arrange
    const auto m = groups_of(c.sizes, c.p, c.slope);
    const SpectralLaw law(*m, c.method, c.dropped);
    const MatrixXd null_columns = m->X.leftCols(m->X.cols() - c.dropped);
    const auto n = static_cast<double>(m->y.size()), p = static_cast<double>(m->X.cols());
    std::mt19937_64 rng(1);
    std::normal_distribution<double> normal;
    const int count = 2000 / thinning;
    std::vector<VectorXd> responses;
    Batch batch(m, c.method);
    for (int i = 0; i < count; ++i) {
      responses.push_back(VectorXd::NullaryExpr(m->y.size(), [&] { return normal(rng); }));
      batch.add(responses.back());
    }

    // Act
    const std::vector<BatchFit> fits = batch.fit();

    // Assert
    const Eigen::HouseholderQR<MatrixXd> qr(m->X), null_qr(null_columns);
    const double degrees = c.method == Method::reml ? n - p : n,
                 constant = c.method == Method::reml
                                ? 2 * qr.matrixQR().diagonal().head(m->X.cols()).cwiseAbs().array().log().sum()
                                : 0;
    std::vector<double> direct;
    for (int i = 0; i < count; ++i) {
      VectorXd left = responses[i];
      if (null_columns.cols() > 0) left -= null_columns * null_qr.solve(left);
      const double criterion = degrees * (1 + std::log(2 * M_PI * left.squaredNorm() / degrees)) + constant;
      ASSERT_LE(fits[i].status, Status::boundary);
      direct.push_back(std::max(0.0, criterion - fits[i].criterion));
      EXPECT_NEAR(law.statistic(responses[i], null_columns), direct.back(), 1e-7) << i;
    }
    // And so is their law: shares at zero and beyond the draws' quantiles, within Monte-Carlo error of both.
    std::vector<double> draws(20 * count);
    (void)law.draw(9, 0, draws.size(), draws.data());
    std::sort(draws.begin(), draws.end());
    for (const double share : {0.0, 0.8, 0.95}) {
      const double at = std::max(1e-6, draws[static_cast<std::size_t>(share * static_cast<double>(draws.size()))]);
      const auto beyond = [&](const std::vector<double>& x) {
        return static_cast<double>(std::count_if(x.begin(), x.end(), [&](double v) { return v > at; }));
      };
      const double expected = beyond(draws) / static_cast<double>(draws.size());
      EXPECT_NEAR(beyond(direct), count * expected, 1.03 * count_bound(count, expected)) << share;
    }
  }
}

TEST(SpectralLaw, BalancedGroupsHaveTheFLaw) {
  for (const Method method : {Method::reml, Method::ml}) {
    // Arrange
    const SpectralLaw law(*groups_of({5, 5, 5, 5, 5, 5}), method, 0);
    ASSERT_TRUE(law.closed());
    const int count = 200000 / thinning;
    std::vector<double> draws(count);

    // Act
    (void)law.draw(2, 0, count, draws.data());

    // Assert: zero where F = MSB / MSW is no larger than 1 (REML), than K / (K - 1) (ML)
    const boost::math::fisher_f f(5, 24);
    const double zero = boost::math::cdf(f, method == Method::reml ? 1.0 : 6.0 / 5.0);
    EXPECT_NEAR(law.zero(), zero, 1e-12);
    EXPECT_NEAR(static_cast<double>(std::count(draws.begin(), draws.end(), 0.0)), count * zero,
                count_bound(count, zero));
    for (const double at : {0.5, 2.0, 5.0}) {
      const double tail = law.tail(at);
      EXPECT_NEAR(static_cast<double>(std::count_if(draws.begin(), draws.end(), [&](double d) { return d >= at; })),
                  count * tail, count_bound(count, tail));
    }
  }
}

// R 4.2.2, RLRsim 3.1-8: RLRTSim(X, Z, qr(X), diag(K), nsim = 1e6, log.grid.hi = 10, gridlength = 400), and LRTSim
// alike: probability of 0; 90, 95 and 99 % quantiles.
struct Rlrsim {
  std::vector<int> sizes;
  Method method;
  double zero, quantiles[3];
};
TEST(SpectralLaw, QuantilesAreRlrsims) {
  const std::vector<Rlrsim> cases{{{5, 5, 5, 5, 5, 5}, Method::reml, 0.560247, {1.33869, 2.34056, 4.97534}},
                                  {{2, 3, 4, 5, 6, 8}, Method::reml, 0.573767, {1.31992, 2.33775, 4.97010}},
                                  {{2, 3, 4, 5, 6, 8}, Method::ml, 0.688768, {0.77836, 1.64026, 4.03353}},
                                  {{5, 5, 5, 5, 5, 5}, Method::ml, 0.660193, {0.844903, 1.698801, 4.095263}}};
  for (const Rlrsim& c : cases) {
    const SpectralLaw law(*groups_of(c.sizes), c.method, 0);
    const int count = 400000 / thinning;
    std::vector<double> draws(count);

    (void)law.draw(11, 0, count, draws.data());

    // Both are simulated: 10^6 draws there, on a grid that misses a little of each supremum.
    const double both = 1 + 1e-6 * count;
    const auto expect_share = [&](auto counts, double p) {
      EXPECT_NEAR(static_cast<double>(std::count_if(draws.begin(), draws.end(), counts)), count * p,
                  std::sqrt(both) * count_bound(count, p) + 2e-4 * count);
    };
    expect_share([](double d) { return d < 1e-8; }, c.zero);
    const double tails[] = {0.1, 0.05, 0.01};
    for (int i = 0; i < 3; ++i) expect_share([&](double d) { return d > c.quantiles[i]; }, tails[i]);
  }
}

std::shared_ptr<const ModelMatrices> matrices_of(const std::string& formula, const std::string& file) {
  return std::make_shared<const ModelMatrices>(
      model_matrices(parse_formula(formula), read_table(BATCHLMM_TEST_DATA + file, {})));
}

TEST(ExactTest, BalancedPValueIsThatOfTheFTest) {
  // Arrange
  ExactOptions options;
  options.draws = 100000 / thinning;

  // Act
  const ExactTest test = exact_test(matrices_of("Yield ~ 1 + (1 | Batch)", "/dyestuff.csv"), nullptr, options);

  // Assert: R's anova(lm(Yield ~ Batch, Dyestuff)): F = 4.5983, p = 0.004398
  EXPECT_NEAR(test.p_closed, 0.004398, 1e-6);
  EXPECT_NEAR(static_cast<double>(test.extreme), 0.004398 * static_cast<double>(test.draws),
              count_bound(static_cast<double>(test.draws), 0.004398));
  EXPECT_LT(test.interval[0], test.p);
  EXPECT_GT(test.interval[1], test.p);
  EXPECT_NEAR(test.statistic, test.null_criterion - test.full.criterion, 1e-12);
}

TEST(ExactTest, ThreadsChangeNothing) {
  // Arrange
  const auto matrices = matrices_of("frequency ~ attitude + (1 | subject)", "/politeness.csv");
  ExactOptions options;
  options.draws = 100001 / thinning;
  options.keep = true;
  options.threads = 1;

  // Act
  const ExactTest one = exact_test(matrices, nullptr, options);
  options.threads = 3;
  const ExactTest three = exact_test(matrices, nullptr, options);

  // Assert
  EXPECT_EQ(one.statistics, three.statistics);
  EXPECT_EQ(one.mean, three.mean);
  EXPECT_EQ(one.extreme, three.extreme);
  EXPECT_EQ(one.quantiles, three.quantiles);
}

TEST(ExactTest, FixedEffectsAreTestedTogetherWithTheVariance) {
  // Arrange
  const auto full = matrices_of("frequency ~ attitude * gender + (1 | scenario)", "/politeness.csv");
  const auto null = matrices_of("frequency ~ gender + (1 | scenario)", "/politeness.csv");
  ExactOptions options;
  options.draws = 200000 / thinning;

  // Act
  const ExactTest test = exact_test(full, null, options);

  // Assert
  EXPECT_EQ(test.dropped, 2);
  EXPECT_EQ(test.full.method, Method::ml);
  EXPECT_EQ(test.zeros, 0);
  const SpectralLaw law(*full, Method::ml, 2);
  EXPECT_NEAR(test.statistic, law.statistic(full->y, null->X), 1e-7);
  // Between the chi-squares with 2 and 3 degrees of freedom, about.
  EXPECT_GT(test.mean, 2);
  EXPECT_LT(test.mean, 3);
}

TEST(ExactTest, OtherModelsAreRefused) {
  const auto expect_refused = [](const char* formula, const char* null, const std::string& part) {
    try {
      (void)exact_test(matrices_of(formula, "/politeness.csv"), null ? matrices_of(null, "/politeness.csv") : nullptr,
                       {});
      ADD_FAILURE() << formula;
    } catch (const ModelError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  expect_refused("frequency ~ 1 + (1 | subject) + (1 | scenario)", nullptr, "lrt with --replicates");
  expect_refused("frequency ~ attitude + (attitude | subject)", nullptr, "found 3");
  expect_refused("frequency ~ 1 + (1 | subject)", "frequency ~ attitude + (1 | subject)", "'attitudepol'");
  expect_refused("frequency ~ subject + (1 | subject)", nullptr, "in their span");
}

}  // namespace
}  // namespace batchlmm
