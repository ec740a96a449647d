// Resampled data: moments that the literature demands of it, whole clusters and levels, the same bits in any order.
#include "host/inference/resample.hpp"

#include <gtest/gtest.h>

#include <Eigen/LU>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using oracle::Kind;

Fit fit_of(const std::string& formula, const std::string& file, const std::vector<std::string>& factors = {}) {
  return fit(std::make_shared<const ModelMatrices>(model_matrices(
                 parse_formula(formula), read_table(std::string(BATCHLMM_TEST_DATA) + "/" + file, {factors}))),
             Method::reml);
}
Fit sleepstudy() { return fit_of("Reaction ~ Days + (Days|Subject)", "sleepstudy.csv", {"Subject"}); }

VectorXd drawn(const ResponseResampler& resampler, std::uint64_t replicate, Index n) {
  VectorXd y(n);
  resampler.draw(replicate, {y.data(), static_cast<std::size_t>(n)});
  return y;
}

/// Mean and covariance of many draws.
struct Moments {
  Moments(const ResponseResampler& resampler, Index n, int count) : mean(VectorXd::Zero(n)), covariance(n, n) {
    MatrixXd y(n, count);
    for (int i = 0; i < count; ++i) y.col(i) = drawn(resampler, static_cast<std::uint64_t>(i), n);
    mean = y.rowwise().mean();
    y.colwise() -= mean;
    covariance = y * y.transpose() / (count - 1);
  }
  VectorXd mean;
  MatrixXd covariance;
};

/// sigma^2 (I + Z Lambda Lambda' Z').
MatrixXd model_covariance(const Fit& f) {
  const ModelMatrices& m = *f.model;
  MatrixXd v = MatrixXd::Identity(m.y.size(), m.y.size());
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const MatrixXd z = oracle::dense_z(m.random[t]);
    const Index k = m.random[t].z.cols();
    for (Index l = 0; l < z.cols() / k; ++l) {
      const MatrixXd zl = z.middleCols(l * k, k) * f.random[t].lambda;
      v += zl * zl.transpose();
    }
  }
  return f.sigma * f.sigma * v;
}

TEST(Resample, TypesHaveNames) {
  for (const char* name : {"parametric", "use-u", "residual", "wild", "case", "block"})
    EXPECT_STREQ(bootstrap_type_name(bootstrap_type_of_name(name)), name);
  EXPECT_EQ(bootstrap_type_of_name("reb"), BootstrapType::block);
  EXPECT_THROW(bootstrap_type_of_name("jackknife"), InputError);
}

TEST(Resample, ADrawDependsOnSeedAndReplicateAlone) {
  const Fit f = sleepstudy();
  for (const BootstrapType type :
       {BootstrapType::use_u, BootstrapType::residual, BootstrapType::wild, BootstrapType::block}) {
    const ResponseResampler a(f, type, {}, 5), b(f, type, {}, 5), other(f, type, {}, 6);
    const VectorXd late = drawn(a, (1ULL << 40U) + 3, 180), early = drawn(a, 1, 180);
    EXPECT_EQ(drawn(b, 1, 180), early);
    EXPECT_EQ(drawn(b, (1ULL << 40U) + 3, 180), late);
    EXPECT_NE(drawn(other, 1, 180), early);
    EXPECT_NE(late, early);
  }
}

TEST(Resample, ResidualsAndModesAreReflatedToTheEstimatedCovariance) {
  // Draws with replacement from centred effects whose empirical covariances are the estimates: y* has exactly the
  // model's mean and covariance. 20,000 draws: a covariance has a standard error of about v sqrt((kurtosis + 1) /
  // 20,000) < 0.02 v for effects with a kurtosis below 7; bounds are 5 of them.
  const int count = 20'000;
  for (const Fit& f : {sleepstudy(), fit_of("diameter ~ 1 + (1|plate) + (1|sample)", "penicillin.csv"),
                       fit_of("strength ~ 1 + (1|batch/cask)", "pastes.csv")}) {
    const Index n = f.model->y.size();
    const MatrixXd v = model_covariance(f);
    std::vector<BootstrapType> types{BootstrapType::residual};
    ResampleOptions options;
    if (f.model->random.size() == 1) {
      types.push_back(BootstrapType::block);
      options.reb_type = 1;
    }
    for (const BootstrapType type : types) {
      const Moments found(ResponseResampler(f, type, options, 1), n, count);
      const VectorXd mean = f.model->offset + f.model->X * f.beta;
      for (Index i = 0; i < n; i += 7) {
        EXPECT_NEAR(found.mean[i], mean[i], 5 * std::sqrt(v(i, i) / count));
        for (Index j = 0; j <= i; j += 5)
          EXPECT_NEAR(found.covariance(i, j), v(i, j), 0.1 * std::sqrt(v(i, i) * v(j, j))) << i << " " << j;
      }
    }
  }
}

TEST(Resample, ASingularFitIsReflatedWithinWhatItSpans) {
  // A correlation of 1: effects stay on its line, with the estimated variances.
  const Fit f = fit_of("frequency ~ attitude + gender + (attitude|subject)", "politeness.csv");
  ASSERT_TRUE(f.random[0].boundary);
  ASSERT_GT(f.random[0].sd.minCoeff(), 0);
  const Index n = f.model->y.size();

  const Moments found(ResponseResampler(f, BootstrapType::residual, {}, 1), n, 20'000);

  const MatrixXd v = model_covariance(f);
  for (Index i = 0; i < n; i += 3)
    for (Index j = 0; j <= i; j += 5) EXPECT_NEAR(found.covariance(i, j), v(i, j), 0.1 * std::sqrt(v(i, i) * v(j, j)));
}

TEST(Resample, ConditionalResponsesKeepTheModes) {
  const Fit f = sleepstudy();

  const Moments found(ResponseResampler(f, BootstrapType::use_u, {}, 3), 180, 20'000);

  const double variance = f.sigma * f.sigma;
  for (Index i = 0; i < 180; ++i) {
    EXPECT_NEAR(found.mean[i], f.fitted[i], 5 * f.sigma / std::sqrt(20'000.0));
    EXPECT_NEAR(found.covariance(i, i), variance, 5 * variance * std::sqrt(2 / 20'000.0));
    if (i == 0) continue;
    EXPECT_NEAR(found.covariance(i, i - 1), 0, 5 * variance / std::sqrt(20'000.0));
  }
}

TEST(Resample, WildResponsesTurnTheCorrectedResidualsOfWholeClusters) {
  const Fit f = sleepstudy();
  const ModelMatrices& m = *f.model;
  const VectorXd mean = m.X * f.beta;
  const MatrixXd hat = m.X * (m.X.transpose() * m.X).inverse() * m.X.transpose();
  using Weights = ResampleOptions::WildWeights;
  for (const Weights weights : {Weights::mammen, Weights::rademacher, Weights::webb, Weights::normal})
    for (const auto correction : {ResampleOptions::Correction::hc2, ResampleOptions::Correction::hc3}) {
      ResampleOptions options;
      options.weights = weights;
      options.correction = correction;
      const ResponseResampler resampler(f, BootstrapType::wild, options, 9);
      const double power = correction == ResampleOptions::Correction::hc2 ? 0.5 : 1;
      double one = 0, two = 0, three = 0;
      std::set<long> distinct;
      const int replicates = 2000;
      for (int r = 0; r < replicates; ++r) {
        const VectorXd y = drawn(resampler, static_cast<std::uint64_t>(r), 180);
        for (Index g = 0; g < 18; ++g) {
          // The table stands subject by subject.
          const auto w_of = [&](Index i) {
            return (y[i] - mean[i]) / ((m.y[i] - mean[i]) / std::pow(1 - hat(i, i), power));
          };
          const double w = w_of(10 * g);
          EXPECT_NEAR(w_of(10 * g + 9), w, 1e-9 * (1 + std::abs(w)));
          one += w;
          two += w * w;
          three += w * w * w;
          distinct.insert(std::lround(1e6 * w));
        }
      }
      // Mean 0, variance 1, Mammen's third moment 1; 36,000 weights, fourth and sixth moments below 3 and 15.
      const double n = 18.0 * replicates;
      EXPECT_NEAR(one / n, 0, 5 / std::sqrt(n));
      EXPECT_NEAR(two / n, 1, 5 * std::sqrt(2 / n));
      EXPECT_NEAR(three / n, weights == Weights::mammen ? 1 : 0, 5 * std::sqrt(15 / n));
      const std::map<Weights, std::size_t> points{{Weights::mammen, 2}, {Weights::rademacher, 2}, {Weights::webb, 6}};
      const auto at = points.find(weights);
      EXPECT_TRUE(at == points.end() || distinct.size() == at->second) << distinct.size();
    }
}

TEST(Resample, BlocksHaveTheErrorsOfOneLevelAndItsLeastSquares) {
  const Fit f = sleepstudy();
  const ModelMatrices& m = *f.model;
  const VectorXd mean = m.X * f.beta;
  // Each subject's least squares of the marginal residuals, and what is left.
  MatrixXd u(18, 2), e(18, 10);
  for (Index g = 0; g < 18; ++g) {
    const MatrixXd z = m.random[0].z.middleRows(10 * g, 10);
    const VectorXd r = (m.y - mean).segment(10 * g, 10);
    u.row(g) = z.colPivHouseholderQr().solve(r).transpose();
    e.row(g) = (r - z * u.row(g).transpose()).transpose();
  }
  const ResponseResampler resampler(f, BootstrapType::block, {}, 2);
  for (std::uint64_t replicate = 0; replicate < 50; ++replicate) {
    const VectorXd y = drawn(resampler, replicate, 180);
    for (Index g = 0; g < 18; ++g) {
      const MatrixXd z = m.random[0].z.middleRows(10 * g, 10);
      int matches = 0;
      for (Index from = 0; from < 18; ++from) {
        const VectorXd left = (y - mean).segment(10 * g, 10) - z * u.row(from).transpose();
        for (Index donor = 0; donor < 18; ++donor) {
          bool all = true;
          for (Index i = 0; i < 10 && all; ++i) all = ((e.row(donor).array() - left[i]).abs() < 1e-8).any();
          matches += all ? 1 : 0;
        }
      }
      EXPECT_EQ(matches, 1);
    }
  }
}

TEST(Resample, RefusesDesignsThatItIsNotFor) {
  const Fit crossed = fit_of("diameter ~ 1 + (1|plate) + (1|sample)", "penicillin.csv"),
            nested = fit_of("strength ~ 1 + (1|batch/cask)", "pastes.csv");
  const auto message = [](const auto& make) -> std::string {
    try {
      make();
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message([&] { ResponseResampler(crossed, BootstrapType::wild, {}, 1); }),
            "wild bootstrap: weights go to independent clusters of rows, and the grouping factors plate, sample are "
            "crossed; expected one in which the others are nested");
  EXPECT_EQ(message([&] { ResponseResampler(nested, BootstrapType::block, {}, 1); }),
            "block bootstrap: expected one grouping factor, found cask:batch, batch");
  EXPECT_EQ(message([&] { CaseResampler(crossed, {}, 1); }),
            "case bootstrap: the grouping factors plate, sample are crossed; expected --case with the one whose levels "
            "are drawn");
  EXPECT_EQ(message([&] {
              CaseResampler(crossed, {"plate", "sample"}, 1);
            }),
            "--case: expected factors that are nested in each other, found 'plate', which is not nested in 'sample'");
  EXPECT_NE(message([&] { CaseResampler(crossed, {"plat"}, 1); }).find("found 'plat'; did you mean 'plate'?"),
            std::string::npos);
  EXPECT_EQ(CaseResampler(crossed, {"plate"}, 1).description(), "plate");
  EXPECT_EQ(CaseResampler(nested, {}, 1).description(), "batch");
}

/// Rows of each level of a term.
std::map<std::string, std::vector<std::size_t>> rows_of_levels(const ModelMatrices& m, std::size_t term) {
  std::map<std::string, std::vector<std::size_t>> out;
  for (std::size_t i = 0; i < m.rows.size(); ++i)
    out[m.random[term].levels[static_cast<std::size_t>(m.random[term].level_of_row[i])]].push_back(m.rows[i]);
  for (auto& [level, rows] : out) std::sort(rows.begin(), rows.end());
  return out;
}

TEST(Resample, CasesAreWholeLevelsWithNamesOfTheirOwn) {
  const Fit f = sleepstudy();
  const CaseResampler resampler(f, {}, 4);
  std::map<std::vector<std::size_t>, int> times;
  const auto original = rows_of_levels(*f.model, 0);
  std::set<std::vector<std::size_t>> sets;
  for (const auto& [level, rows] : original) sets.insert(rows);
  const int replicates = 2000;
  for (int r = 0; r < replicates; ++r) {
    const auto m = resampler.draw(static_cast<std::uint64_t>(r));
    ASSERT_EQ(m->random[0].levels, f.model->random[0].levels);
    for (const auto& [level, rows] : rows_of_levels(*m, 0)) {
      EXPECT_TRUE(sets.contains(rows));
      ++times[rows];
    }
    for (Index i = 0; i < m->y.size(); i += 20) {
      const auto from = static_cast<Index>(m->rows[static_cast<std::size_t>(i)]);
      EXPECT_EQ(m->y[i], f.model->y[from]);
      EXPECT_EQ(m->X.row(i), f.model->X.row(from));
      EXPECT_EQ(m->random[0].z.row(i), f.model->random[0].z.row(from));
    }
  }
  // Each level is drawn as often as others: 36,000 draws, 2,000 expected with a standard deviation of 43.
  ASSERT_EQ(times.size(), 18U);
  for (const auto& [rows, n] : times) EXPECT_NEAR(n, replicates, 5 * 43.5);
  EXPECT_EQ(resampler.draw(3)->y, CaseResampler(f, {}, 4).draw(3)->y);
}

TEST(Resample, NestedCasesFollowTheirLevel) {
  // 10 batches of 3 casks of 2 rows.
  const Fit f = fit_of("strength ~ 1 + (1|batch/cask)", "pastes.csv");
  const auto casks = rows_of_levels(*f.model, 0), batches = rows_of_levels(*f.model, 1);
  std::set<std::vector<std::size_t>> whole_casks, whole_batches;
  for (const auto& [level, rows] : casks) whole_casks.insert(rows);
  for (const auto& [level, rows] : batches) whole_batches.insert(rows);
  bool cask_twice = false, row_twice = false;
  for (std::uint64_t r = 0; r < 20; ++r) {
    const auto of_batches = CaseResampler(f, {"batch"}, 1).draw(r);
    EXPECT_EQ(of_batches->random[0].levels.size(), 30U);
    EXPECT_EQ(of_batches->random[0].levels, f.model->random[0].levels);
    for (const auto& [level, rows] : rows_of_levels(*of_batches, 0)) EXPECT_TRUE(whole_casks.contains(rows));
    for (const auto& [level, rows] : rows_of_levels(*of_batches, 1)) EXPECT_TRUE(whole_batches.contains(rows));

    // Casks within their batch.
    const auto of_casks = CaseResampler(f, {"cask:batch"}, 1).draw(r);
    EXPECT_EQ(of_casks->random[1].levels, f.model->random[1].levels);
    for (const auto& [level, rows] : rows_of_levels(*of_casks, 0)) EXPECT_TRUE(whole_casks.contains(rows));
    for (const auto& [level, rows] : rows_of_levels(*of_casks, 1)) {
      ASSERT_EQ(rows.size(), 6U);
      EXPECT_EQ(rows.front() / 6, rows.back() / 6);  // all from the batch that has this name
      EXPECT_EQ(rows.front() / 6, batches.at(level).front() / 6);
    }

    // Batches, casks within them, rows within these.
    const auto all = CaseResampler(f, {"rows", "batch", "cask:batch"}, 1).draw(r);
    EXPECT_EQ(all->y.size(), 60);
    EXPECT_EQ(all->random[0].levels.size(), 30U);
    for (const auto& [level, rows] : rows_of_levels(*all, 0)) {
      ASSERT_EQ(rows.size(), 2U);
      EXPECT_EQ(rows.front() / 2, rows.back() / 2);
      row_twice = row_twice || rows.front() == rows.back();
    }
    for (const auto& [level, rows] : rows_of_levels(*all, 1)) {
      EXPECT_EQ(rows.front() / 6, rows.back() / 6);
      std::set<std::size_t> distinct;
      for (const std::size_t row : rows) distinct.insert(row / 2);
      cask_twice = cask_twice || distinct.size() < 3;
    }
    EXPECT_EQ(CaseResampler(f, {"rows", "batch", "cask:batch"}, 1).description(), "batch, cask:batch, rows");
  }
  EXPECT_TRUE(cask_twice);
  EXPECT_TRUE(row_twice);
}

TEST(Resample, CrossedFactorsKeepTheirLevels) {
  // 24 plates x 6 samples.
  const Fit f = fit_of("diameter ~ 1 + (1|plate) + (1|sample)", "penicillin.csv");
  const ModelMatrices& m = *f.model;
  for (std::uint64_t r = 0; r < 10; ++r) {
    const auto drawn = CaseResampler(f, {"plate"}, 1).draw(r);
    EXPECT_EQ(drawn->y.size(), 144);
    EXPECT_EQ(drawn->random[0].levels, m.random[0].levels);
    for (std::size_t i = 0; i < 144; ++i)
      EXPECT_EQ(drawn->random[1].levels[static_cast<std::size_t>(drawn->random[1].level_of_row[i])],
                m.random[1].levels[static_cast<std::size_t>(m.random[1].level_of_row[drawn->rows[i]])]);
  }
}

TEST(Resample, LevelsOfUnequalSizeMakeNewOnes) {
  // Nested levels of an unbalanced design: a level with more levels within it than the place that it takes.
  const auto model = oracle::random_model(Kind::nested, 1, 8);
  const Fit f = fit(model, Method::reml);
  const CaseResampler resampler(f, {}, 2);
  const auto nested_in = [](const ModelMatrices& m) {
    std::map<std::int32_t, std::int32_t> outer;
    for (std::size_t i = 0; i < m.rows.size(); ++i) {
      const auto [at, added] = outer.emplace(m.random[0].level_of_row[i], m.random[1].level_of_row[i]);
      if (at->second != m.random[1].level_of_row[i]) return false;
    }
    return true;
  };
  ASSERT_TRUE(nested_in(*model));
  for (std::uint64_t r = 0; r < 30; ++r) {
    const auto drawn = resampler.draw(r);
    EXPECT_TRUE(nested_in(*drawn));
    EXPECT_EQ(drawn->random[1].levels.size(), model->random[1].levels.size());
    // Inner levels are as many as those of the drawn outer ones.
    std::size_t rows = 0;
    for (const auto& [level, of] : rows_of_levels(*drawn, 0)) rows += of.size();
    EXPECT_EQ(rows, drawn->rows.size());
    EXPECT_EQ(std::set<std::string>(drawn->random[0].levels.begin(), drawn->random[0].levels.end()).size(),
              drawn->random[0].levels.size());
  }
}

}  // namespace
}  // namespace batchlmm
