// The bootstrap of large models against single fits of the same responses, and its draws against what they should be.
#include "host/batch/large_engine.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "host/batch/bootstrap.hpp"
#include "host/batch/starts.hpp"
#include "host/model/optimize.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr int replicates = 4;
#else
constexpr int replicates = 24;
#endif

/// Two crossed factors and a smaller one, the first with slopes where k = 2.
std::shared_ptr<ModelMatrices> crossed(int k, std::uint64_t seed) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> normal;
  constexpr int n = 500;
  auto m = std::make_shared<ModelMatrices>();
  m->y = Eigen::VectorXd::NullaryExpr(n, [&] { return normal(rng); });
  m->offset = Eigen::VectorXd::Zero(n);
  m->X = Eigen::MatrixXd::NullaryExpr(n, 3, [&] { return normal(rng); });
  m->X.col(0).setOnes();
  const auto add = [&](int levels, int columns) {
    RandomTerm t;
    t.group = std::to_string(levels);
    for (int l = 0; l < levels; ++l) t.levels.push_back(std::to_string(l));
    for (int i = 0; i < n; ++i) t.level_of_row.push_back(i < levels ? i : static_cast<int>(rng() % levels));
    t.names.resize(columns);
    t.z = Eigen::MatrixXd::NullaryExpr(n, columns, [&] { return normal(rng); });
    t.z.col(0).setOnes();
    m->random.push_back(t);
  };
  add(60, k);
  add(45, 1);
  add(5, 1);
  return m;
}

std::vector<double> generating(const Model& model) {
  std::vector<double> lambda(model.shape().lambdas, 0.0);
  for (int b = 0; b < model.shape().terms; ++b)
    for (int i = 0; i < model.shape().term[b].k; ++i)
      lambda[model.shape().term[b].lambda + i * (model.shape().term[b].k + 1)] = 0.6 - 0.2 * i - 0.1 * b;
  return lambda;
}

struct Blocks {
  std::vector<Status> status;
  std::vector<double> statistic, null, full, lambda, beta;
  void append(const ReplicateBlock& b) {
    status.insert(status.end(), b.status.begin(), b.status.end());
    statistic.insert(statistic.end(), b.statistic.begin(), b.statistic.end());
    null.insert(null.end(), b.deviance_null.begin(), b.deviance_null.end());
    full.insert(full.end(), b.deviance_full.begin(), b.deviance_full.end());
    lambda.insert(lambda.end(), b.lambda_null.begin(), b.lambda_null.end());
    beta.insert(beta.end(), b.beta_null.begin(), b.beta_null.end());
  }
};

Blocks run(const Bootstrap& bootstrap, std::uint64_t first, std::uint64_t count, int threads) {
  Blocks blocks;
  BootstrapRun run;
  run.first = first;
  run.count = count;
  run.threads = threads;
  run.parameters = true;
  run.collect = [&](const ReplicateBlock& b) { blocks.append(b); };
  bootstrap.run(run);
  return blocks;
}

/// From several starting points, to full precision.
double certified_deviance(const Model& model, const Eigen::VectorXd& y) {
  const auto criterion = make_criterion(model, y);
  const Optimum optimum = minimize(*criterion, model, default_starts(model));
  EXPECT_TRUE(optimum.certified);
  return optimum.value.deviance;
}

TEST(LargeEngine, RefitsAreSingleFits) {
  for (int k : {1, 2})
    for (Method method : {Method::ml, Method::reml}) {
      SCOPED_TRACE(::testing::Message() << "k " << k << " reml " << (method == Method::reml));
      // Arrange
      const Model model(crossed(k, 7), method);
      const Bootstrap bootstrap(model, generating(model), 1.0, 11, Tier::large);
      const auto& engine = dynamic_cast<const LargeEngine&>(bootstrap.engine());

      // Act
      const Blocks found = run(bootstrap, 0, replicates, 1);

      // Assert
      for (int i = 0; i < replicates; ++i) {
        EXPECT_TRUE(is_used(found.status[i])) << i;
        EXPECT_NEAR(found.null[i], certified_deviance(model, engine.draw(i)), 1e-8) << i;
      }
    }
}

TEST(LargeEngine, LikelihoodRatiosAreThoseOfSingleFits) {
  // Arrange
  const auto larger = crossed(2, 8);
  const auto smaller = std::make_shared<ModelMatrices>(*larger);
  smaller->X = larger->X.leftCols(2).eval();
  smaller->random[0].z = larger->random[0].z.leftCols(1).eval();
  smaller->random[0].names.pop_back();
  const Model null(smaller, Method::ml), full(larger, Method::ml);
  const Bootstrap bootstrap(null, full, embed(null, full), generating(null), 1.0, 12, Tier::large);
  const auto& engine = dynamic_cast<const LargeEngine&>(bootstrap.engine());

  // Act
  const Blocks found = run(bootstrap, 0, replicates, 1);

  // Assert
  for (int i = 0; i < replicates; ++i) {
    const Eigen::VectorXd y = engine.draw(i);
    EXPECT_TRUE(is_used(found.status[i])) << i;
    EXPECT_NEAR(found.null[i], certified_deviance(null, y), 1e-8) << i;
    EXPECT_NEAR(found.full[i], certified_deviance(full, y), 1e-8) << i;
    EXPECT_GE(found.statistic[i], 0) << i;
  }
}

TEST(LargeEngine, AReplicateHasItsBitsInAnyThreadAndRange) {
  // Arrange
  const Model model(crossed(2, 9), Method::ml);
  const Bootstrap bootstrap(model, generating(model), 1.0, 13, Tier::large);

  // Act
  const Blocks one = run(bootstrap, 0, 70, 1), several = run(bootstrap, 0, 70, 3), late = run(bootstrap, 37, 6, 2);

  // Assert
  EXPECT_EQ(one.null, several.null);
  EXPECT_EQ(one.lambda, several.lambda);
  EXPECT_EQ(one.beta, several.beta);
  EXPECT_EQ(late.null, std::vector<double>(one.null.begin() + 37, one.null.begin() + 43));
  const auto columns = static_cast<std::ptrdiff_t>(one.lambda.size() / 70);
  EXPECT_EQ(late.lambda, std::vector<double>(one.lambda.begin() + 37 * columns, one.lambda.begin() + 43 * columns));
}

TEST(LargeEngine, DrawsHaveTheModelsCovariance) {
  // Arrange: y'Ay has expectation tr(AV) and variance 2 tr(AVAV); A = I, and A = the cross-products within a factor
  const Model model(crossed(2, 10), Method::ml);
  const std::vector<double> lambda = generating(model);
  const Bootstrap bootstrap(model, lambda, 1.0, 14, Tier::large);
  const auto& engine = dynamic_cast<const LargeEngine&>(bootstrap.engine());
  const kernels::Shape& s = model.shape();
  const Eigen::Index n = model.matrices().y.size();
  Eigen::MatrixXd v = Eigen::MatrixXd::Identity(n, n);
  std::vector<Eigen::MatrixXd> forms{Eigen::MatrixXd::Identity(n, n)};
  for (int b = 0; b < s.terms; ++b) {
    const int t = model.term_of(b), k = s.term[b].k;
    const RandomTerm& term = model.matrices().random[t];
    const Eigen::MatrixXd& z = model.z_gauge(t).columns;
    Eigen::MatrixXd l(k, k);
    for (int i = 0; i < k; ++i)
      for (int j = 0; j < k; ++j) l(i, j) = lambda[s.term[b].lambda + i * k + j];
    Eigen::MatrixXd same(n, n);
    for (Eigen::Index i = 0; i < n; ++i)
      for (Eigen::Index j = 0; j < n; ++j) same(i, j) = term.level_of_row[i] == term.level_of_row[j] ? 1 : 0;
    v += same.cwiseProduct(z * l * l.transpose() * z.transpose());
    forms.push_back(same);
    if (k > 1) forms.push_back(same.cwiseProduct(z.col(1) * z.col(1).transpose()));
  }
  constexpr int draws = 400;

  // Act
  std::vector<double> sum(forms.size(), 0.0);
  Eigen::VectorXd mean = Eigen::VectorXd::Zero(n);
  for (int i = 0; i < draws; ++i) {
    const Eigen::VectorXd y = engine.draw(i);
    mean += y / draws;
    for (std::size_t a = 0; a < forms.size(); ++a) sum[a] += y.dot(forms[a] * y);
  }

  // Assert: within 4.5 standard errors (a false alarm in 100,000 runs of another seed)
  for (std::size_t a = 0; a < forms.size(); ++a) {
    const Eigen::MatrixXd av = forms[a] * v;
    const double error = std::sqrt(2 * (av * av).trace() / draws);
    EXPECT_NEAR(sum[a] / draws, av.trace(), 4.5 * error) << "form " << a;
  }
  EXPECT_NEAR(mean.sum(), 0, 4.5 * std::sqrt(v.sum() / draws));
}

}  // namespace
}  // namespace batchlmm
