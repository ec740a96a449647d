#include "host/inference/lrt.hpp"

#include <fmt/format.h>

#include <boost/math/special_functions/beta.hpp>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/inference/clopper_pearson.hpp"
#include "host/inference/linear_fit.hpp"
#include "host/inference/parameters.hpp"
#include "host/inference/replicate_table.hpp"
#include "host/model/check_model.hpp"
#include "host/model/kernel_lambda.hpp"
#include "host/model/model.hpp"

namespace batchlmm {
namespace {

using MatricesPointer = std::shared_ptr<const ModelMatrices>;

/// A model of a comparison: assembled and fitted once, whatever the tests that it takes part in.
struct ComparedModel {
  MatricesPointer matrices;
  std::unique_ptr<const Model> model;  ///< null without random effects
  Fit fit;

  ComparedModel(MatricesPointer of, Method method) : matrices(std::move(of)) {
    check_model(*matrices);
    if (!matrices->random.empty()) model = std::make_unique<const Model>(matrices, method);
  }
  void make_fit(const BootstrapOptions& options) {
    fit = model != nullptr ? batchlmm::fit(*model, options.warn) : linear_fit(matrices, options.method);
  }
};

/// Two models and how the smaller one stands in the larger.
struct Pair {
  const ComparedModel &smaller, &larger;
  std::unique_ptr<const Model> stand_in;  ///< for a smaller model without random effects
  Embedding embedding;

  Pair(const ComparedModel& null, const ComparedModel& full, Method method) : smaller(null), larger(full) {
    if (full.model == nullptr)
      throw ModelError(
          fmt::format("the larger model \"{}\" has no random-effects term; expected at least one, as in "
                      "(1 | group)",
                      full.matrices->formula));
    if (method == Method::reml) check_fixed_effects();
    if (null.model != nullptr) {
      embedding = embed(*null.model, *full.model);
      return;
    }
    ModelMatrices matrices = *null.matrices;
    if (matrices.rows == full.matrices->rows) matrices.random = full.matrices->random;
    if (matrices.random.empty())
      throw ModelError(fmt::format(
          "the two models are fitted to different rows ({} and {}): a variable of one is missing where the other's is "
          "not",
          matrices.rows.size(), full.matrices->rows.size()));
    stand_in = std::make_unique<const Model>(std::make_shared<const ModelMatrices>(std::move(matrices)), method);
    embedding = embed_at_zero(*stand_in, *full.model);
  }
  [[nodiscard]] const Model& null() const { return stand_in != nullptr ? *stand_in : *smaller.model; }
  [[nodiscard]] const Model& full() const { return *larger.model; }

private:
  /// The restricted likelihood is one of contrasts that are free of X: with another X, or another coding of it, it is
  /// another one.
  void check_fixed_effects() const {
    const ModelMatrices &m0 = *smaller.matrices, &m1 = *larger.matrices;
    if (m0.rows == m1.rows && (m0.X.cols() != m1.X.cols() || m0.X != m1.X))
      throw ModelError(
          fmt::format("by REML both models need the same fixed effects; expected those of \"{}\", found "
                      "\"{}\" (maximum likelihood compares them)",
                      m1.formula, m0.formula));
  }
};

/// The fitted factors of the null's terms in the kernels' order and gauge.
std::vector<double> generating_lambda(const Pair& pair, const LikelihoodRatioTest& test) {
  if (pair.embedding.null_at_zero) return std::vector<double>(pair.null().shape().lambdas, 0.0);
  return kernel_lambda(pair.null(), term_lambdas(test.null));
}

BootstrapTest bootstrap_test(const Pair& pair, const LikelihoodRatioTest& test, const BootstrapOptions& options,
                             ReplicateTable* table) {
  const auto start = std::chrono::steady_clock::now();
  // Where the backend is ours to choose the tier comes first: it must not depend on how many replicates there are. The
  // large tier goes to a device only where one is asked for.
  const bool automatic = options.backend == BackendChoice::automatic;
  const int threads = thread_count(options.threads);
  const Bootstrap bootstrap(pair.null(), pair.full(), pair.embedding, generating_lambda(pair, test), test.null.sigma,
                            options.seed, options.tier, Backend{options.backend == BackendChoice::cuda});
  const Backend used =
      automatic && bootstrap.engine().tier() == Tier::large
          ? Backend{}
          : choose_backend(options.backend, bootstrap.engine().facts().multiply_adds, options.replicates, threads);
  BootstrapRun run;
  run.first = options.first;
  run.count = options.replicates;
  run.observed = test.statistic;
  run.backend = used;
  run.threads = threads;
  run.parameters = table != nullptr;
  run.stop = options.stop;
  run.progress = options.progress;
  BootstrapTest result;
  if (options.bins > 0) result.histogram = {options.bins, test.df, test.statistic};
  if (table != nullptr) table->set_truth(test.null.beta, test.null.sigma);
  if (table != nullptr || options.bins > 0) {
    run.collect = [&](const ReplicateBlock& block) {
      if (table != nullptr) table->append(block);
      if (options.bins > 0) result.histogram.add(block);
    };
  }
  const ReplicateSummary summary = bootstrap.run(run);
  if (table != nullptr) table->close();

  result.replicates = summary.replicates;
  result.asked = options.replicates;
  result.stopped = summary.stopped;
  result.used = summary.used;
  result.extreme = summary.extreme;
  result.rule = options.stop;
  result.rule_met = summary.rule_met;
  if (summary.rule_met && options.stop.enough_extremes(summary.extreme)) {
    result.p = static_cast<double>(summary.extreme) / static_cast<double>(summary.used);
    result.interval = inverse_share_interval(summary.extreme, summary.used);
  } else {
    result.p = static_cast<double>(1 + summary.extreme) / static_cast<double>(1 + summary.used);
    result.interval = clopper_pearson(summary.extreme, summary.used);
  }
  result.laws = replicate_laws(summary.used, summary.sum_statistic, summary.sum_squares, test.df, test.statistic);
  if (summary.used > 0) {
    result.mean_statistic = summary.sum_statistic / static_cast<double>(summary.used);
    result.share_zero = static_cast<double>(summary.zero) / static_cast<double>(summary.used);
  }
  result.status = summary.status;
  result.singular_null = summary.singular_null;
  result.singular_full = summary.singular_full;
  result.tier = bootstrap.engine().tier();
  result.backend = used.name();
  result.threads = run.threads;
  result.seed = options.seed;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.replicates_per_second = static_cast<double>(summary.replicates) / result.seconds;
  return result;
}

LikelihoodRatioTest test_of(const Pair& pair, const BootstrapOptions& options, ReplicateTable* table) {
  LikelihoodRatioTest test;
  test.null = pair.smaller.fit;
  test.full = pair.larger.fit;
  test.statistic = test.null.criterion - test.full.criterion;
  if (std::abs(test.statistic) <= zero_statistic) test.statistic = 0;
  test.df = test.full.parameters - test.null.parameters;
  test.p_chisq = chi_square_p(test.df, test.statistic);
  test.law = reference_law(pair.null(), pair.full(), pair.embedding);
  test.p_law = p_value(test.law, test.statistic);
  if (options.replicates > 0) test.bootstrap = bootstrap_test(pair, test, options, table);
  return test;
}

/// @param pairs  indices of models
std::vector<LikelihoodRatioTest> tests_of(const std::vector<MatricesPointer>& matrices,
                                          const std::vector<std::pair<std::size_t, std::size_t>>& pairs,
                                          const BootstrapOptions& options) {
  std::vector<std::unique_ptr<ComparedModel>> models;
  for (const MatricesPointer& m : matrices) models.push_back(std::make_unique<ComparedModel>(m, options.method));
  std::vector<Pair> compared;
  for (const auto& [null, full] : pairs) compared.emplace_back(*models[null], *models[full], options.method);
  require_backend(options.backend);
  std::optional<ReplicateTable> table;
  if (!options.out.empty()) {
    if (compared.size() != 1)
      throw InputError(fmt::format("a file of replicates holds those of one test; found {} tests", compared.size()));
    table.emplace(options.out, compared[0].null(), compared[0].full(), !compared[0].embedding.null_at_zero);
  }
  for (const auto& model : models) model->make_fit(options);
  std::vector<LikelihoodRatioTest> tests;
  for (const Pair& pair : compared) tests.push_back(test_of(pair, options, table ? &*table : nullptr));
  if (table && options.replicates == 0) table->close();
  return tests;
}

}  // namespace

std::array<double, 2> inverse_share_interval(std::uint64_t x, std::uint64_t n) {
  // P(n draws or fewer) is that of x or more successes in n draws, P(n or more) that of fewer than x in n - 1.
  const auto a = static_cast<double>(x), b = static_cast<double>(n - x);
  return {x == 0 ? 0.0 : boost::math::ibeta_inv(a, b + 1, 0.025), x == n ? 1.0 : boost::math::ibeta_inv(a, b, 0.975)};
}

LikelihoodRatioTest likelihood_ratio_test(MatricesPointer null, MatricesPointer full, const BootstrapOptions& options) {
  return std::move(likelihood_ratio_chain({std::move(null), std::move(full)}, options).front());
}

std::vector<LikelihoodRatioTest> likelihood_ratio_chain(const std::vector<MatricesPointer>& models,
                                                        const BootstrapOptions& options) {
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t i = 1; i < models.size(); ++i) pairs.emplace_back(i - 1, i);
  return tests_of(models, pairs, options);
}

std::vector<LikelihoodRatioTest> likelihood_ratio_tests(const std::vector<MatricesPointer>& nulls,
                                                        const MatricesPointer& full, const BootstrapOptions& options) {
  std::vector<MatricesPointer> models = nulls;
  models.push_back(full);
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t i = 0; i < nulls.size(); ++i) pairs.emplace_back(i, nulls.size());
  return tests_of(models, pairs, options);
}

}  // namespace batchlmm
