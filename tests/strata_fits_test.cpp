// Responses that are given, on balanced designs: the symmetry tier's fits against those of the streaming tier.
#include "host/batch/strata_fits.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "host/batch/batch.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "kernels/cpu.hpp"
#include "tests/designs.hpp"

namespace batchlmm {
namespace {

using Matrices = std::shared_ptr<const ModelMatrices>;

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t responses_a_design = 6;
#else
constexpr std::size_t responses_a_design = 60;
#endif

Matrices matrices(const std::string& formula, const std::string& file, const std::vector<std::string>& factors = {}) {
  return std::make_shared<const ModelMatrices>(
      model_matrices(parse_formula(formula), read_table(std::string(BATCHLMM_TEST_DATA) + "/" + file, {factors})));
}

/// Lists with the slope of one factor: all eight would take the streaming tier a second a response.
designs::Design lists() {
  designs::Design d = designs::lists(24, 16);
  d.terms = {{"s", {"1", "a"}}, {"i", {"1", "a"}}};
  return d;
}

std::vector<std::pair<std::string, Matrices>> balanced_designs() {
  return {
      {"crossed", designs::crossed(9, 8).matrices()},
      {"crossed, a row missing", designs::crossed(9, 8).with_missing(1, 3).matrices()},
      {"crossed, rows missing", designs::crossed(10, 7).with_missing(4, 5).matrices()},
      {"longitudinal", designs::longitudinal(15, 6).matrices()},
      {"dropout", designs::dropout({6, 6}, {5, 3}).matrices()},
      {"nested", designs::nested(6, 4, 6).matrices()},
      {"split plot", designs::split_plot(6, 3, 4).matrices()},
      {"lists", lists().matrices()},
      {"penicillin", matrices("diameter ~ 1 + (1|plate) + (1|sample)", "penicillin.csv")},
      {"pastes", matrices("strength ~ 1 + (1|batch/cask)", "pastes.csv")},
      {"sleepstudy", matrices("Reaction ~ Days + (Days|Subject)", "sleepstudy.csv", {"Subject"})},
      {"politeness", matrices("frequency ~ attitude + gender + (1|subject) + (1|scenario)", "politeness.csv")},
  };
}

/// y = a large mean + random effects of each term (no variance in every third response) + errors.
Eigen::VectorXd random_response(const ModelMatrices& m, std::size_t i) {
  std::mt19937_64 rng(100 + i);
  std::normal_distribution<double> normal;
  Eigen::VectorXd y = Eigen::VectorXd::NullaryExpr(m.y.size(), [&] { return 1000 + normal(rng); });
  if (i % 3 == 0) return y;
  for (const RandomTerm& term : m.random) {
    const Eigen::MatrixXd b = Eigen::MatrixXd::NullaryExpr(static_cast<Eigen::Index>(term.levels.size()), term.z.cols(),
                                                           [&] { return (i % 3 == 1 ? 0.5 : 2.0) * normal(rng); });
    for (Eigen::Index row = 0; row < y.size(); ++row)
      y[row] += term.z.row(row).dot(b.row(term.level_of_row[static_cast<std::size_t>(row)]));
  }
  return y;
}

TEST(StrataFits, AreThoseOfTheStreamingTier) {
  for (const auto& [name, m] : balanced_designs())
    for (const Method method : {Method::ml, Method::reml}) {
      // Arrange: a variant that differs in nothing goes by the streaming tier.
      const Model model(m, method);
      std::string why;
      const auto strata = StrataFits::make(model, true, &why);
      ASSERT_NE(strata, nullptr) << name << ": " << why;
      Batch streaming(m, method);
      std::vector<double> responses, ols;
      const Eigen::MatrixXd& x = model.x_gauge().columns;
      for (std::size_t i = 0; i < responses_a_design; ++i) {
        DesignVariant variant;
        variant.y = random_response(*m, i);
        const Eigen::VectorXd fitted = x.transpose() * variant.y / static_cast<double>(variant.y.size());
        const std::vector<double> response = model.response(variant.y - x * fitted);
        responses.insert(responses.end(), response.begin(), response.end());
        ols.insert(ols.end(), fitted.data(), fitted.data() + fitted.size());
        streaming.add(std::move(variant));
      }
      const std::vector<BatchFit> expected = streaming.fit({BackendChoice::cpu, 1, {}});

      // Act
      const kernels::Shape& s = model.shape();
      const std::size_t n = responses_a_design, p = static_cast<std::size_t>(s.p);
      std::vector<std::uint8_t> status(n);
      std::vector<double> deviance(n), lambda(n * static_cast<std::size_t>(s.lambdas)), beta(n * p), r2(n),
          factor(n * p * (p + 1) / 2);
      std::vector<std::uint32_t> boundary(n);
      std::vector<std::uint16_t> evaluations(n);
      strata->fit(responses.data(), n,
                  {status.data(), deviance.data(), lambda.data(), boundary.data(), evaluations.data(), beta.data(),
                   r2.data(), nullptr, factor.data()});

      // Assert
      for (std::size_t i = 0; i < n; ++i) {
        const std::string what = name + ", response " + std::to_string(i);
        const BatchFit& e = expected[i];
        EXPECT_NEAR(deviance[i], e.criterion, 1e-8 * (1 + 1e-3 * std::abs(e.criterion))) << what;
        EXPECT_EQ(static_cast<Status>(status[i]), e.status) << what;
        EXPECT_NEAR(std::sqrt(r2[i] / s.degrees), e.sigma, 1e-5 * e.sigma) << what;
        Eigen::VectorXd found = Eigen::Map<const Eigen::VectorXd>(beta.data() + i * p, s.p) +
                                Eigen::Map<const Eigen::VectorXd>(ols.data() + i * p, s.p);
        found = model.x_gauge().map.triangularView<Eigen::Upper>().solve(found);
        for (int c = 0; c < s.p; ++c) EXPECT_NEAR(found[c], e.beta[c], 1e-4 * std::sqrt(e.vcov(c, c))) << what;
        EXPECT_GT(evaluations[i], 0) << what;
      }
    }
}

TEST(StrataFits, ABatchTakesThemWhereTheyPay) {
  // Arrange
  const Matrices balanced = designs::crossed(20, 10).matrices(),
                 irregular = designs::crossed(20, 10).with_missing(60, 7).matrices();

  // Act
  const Batch on_balanced(balanced, Method::ml), on_irregular(irregular, Method::ml);

  // Assert
  EXPECT_EQ(on_balanced.tier(0), Tier::symmetry);
  EXPECT_EQ(on_irregular.tier(0), Tier::streaming);
}

TEST(StrataFits, OfABatchAgreeWithVariantsInEveryField) {
  for (const SmallSample tested : {SmallSample::satterthwaite, SmallSample::kenward_roger})
    for (const bool rows_missing : {false, true}) {
      // Arrange
      const designs::Design complete = designs::crossed(16, 9);
      const Matrices m = rows_missing ? complete.with_missing(2, 3).matrices() : complete.matrices();
      Batch batch(m, Method::reml);
      ASSERT_EQ(batch.tier(0), Tier::symmetry);
      Hypotheses hypotheses{tested, {}};
      hypotheses.list.push_back({Eigen::RowVector2d(0, 1), Eigen::VectorXd::Constant(1, 0.3)});
      hypotheses.list.push_back({Eigen::Matrix2d::Identity(), {}});
      batch.set_tests(hypotheses);
      const std::size_t n = responses_a_design;
      for (std::size_t i = 0; i < n; ++i) batch.add(random_response(*m, i));
      for (std::size_t i = 0; i < n; ++i) {
        DesignVariant variant;
        variant.y = random_response(*m, i);
        batch.add(std::move(variant));
      }

      // Act
      const std::vector<BatchFit> fits = batch.fit({BackendChoice::cpu, 2, {}});

      // Assert
      for (std::size_t i = 0; i < n; ++i) {
        const BatchFit &a = fits[i], &b = fits[n + i];
        ASSERT_EQ(a.status, b.status) << i;
        EXPECT_NEAR(a.criterion, b.criterion, 1e-8) << i;
        EXPECT_EQ(a.boundary, b.boundary) << i;
        EXPECT_LT((a.theta - b.theta).cwiseAbs().maxCoeff(), 1e-3) << i;
        EXPECT_LT((a.beta - b.beta).cwiseAbs().maxCoeff(), 1e-4) << i;
        EXPECT_LT((a.vcov - b.vcov).cwiseAbs().maxCoeff(), 1e-4 * b.vcov.norm()) << i;
        ASSERT_EQ(a.tests.size(), 2U);
        for (std::size_t t = 0; t < 2; ++t) {
          EXPECT_NEAR(a.tests[t].statistic, b.tests[t].statistic, 1e-3 * std::abs(b.tests[t].statistic) + 1e-6) << i;
          EXPECT_NEAR(a.tests[t].df, b.tests[t].df, 1e-2 * b.tests[t].df) << i;
          EXPECT_NEAR(a.tests[t].p, b.tests[t].p, 1e-4) << i;
        }
      }
    }
}

TEST(StrataFits, HaveTheSameBitsAloneAndAmongOthersAndOnEveryInstructionSet) {
  // Arrange
  const Matrices m = designs::crossed(12, 8).with_missing(1, 4).matrices();
  const Model model(m, Method::reml);
  std::string why;
  const auto strata = StrataFits::make(model, true, &why);
  ASSERT_NE(strata, nullptr) << why;
  constexpr std::size_t n = 21;  // no multiple of any lanes
  std::vector<double> responses;
  for (std::size_t i = 0; i < n; ++i) {
    Eigen::VectorXd y = random_response(*m, i);
    y.array() -= 1000;
    const std::vector<double> response = model.response(y);
    responses.insert(responses.end(), response.begin(), response.end());
  }
  const auto lambdas = static_cast<std::size_t>(model.shape().lambdas);
  const auto fit = [&](const kernels::CpuKernels& isa, const double* from, std::size_t count) {
    std::vector<double> deviance(count), lambda(count * lambdas);
    std::vector<std::uint8_t> status(count);
    kernels::BootstrapChunk chunk;
    chunk.count = count;
    chunk.null.status = status.data();
    chunk.null.deviance = deviance.data();
    chunk.null.lambda = lambda.data();
    isa.strata->bootstrap(strata->job(from), chunk);
    return std::pair(deviance, lambda);
  };
  const auto [deviance, lambda] = fit(kernels::cpu_kernels(), responses.data(), n);

  for (const kernels::CpuKernels* isa : kernels::all_cpu_kernels()) {
    // Act
    const auto together = fit(*isa, responses.data(), n);

    // Assert
    EXPECT_EQ(together.first, deviance) << isa->name;
    EXPECT_EQ(together.second, lambda) << isa->name;
    for (std::size_t i = 0; i < n; i += 5) {
      const auto alone = fit(*isa, responses.data() + i * static_cast<std::size_t>(model.shape().response), 1);
      EXPECT_EQ(alone.first[0], deviance[i]) << isa->name;
      EXPECT_TRUE(std::equal(alone.second.begin(), alone.second.end(), lambda.begin() + static_cast<long>(i * lambdas)))
          << isa->name;
    }
  }
}

}  // namespace
}  // namespace batchlmm
