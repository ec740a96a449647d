// Tests of hypotheses in every fit of a batch and in every replicate: against the tests of a single fit at the same
// parameters, and against the exact laws of balanced designs.
#include "host/batch/hypotheses.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "batchlmm/error.hpp"
#include "host/batch/batch.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/batch/strata_engine.hpp"
#include "host/batch/streaming_engine.hpp"
#include "host/batch/test_plan.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/fit.hpp"
#include "host/model/small_sample.hpp"
#include "kernels/cpu.hpp"
#include "tests/designs.hpp"
#include "tests/large_models.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;
using oracle::Kind;
using oracle::random_model;
using Matrices = std::shared_ptr<const ModelMatrices>;

// Under a sanitizer the same work with fewer replicates.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t thinned = 50;
#else
constexpr std::uint64_t thinned = 1;
#endif

constexpr SmallSample both_methods[] = {SmallSample::satterthwaite, SmallSample::kenward_roger};

Matrices matrices_of(const std::string& formula, const std::string& file,
                     const std::vector<std::string>& factors = {}) {
  return std::make_shared<const ModelMatrices>(model_matrices(parse_formula(formula), read_table(file, {factors})));
}

/// Each coefficient, all but the first together, and (of three and more) contrasts that depend on one another.
Hypotheses hypotheses_of(Eigen::Index p, SmallSample method) {
  Hypotheses h{method, {}};
  for (Eigen::Index i = 0; i < p; ++i) h.list.push_back({VectorXd::Unit(p, i).transpose(), {}});
  if (p > 2) h.list.push_back({MatrixXd::Identity(p, p).bottomRows(p - 1), {}});
  if (p > 2) {
    MatrixXd l = MatrixXd::Zero(3, p);
    l(0, 1) = 1;
    l(1, 2) = 2;
    l(2, 1) = 1;
    l(2, 2) = -1;
    h.list.push_back({l, {}});
  }
  return h;
}

/// The tests of a single fit at these parameters.
/// @param lambda  per model term, the user's units
Fit fit_at(const Matrices& m, Method method, const std::vector<MatrixXd>& lambda, const VectorXd& beta, double sigma) {
  Fit f;
  f.model = m;
  f.method = method;
  f.beta = beta;
  f.sigma = sigma;
  std::vector<double> theta;
  for (const MatrixXd& l : lambda) {
    TermCovariance term;
    term.lambda = l;
    f.random.push_back(term);
    for (Eigen::Index c = 0; c < l.cols(); ++c)
      for (Eigen::Index r = c; r < l.rows(); ++r) theta.push_back(l(r, c));
  }
  f.theta = Eigen::Map<const VectorXd>(theta.data(), static_cast<Eigen::Index>(theta.size()));
  return f;
}

std::vector<MatrixXd> lambdas_of(const ModelMatrices& m, const VectorXd& theta) {
  std::vector<MatrixXd> lambda;
  Eigen::Index at = 0;
  for (const RandomTerm& term : m.random) {
    MatrixXd l = MatrixXd::Zero(term.z.cols(), term.z.cols());
    for (Eigen::Index c = 0; c < l.cols(); ++c)
      for (Eigen::Index r = c; r < l.rows(); ++r) l(r, c) = theta[at++];
    lambda.push_back(l);
  }
  return lambda;
}

void expect_relative(double found, double expected, double bound, const std::string& what) {
  EXPECT_LE(std::abs(found - expected), bound * std::abs(expected)) << what << ": " << found << ", " << expected;
}

/// @param bound    relative, of degrees of freedom and standard errors
void expect_tests(const std::vector<HypothesisTest>& found, const Hypotheses& hypotheses,
                  const SmallSampleTests& single, double bound, const std::string& name) {
  ASSERT_EQ(found.size(), hypotheses.list.size()) << name;
  for (std::size_t h = 0; h < found.size(); ++h) {
    const std::string what = name + ", hypothesis " + std::to_string(h);
    const HypothesisTest& t = found[h];
    const MatrixXd& l = hypotheses.list[h].l;
    if (l.rows() == 1) {
      const ContrastTest e = single.test(VectorXd(l.row(0)));
      expect_relative(t.estimate, e.estimate, 1e-7, what + ", estimate");
      expect_relative(t.std_error, e.se, bound, what + ", standard error");
      expect_relative(t.df, e.df, bound, what + ", df");
      expect_relative(t.statistic, t.estimate / t.std_error, 1e-14, what + ", t");
      EXPECT_EQ(t.df1, 1) << what;
      EXPECT_NEAR(t.p, e.p, 1e-7) << what;
      continue;
    }
    const FTest e = single.test(l);
    EXPECT_EQ(t.df1, e.df1) << what;
    expect_relative(t.df, e.df2, 10 * bound, what + ", df2");
    expect_relative(t.scaling, e.scaling, 10 * bound, what + ", scaling");
    expect_relative(t.statistic, e.f, 1e-6, what + ", F");
    EXPECT_NEAR(t.p, e.p, 1e-6) << what;
    EXPECT_TRUE(std::isnan(t.estimate) && std::isnan(t.std_error)) << what;
  }
}

/// A model fitted as a batch's design and as an item with a design of its own.
void expect_batch_tests(const std::string& name, const Matrices& m, Method method = Method::reml) {
  for (SmallSample tests : both_methods) {
    if (tests == SmallSample::kenward_roger && method == Method::ml) continue;
    const Hypotheses hypotheses = hypotheses_of(m->X.cols(), tests);
    Batch batch(m, method);
    batch.add(m->y);
    batch.add(m);
    batch.set_tests(hypotheses);

    const std::vector<BatchFit> fits = batch.fit({BackendChoice::cpu, 1, {}});

    for (const BatchFit& item : fits) {
      ASSERT_TRUE(is_used(item.status)) << name;
      const Fit at = fit_at(m, method, lambdas_of(*m, item.theta), item.beta, item.sigma);
      expect_tests(item.tests, hypotheses, SmallSampleTests(at, tests), 1e-9,
                   name + (tests == SmallSample::kenward_roger ? ", Kenward-Roger" : ", Satterthwaite"));
    }
  }
}

TEST(Hypotheses, OfABatchAreThoseOfASingleFit) {
  const std::string politeness = BATCHLMM_TEST_DATA "/politeness.csv", sleep = BATCHLMM_TEST_DATA "/sleepstudy.csv";
  for (Method method : {Method::reml, Method::ml}) {
    expect_batch_tests("politeness",
                       matrices_of("frequency ~ attitude * gender + (1|subject) + (1|scenario)", politeness), method);
    expect_batch_tests("politeness, slopes",
                       matrices_of("frequency ~ attitude + gender + (1+attitude|subject) + (1|scenario)", politeness),
                       method);
    expect_batch_tests("sleepstudy", matrices_of("Reaction ~ Days + (Days|Subject)", sleep), method);
    expect_batch_tests("sleepstudy, no correlation", matrices_of("Reaction ~ Days + (Days||Subject)", sleep), method);
    expect_batch_tests("penicillin",
                       matrices_of("diameter ~ 1 + (1|plate) + (1|sample)", BATCHLMM_TEST_DATA "/penicillin.csv"),
                       method);
    expect_batch_tests("pastes", matrices_of("strength ~ 1 + (1|batch/cask)", BATCHLMM_TEST_DATA "/pastes.csv"),
                       method);
  }
}

TEST(Hypotheses, OfRandomModelsAreThoseOfASingleFit) {
  for (Kind kind : {Kind::single, Kind::nested, Kind::crossed, Kind::partially_crossed, Kind::nested_and_crossed,
                    Kind::deep, Kind::same_factor})
    for (int k : {1, 2, 3})
      for (std::uint64_t seed : {1, 2, 3}) {
        if (thinned > 1 && seed > 1) continue;
        expect_batch_tests("kind " + std::to_string(static_cast<int>(kind)) + ", k " + std::to_string(k) + ", seed " +
                               std::to_string(seed),
                           random_model(kind, k, seed));
      }
}

TEST(Hypotheses, OfReferenceModelsAreThoseOfASingleFit) {
  const std::filesystem::path folder = std::filesystem::path(BATCHLMM_SHARED) / "reference";
  if (!std::filesystem::is_directory(folder)) GTEST_SKIP() << "no reference folder at " << folder;
  int models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream file(entry.path());
    const nlohmann::json r = nlohmann::json::parse(file);
    if (!r.contains("reml_tests")) continue;
    std::vector<std::string> factors;
    if (r["factors"].is_string()) factors = {r["factors"].get<std::string>()};
    if (r["factors"].is_array()) factors = r["factors"].get<std::vector<std::string>>();
    expect_batch_tests(
        entry.path().stem().string(),
        matrices_of(r["formula"].get<std::string>(), (folder / r["csv"].get<std::string>()).string(), factors));
    ++models;
  }
  EXPECT_GE(models, 10);
}

/// Refits of one model, or tests of the last fixed effect.
struct Replicates {
  std::vector<HypothesisTest> tests;
  std::vector<Status> status;
  std::vector<double> lambda, beta, r2;
};

struct Bench {
  Matrices null_matrices, full_matrices;
  std::unique_ptr<Model> null, full;
  std::unique_ptr<Bootstrap> bootstrap;
  Hypotheses hypotheses;

  Bench(const std::shared_ptr<ModelMatrices>& m, Method method, Tier tier, SmallSample tests, bool refit,
        double ratio = 0.5, double sigma = 1.0)
      : hypotheses(hypotheses_of(m->X.cols(), tests)) {
    full_matrices = m;
    full = std::make_unique<Model>(full_matrices, method);
    std::vector<double> lambda(full->shape().lambdas, 0.0);
    for (int b = 0; b < full->shape().terms; ++b)
      for (int i = 0; i < full->shape().term[b].k; ++i)
        lambda[full->shape().term[b].lambda + i * (full->shape().term[b].k + 1)] = ratio * (1 - 0.3 * i);
    if (refit) {
      bootstrap = std::make_unique<Bootstrap>(*full, lambda, sigma, 11, tier);
      return;
    }
    auto smaller = std::make_shared<ModelMatrices>(*m);
    smaller->X.conservativeResize(Eigen::NoChange, smaller->X.cols() - 1);
    null_matrices = smaller;
    null = std::make_unique<Model>(null_matrices, method);
    bootstrap = std::make_unique<Bootstrap>(*null, *full, embed(*null, *full), lambda, sigma, 11, tier);
  }
  [[nodiscard]] Replicates run(std::uint64_t first, std::uint64_t count, int threads = 2,
                               const VectorXd& beta = {}) const {
    Replicates out;
    const ReplicateTests tests{hypotheses, beta};
    BootstrapRun run;
    run.first = first;
    run.count = count;
    run.threads = threads;
    run.parameters = true;
    run.tests = &tests;
    run.collect = [&](const ReplicateBlock& block) {
      const bool refit = block.lambda_full.empty();
      const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
      append(out.tests, block.tests);
      append(out.status, block.status);
      append(out.lambda, refit ? block.lambda_null : block.lambda_full);
      append(out.beta, refit ? block.beta_null : block.beta_full);
      append(out.r2, refit ? block.r2_null : block.r2_full);
    };
    (void)bootstrap->run(run);
    return out;
  }
  [[nodiscard]] std::vector<HypothesisTest> of(const Replicates& r, std::size_t i) const {
    const std::size_t n = hypotheses.list.size();
    return {r.tests.begin() + static_cast<std::ptrdiff_t>(i * n),
            r.tests.begin() + static_cast<std::ptrdiff_t>((i + 1) * n)};
  }
};

/// Kenward and Roger's tests depend on a replicate through its parameters alone: a single fit has the same there.
void expect_replicates(const std::string& name, const std::shared_ptr<ModelMatrices>& m, Tier tier) {
  const double sigma = 1.7;
  const Bench bench(m, Method::reml, tier, SmallSample::kenward_roger, true, 0.5, sigma);
  const std::uint64_t count = 48 / std::min<std::uint64_t>(thinned, 4);
  VectorXd truth(m->X.cols());
  for (Eigen::Index i = 0; i < truth.size(); ++i) truth[i] = 0.3 * static_cast<double>(i + 1);

  const Replicates r = bench.run(5, count, 2, truth);

  ASSERT_EQ(r.status.size(), count) << name;
  const kernels::Shape& s = bench.full->shape();
  for (std::size_t i = 0; i < count; ++i) {
    if (!is_used(r.status[i])) continue;
    std::vector<MatrixXd> lambda(m->random.size());
    for (int b = 0; b < s.terms; ++b) {
      const int k = s.term[b].k;
      lambda[bench.full->term_of(b)] = bench.full->to_user_lambda(
          b, Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
                 r.lambda.data() + i * s.lambdas + s.term[b].lambda, k, k));
    }
    const Eigen::Map<const VectorXd> b(r.beta.data() + i * s.p, s.p);
    const VectorXd beta =
        truth + sigma * VectorXd(bench.full->x_gauge().map.triangularView<Eigen::Upper>().solve(VectorXd(b)));
    const Fit at = fit_at(m, Method::reml, lambda, beta, sigma * std::sqrt(r.r2[i] / s.degrees));
    // An interpolant's beta is that of one Newton step more.
    if (tier != Tier::shared_factorization)
      expect_tests(bench.of(r, i), bench.hypotheses, SmallSampleTests(at, SmallSample::kenward_roger), 1e-9,
                   name + ", replicate " + std::to_string(i));
    else
      for (std::size_t h = 0; h < static_cast<std::size_t>(s.p); ++h)
        expect_relative(
            bench.of(r, i)[h].df,
            SmallSampleTests(at, SmallSample::kenward_roger).test(VectorXd(bench.hypotheses.list[h].l.row(0))).df, 1e-6,
            name + ", df");
  }
}

TEST(Hypotheses, OfReplicatesOfEveryTierAreThoseOfASingleFit) {
  expect_replicates("crossed", designs::crossed(8, 6).matrices(), Tier::symmetry);
  expect_replicates("longitudinal", designs::longitudinal(12, 6).matrices(), Tier::symmetry);
  expect_replicates("rows missing", designs::longitudinal(12, 6).with_missing(3, 5).matrices(), Tier::symmetry);
  expect_replicates("split plot", designs::split_plot(6, 3, 4).matrices(), Tier::symmetry);
  expect_replicates("split plot, rows missing", designs::split_plot(6, 3, 4).with_missing(2, 1).matrices(),
                    Tier::symmetry);
  expect_replicates("nested", designs::nested(5, 3, 4).matrices(), Tier::symmetry);
  for (Kind kind : {Kind::single, Kind::crossed, Kind::nested_and_crossed, Kind::deep})
    for (int k : {1, 2}) expect_replicates("streaming", random_model(kind, k, 4), Tier::streaming);
  expect_replicates("shared", oracle::crossed_levels(150, {{20, 1}, {8, 1}}, 4), Tier::shared_factorization);
  expect_replicates("large", oracle::crossed_levels(120, {{15, 2}, {10, 1}}, 5), Tier::large);
}

TEST(Hypotheses, SatterthwaiteOnStrataHasTheLawOfTheStreamingTier) {
  // Both draw from one law: means of 1/df and of p within 5 standard errors of their difference.
  const std::uint64_t n = 4000 / thinned;
  for (bool refit : {true, false})
    for (const auto& [name, m] :
         {std::pair<std::string, std::shared_ptr<ModelMatrices>>{"crossed", designs::crossed(6, 5).matrices()},
          {"longitudinal, a row missing", designs::longitudinal(8, 5).with_missing(1, 3).matrices()},
          {"split plot", designs::split_plot(4, 3, 3).matrices()}}) {
      if (thinned > 1 && name != "split plot") continue;
      const Method method = refit ? Method::reml : Method::ml;
      const Bench strata(m, method, Tier::symmetry, SmallSample::satterthwaite, refit),
          streaming(m, method, Tier::streaming, SmallSample::satterthwaite, refit);

      const Replicates a = strata.run(0, n), b = streaming.run(0, n);

      for (std::size_t h = 0; h < strata.hypotheses.list.size(); ++h)
        for (const auto& [what, value] : {std::pair<const char*, std::function<double(const HypothesisTest&)>>{
                                              "1/df", [](const HypothesisTest& t) { return 1 / t.df; }},
                                          {"p", [](const HypothesisTest& t) { return t.p; }}}) {
          const auto moments = [&, &what = what, &value = value, &name = name](const Bench& bench,
                                                                               const Replicates& r) {
            double sum = 0, square = 0, count = 0;
            for (std::size_t i = 0; i < r.status.size(); ++i) {
              if (!is_used(r.status[i])) continue;
              const double x = value(bench.of(r, i)[h]);
              EXPECT_TRUE(std::isfinite(x)) << name << " " << what << " " << i;
              sum += x;
              square += x * x;
              ++count;
            }
            return std::array{sum / count, (square / count - sum / count * sum / count) / count};
          };
          const auto here = moments(strata, a), there = moments(streaming, b);
          EXPECT_NEAR(here[0], there[0], 5 * std::sqrt(here[1] + there[1])) << name << ", " << what << ", " << h;
        }
    }
}

TEST(Hypotheses, HaveTheSameBitsForAnyThreadsAndRanges) {
  for (SmallSample tests : both_methods)
    for (Tier tier : {Tier::symmetry, Tier::streaming}) {
      const Bench bench(designs::split_plot(4, 3, 3).with_missing(1, 2).matrices(), Method::reml, tier, tests, true);

      const Replicates whole = bench.run(0, 150, 2);
      Replicates parts = bench.run(0, 37, 1);
      const Replicates more = bench.run(37, 113, 1);
      parts.tests.insert(parts.tests.end(), more.tests.begin(), more.tests.end());

      ASSERT_EQ(whole.tests.size(), parts.tests.size());
      for (std::size_t i = 0; i < whole.tests.size(); ++i) {
        const auto same = [](double x, double y) {
          return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y) || (std::isnan(x) && std::isnan(y));
        };
        EXPECT_TRUE(same(whole.tests[i].df, parts.tests[i].df) && same(whole.tests[i].p, parts.tests[i].p) &&
                    same(whole.tests[i].statistic, parts.tests[i].statistic) &&
                    same(whole.tests[i].std_error, parts.tests[i].std_error))
            << i;
      }
    }
}

TEST(Hypotheses, HaveTheSameBitsOnEveryInstructionSet) {
  for (SmallSample method : both_methods)
    for (const bool strata : {true, false}) {
      const Bench bench(designs::crossed(6, 5).with_missing(1, 2).matrices(), Method::reml,
                        strata ? Tier::symmetry : Tier::streaming, method, true);
      const Replicates r = bench.run(0, 1);  // parameters in one place: every instruction set tests at them
      TestPlanData tests(bench.hypotheses, Method::reml, 2, "the design");
      const std::vector<double> none(2, 0.0);
      tests.set_gauge(bench.full->x_gauge().map.data(), none.data(), 1.0);
      const std::uint64_t count = 37;
      std::vector<std::uint8_t> status(count, kernels::fit_converged);
      std::vector<double> deviance(count, 1.0), lambda;
      for (std::uint64_t i = 0; i < count; ++i)
        for (double x : r.lambda) lambda.push_back(x * (1 + 0.01 * static_cast<double>(i)));
      std::vector<double> first;
      for (const kernels::CpuKernels* isa : kernels::all_cpu_kernels()) {
        std::vector<double> values(count * static_cast<std::size_t>(tests.plan().hypotheses) * 7, -5.0);
        kernels::TestJob job;
        job.plan = &tests.plan();
        job.first = 3;
        job.count = count;
        job.fits.status = status.data();
        job.fits.deviance = deviance.data();
        job.fits.lambda = lambda.data();
        job.values = values.data();

        if (strata) {
          const auto& engine = dynamic_cast<const StrataEngine&>(bench.bootstrap->engine());
          kernels::small_sample_kernels(*isa).strata(engine.job(), engine.data().fixed(false), job);
        } else {
          const auto& engine = dynamic_cast<const StreamingEngine&>(bench.bootstrap->engine());
          kernels::small_sample_kernels(*isa).replicates(engine.job(), job);
        }

        if (first.empty()) first = values;
        EXPECT_EQ(first, values) << isa->name << ", strata " << strata;
        EXPECT_GT(*std::min_element(values.begin(), values.end()), -5.0 + 1e-9);
      }
    }
}

/// Share of replicates with p < 0.05, and the degrees of freedom of every replicate inside the cone.
void expect_exact(const std::string& name, const std::shared_ptr<ModelMatrices>& m, Tier tier, std::uint64_t count,
                  const std::vector<std::pair<MatrixXd, double>>& exact) {
  for (SmallSample method : both_methods) {
    // Variance ratios of 4: few estimates are 0, where the degrees of freedom are others.
    Bench bench(m, Method::reml, tier, method, true, 2.0);
    bench.hypotheses.list.clear();
    for (const auto& [l, df] : exact) bench.hypotheses.list.push_back({l, {}});

    const Replicates r = bench.run(0, count);

    for (std::size_t h = 0; h < exact.size(); ++h) {
      double rejected = 0, inside = 0, worst = 0;
      for (std::size_t i = 0; i < count; ++i) {
        const HypothesisTest t = bench.of(r, i)[h];
        rejected += t.p < 0.05 ? 1 : 0;
        if (r.status[i] != Status::converged) continue;
        ++inside;
        worst = std::max(worst, std::abs(t.df - exact[h].second) / exact[h].second);
      }
      const auto n = static_cast<double>(count);
      EXPECT_GT(inside, 0.95 * n) << name;
      EXPECT_LT(worst, 1e-4) << name << ", hypothesis " << h;
      // 5 standard errors of a binomial share.
      EXPECT_NEAR(rejected / n, 0.05, 5 * std::sqrt(0.05 * 0.95 / n)) << name << ", hypothesis " << h;
    }
  }
}

TEST(Hypotheses, OfBalancedDesignsHaveExactLaws) {
  // Two measurements of each subject: the paired t test. Split plots (Yates 1935): varieties against the plots within
  // blocks, nitrogen against what is left within plots.
  const std::uint64_t n = 100'000 / thinned;
  designs::Design pairs;
  for (int s = 0; s < 12; ++s)
    for (int c = 0; c < 2; ++c) pairs.row({{"s", s}}, {{"c", c}});
  pairs.x = {"1", "c"};
  pairs.terms = {{"s", {"1"}}};
  expect_exact("paired t", pairs.matrices(), Tier::symmetry, n, {{MatrixXd(VectorXd::Unit(2, 1).transpose()), 11}});
  expect_exact("paired t", pairs.matrices(), Tier::streaming, n, {{MatrixXd(VectorXd::Unit(2, 1).transpose()), 11}});
  MatrixXd varieties = MatrixXd::Zero(2, 4);
  varieties(0, 1) = varieties(1, 2) = 1;
  expect_exact("split plot", designs::split_plot(10, 3, 4).matrices(), Tier::symmetry, n,
               {{varieties, 18},
                {MatrixXd(VectorXd::Unit(4, 1).transpose()), 18},
                {MatrixXd(VectorXd::Unit(4, 3).transpose()), 89}});
}

TEST(Hypotheses, OfALargeDesignAreThoseOfASingleFit) {
  const auto m = oracle::crossed_levels(900, {{400, 1}, {330, 1}}, 2);
  for (std::size_t i = 0; i < 900; ++i) m->rows.push_back(i);
  ASSERT_TRUE(Model(m, Method::reml).is_large());
  Batch batch(m, Method::reml);
  batch.add(m->y);
  const Hypotheses hypotheses = hypotheses_of(3, SmallSample::kenward_roger);
  batch.set_tests(hypotheses);

  const std::vector<BatchFit> fits = batch.fit({BackendChoice::cpu, 1, {}});

  ASSERT_TRUE(is_used(fits[0].status));
  const Fit at = fit_at(m, Method::reml, lambdas_of(*m, fits[0].theta), fits[0].beta, fits[0].sigma);
  expect_tests(fits[0].tests, hypotheses, SmallSampleTests(at, SmallSample::kenward_roger), 1e-9, "large");
}

TEST(Hypotheses, AFitThatFailsHasNone) {
  const auto m = random_model(Kind::single, 1, 3);
  Batch batch(m, Method::reml);
  VectorXd y = m->y;
  y[1] = std::numeric_limits<double>::infinity();
  batch.add(y);
  batch.add(m->y);
  batch.set_tests(hypotheses_of(m->X.cols(), SmallSample::kenward_roger));

  const std::vector<BatchFit> fits = batch.fit({BackendChoice::cpu, 1, {}});

  ASSERT_EQ(fits[0].tests.size(), fits[1].tests.size());
  EXPECT_EQ(fits[0].status, Status::non_finite);
  EXPECT_TRUE(std::isnan(fits[0].tests[0].df) && std::isnan(fits[0].tests[0].p));
  EXPECT_GT(fits[1].tests[0].df, 0);
}

TEST(Hypotheses, ThatCannotBeTestedAreRefused) {
  const auto m = random_model(Kind::single, 1, 3);
  Batch ml(m, Method::ml), reml(m, Method::reml);
  reml.add(m->y);
  EXPECT_THROW(ml.set_tests(hypotheses_of(m->X.cols(), SmallSample::kenward_roger)), ModelError);
  reml.set_tests(hypotheses_of(m->X.cols() + 1, SmallSample::kenward_roger));
  EXPECT_THROW((void)reml.fit({BackendChoice::cpu, 1, {}}), ModelError);
  reml.set_tests({SmallSample::satterthwaite, {{MatrixXd::Zero(1, m->X.cols()), {}}}});
  EXPECT_THROW((void)reml.fit({BackendChoice::cpu, 1, {}}), InputError);
}

TEST(Hypotheses, ValuesAreTakenOffTheEstimates) {
  const auto m = random_model(Kind::crossed, 1, 6);
  const Eigen::Index p = m->X.cols();
  Batch batch(m, Method::reml);
  batch.add(m->y);
  batch.set_tests(
      {SmallSample::satterthwaite,
       {{VectorXd::Unit(p, 0).transpose(), {}}, {VectorXd::Unit(p, 0).transpose(), VectorXd::Constant(1, 2)}}});

  const std::vector<BatchFit> fits = batch.fit({BackendChoice::cpu, 1, {}});

  EXPECT_NEAR(fits[0].tests[0].estimate, fits[0].beta[0], 1e-8);
  EXPECT_NEAR(fits[0].tests[1].estimate, fits[0].beta[0] - 2, 1e-8);
  EXPECT_EQ(fits[0].tests[0].df, fits[0].tests[1].df);
}

}  // namespace
}  // namespace batchlmm
