// Likelihood-ratio tests against closed forms. Monte-Carlo bounds are 5 standard errors.
#include "host/inference/lrt.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/math/distributions/chi_squared.hpp>
#include <boost/math/distributions/fisher_f.hpp>
#include <cmath>
#include <random>

#include "batchlmm/error.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/batch/large_engine.hpp"
#include "host/data/read.hpp"
#include "host/inference/linear_fit.hpp"
#include "host/model/model.hpp"

namespace batchlmm {
namespace {

using MatricesPointer = std::shared_ptr<const ModelMatrices>;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t many = 2'000;
#else
constexpr std::uint64_t many = 40'000;
#endif

MatricesPointer matrices(const std::string& formula, const Table& table) {
  ModelOptions options;
  options.without_random_effects = true;
  return std::make_shared<const ModelMatrices>(model_matrices(parse_formula(formula), table, options));
}
MatricesPointer matrices(const std::string& formula, const std::string& file) {
  return matrices(formula, read_table(BATCHLMM_TEST_DATA "/" + file));
}

double f_tail(double df1, double df2, double f) {
  return boost::math::cdf(boost::math::complement(boost::math::fisher_f(df1, df2), f));
}

void expect_share(double share, double truth, std::uint64_t n) {
  EXPECT_NEAR(share, truth, 5 * std::sqrt(truth * (1 - truth) / static_cast<double>(n)) + 1e-12);
}

BootstrapOptions bootstrap(Method method, std::uint64_t replicates = many, std::optional<Tier> tier = {}) {
  BootstrapOptions options;
  options.method = method;
  options.replicates = replicates;
  options.backend = BackendChoice::cpu;
  options.tier = tier;
  options.seed = 20;
  return options;
}

/// One-way layout, balanced: 6 batches of 5. Between and within mean squares decide everything.
struct OneWay {
  static constexpr double groups = 6, within = 24, n = 30;
  static constexpr double f = 11271.50 / 2451.25;  // R: anova(lm(Yield ~ Batch, Dyestuff))
  MatricesPointer null = matrices("Yield ~ 1", "dyestuff.csv"),
                  full = matrices("Yield ~ 1 + (1|Batch)", "dyestuff.csv");

  /// REML: the statistic is above 0 where F > 1.
  static double rlrt(double f) {
    const double between = groups - 1, all = between + within;
    return f <= 1 ? 0 : all * std::log((between * f + within) / all) - between * std::log(f);
  }
  /// ML: where (groups - 1) / groups F > 1.
  static double lrt(double f) {
    const double g = (groups - 1) / groups * f;
    return g <= 1 ? 0 : n * std::log((groups * g + within) / n) - groups * std::log(g);
  }
};

TEST(OneVariance, RlrtOfABalancedLayoutIsTheFTest) {
  const OneWay layout;
  for (const std::optional<Tier> tier : {std::optional<Tier>{}, {Tier::streaming}, {Tier::symmetry}, {Tier::large}}) {
    const std::uint64_t n = tier == Tier::large ? many / 20 : many;

    const LikelihoodRatioTest test = likelihood_ratio_test(layout.null, layout.full, bootstrap(Method::reml, n, tier));

    SCOPED_TRACE(static_cast<int>(test.bootstrap->tier));
    EXPECT_NEAR(test.statistic, OneWay::rlrt(OneWay::f), 1e-6);
    EXPECT_NEAR(test.statistic, 6.36895531362, 1e-8);  // lme4 1.1-31, R 4.2.2
    EXPECT_EQ(test.df, 1);
    EXPECT_EQ(test.bootstrap->used, n);
    EXPECT_EQ(test.bootstrap->singular_null, 0u);
    EXPECT_EQ(test.bootstrap->status[static_cast<int>(Status::boundary)], test.bootstrap->singular_full);
    // P(F < 1) and P(F > observed); RLRsim 3.1-8: exactRLRT(nsim = 1e6) has p = 0.004483 from simulation.
    expect_share(test.bootstrap->share_zero, 1 - f_tail(5, 24, 1), n);
    expect_share(static_cast<double>(test.bootstrap->extreme) / static_cast<double>(n), f_tail(5, 24, OneWay::f), n);
    EXPECT_EQ(test.law.kind, LawKind::mixture);
    EXPECT_NEAR(test.p_law, 0.5 * test.p_chisq, 1e-15);
  }
}

TEST(OneVariance, LrtOfABalancedLayoutIsTheFTest) {
  const OneWay layout;
  for (const std::optional<Tier> tier : {std::optional<Tier>{}, {Tier::streaming}, {Tier::large}}) {
    const std::uint64_t n = tier == Tier::large ? many / 20 : many;

    const LikelihoodRatioTest test = likelihood_ratio_test(layout.null, layout.full, bootstrap(Method::ml, n, tier));

    SCOPED_TRACE(static_cast<int>(test.bootstrap->tier));
    EXPECT_NEAR(test.statistic, OneWay::lrt(OneWay::f), 1e-6);
    EXPECT_NEAR(test.statistic, 5.40282609365, 1e-8);  // lme4 1.1-31
    expect_share(test.bootstrap->share_zero, 1 - f_tail(5, 24, 6.0 / 5.0), n);
    expect_share(static_cast<double>(test.bootstrap->extreme) / static_cast<double>(n), f_tail(5, 24, OneWay::f), n);
  }
}

TEST(OneVariance, ReplicatesHaveTheLawOfTheClosedForm) {
  // Arrange
  const OneWay layout;
  BootstrapOptions options = bootstrap(Method::reml);
  options.bins = 30;

  // Act
  const LikelihoodRatioTest test = likelihood_ratio_test(layout.null, layout.full, options);

  // Assert: in every bin as many as the F law says, by the monotone way from F to the statistic.
  const StatisticHistogram& histogram = test.bootstrap->histogram;
  ASSERT_EQ(histogram.total(), many);
  const auto f_of = [](double statistic) {
    double low = 1, high = 1e6;
    for (int i = 0; i < 200; ++i) {
      const double middle = 0.5 * (low + high);
      (OneWay::rlrt(middle) < statistic ? low : high) = middle;
    }
    return low;
  };
  for (std::size_t i = 0; i < histogram.counts().size(); ++i) {
    const double from = i == 0 ? 1 : f_of(histogram.edges()[i]), to = f_of(histogram.edges()[i + 1]);
    const double truth = f_tail(5, 24, from) - f_tail(5, 24, to);
    EXPECT_NEAR(static_cast<double>(histogram.counts()[i]), static_cast<double>(many) * truth,
                5 * std::sqrt(static_cast<double>(many) * truth) + 3)
        << i;
  }
  EXPECT_NEAR(static_cast<double>(histogram.zeros()) / static_cast<double>(many), test.bootstrap->share_zero, 1e-15);
}

TEST(Reml, TiersAgreeWhereAnotherVarianceIsANuisance) {
  const std::string terms = "frequency ~ attitude + gender + (1|subject)";
  const MatricesPointer null = matrices(terms, "politeness.csv"),
                        full = matrices(terms + " + (1|scenario)", "politeness.csv");
  std::vector<LikelihoodRatioTest> tests;
  for (const Tier tier : {Tier::symmetry, Tier::streaming, Tier::shared_factorization, Tier::large})
    tests.push_back(
        likelihood_ratio_test(null, full, bootstrap(Method::reml, tier == Tier::large ? many / 20 : many / 4, tier)));

  for (const LikelihoodRatioTest& test : tests) {
    SCOPED_TRACE(static_cast<int>(test.bootstrap->tier));
    const BootstrapTest &one = *tests[0].bootstrap, &other = *test.bootstrap;
    EXPECT_NEAR(test.statistic, 11.289, 5e-4);  // lmerTest 3.1-3: ranova
    EXPECT_EQ(other.used, other.replicates);
    const double n = static_cast<double>(std::min(one.used, other.used));
    EXPECT_NEAR(other.mean_statistic, one.mean_statistic, 5 * std::sqrt(2 * one.laws.variance / n));
    EXPECT_NEAR(other.share_zero, one.share_zero, 5 * std::sqrt(0.5 / n));
  }
}

TEST(NullWithoutRandomEffects, EveryReplicateIsTheTestOfItsResponse) {
  // Two crossed terms, one with two columns, and a fixed effect: all in one test, by ML and (without it) by REML.
  for (const Method method : {Method::ml, Method::reml}) {
    // Arrange
    const std::string fixed = method == Method::ml ? "1" : "Days";
    const MatricesPointer null = matrices("Reaction ~ " + fixed, "sleepstudy.csv"),
                          full = matrices("Reaction ~ Days + (1 + Days | Subject)", "sleepstudy.csv");
    ModelMatrices zero = *null;
    zero.random = full->random;
    const Model stand_in(std::make_shared<const ModelMatrices>(zero), method), larger(full, method);
    const Embedding embedding = embed_at_zero(stand_in, larger);
    const std::vector<double> lambda(stand_in.shape().lambdas, 0.0);
    const Bootstrap bootstrap(stand_in, larger, embedding, lambda, 1.0, 5, Tier::large);
    const auto& engine = dynamic_cast<const LargeEngine&>(bootstrap.engine());
    BootstrapRun run;
    run.count = 25;
    std::vector<double> statistic, deviance_null;
    run.collect = [&](const ReplicateBlock& block) {
      statistic.insert(statistic.end(), block.statistic.begin(), block.statistic.end());
      deviance_null.insert(deviance_null.end(), block.deviance_null.begin(), block.deviance_null.end());
    };

    // Act
    const ReplicateSummary summary = bootstrap.run(run);

    // Assert
    EXPECT_EQ(summary.used, run.count);
    EXPECT_EQ(summary.singular_null, 0u);
    for (std::uint64_t i = 0; i < run.count; ++i) {
      ModelMatrices m0 = *null, m1 = *full;
      m0.y = m1.y = engine.draw(i);
      const Fit a = linear_fit(std::make_shared<const ModelMatrices>(m0), method),
                b = fit(std::make_shared<const ModelMatrices>(m1), method);
      EXPECT_NEAR(deviance_null[i], a.criterion, 1e-8);
      EXPECT_NEAR(statistic[i], std::max(0.0, a.criterion - b.criterion), 2e-8) << i;
    }
  }
}

TEST(NullWithoutRandomEffects, TiersAgree) {
  const MatricesPointer null = matrices("Reaction ~ 1", "sleepstudy.csv"),
                        full = matrices("Reaction ~ Days + (1 + Days | Subject)", "sleepstudy.csv");
  std::vector<BootstrapTest> tests;
  for (const Tier tier : {Tier::symmetry, Tier::streaming})
    tests.push_back(*likelihood_ratio_test(null, full, bootstrap(Method::ml, many / 2, tier)).bootstrap);

  const double n = static_cast<double>(many) / 2;
  EXPECT_NEAR(tests[0].mean_statistic, tests[1].mean_statistic, 5 * std::sqrt(2 * tests[0].laws.variance / n));
  EXPECT_NEAR(tests[0].share_zero, tests[1].share_zero, 5 * std::sqrt(0.5 / n));
  // One more degree of freedom than the random effects' statistic, which lies between 0 and a chi-square of 3.
  EXPECT_GT(tests[0].mean_statistic, 1.0);
  EXPECT_LT(tests[0].mean_statistic, 4.0);
  EXPECT_EQ(tests[0].used, many / 2);
}

TEST(NullWithoutRandomEffects, TheSharedTierSaysNo) {
  EXPECT_THROW(likelihood_ratio_test(matrices("Reaction ~ Days", "sleepstudy.csv"),
                                     matrices("Reaction ~ Days + (1 | Subject)", "sleepstudy.csv"),
                                     bootstrap(Method::ml, 10, Tier::shared_factorization)),
               ModelError);
}

/// Two conditions a subject, the subjects far apart: no replicate is singular, and the statistic is
/// n log(1 + t^2 / (n - 1)), t the paired t statistic.
TEST(FixedEffect, LrtOfPairedDataIsTheTTest) {
  // Arrange
  constexpr int subjects = 9;
  std::mt19937_64 rng(3);
  std::normal_distribution<double> normal;
  Table table;
  table.rows = 2 * subjects;
  Numeric y, x;
  Factor subject;
  double sum = 0, squares = 0;
  for (int s = 0; s < subjects; ++s) {
    subject.levels.push_back(std::string(1, static_cast<char>('a' + s)));
    const double level = 1000 * normal(rng), first = normal(rng), second = 1.0 + normal(rng);
    sum += second - first;
    squares += (second - first) * (second - first);
    for (int c = 0; c < 2; ++c) {
      y.push_back(level + (c == 0 ? first : second));
      x.push_back(c);
      subject.codes.push_back(s);
    }
  }
  table.columns = {{"y", y}, {"x", x}, {"s", subject}};
  const double mean = sum / subjects, variance = (squares - sum * mean) / (subjects - 1),
               t2 = mean * mean / (variance / subjects);

  // Act
  const LikelihoodRatioTest test =
      likelihood_ratio_test(matrices("y ~ 1 + (1|s)", table), matrices("y ~ x + (1|s)", table), bootstrap(Method::ml));

  // Assert
  EXPECT_NEAR(test.statistic, subjects * std::log1p(t2 / (subjects - 1)), 1e-6);
  EXPECT_EQ(test.bootstrap->singular_full, 0u);
  expect_share(static_cast<double>(test.bootstrap->extreme) / static_cast<double>(many), f_tail(1, subjects - 1, t2),
               many);
  EXPECT_EQ(test.law.kind, LawKind::chi_square);
  // The mean of n log(1 + F / (n - 1)) is n (psi(n / 2) - psi((n - 1) / 2)): 1.1948 for n = 9. The approximations are
  // then near the exact p-value, where the chi-square is not.
  EXPECT_NEAR(test.bootstrap->mean_statistic, 1.19477932, 5 * std::sqrt(test.bootstrap->laws.variance / many));
  const double exact = f_tail(1, subjects - 1, t2);
  for (const double p : {test.bootstrap->laws.p_bartlett, test.bootstrap->laws.p_gamma})
    EXPECT_LT(std::abs(p - exact), 0.5 * std::abs(test.p_chisq - exact));
}

TEST(Chain, AStepIsTheTestOfItsTwoModels) {
  // Arrange
  const std::vector<MatricesPointer> models{matrices("Reaction ~ Days", "sleepstudy.csv"),
                                            matrices("Reaction ~ Days + (1 | Subject)", "sleepstudy.csv"),
                                            matrices("Reaction ~ Days + (Days || Subject)", "sleepstudy.csv"),
                                            matrices("Reaction ~ Days + (Days | Subject)", "sleepstudy.csv")};
  const BootstrapOptions options = bootstrap(Method::reml, 500);

  // Act
  const std::vector<LikelihoodRatioTest> chain = likelihood_ratio_chain(models, options);

  // Assert
  ASSERT_EQ(chain.size(), 3u);
  for (std::size_t i = 0; i < chain.size(); ++i) {
    const LikelihoodRatioTest alone = likelihood_ratio_test(models[i], models[i + 1], options);
    EXPECT_EQ(chain[i].statistic, alone.statistic);
    EXPECT_EQ(chain[i].df, alone.df);
    EXPECT_EQ(chain[i].bootstrap->p, alone.bootstrap->p);
    EXPECT_EQ(chain[i].bootstrap->mean_statistic, alone.bootstrap->mean_statistic);
    EXPECT_EQ(chain[i].bootstrap->laws.variance, alone.bootstrap->laws.variance);
  }
  // lme4 1.1-31: anova(r1, r2, r3, refit = FALSE); logLik(lm, REML = TRUE).
  EXPECT_NEAR(chain[0].statistic, 2 * 53.5992890386, 1e-5);
  EXPECT_NEAR(chain[1].statistic, 42.796, 5e-4);
  EXPECT_NEAR(chain[2].statistic, 0.041, 5e-4);
  EXPECT_EQ(chain[0].law.kind, LawKind::mixture);
  EXPECT_EQ(chain[0].law.df, 0);
  EXPECT_EQ(chain[1].law.kind, LawKind::mixture);
  EXPECT_EQ(chain[2].law.kind, LawKind::chi_square);
}

TEST(ReferenceLaws, CountWhatIsTested) {
  const auto law = [](const std::string& null, const std::string& full) {
    return likelihood_ratio_test(matrices("Reaction ~ " + null, "sleepstudy.csv"),
                                 matrices("Reaction ~ " + full, "sleepstudy.csv"), {})
        .law;
  };
  // Stram & Lee (1994): a slope and its covariance are half chi-square 1, half chi-square 2.
  const ReferenceLaw slope = law("Days + (1|Subject)", "Days + (Days|Subject)");
  EXPECT_EQ(slope.kind, LawKind::mixture);
  EXPECT_EQ(slope.df, 1);
  const ReferenceLaw uncorrelated = law("Days + (1|Subject)", "Days + (Days||Subject)");
  EXPECT_EQ(uncorrelated.kind, LawKind::mixture);
  EXPECT_EQ(uncorrelated.df, 0);
  const ReferenceLaw with_fixed = law("1 + (1|Subject)", "Days + (Days|Subject)");
  EXPECT_EQ(with_fixed.kind, LawKind::mixture);
  EXPECT_EQ(with_fixed.df, 2);
  const ReferenceLaw two = law("Days", "Days + (Days|Subject)");
  EXPECT_EQ(two.kind, LawKind::none);
  EXPECT_EQ(two.df, 3);
  EXPECT_EQ(two.variances, 2);
  EXPECT_EQ(law("1 + (Days|Subject)", "Days + (Days|Subject)").kind, LawKind::chi_square);
  // R: 0.5 * (pchisq(3, 1, lower = FALSE) + pchisq(3, 2, lower = FALSE))
  EXPECT_NEAR(p_value(slope, 3.0), 0.153197338406, 1e-12);
  EXPECT_EQ(p_value(uncorrelated, 0.0), 1.0);
  EXPECT_NEAR(p_value(uncorrelated, 3.0), 0.5 * 0.08326452, 1e-8);
}

TEST(Refused, WhatRemlCannotCompare) {
  const MatricesPointer null = matrices("Reaction ~ 1 + (1|Subject)", "sleepstudy.csv"),
                        full = matrices("Reaction ~ Days + (1|Subject)", "sleepstudy.csv"),
                        linear = matrices("Reaction ~ 1", "sleepstudy.csv"),
                        line = matrices("Reaction ~ Days", "sleepstudy.csv");

  EXPECT_THROW(likelihood_ratio_test(null, full, bootstrap(Method::reml, 0)), ModelError);
  EXPECT_THROW(likelihood_ratio_test(linear, full, bootstrap(Method::reml, 0)), ModelError);
  EXPECT_THROW(likelihood_ratio_test(linear, line, bootstrap(Method::ml, 0)), ModelError);
}

TEST(LinearFit, IsRs) {
  const MatricesPointer m = matrices("Reaction ~ Days", "sleepstudy.csv");

  const Fit reml = fit(m, Method::reml), ml = fit(m, Method::ml);

  // R 4.2.2: logLik(lm(Reaction ~ Days, sleepstudy), REML = TRUE) and without; coef, vcov, sigma.
  EXPECT_NEAR(reml.log_likelihood, -946.831831736, 1e-8);
  EXPECT_NEAR(ml.log_likelihood, -950.146528178, 1e-8);
  EXPECT_NEAR(reml.beta[0], 251.4051048485, 1e-9);
  EXPECT_NEAR(reml.beta[1], 10.4672859596, 1e-9);
  EXPECT_NEAR(std::sqrt(reml.vcov(1, 1)), 1.23819529805, 1e-10);
  EXPECT_NEAR(reml.sigma, 47.7147197438, 1e-9);
  EXPECT_EQ(reml.parameters, 3);
}

}  // namespace
}  // namespace batchlmm
