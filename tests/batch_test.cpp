// Many models in one batch: each item is the single fit of its own response and design.
#include "batchlmm/batchlmm.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <random>

#include "host/model/check_model.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using oracle::Kind;

// Under a sanitizer the same work with fewer items.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t thinned = 100;
#else
constexpr std::uint64_t thinned = 1;
#endif

void expect_single_fit(const BatchFit& item, const std::shared_ptr<const ModelMatrices>& m, Method method) {
  const Fit single = fit(m, method);
  EXPECT_TRUE(is_used(item.status));
  EXPECT_NEAR(item.criterion, single.criterion, 1e-8);
  EXPECT_NEAR(item.sigma, single.sigma, 1e-4 * single.sigma);
  ASSERT_EQ(item.theta.size(), single.theta.size());
  ASSERT_EQ(item.beta.size(), single.beta.size());
  for (Eigen::Index i = 0; i < item.beta.size(); ++i)
    EXPECT_NEAR(item.beta[i], single.beta[i], 1e-3 * std::sqrt(single.vcov(i, i)));
}

TEST(Batch, ManyResponsesOnOneDesign) {
  for (Kind kind : {Kind::single, Kind::nested, Kind::crossed})
    for (Method method : {Method::ml, Method::reml}) {
      // Arrange
      const auto design = oracle::random_model(kind, 2, 11);
      Batch batch(design, method);
      std::mt19937_64 rng(5);
      std::normal_distribution<double> normal;
      std::vector<std::shared_ptr<ModelMatrices>> singles;
      for (int i = 0; i < 37; ++i) {
        auto m = std::make_shared<ModelMatrices>(*design);
        for (double& y : m->y) y += 2 * normal(rng) + 1e4;  // a large mean costs no digits
        batch.add(m->y);
        singles.push_back(m);
      }

      // Act
      const std::vector<BatchFit> fits = batch.submit({BackendChoice::cpu, 2, {}}).get();

      // Assert
      ASSERT_EQ(fits.size(), singles.size());
      for (std::size_t i = 0; i < fits.size(); ++i) expect_single_fit(fits[i], singles[i], method);
    }
}

TEST(Batch, ResponsesAddedTogetherAreThoseAddedOneByOne) {
  // Arrange
  const auto design = oracle::random_model(Kind::crossed, 2, 11);
  std::mt19937_64 rng(5);
  std::normal_distribution<double> normal;
  Eigen::MatrixXd y = Eigen::MatrixXd::NullaryExpr(design->y.size(), 9, [&] { return normal(rng); });
  y.colwise() += design->y;
  Batch together(design, Method::reml), one_by_one(design, Method::reml);
  for (Eigen::Index i = 0; i < y.cols(); ++i) one_by_one.add(y.col(i));

  // Act
  const std::size_t first = together.add_responses(0, y.leftCols(4)),
                    second = together.add_responses(0, y.rightCols(5));

  // Assert
  EXPECT_EQ(first, 0U);
  EXPECT_EQ(second, 4U);
  const std::vector<BatchFit> found = together.fit({BackendChoice::cpu, 1, {}}),
                              expected = one_by_one.fit({BackendChoice::cpu, 1, {}});
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].criterion, expected[i].criterion) << i;
    EXPECT_EQ(found[i].theta, expected[i].theta) << i;
  }
  EXPECT_THROW(together.add_responses(0, y.topRows(3)), ModelError);
  EXPECT_THROW(together.add_responses(0, y.topRows(3), BackendChoice::cuda), ModelError);
  EXPECT_EQ(together.size(), 9U);
}

TEST(Batch, ResponsesMadeWhenTheyAreFittedAreThoseThatWereAdded) {
  for (const auto& design : {oracle::random_model(Kind::crossed, 2, 11), oracle::random_model(Kind::nested, 1, 3)}) {
    // Arrange: enough for several calls of the kernels, and a few items of another kind between them.
    const std::uint64_t count = 1300 / (thinned > 1 ? 10 : 1);
    const auto response = [&](std::uint64_t i, std::span<double> y) {
      std::mt19937_64 rng(i);
      std::normal_distribution<double> normal;
      for (std::size_t r = 0; r < y.size(); ++r) y[r] = design->y[static_cast<Eigen::Index>(r)] + normal(rng) + 1e4;
    };
    Batch made(design, Method::reml), added(design, Method::reml);

    // Act
    const std::size_t first = made.add_responses(0, count, response);
    const std::size_t between = made.add(design->y);
    const std::size_t last = made.add_responses(0, 5, response);
    for (std::uint64_t i = 0; i < count; ++i) {
      Eigen::VectorXd y(design->y.size());
      response(i, {y.data(), static_cast<std::size_t>(y.size())});
      added.add(y);
    }
    const std::vector<BatchFit> one = made.fit({BackendChoice::cpu, 1, {}}),
                                two = made.fit({BackendChoice::cpu, 2, {}}),
                                expected = added.fit({BackendChoice::cpu, 2, {}});

    // Assert
    EXPECT_EQ(first, 0U);
    EXPECT_EQ(between, count);
    EXPECT_EQ(last, count + 1);
    ASSERT_EQ(one.size(), count + 6);
    for (std::uint64_t i = 0; i < count + 6; ++i) {
      EXPECT_EQ(one[i].theta, two[i].theta) << i;
      if (i == count) continue;
      const BatchFit& e = expected[i < count ? i : i - last];
      EXPECT_EQ(one[i].status, e.status) << i;
      EXPECT_EQ(one[i].criterion, e.criterion) << i;
      EXPECT_EQ(one[i].theta, e.theta) << i;
      EXPECT_EQ(one[i].beta, e.beta) << i;
      EXPECT_EQ(one[i].sigma, e.sigma) << i;
    }
    EXPECT_THROW(made.add_responses(3, 1, response), ModelError);
  }
}

TEST(Batch, ManyDesignsOfOneShape) {
  for (Kind kind : {Kind::single, Kind::nested, Kind::crossed, Kind::deep})
    for (Method method : {Method::ml, Method::reml}) {
      // Arrange: the same groups, covariates and slopes drawn anew.
      const auto design = oracle::random_model(kind, 2, 12);
      Batch batch(design, method);
      std::mt19937_64 rng(6);
      std::normal_distribution<double> normal;
      std::vector<std::shared_ptr<ModelMatrices>> singles;
      for (int i = 0; i < 21; ++i) {
        auto m = std::make_shared<ModelMatrices>(*design);
        for (Eigen::Index c = 1; c < m->X.cols(); ++c)
          for (double& x : m->X.col(c)) x = normal(rng);
        for (RandomTerm& term : m->random)
          for (Eigen::Index c = 1; c < term.z.cols(); ++c)
            for (double& z : term.z.col(c)) z = normal(rng);
        for (double& y : m->y) y += normal(rng);
        batch.add(m);
        singles.push_back(m);
      }

      // Act
      const std::vector<BatchFit> fits = batch.fit({BackendChoice::cpu, 1, {}});

      // Assert
      for (std::size_t i = 0; i < fits.size(); ++i) expect_single_fit(fits[i], singles[i], method);
    }
}

TEST(Batch, RefusesWhatDoesNotFitIt) {
  Batch batch(Method::ml);
  EXPECT_THROW(batch.add(Eigen::VectorXd::Zero(3)), ModelError);  // no design yet
  const auto design = oracle::random_model(Kind::crossed, 2, 13);
  design->x_names = {"(Intercept)", "x", "a:x", "z"};
  design->x_names.resize(design->X.cols());
  batch.add_design(design);
  const Eigen::Index n = design->y.size();
  EXPECT_THROW(batch.add(Eigen::VectorXd::Zero(3)), ModelError);
  EXPECT_THROW(batch.add(1, design->y), ModelError);
  EXPECT_THROW(batch.add(DesignVariant{0, {{"w", Eigen::VectorXd::Zero(n)}}, {}, {}}), ModelError);
  EXPECT_THROW(batch.add(DesignVariant{0, {{"z1", Eigen::VectorXd::Zero(n - 1)}}, {}, {}}), ModelError);
  EXPECT_THROW(batch.add(DesignVariant{0, {}, {static_cast<std::size_t>(n)}, {}}), ModelError);
  EXPECT_THROW(batch.add(DesignVariant{0, {}, {}, Eigen::VectorXd::Zero(n + 1)}), ModelError);
  EXPECT_EQ(batch.size(), 0U);
}

TEST(Batch, AColumnThatAnotherIsMadeOfIsNotExchangedAlone) {
  const auto design = oracle::random_model(Kind::crossed, 1, 16);
  design->X.conservativeResize(Eigen::NoChange, 3);
  design->X.rightCols(2).setRandom();
  design->x_names = {"(Intercept)", "x", "a:x"};
  Batch batch(design, Method::ml);
  const Eigen::VectorXd v = Eigen::VectorXd::Random(design->y.size());

  EXPECT_THROW(batch.add(DesignVariant{0, {{"x", v}}, {}, {}}), ModelError);
  EXPECT_NO_THROW(batch.add(DesignVariant{0, {{"x", v}, {"a:x", v.cwiseAbs()}}, {}, {}}));
}

/// A random variant: new values of slopes and covariates, rows missing at random, a response of its own.
DesignVariant random_variant(const ModelMatrices& m, std::mt19937_64& rng, bool columns, double missing) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const auto draw = [&] { return Eigen::VectorXd::NullaryExpr(m.y.size(), [&] { return normal(rng); }); };
  DesignVariant v;
  if (columns) {
    for (std::size_t c = 1; c < m.x_names.size(); ++c) v.columns.push_back({m.x_names[c], draw()});
    std::vector<std::string> slopes;
    for (const RandomTerm& term : m.random)
      for (std::size_t c = 1; c < term.names.size(); ++c)
        if (std::find(slopes.begin(), slopes.end(), term.names[c]) == slopes.end()) slopes.push_back(term.names[c]);
    for (const std::string& name : slopes) v.columns.push_back({name, draw()});
  }
  for (Eigen::Index i = 0; i < m.y.size(); ++i)
    if (uniform(rng) < missing) v.missing.push_back(static_cast<std::size_t>(i));
  v.y = m.y + draw();
  return v;
}

std::shared_ptr<ModelMatrices> named_model(Kind kind, int k, std::uint64_t seed) {
  auto m = oracle::random_model(kind, k, seed);
  for (Eigen::Index c = 0; c < m->X.cols(); ++c) m->x_names.push_back("x" + std::to_string(c));
  return m;
}

TEST(Batch, VariantsAreTheSingleFitsOfWhatTheyStandFor) {
  for (Kind kind : {Kind::single, Kind::nested, Kind::crossed, Kind::partially_crossed, Kind::nested_and_crossed,
                    Kind::deep, Kind::same_factor})
    for (Method method : {Method::ml, Method::reml})
      for (bool columns : {false, true}) {
        SCOPED_TRACE(testing::Message() << static_cast<int>(kind) << " " << static_cast<int>(method) << columns);
        // Arrange: few rows a level, so that whole levels go.
        const auto design = named_model(kind, 2, 17);
        Batch batch(design, method);
        std::mt19937_64 rng(8);
        std::vector<std::shared_ptr<ModelMatrices>> singles;
        for (int i = 0; i < 11; ++i) {
          DesignVariant v = random_variant(*design, rng, columns, i % 3 == 0 ? 0.0 : 0.25);
          singles.push_back(std::make_shared<ModelMatrices>(variant_matrices(*design, v)));
          batch.add(std::move(v));
          batch.add(singles.back());  // the same, written out by the user
        }

        // Act
        const std::vector<BatchFit> fits = batch.fit({BackendChoice::cpu, 2, {}});

        // Assert
        for (std::size_t i = 0; i < fits.size(); ++i) {
          SCOPED_TRACE(i);
          const auto& m = singles[i / 2];
          try {
            check_model(*m);
          } catch (const ModelError&) {
            EXPECT_EQ(fits[i].status, Status::not_positive_definite);
            continue;
          }
          expect_single_fit(fits[i], m, method);
        }
      }
}

TEST(Batch, HasTheSameBitsAloneAndAmongOthers) {
  // Arrange: three shapes, responses, designs of their own and variants, in one batch and one by one.
  const std::vector<std::shared_ptr<ModelMatrices>> designs{
      named_model(Kind::crossed, 1, 18), named_model(Kind::nested, 2, 19), named_model(Kind::single, 1, 20)};
  Batch all(Method::reml);
  for (const auto& d : designs) all.add_design(d);
  std::mt19937_64 rng(9);
  std::vector<DesignVariant> variants;
  for (int i = 0; i < 150; ++i) {
    DesignVariant v = random_variant(*designs[i % 3], rng, i % 2 == 0, i % 5 == 0 ? 0.0 : 0.1);
    v.design = i % 3;
    variants.push_back(v);
  }
  for (const DesignVariant& v : variants) all.add(v);
  for (const DesignVariant& v : variants) all.add(v.design, v.y);
  const std::size_t first =
      all.add(1, variants.size() / 3, [&](std::uint64_t i, DesignVariant& v) { v = variants[3 * i + 1]; });
  for (int i = 0; i < 100; ++i) all.add(0, variants[0].y);  // enough for a call of the kernels of their own

  // Act
  const std::vector<BatchFit> two = all.fit({BackendChoice::cpu, 2, {}}), one = all.fit({BackendChoice::cpu, 1, {}});

  // Assert
  const auto same = [](const BatchFit& a, const BatchFit& b) {
    return a.status == b.status && a.criterion == b.criterion && a.theta == b.theta && a.beta == b.beta &&
           a.sigma == b.sigma && a.boundary == b.boundary && a.evaluations == b.evaluations;
  };
  ASSERT_EQ(two.size(), 450U);
  for (std::size_t i = 0; i < two.size(); ++i) EXPECT_TRUE(same(one[i], two[i])) << i;
  for (std::size_t i = 0; i < variants.size(); i += 7) {
    Batch alone(Method::reml);
    for (const auto& d : designs) alone.add_design(d);
    alone.add(variants[i]);
    alone.add(variants[i].design, variants[i].y);
    const std::vector<BatchFit> fits = alone.fit({BackendChoice::cpu, 1, {}});
    EXPECT_TRUE(same(fits[0], two[i])) << i;
    EXPECT_TRUE(same(fits[1], two[variants.size() + i])) << i;
  }
  for (std::size_t i = 0; i < variants.size() / 3; ++i) EXPECT_TRUE(same(two[first + i], two[3 * i + 1])) << i;
  for (std::size_t i = first + variants.size() / 3; i < two.size(); ++i)
    EXPECT_TRUE(same(two[i], two[variants.size()])) << i;
}

TEST(Batch, DesignsOfOtherLevelsAndShapesAreFittedToo) {
  Batch batch(Method::ml);
  std::vector<std::shared_ptr<ModelMatrices>> singles;
  for (std::uint64_t seed = 30; seed < 42; ++seed)
    for (Kind kind : {Kind::single, Kind::crossed}) {
      singles.push_back(named_model(kind, 1 + static_cast<int>(seed % 2), seed));
      batch.add(singles.back());
    }

  const std::vector<BatchFit> fits = batch.fit();

  for (std::size_t i = 0; i < fits.size(); ++i) expect_single_fit(fits[i], singles[i], Method::ml);
}

TEST(Batch, LargeModelsGoOneAfterAnother) {
  // Arrange: two crossed factors, the smaller with more levels than the kernels take.
  const int n = 4000;
  auto m = std::make_shared<ModelMatrices>();
  std::mt19937_64 rng(3);
  std::normal_distribution<double> normal;
  m->formula = "y ~ x + (1 | a) + (1 | b)";
  m->offset = Eigen::VectorXd::Zero(n);
  m->X = Eigen::MatrixXd::Ones(n, 2);
  m->x_names = {"(Intercept)", "x"};
  for (double& x : m->X.col(1)) x = normal(rng);
  m->random.resize(2);
  m->y = m->X * Eigen::Vector2d(2, 1);
  for (int t = 0; t < 2; ++t) {
    RandomTerm& term = m->random[t];
    term.group = t == 0 ? "a" : "b";
    term.names = {"(Intercept)"};
    term.z = Eigen::MatrixXd::Ones(n, 1);
    const int levels = t == 0 ? 400 : 350;
    Eigen::VectorXd u(levels);
    for (int l = 0; l < levels; ++l) {
      term.levels.push_back(std::to_string(l));
      u[l] = normal(rng);
    }
    for (int i = 0; i < n; ++i) {
      term.level_of_row.push_back(i < levels ? i : static_cast<int>(rng() % levels));
      m->y[i] += u[term.level_of_row[i]];
    }
  }
  for (int i = 0; i < n; ++i) {
    m->y[i] += normal(rng);
    m->rows.push_back(i);
  }
  Batch batch(m, Method::reml);
  DesignVariant variant{0, {}, {5, 6, 7}, m->y.array() + 1};
  auto fewer = std::make_shared<const ModelMatrices>(variant_matrices(*m, variant));

  // Act
  batch.add(3 * m->y);
  batch.add(fewer);
  batch.add(variant);
  batch.add_responses(0, 1, [&](std::uint64_t, std::span<double> y) {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = 3 * m->y[static_cast<Eigen::Index>(i)];
  });
  const std::vector<BatchFit> fits = batch.fit();

  // Assert
  auto scaled = std::make_shared<ModelMatrices>(*m);
  scaled->y *= 3;
  expect_single_fit(fits[0], scaled, Method::reml);
  expect_single_fit(fits[1], fewer, Method::reml);
  expect_single_fit(fits[2], fewer, Method::reml);
  expect_single_fit(fits[3], scaled, Method::reml);
}

TEST(Batch, HandsOutResultsInOrderAndReportsProgress) {
  // Arrange
  const auto design = named_model(Kind::single, 1, 21);
  Batch batch(design, Method::ml);
  const std::uint64_t n = 150'000 / thinned;
  batch.add(0, n, [&](std::uint64_t i, DesignVariant& v) { v.y = design->y * (1.0 + static_cast<double>(i % 5)); });
  std::uint64_t seen = 0, blocks = 0, done = 0, total = 0;
  std::array<double, 5> sigma{};
  BatchOptions options{BackendChoice::cpu, 2, [&](std::uint64_t d, std::uint64_t t) {
                         EXPECT_GT(d, done);
                         done = d;
                         total = t;
                       }};

  // Act
  batch.fit_each(
      [&](std::uint64_t first, std::span<const BatchFit> fits) {
        EXPECT_EQ(first, seen);
        for (const BatchFit& f : fits) {
          double& s = sigma[seen++ % 5];
          if (s == 0) s = f.sigma;
          EXPECT_EQ(f.sigma, s);
        }
        ++blocks;
      },
      options);

  // Assert
  EXPECT_EQ(seen, n);
  EXPECT_EQ(done, n);
  EXPECT_EQ(total, n);
  EXPECT_NEAR(sigma[3], 4 * sigma[0], 1e-6 * sigma[3]);
  EXPECT_TRUE(blocks > 1 || thinned > 1);
  EXPECT_LT(batch.memory(options), 1e8);
}

TEST(Batch, AResponseThatIsNotFiniteIsReportedAndHarmsNoOther) {
  const auto design = oracle::random_model(Kind::crossed, 1, 14);
  Batch batch(design, Method::ml);
  Eigen::VectorXd y = design->y;
  batch.add(y);
  y[3] = std::numeric_limits<double>::quiet_NaN();
  batch.add(y);
  batch.add(design->y);
  const std::vector<BatchFit> fits = batch.fit();
  EXPECT_EQ(fits[1].status, Status::non_finite);
  EXPECT_TRUE(std::isnan(fits[1].criterion));
  EXPECT_TRUE(is_used(fits[0].status));
  EXPECT_EQ(fits[0].criterion, fits[2].criterion);
}

}  // namespace
}  // namespace batchlmm
