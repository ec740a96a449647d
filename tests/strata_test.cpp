// Tier 1 against tier 2 and the rows: strata of balanced designs, fixed effects that lie in single copies or spread,
// draws, optima.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "host/batch/bootstrap.hpp"
#include "host/batch/chunk_buffers.hpp"
#include "host/batch/strata_engine.hpp"
#include "host/batch/streaming_engine.hpp"
#include "host/data/read.hpp"
#include "host/model/criterion.hpp"
#include "kernels/cpu.hpp"
#include "kernels/device_strata.hpp"
#include "tests/host_device.hpp"

namespace batchlmm {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t thinned = 20;
#else
constexpr std::uint64_t thinned = 1;
#endif

/// A balanced crossed design: subjects x items x 2 conditions, and a covariate of the subjects.
struct Crossed {
  int subjects = 6, items = 7, subject_columns = 1, item_columns = 1;
  bool group = true;      ///< a fixed effect between subjects
  bool numeric = false;   ///< a fixed effect without pattern
  bool condition = true;  ///< the fixed effect of the conditions
};

std::shared_ptr<ModelMatrices> crossed(const Crossed& d) {
  auto m = std::make_shared<ModelMatrices>();
  const int n = d.subjects * d.items * 2;
  m->formula = "crossed";
  m->y = Eigen::VectorXd::Zero(n);
  m->offset = Eigen::VectorXd::Zero(n);
  Eigen::MatrixXd all(n, 4);
  RandomTerm subject, item;
  subject.group = "subject";
  item.group = "item";
  subject.z.resize(n, d.subject_columns);
  item.z.resize(n, d.item_columns);
  int row = 0;
  for (int s = 0; s < d.subjects; ++s)
    for (int i = 0; i < d.items; ++i)
      for (int c = 0; c < 2; ++c, ++row) {
        all.row(row) << 1, s % 2, c - 0.5, std::sin(3.7 * row + 0.1 * row * row);
        subject.level_of_row.push_back(s);
        item.level_of_row.push_back(i);
        subject.z(row, 0) = item.z(row, 0) = 1;
        if (d.subject_columns > 1) subject.z(row, 1) = c - 0.5;
        if (d.item_columns > 1) item.z(row, 1) = c - 0.5;
        m->rows.push_back(static_cast<std::size_t>(row));
        m->y[row] = std::sin(1.3 * row) + 0.3 * s + 0.2 * i;
      }
  std::vector<int> used{0};
  if (d.group) used.push_back(1);
  if (d.numeric) used.push_back(3);
  if (d.condition) used.push_back(2);
  m->X.resize(n, static_cast<Eigen::Index>(used.size()));
  for (std::size_t c = 0; c < used.size(); ++c) {
    m->X.col(static_cast<Eigen::Index>(c)) = all.col(used[c]);
    m->x_names.push_back("x" + std::to_string(used[c]));
  }
  for (int s = 0; s < d.subjects; ++s) subject.levels.push_back(std::to_string(s));
  for (int i = 0; i < d.items; ++i) item.levels.push_back(std::to_string(i));
  for (RandomTerm* t : {&subject, &item})
    for (Eigen::Index c = 0; c < t->z.cols(); ++c) t->names.push_back("z" + std::to_string(c));
  m->random = d.subjects > d.items ? std::vector<RandomTerm>{subject, item} : std::vector<RandomTerm>{item, subject};
  return m;
}

struct Pair {
  Pair(std::shared_ptr<const ModelMatrices> m0, std::shared_ptr<const ModelMatrices> m1, Method method = Method::ml)
      : null(std::move(m0), method), full(std::move(m1), method), embedding(embed(null, full)) {
    models.null = &null;
    models.full = &full;
    models.embedding = &embedding;
    models.seed = 11;
    models.lambda.assign(null.shape().lambdas, 0.0);
    for (int b = 0; b < null.shape().terms; ++b) {
      const kernels::TermShape& t = null.shape().term[b];
      for (int i = 0; i < t.k; ++i)
        for (int j = 0; j <= i; ++j) models.lambda[t.lambda + i * t.k + j] = i == j ? 0.6 - 0.2 * i : 0.2;
    }
  }
  Model null, full;
  Embedding embedding;
  BootstrapModels models;
};

std::shared_ptr<const ModelMatrices> matrices(const std::string& formula, const std::string& file,
                                              const std::vector<std::string>& factors = {}) {
  return std::make_shared<ModelMatrices>(
      model_matrices(parse_formula(formula), read_table(std::string(BATCHLMM_TEST_DATA) + "/" + file, {factors})));
}

std::shared_ptr<ModelMatrices> without(const ModelMatrices& m, const std::vector<int>& dropped);

std::vector<std::pair<std::string, std::unique_ptr<Pair>>> pairs(Method method) {
  std::vector<std::pair<std::string, std::unique_ptr<Pair>>> all;
  const auto add = [&](const std::string& name, Crossed d) {
    Crossed smaller = d;
    smaller.condition = false;
    all.emplace_back(name, std::make_unique<Pair>(crossed(smaller), crossed(d), method));
  };
  add("intercepts", {});
  add("no group", {6, 7, 1, 1, false});
  add("slopes of subjects", {8, 5, 2, 1});
  add("slopes of both", {9, 8, 2, 2});
  add("intercepts, a numeric covariate", {6, 7, 1, 1, true, true});
  add("slopes of both, a numeric covariate", {9, 8, 2, 2, false, true});
  const auto add_missing = [&](const std::string& name, Crossed d, const std::vector<int>& dropped) {
    Crossed smaller = d;
    smaller.condition = false;
    all.emplace_back(
        name, std::make_unique<Pair>(without(*crossed(smaller), dropped), without(*crossed(d), dropped), method));
  };
  add_missing("intercepts, a row missing", {}, {51});
  add_missing("intercepts, rows missing, a numeric covariate", {6, 7, 1, 1, true, true}, {3, 40});
  add_missing("slopes of both, rows missing", {9, 8, 2, 2}, {5, 77, 131});
  all.emplace_back(
      "politeness",
      std::make_unique<Pair>(matrices("frequency ~ gender + (1|subject) + (1|scenario)", "politeness.csv"),
                             matrices("frequency ~ attitude + gender + (1|subject) + (1|scenario)", "politeness.csv"),
                             method));
  all.emplace_back(
      "sleepstudy",
      std::make_unique<Pair>(matrices("Reaction ~ 1 + (Days|Subject)", "sleepstudy.csv", {"Subject"}),
                             matrices("Reaction ~ Days + (Days|Subject)", "sleepstudy.csv", {"Subject"}), method));
  all.emplace_back(
      "sleepstudy, uncorrelated",
      std::make_unique<Pair>(matrices("Reaction ~ Days + (Days||Subject)", "sleepstudy.csv", {"Subject"}),
                             matrices("Reaction ~ Days + (Days|Subject)", "sleepstudy.csv", {"Subject"}), method));
  all.emplace_back("penicillin, a variance",
                   std::make_unique<Pair>(matrices("diameter ~ 1 + (1|plate)", "penicillin.csv"),
                                          matrices("diameter ~ 1 + (1|plate) + (1|sample)", "penicillin.csv"), method));
  all.emplace_back("pastes, nested",
                   std::make_unique<Pair>(matrices("strength ~ 1 + (1|batch:cask)", "pastes.csv"),
                                          matrices("strength ~ 1 + (1|batch/cask)", "pastes.csv"), method));
  return all;
}

/// Subjects x items, each with two crossed factors of two levels as slopes of both; where `square`, a row has the
/// levels of a Latin square in place of all four.
std::shared_ptr<ModelMatrices> factorial(int subjects, int items, bool square, bool interaction) {
  auto m = std::make_shared<ModelMatrices>();
  std::vector<Eigen::Vector4d> z;
  RandomTerm subject, item;
  for (int s = 0; s < subjects; ++s)
    for (int i = 0; i < items; ++i)
      for (int c = 0; c < (square ? 1 : 4); ++c) {
        const int cell = square ? (s + i) % 4 : c;
        const double a = cell % 2 - 0.5, b = (cell < 2 ? 0 : 1) - 0.5;
        z.emplace_back(1, a, b, 2 * a * b);
        subject.level_of_row.push_back(s);
        item.level_of_row.push_back(i);
        m->rows.push_back(z.size() - 1);
      }
  const auto n = static_cast<Eigen::Index>(z.size());
  m->formula = "factorial";
  m->y = m->offset = Eigen::VectorXd::Zero(n);
  m->X.resize(n, interaction ? 4 : 3);
  subject.z.resize(n, 4);
  item.z.resize(n, 4);
  for (Eigen::Index row = 0; row < n; ++row) {
    m->y[row] = std::sin(1.3 * static_cast<double>(row * row));
    m->X.row(row) = z[row].head(m->X.cols()).transpose();
    subject.z.row(row) = item.z.row(row) = z[row].transpose();
  }
  for (Eigen::Index c = 0; c < m->X.cols(); ++c) m->x_names.push_back("x" + std::to_string(c));
  subject.group = "subject";
  item.group = "item";
  for (int s = 0; s < subjects; ++s) subject.levels.push_back(std::to_string(s));
  for (int i = 0; i < items; ++i) item.levels.push_back(std::to_string(i));
  for (RandomTerm* term : {&subject, &item})
    for (int c = 0; c < 4; ++c) term->names.push_back("z" + std::to_string(c));
  m->random = subjects > items ? std::vector<RandomTerm>{subject, item} : std::vector<RandomTerm>{item, subject};
  return m;
}

/// Blocks of order 4 and more: with few copies as vectors, with many as cross-products, with several groups a term.
std::vector<std::pair<std::string, std::unique_ptr<Pair>>> large_pairs(Method method) {
  std::vector<std::pair<std::string, std::unique_ptr<Pair>>> all;
  const auto add = [&](const std::string& name, bool square, const std::vector<int>& dropped) {
    const int subjects = square ? 12 : 7, items = square ? 8 : 5;
    all.emplace_back(name, std::make_unique<Pair>(without(*factorial(subjects, items, square, false), dropped),
                                                  without(*factorial(subjects, items, square, true), dropped), method));
  };
  add("factorial", false, {});
  add("factorial, a row missing", false, {33});
  add("factorial, rows missing", false, {3, 40, 71, 118, 139});
  add("Latin square", true, {});
  add("Latin square, a row missing", true, {17});
  add("Latin square, rows missing", true, {5, 50});
  return all;
}

TEST(Strata, CriterionAndDerivativesAreThoseOfTheRows) {
  int vectors = 0, products = 0, several_groups = 0;
  for (Method method : {Method::ml, Method::reml}) {
    auto all = pairs(method);
    for (auto& large : large_pairs(method)) all.push_back(std::move(large));
    for (const auto& [name, pair] : all) {
      std::string why;
      const auto engine = StrataEngine::make(pair->models, true, &why);
      ASSERT_TRUE(engine) << name << ": " << why;
      for (bool full : {false, true}) {
        const Model& model = full ? pair->full : pair->null;
        const kernels::StrataModel& strata = full ? engine->data().full_model() : engine->data().null_model();
        const kernels::Shape& s = model.shape();
        const int m = s.parameters;
        for (int at = 0; at < strata.blocks; ++at) {
          const kernels::StrataBlock& b = strata.block[at];
          vectors += b.e != nullptr;
          products += b.d > 2 && b.y >= 0;
          several_groups += b.d > 1 && b.groups > s.terms;
        }
        for (int trial = 0; trial < (thinned > 1 ? 1 : 3); ++trial) {
          Eigen::VectorXd y(model.matrices().y.size());
          for (Eigen::Index i = 0; i < y.size(); ++i) y[i] = std::sin(2.1 * i * (trial + 1) + 0.3) + 0.2 * (i % 5);
          std::vector<double> lambda(s.lambdas, 0.0);
          for (int b = 0; b < s.terms; ++b)
            for (int i = 0; i < s.term[b].k; ++i)
              for (int j = 0; j <= i; ++j)
                lambda[s.term[b].lambda + i * s.term[b].k + j] =
                    trial == 2 && b == 0 ? 0 : 0.4 + 0.3 * i - 0.5 * j + 0.1 * trial;
          const CriterionValue rows = make_criterion(model, y)->evaluate(lambda, true);
          std::vector<double> gradient(m), hessian(m * (m + 1) / 2), information(m * (m + 1) / 2);

          const std::vector<double> record = engine->record(full, y);
          const kernels::StrataEvaluation e = kernels::cpu_kernels().strata->evaluate(
              s, strata, record.data(), lambda.data(), gradient.data(), hessian.data(), information.data());

          const std::string what = name + (full ? ", full " : ", null ") + std::to_string(trial) +
                                   (method == Method::reml ? " REML" : " ML");
          ASSERT_TRUE(e.ok) << what;
          EXPECT_NEAR(e.deviance, rows.deviance, 1e-9 * (1 + std::abs(rows.deviance))) << what;
          EXPECT_NEAR(e.r2, rows.r2, 1e-9 * rows.r2) << what;
          const double g = 1 + rows.gradient.cwiseAbs().maxCoeff(), h = 1 + rows.hessian.cwiseAbs().maxCoeff();
          for (int a = 0; a < m; ++a) {
            EXPECT_NEAR(gradient[a], rows.gradient[a], 1e-9 * g) << what << " " << a;
            for (int c = 0; c <= a; ++c) {
              EXPECT_NEAR(hessian[kernels::triangle(a, c)], rows.hessian(a, c), 1e-8 * h) << what << " " << a << c;
              EXPECT_NEAR(information[kernels::triangle(a, c)], rows.information(a, c), 1e-8 * h)
                  << what << " " << a << c;
            }
          }
        }
      }
    }
  }
  // The designs have blocks of every kind.
  EXPECT_GT(vectors, 0);
  EXPECT_GT(products, 0);
  EXPECT_GT(several_groups, 0);
}

/// The table without some rows.
std::shared_ptr<ModelMatrices> without(const ModelMatrices& m, const std::vector<int>& dropped) {
  auto out = std::make_shared<ModelMatrices>(m);
  std::vector<Eigen::Index> kept;
  for (Eigen::Index i = 0; i < m.y.size(); ++i)
    if (std::find(dropped.begin(), dropped.end(), static_cast<int>(i)) == dropped.end()) kept.push_back(i);
  out->y = m.y(kept);
  out->offset = m.offset(kept);
  out->X = m.X(kept, Eigen::all);
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    out->random[t].z = m.random[t].z(kept, Eigen::all);
    out->random[t].level_of_row.clear();
    for (Eigen::Index i : kept) out->random[t].level_of_row.push_back(m.random[t].level_of_row[i]);
  }
  out->rows.clear();
  for (Eigen::Index i : kept) out->rows.push_back(m.rows[static_cast<std::size_t>(i)]);
  return out;
}

/// Fits of a range of replicates with the parameters.
struct Collected {
  std::vector<double> statistic, deviance_null, deviance_full, beta_full, r2_full, lambda_full;
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
    const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(c.statistic, block.statistic);
    append(c.deviance_null, block.deviance_null);
    append(c.deviance_full, block.deviance_full);
    append(c.lambda_full, block.lambda_full);
    append(c.status, block.status);
    if (!parameters) return;
    append(c.beta_full, block.beta_full);
    append(c.r2_full, block.r2_full);
  };
  c.summary = b.run(run);
  return c;
}

Bootstrap bootstrap_of(const Pair& p, Tier tier) {
  return {p.null, p.full, p.embedding, p.models.lambda, 1.0, p.models.seed, tier};
}

TEST(Strata, StatisticHasTheDistributionOfTheStreamingTier) {
  if (thinned > 1) GTEST_SKIP() << "the code runs in the other tests; the comparison needs many replicates";
  // Two samples of 4,000: the Kolmogorov-Smirnov distance exceeds 1.95 sqrt(2 / n) with probability 0.001.
  for (const auto& [name, pair] : pairs(Method::ml)) {
    const std::uint64_t n = 4'000 / thinned;

    Collected a = collect(bootstrap_of(*pair, Tier::symmetry), 0, n, 2),
              b = collect(bootstrap_of(*pair, Tier::streaming), 0, n, 2);

    EXPECT_EQ(a.summary.used, n) << name;
    for (auto member : {&Collected::statistic, &Collected::deviance_null, &Collected::deviance_full}) {
      std::vector<double>&x = a.*member, &y = b.*member;
      std::sort(x.begin(), x.end());
      std::sort(y.begin(), y.end());
      double distance = 0;
      for (std::size_t i = 0, j = 0; i < n && j < n;) {
        const double at = std::min(x[i], y[j]);
        while (i < n && x[i] <= at) ++i;
        while (j < n && y[j] <= at) ++j;
        distance =
            std::max(distance, std::abs(static_cast<double>(i) - static_cast<double>(j)) / static_cast<double>(n));
      }
      EXPECT_LT(distance, 1.95 * std::sqrt(2.0 / static_cast<double>(n))) << name;
    }
  }
}

TEST(Strata, HasTheSameBitsForAnyThreadsAndRangesAndInstructionSets) {
  for (const auto& [name, pair] : pairs(Method::ml)) {
    const Bootstrap b = bootstrap_of(*pair, Tier::symmetry);
    const std::uint64_t n = 3'000 / thinned, first = (1ULL << 32) - n / 2;

    const Collected one = collect(b, first, n, 1), two = collect(b, first, n, 2, true);
    Collected parts;
    for (std::uint64_t at = 0; at < n;) {
      const std::uint64_t count = std::min<std::uint64_t>(n - at, 1 + (at * 7919) % 701);
      const Collected part = collect(b, first + at, count, 1);
      parts.deviance_full.insert(parts.deviance_full.end(), part.deviance_full.begin(), part.deviance_full.end());
      at += count;
    }

    EXPECT_EQ(one.statistic, two.statistic) << name;
    EXPECT_EQ(one.lambda_full, two.lambda_full) << name;
    EXPECT_EQ(one.deviance_full, parts.deviance_full) << name;
    const auto& engine = dynamic_cast<const StrataEngine&>(b.engine());
    for (const kernels::CpuKernels* k : kernels::all_cpu_kernels()) {
      FitBuffers null, full;
      kernels::BootstrapChunk chunk;
      chunk.first = first;
      chunk.count = n;
      chunk.null = null.resize(pair->null.shape(), n, false);
      chunk.full = full.resize(pair->full.shape(), n, false);
      k->strata->bootstrap(engine.job(), chunk);
      EXPECT_EQ(full.deviance, one.deviance_full) << name << " " << k->name;
      EXPECT_EQ(full.lambda, one.lambda_full) << name << " " << k->name;
    }
  }
}

/// Results of one call on both models of a pair, or on the null alone.
struct DeviceChunk {
  DeviceChunk(const Pair& pair, bool refit, std::uint64_t first, std::uint64_t n) {
    chunk.first = first;
    chunk.count = n;
    chunk.null = null.resize(pair.null.shape(), n, false);
    if (!refit) chunk.full = full.resize(pair.full.shape(), n, false);
  }
  [[nodiscard]] bool operator==(const DeviceChunk& b) const {
    const auto same = [](const FitBuffers& x, const FitBuffers& y) {
      return x.status == y.status && x.deviance == y.deviance && x.lambda == y.lambda && x.boundary == y.boundary &&
             x.evaluations == y.evaluations;
    };
    return same(null, b.null) && same(full, b.full);
  }
  FitBuffers null, full;
  kernels::BootstrapChunk chunk;
};

TEST(Strata, ADevicesThreadsGiveTheBitsOfTheTiles) {
  auto all = pairs(Method::ml);
  for (auto& one : large_pairs(Method::ml)) all.push_back(std::move(one));
  for (const auto& [name, pair] : all) {
    SCOPED_TRACE(name);
    // Arrange
    const std::uint64_t n = 200 / thinned, first = (1ULL << 40) + 5;
    const Bootstrap b = bootstrap_of(*pair, Tier::symmetry);
    const kernels::StrataJob& job = dynamic_cast<const StrataEngine&>(b.engine()).job();
    for (const bool refit : {false, true}) {
      DeviceChunk whole(*pair, refit, first, n), pieces(*pair, refit, first, n), tiles(*pair, refit, first, n);
      const kernels::StrataWork work(job, refit);
      const kernels::MemoryNeed need = kernels::memory_need(work, whole.chunk.null, whole.chunk.full);
      oracle::HostDevice device, small;
      small.threads = 1;
      small.bytes = need.fixed + need.thread + n / 3 * need.item;

      // Act
      kernels::run_replicates(device, work, whole.chunk);
      kernels::run_replicates(small, work, pieces.chunk);
      kernels::cpu_kernels().strata->bootstrap(job, tiles.chunk);
      const kernels::StatisticCounts counts = kernels::run_summary(device, work, first, n, 1.0, refit);

      // Assert
      kernels::StatisticCounts of_tiles;
      for (std::uint64_t i = 0; i < n; ++i)
        kernels::add_replicate(of_tiles, tiles.chunk.null, tiles.chunk.full, i,
                               kernels::outcome(tiles.chunk.null, tiles.chunk.full, i), 1.0);
      EXPECT_TRUE(oracle::same_counts(counts, of_tiles)) << "refit " << refit;
      EXPECT_TRUE(whole == tiles) << "refit " << refit;
      EXPECT_TRUE(pieces == tiles) << "refit " << refit;
      EXPECT_GT(small.fits, refit ? 1 : 2);
      EXPECT_GT(std::count_if(whole.null.status.begin(), whole.null.status.end(), [](auto s) { return s <= 1; }),
                static_cast<std::ptrdiff_t>(n * 9 / 10));
    }
  }
}

TEST(Strata, FindsTheBestOptimum) {
  // Against a search from every starting point to full precision.
  for (const auto& [name, pair] : pairs(Method::ml)) {
    const Pair& p = *pair;
    const Bootstrap b = bootstrap_of(p, Tier::symmetry);
    kernels::StrataJob job = dynamic_cast<const StrataEngine&>(b.engine()).job();
    const std::uint64_t n = 20'000 / thinned;
    FitBuffers null, full, best_null, best_full;
    const auto run = [&](FitBuffers& f0, FitBuffers& f1) {
      kernels::BootstrapChunk chunk;
      chunk.first = 5'000'000;
      chunk.count = n;
      chunk.null = f0.resize(p.null.shape(), n, false);
      chunk.full = f1.resize(p.full.shape(), n, false);
      kernels::cpu_kernels().strata->bootstrap(job, chunk);
    };
    run(null, full);
    const auto every = [](const kernels::Shape& shape) {
      return kernels::NewtonOptions{1e-13, 200, 4 + (shape.terms > 1 ? shape.terms : 0)};
    };
    job.job.null_options = every(p.null.shape());
    job.job.full_options = every(p.full.shape());
    run(best_null, best_full);

    int wrong = 0, uncertified = 0;
    double excess = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
      excess = std::max({excess, null.deviance[i] - best_null.deviance[i], full.deviance[i] - best_full.deviance[i]});
      wrong += null.deviance[i] > best_null.deviance[i] + 1e-8 || full.deviance[i] > best_full.deviance[i] + 1e-8;
      uncertified += null.status[i] > 1 || full.status[i] > 1;
    }
    EXPECT_EQ(wrong, 0) << name << ": above by " << excess;
    EXPECT_EQ(uncertified, 0) << name;
  }
}

TEST(Strata, FixedEffectsAreThoseOfGeneralizedLeastSquares) {
  // The mean of the estimates is 0 and their mean square that of the streaming tier: 5 standard errors, with half as
  // much again for tails longer than the normal's.
  for (const auto& [name, pair] : pairs(Method::ml)) {
    if (thinned > 1 && name != "intercepts, a row missing") continue;  // under a sanitizer one of them
    const std::uint64_t n = 4'000 / thinned;

    const Collected a = collect(bootstrap_of(*pair, Tier::symmetry), 0, n, 2, true),
                    b = collect(bootstrap_of(*pair, Tier::streaming), 0, n, 2, true);

    const int p = pair->full.shape().p;
    for (int j = 0; j < p; ++j) {
      double mean = 0, square = 0, other = 0;
      for (std::uint64_t i = 0; i < n; ++i) {
        mean += a.beta_full[i * p + j] / static_cast<double>(n);
        square += a.beta_full[i * p + j] * a.beta_full[i * p + j] / static_cast<double>(n);
        other += b.beta_full[i * p + j] * b.beta_full[i * p + j] / static_cast<double>(n);
      }
      EXPECT_NEAR(mean, 0, 5 * std::sqrt(square / static_cast<double>(n))) << name << " " << j;
      EXPECT_NEAR(square, other, 5 * 1.5 * std::sqrt(2.0 / static_cast<double>(n)) * other) << name << " " << j;
    }
  }
}

}  // namespace
}  // namespace batchlmm
