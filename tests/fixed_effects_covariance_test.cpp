// The fixed effects' covariance of every replicate and every fit of a batch, against the n x n covariance matrix.
#include <gtest/gtest.h>

#include <Eigen/Cholesky>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/batch/batch.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/inference/fit.hpp"
#include "tests/designs.hpp"
#include "tests/large_models.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;
using oracle::random_model;

// Under a sanitizer the same work with fewer replicates.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t thinned = 8;
#else
constexpr std::uint64_t thinned = 1;
#endif

/// X'V^{-1}X at sigma = 1 for these columns. @param lambda  per model term, the user's units
Eigen::MatrixXd information(const ModelMatrices& m, const Eigen::MatrixXd& x,
                            const std::vector<Eigen::MatrixXd>& lambda) {
  Eigen::MatrixXd v = Eigen::MatrixXd::Identity(x.rows(), x.rows());
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const Eigen::MatrixXd z = oracle::dense_z(m.random[t]);
    const Eigen::Index k = lambda[t].rows();
    Eigen::MatrixXd zl(z.rows(), z.cols());
    for (Eigen::Index l = 0; l < z.cols() / k; ++l) zl.middleCols(l * k, k) = z.middleCols(l * k, k) * lambda[t];
    v += zl * zl.transpose();
  }
  return x.transpose() * v.llt().solve(x);
}

double relative_error(const Eigen::MatrixXd& found, const Eigen::MatrixXd& expected) {
  if (!found.allFinite()) return std::numeric_limits<double>::infinity();
  return (found - expected).cwiseAbs().maxCoeff() / expected.cwiseAbs().maxCoeff();
}

/// Largest relative error of LL' over the replicates of one side.
double worst_factor(const Model& model, std::span<const double> factor, std::span<const double> lambda) {
  const kernels::Shape& s = model.shape();
  const auto p = static_cast<std::size_t>(s.p), size = p * (p + 1) / 2;
  const auto lambdas = static_cast<std::size_t>(s.lambdas);
  double worst = 0;
  for (std::size_t i = 0; i < factor.size() / size; ++i) {
    std::vector<Eigen::MatrixXd> user(model.matrices().random.size());
    for (int b = 0; b < s.terms; ++b) {
      const int k = s.term[b].k;
      user[model.term_of(b)] = model.to_user_lambda(
          b, Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
                 lambda.data() + i * lambdas + static_cast<std::size_t>(s.term[b].lambda), k, k));
    }
    Eigen::MatrixXd l = Eigen::MatrixXd::Zero(s.p, s.p);
    const double* at = factor.data() + i * size;
    for (int r = 0; r < s.p; ++r)
      for (int c = 0; c <= r; ++c) l(r, c) = *at++;
    EXPECT_GT(l.diagonal().minCoeff(), 0);
    worst = std::max(worst,
                     relative_error(l * l.transpose(), information(model.matrices(), model.x_gauge().columns, user)));
  }
  return worst;
}

/// Replicates of a test of the last fixed effect by a tier, or of refits.
void expect_factors(const std::string& name, const std::shared_ptr<ModelMatrices>& full_matrices, Method method,
                    Tier tier, std::uint64_t count) {
  auto null_matrices = std::make_shared<ModelMatrices>(*full_matrices);
  null_matrices->X.conservativeResize(Eigen::NoChange, null_matrices->X.cols() - 1);
  const Model full(full_matrices, method), null(null_matrices, method);
  std::vector<double> lambda(full.shape().lambdas, 0.0);
  for (int b = 0; b < full.shape().terms; ++b)
    for (int i = 0; i < full.shape().term[b].k; ++i)
      lambda[full.shape().term[b].lambda + i * (full.shape().term[b].k + 1)] = 0.5 - 0.2 * i;
  const Bootstrap bootstrap = method == Method::ml ? Bootstrap(null, full, embed(null, full), lambda, 1.0, 7, tier)
                                                   : Bootstrap(full, lambda, 1.0, 7, tier);
  BootstrapRun run;
  run.count = count;
  run.threads = 2;
  run.parameters = true;
  double worst = 0;
  std::uint64_t seen = 0;
  run.collect = [&](const ReplicateBlock& block) {
    seen += block.status.size();
    const Model& first = method == Method::ml ? null : full;
    worst = std::max(worst, worst_factor(first, block.x_factor_null, block.lambda_null));
    if (method == Method::ml) worst = std::max(worst, worst_factor(full, block.x_factor_full, block.lambda_full));
  };

  (void)bootstrap.run(run);

  EXPECT_EQ(seen, count) << name;
  // An interpolant's optimum is moved by one more Newton step before beta and X's factor are taken there.
  EXPECT_LT(worst, tier == Tier::shared_factorization ? 1e-7 : 1e-10) << name;
}

TEST(FixedEffectsCovariance, OfReplicatesOfEveryTier) {
  const std::uint64_t n = 64 / thinned;
  for (Method method : {Method::ml, Method::reml}) {
    expect_factors("balanced", designs::crossed(8, 6).matrices(), method, Tier::symmetry, n);
    expect_factors("rows missing", designs::longitudinal(12, 6).with_missing(3, 5).matrices(), method, Tier::symmetry,
                   n);
    for (Kind kind : {Kind::single, Kind::crossed, Kind::nested_and_crossed})
      for (int k : {1, 2}) {
        std::uint64_t seed = 3;
        while (random_model(kind, k, seed)->X.cols() < 2) ++seed;
        expect_factors("streaming", random_model(kind, k, seed), method, Tier::streaming, n);
      }
    expect_factors("shared", oracle::crossed_levels(150, {{20, 1}, {8, 1}}, 4), method, Tier::shared_factorization, n);
    expect_factors("large", oracle::crossed_levels(120, {{15, 2}, {10, 1}}, 5), method, Tier::large, n / 4);
  }
}

TEST(FixedEffectsCovariance, OfABatchIsThatOfASingleFit) {
  for (Method method : {Method::ml, Method::reml})
    for (Kind kind : {Kind::single, Kind::crossed, Kind::deep}) {
      const auto given = random_model(kind, 2, 12), own = random_model(kind, 1, 13);
      Batch batch(given, method);
      batch.add(given->y);
      batch.add(own);

      const std::vector<BatchFit> fits = batch.fit({BackendChoice::cpu, 1, {}});

      for (const auto& [m, item] : {std::pair(given, &fits[0]), std::pair(own, &fits[1])}) {
        std::vector<Eigen::MatrixXd> lambda;
        Eigen::Index at = 0;
        for (const RandomTerm& term : m->random) {
          Eigen::MatrixXd l = Eigen::MatrixXd::Zero(term.z.cols(), term.z.cols());
          for (Eigen::Index c = 0; c < l.cols(); ++c)
            for (Eigen::Index r = c; r < l.rows(); ++r) l(r, c) = item->theta[at++];
          lambda.push_back(l);
        }
        const Eigen::MatrixXd x = information(*m, m->X, lambda);
        const Eigen::MatrixXd expected =
            item->sigma * item->sigma * x.llt().solve(Eigen::MatrixXd::Identity(x.rows(), x.rows()));
        EXPECT_LT(relative_error(item->vcov, expected), 1e-9);
        EXPECT_LT(relative_error(item->vcov, fit(m, method).vcov), 1e-4);
      }
    }
}

TEST(FixedEffectsCovariance, OfAFitThatFailsIsNotANumber) {
  const auto design = random_model(Kind::single, 1, 3);
  Batch batch(design, Method::reml);
  Eigen::VectorXd y = design->y;
  y[2] = std::numeric_limits<double>::quiet_NaN();
  batch.add(y);

  const std::vector<BatchFit> fits = batch.fit({BackendChoice::cpu, 1, {}});

  EXPECT_EQ(fits[0].vcov.rows(), design->X.cols());
  EXPECT_TRUE(fits[0].vcov.array().isNaN().all());
}

}  // namespace
}  // namespace batchlmm
