#include "host/batch/bootstrap.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "batchlmm/error.hpp"
#include "host/batch/test_plan.hpp"
#include "host/model/memory.hpp"

namespace batchlmm {

Bootstrap::Bootstrap(const Model& null, const Model& full, const Embedding& embedding,
                     const std::vector<double>& lambda, double sigma, std::uint64_t seed, std::optional<Tier> tier,
                     const Backend& backend)
    : null_(null),
      full_(full),
      embedding_(embedding),
      sigma_(sigma),
      decision_(choose_tier({&null_, &full_, &embedding_, lambda, seed}, tier, backend)) {}

Bootstrap::Bootstrap(const Model& model, const std::vector<double>& lambda, double sigma, std::uint64_t seed,
                     std::optional<Tier> tier, const Backend& backend)
    : Bootstrap(model, model, identity_embedding(model), lambda, sigma, seed, tier, backend) {}

ReplicateSummary Bootstrap::run(const BootstrapRun& asked) const {
  BootstrapRun run = asked;
  if (run.tests != nullptr && engine().tier() == Tier::large) run.parameters = true;  // its tests start from them
  ReplicateUnits units;
  units.null = &null_.shape();
  if (&null_ != &full_) units.full = &full_.shape();
  units.shift_null = null_.shape().degrees * std::log(sigma_ * sigma_);
  units.null_at_zero = embedding_.null_at_zero;
  units.shift_full = full_.shape().degrees * std::log(sigma_ * sigma_);
  // A device takes as many calls of the engine at a time as it has places for.
  const int workers = run.backend.cuda ? engine().device_workers() : run.threads;
  if (!run.backend.cuda) {
    const std::uint64_t length = engine().chunk_length(run.backend), chunks = run.count / length + 1;
    const auto threads = static_cast<int>(std::min<std::uint64_t>(static_cast<std::uint64_t>(workers), chunks));
    require_memory(threads * engine().thread_bytes(),
                   fmt::format("the bootstrap of \"{}\" on {} threads", full_.matrices().formula, threads));
  }
  std::optional<TestPlanData> tests;
  if (run.tests != nullptr) {
    const Eigen::Index p = full_.shape().p;
    const Eigen::VectorXd beta = run.tests->beta.size() == 0 ? Eigen::VectorXd::Zero(p) : run.tests->beta;
    if (beta.size() != p)
      throw ModelError(fmt::format("expected the {} fixed effects of \"{}\" that replicates have, found {}", p,
                                   full_.matrices().formula, beta.size()));
    tests.emplace(run.tests->hypotheses, full_.shape().reml ? Method::reml : Method::ml, p,
                  '"' + full_.matrices().formula + '"');
    const Eigen::MatrixXd& map = full_.x_gauge().map;
    const Eigen::VectorXd in_gauge = map.triangularView<Eigen::Upper>() * beta;
    tests->set_gauge(map.data(), in_gauge.data(), sigma_);
    units.tests = &tests->plan();
    units.sigma = sigma_;
  }
  return run_replicates(engine(), units, run, workers);
}

}  // namespace batchlmm
