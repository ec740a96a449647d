#include "host/inference/lrt.hpp"

#include <boost/math/special_functions/beta.hpp>
#include <boost/math/special_functions/gamma.hpp>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include "batchlmm/error.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/inference/replicate_table.hpp"
#include "host/model/check_model.hpp"
#include "host/model/model.hpp"

namespace batchlmm {
namespace {

/// 95 % interval of Clopper and Pearson (1934) for a share, from x of n.
std::array<double, 2> exact_interval(std::uint64_t x, std::uint64_t n) {
  const auto a = static_cast<double>(x), b = static_cast<double>(n - x);
  return {x == 0 ? 0.0 : boost::math::ibeta_inv(a, b + 1, 0.025),
          x == n ? 1.0 : boost::math::ibeta_inv(a + 1, b, 0.975)};
}

BootstrapTest bootstrap_test(const Model& null, const Model& full, const Embedding& embedding,
                             const LikelihoodRatioTest& test, const BootstrapOptions& options, ReplicateTable* table) {
  const auto start = std::chrono::steady_clock::now();
  const kernels::Shape& s = null.shape();
  std::vector<double> lambda(s.lambdas, 0.0);
  for (int b = 0; b < s.terms; ++b) {
    const Eigen::MatrixXd l = null.from_user_lambda(b, test.null.random[null.term_of(b)].lambda);
    for (int i = 0; i < s.term[b].k; ++i)
      for (int j = 0; j < s.term[b].k; ++j) lambda[s.term[b].lambda + i * s.term[b].k + j] = l(i, j);
  }
  // Where the backend is ours to choose the tier comes first: it must not depend on how many replicates there are. The
  // large tier goes to a device only where one is asked for.
  const bool automatic = options.backend == BackendChoice::automatic;
  const int threads = thread_count(options.threads);
  const Bootstrap bootstrap(null, full, embedding, lambda, test.null.sigma, options.seed, options.tier,
                            Backend{options.backend == BackendChoice::cuda});
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
  run.progress = options.progress;
  if (table != nullptr) {
    table->set_truth(test.null.beta, test.null.sigma);
    run.collect = [&](const ReplicateBlock& block) { table->append(block); };
  }
  const ReplicateSummary summary = bootstrap.run(run);
  if (table != nullptr) table->close();

  BootstrapTest result;
  result.replicates = summary.replicates;
  result.asked = options.replicates;
  result.stopped = summary.stopped;
  result.used = summary.used;
  result.extreme = summary.extreme;
  result.p = static_cast<double>(1 + summary.extreme) / static_cast<double>(1 + summary.used);
  result.interval = exact_interval(summary.extreme, summary.used);
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

}  // namespace

LikelihoodRatioTest likelihood_ratio_test(std::shared_ptr<const ModelMatrices> null_matrices,
                                          std::shared_ptr<const ModelMatrices> full_matrices,
                                          const BootstrapOptions& options) {
  check_model(*null_matrices);
  check_model(*full_matrices);
  const Model null(std::move(null_matrices), Method::ml), full(std::move(full_matrices), Method::ml);
  const Embedding embedding = embed(null, full);
  require_backend(options.backend);
  std::optional<ReplicateTable> table;
  if (!options.out.empty()) table.emplace(options.out, null, full);

  LikelihoodRatioTest test;
  test.null = fit(null, options.warn);
  test.full = fit(full, options.warn);
  test.statistic = test.null.criterion - test.full.criterion;
  if (std::abs(test.statistic) <= zero_statistic) test.statistic = 0;
  test.df = test.full.parameters - test.null.parameters;
  test.p_chisq = test.statistic > 0 ? boost::math::gamma_q(0.5 * test.df, 0.5 * test.statistic) : 1.0;
  if (options.replicates > 0)
    test.bootstrap = bootstrap_test(null, full, embedding, test, options, table ? &*table : nullptr);
  else if (table)
    table->close();
  return test;
}

}  // namespace batchlmm
