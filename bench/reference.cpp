#include "bench/reference.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "host/batch/chunk_buffers.hpp"
#include "host/batch/large_engine.hpp"
#include "host/batch/shared_factorization_engine.hpp"
#include "host/batch/starts.hpp"
#include "host/batch/strata_engine.hpp"
#include "host/batch/streaming_engine.hpp"
#include "host/batch/tier.hpp"
#include "host/model/criterion.hpp"
#include "host/model/optimize.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm::bench {
namespace {

constexpr double contract = 1e-8, another_optimum = 1e-6;

/// Starting points of the reference: the generating value, each term in turn at zero, and variance ratios over five
/// decades, each column's own, drawn once.
std::vector<double> reference_starts(const kernels::Shape& s, const double* generating) {
  // The many columns of a large dense block make a fit long, and smooth the deviance.
  const int drawn = s.columns() > 100 ? 3 : 12;
  std::vector<double> starts(generating, generating + s.lambdas);
  const auto add = [&](auto diagonal_of) {
    for (int b = 0; b < s.terms; ++b)
      for (int i = 0; i < s.term[b].k; ++i)
        for (int j = 0; j < s.term[b].k; ++j) starts.push_back(i == j ? diagonal_of(b) : 0.0);
  };
  // Where a term has several columns the gradient vanishes at zero itself: a little inside.
  for (int zero = 0; zero < s.terms; ++zero)
    add([&](int b) { return b != zero ? 1.0 : s.term[b].k == 1 ? 0.0 : std::sqrt(1e-3 / s.term[b].scale); });
  std::mt19937_64 random(20240607);
  std::uniform_real_distribution<double> log10_ratio(-3, 2);
  for (int start = 0; start < drawn; ++start) add([&](int) { return std::pow(10.0, 0.5 * log10_ratio(random)); });
  return starts;
}

/// The same replicates as the engine's, by the kernels from every starting point of the reference.
kernels::BootstrapJob every_start(const kernels::BootstrapJob& of, std::vector<double>& null_starts,
                                  std::vector<double>& full_starts) {
  kernels::BootstrapJob job = of;
  null_starts = reference_starts(*job.null, job.null_starts);
  full_starts = reference_starts(*job.full, job.full_starts);
  const auto options = [](const kernels::Shape& s, const std::vector<double>& starts) {
    return kernels::NewtonOptions{1e-13, 200, static_cast<int>(starts.size()) / s.lambdas};
  };
  job.null_starts = null_starts.data();
  job.full_starts = full_starts.data();
  job.null_options = options(*job.null, null_starts);
  job.full_options = options(*job.full, full_starts);
  return job;
}

/// Fits a large model's replicates one by one, from their rows.
class LargeReference {
public:
  LargeReference(const LargeEngine& engine, const Model& model)
      : engine_(engine), model_(model), criterion_(make_criterion(model, model.matrices().y)) {
    starts_ = default_starts(model);
    // A small and a large variance ratio, that default_starts leaves out where there are many columns.
    for (double scale : {0.1, 3.0}) {
      starts_.push_back(starts_.front());
      for (double& l : starts_.back()) l *= scale;
    }
  }
  void run(std::uint64_t first, std::uint64_t count, const kernels::FitResults& results) {
    for (std::uint64_t i = 0; i < count; ++i) {
      criterion_->set_response(model_.response(engine_.draw(first + i)));
      const Optimum optimum = minimize(*criterion_, model_, starts_);
      results.deviance[i] = optimum.value.deviance;
      results.status[i] = optimum.certified ? kernels::fit_converged : kernels::fit_iteration_limit;
    }
  }

private:
  const LargeEngine& engine_;
  const Model& model_;
  std::vector<std::vector<double>> starts_;
  std::unique_ptr<Criterion> criterion_;
};

/// Fits a chunk as the engine's tier allows; empty where there is no reference for it.
using Reference = std::function<void(kernels::BootstrapChunk&)>;

Reference reference_of(const ReplicateEngine& engine, const Model& null, const Model* full) {
  const auto* streaming = dynamic_cast<const StreamingEngine*>(&engine);
  if (const auto* shared = dynamic_cast<const SharedFactorizationEngine*>(&engine)) streaming = &shared->streaming();
  if (streaming != nullptr) {
    return [job = streaming->job(), null_starts = std::vector<double>(),
            full_starts = std::vector<double>()](kernels::BootstrapChunk& chunk) mutable {
      kernels::cpu_kernels().bootstrap(every_start(job, null_starts, full_starts), chunk);
    };
  }
  if (const auto* strata = dynamic_cast<const StrataEngine*>(&engine)) {
    return [job = strata->job(), null_starts = std::vector<double>(),
            full_starts = std::vector<double>()](kernels::BootstrapChunk& chunk) mutable {
      job.job = every_start(job.job, null_starts, full_starts);
      job.null_moments = job.full_moments = false;
      kernels::cpu_kernels().strata->bootstrap(job, chunk);
    };
  }
  if (const auto* large = dynamic_cast<const LargeEngine*>(&engine)) {
    return [null_fits = std::make_shared<LargeReference>(*large, null),
            full_fits = full != nullptr ? std::make_shared<LargeReference>(*large, *full)
                                        : nullptr](kernels::BootstrapChunk& chunk) {
      null_fits->run(chunk.first, chunk.count, chunk.null);
      if (full_fits) full_fits->run(chunk.first, chunk.count, chunk.full);
    };
  }
  return {};
}

}  // namespace

nlohmann::ordered_json check_replicates(const Bootstrap& bootstrap, const Model& null, const Model* full,
                                        std::uint64_t first, std::uint64_t count) {
  const ReplicateEngine& engine = bootstrap.engine();
  const Reference reference = reference_of(engine, null, full);
  if (!reference) return {{"unchecked", std::string("no reference for the tier ") + tier_name(engine.tier())}};

  std::uint64_t off = 0, wrong = 0, unused = 0;
  double excess = 0, shortfall = 0;
  ChunkBuffers ours, best;
  const std::uint64_t length = engine.chunk_length({});
  for (std::uint64_t at = first; at < first + count; at += length) {
    const std::uint64_t n = std::min(length, first + count - at);
    for (ChunkBuffers* buffers : {&ours, &best})
      buffers->resize(null.shape(), full != nullptr ? &full->shape() : nullptr, at, n, false);
    engine.run({}, false, ours.chunk);
    reference(best.chunk);
    for (std::uint64_t i = 0; i < n; ++i) {
      const auto used = [&](const ChunkBuffers& b) {
        return is_used(static_cast<Status>(b.null.status[i])) &&
               (full == nullptr || is_used(static_cast<Status>(b.full.status[i])));
      };
      if (!used(ours) || !used(best)) {
        ++unused;
        continue;
      }
      double above = ours.null.deviance[i] - best.null.deviance[i], below = -above;
      if (full != nullptr) {
        above = std::max(above, ours.full.deviance[i] - best.full.deviance[i]);
        below = std::max(below, best.full.deviance[i] - ours.full.deviance[i]);
      }
      off += above > contract || below > contract;
      wrong += above > another_optimum;
      excess = std::max(excess, above);
      shortfall = std::max(shortfall, below);
    }
  }
  return {{"checked", count},       {"first", first},           {"off", off},
          {"wrong_optimum", wrong}, {"largest_excess", excess}, {"largest_shortfall", shortfall},
          {"unused", unused}};
}

}  // namespace batchlmm::bench
