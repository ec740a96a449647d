#include "host/batch/pilot.hpp"

#include <algorithm>

#include "host/batch/chunk_buffers.hpp"

namespace batchlmm {
namespace {

/// Beyond so many columns the deviance is smooth: the several minima of small designs do not occur.
constexpr int many_columns = 100;

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
  ChunkBuffers one, all;
  one.resize(null, refit ? nullptr : &full, 0, n, false);
  all.resize(null, refit ? nullptr : &full, 0, n, false);
  run(one.chunk);
  job.null_options.starts = null_starts;
  job.full_options.starts = full_starts;
  run(all.chunk);
  const auto lower_elsewhere = [n](const FitBuffers& a, const FitBuffers& b) {
    for (std::uint64_t i = 0; i < n && i < a.deviance.size(); ++i)
      if (a.deviance[i] > b.deviance[i] + 1e-8) return true;
    return false;
  };
  if (!always_several_starts(null) && !lower_elsewhere(one.null, all.null)) job.null_options.starts = 1;
  if (!always_several_starts(full) && !lower_elsewhere(one.full, all.full)) job.full_options.starts = 1;
}

}  // namespace batchlmm
