#include "host/batch/pilot.hpp"

#include <algorithm>
#include <array>

#include "host/batch/chunk_buffers.hpp"

namespace batchlmm {
namespace {

/// Beyond so many columns the deviance is smooth: the several minima of small designs do not occur.
constexpr int many_columns = 100;

/// Of the deviance that the last step predicts: a hundredth of what is promised, since the third derivative is a guess.
constexpr double value_error = 1e-10;

/// Where several terms have correlated columns and one of them few levels, a second minimum in one replicate of a
/// thousand is common, and too rare for the pilot: 2.5 of 10,000 with 6 and 7 levels and two columns each, none of
/// 200,000 with 50 and 20 levels.
bool always_several_starts(const kernels::Shape& s) {
  int vector_terms = 0;
  bool few_levels = false;
  for (int b = 0; b < s.terms; ++b) {
    const kernels::TermShape& term = s.term[b];
    if (term.k == 1) continue;
    vector_terms += term.k > 2 ? 2 : 1;
    few_levels = few_levels || term.levels * s.nodes[term.stage] < 10 * term.k;
  }
  return vector_terms > 1 && few_levels && s.columns() <= many_columns;
}

}  // namespace

std::uint64_t pilot_replicates(const kernels::Shape& s) {
  const double columns = s.columns();
  const double one =
      s.nodes[0] * s.own[0] * columns * columns * (1 + s.parameters) + columns * columns * columns * s.parameters;
  return static_cast<std::uint64_t>(std::clamp(1e7 / one, 64.0, 1024.0));
}

void choose_starts(kernels::BootstrapJob& job, bool refit, int null_starts, int full_starts,
                   const std::function<void(kernels::BootstrapChunk&)>& run) {
  const kernels::Shape &null = *job.null, &full = *job.full;
  const std::uint64_t n = pilot_replicates(full);
  // Several columns a term make the deviance so flat in places that the last step must be smaller.
  const auto flat = [](const kernels::Shape& s) { return s.parameters > s.terms; };
  job.null_options.value_error = job.full_options.value_error = value_error;
  if (flat(null)) job.null_options.finish = 1e-8;
  if (flat(full)) job.full_options.finish = 1e-8;
  std::array<ChunkBuffers, 2> runs;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    job.null_options.starts = i == 0 ? 1 : null_starts;
    job.full_options.starts = i == 0 ? 1 : full_starts;
    runs[i].resize(null, refit ? nullptr : &full, 0, n, false);
    run(runs[i].chunk);
  }
  const auto misses = [&](FitBuffers ChunkBuffers::*side) {
    const std::vector<double>&first = (runs[0].*side).deviance, &best = (runs[1].*side).deviance;
    for (std::size_t r = 0; r < first.size(); ++r)
      if (first[r] > best[r] + 1e-8) return true;
    return false;
  };
  const auto enough = [&](const kernels::Shape& s, bool missed, int all) {
    if (missed) return all;
    // The corners (shared_starts) find what is too rare for the pilot.
    return always_several_starts(s) ? std::min(1 + s.terms, all) : 1;
  };
  const bool null_missed = misses(&ChunkBuffers::null), full_missed = !refit && misses(&ChunkBuffers::full);
  job.null_options.starts = enough(null, null_missed, null_starts);
  job.full_options.starts = refit ? full_starts : enough(full, full_missed, full_starts);
  // Where a lower minimum is that rare, the full model's are near the null's: if all ways led to one there, the way
  // from it is enough.
  job.null_options.lone_starts = null_missed ? 0 : 1;
  job.full_options.lone_starts = refit || job.null_options.stay || null_missed || full_missed ? 0 : 1;
}

}  // namespace batchlmm
