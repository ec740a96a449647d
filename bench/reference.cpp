#include "bench/reference.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "host/batch/chunk_buffers.hpp"
#include "host/batch/streaming_engine.hpp"
#include "host/batch/tier.hpp"
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

}  // namespace

nlohmann::ordered_json check_replicates(const Bootstrap& bootstrap, std::uint64_t first, std::uint64_t count) {
  const auto* streaming = dynamic_cast<const StreamingEngine*>(&bootstrap.engine());
  if (streaming == nullptr)
    return {{"unchecked", std::string("no reference for the tier ") + tier_name(bootstrap.engine().tier())}};

  kernels::BootstrapJob job = streaming->job();
  const std::vector<double> null_starts = reference_starts(*job.null, job.null_starts),
                            full_starts = reference_starts(*job.full, job.full_starts);
  const auto options = [](const kernels::Shape& s, const std::vector<double>& starts) {
    return kernels::NewtonOptions{1e-13, 200, static_cast<int>(starts.size()) / s.lambdas};
  };
  job.null_starts = null_starts.data();
  job.full_starts = full_starts.data();
  job.null_options = options(*job.null, null_starts);
  job.full_options = options(*job.full, full_starts);

  const bool refit = job.null == job.full;
  std::uint64_t off = 0, wrong = 0, unused = 0;
  double excess = 0, shortfall = 0;
  ChunkBuffers ours, best;
  const std::uint64_t length = bootstrap.engine().chunk_length({});
  for (std::uint64_t at = first; at < first + count; at += length) {
    const std::uint64_t n = std::min(length, first + count - at);
    for (ChunkBuffers* buffers : {&ours, &best}) buffers->resize(*job.null, refit ? nullptr : job.full, at, n, false);
    bootstrap.engine().run({}, false, ours.chunk);
    kernels::cpu_kernels().bootstrap(job, best.chunk);
    for (std::uint64_t i = 0; i < n; ++i) {
      const auto used = [&](const FitBuffers& null, const FitBuffers& full) {
        return is_used(static_cast<Status>(null.status[i])) && (refit || is_used(static_cast<Status>(full.status[i])));
      };
      if (!used(ours.null, ours.full) || !used(best.null, best.full)) {
        ++unused;
        continue;
      }
      double above = ours.null.deviance[i] - best.null.deviance[i], below = -above;
      if (!refit) {
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
