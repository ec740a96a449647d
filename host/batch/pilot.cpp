#include "host/batch/pilot.hpp"

#include <algorithm>
#include <array>

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
  // Several columns a term make the deviance so flat in places that the last step must be smaller.
  const auto flat = [](const kernels::Shape& s) { return s.parameters > s.terms; };
  if (flat(null)) job.null_options.finish = 1e-8;
  if (flat(full)) job.full_options.finish = 1e-8;
  // One start; the corners too (shared_starts); all.
  const auto corners = [](const kernels::Shape& s, int all) { return s.terms > 1 ? std::min(1 + s.terms, all) : all; };
  const std::array<int, 3> null_counts{1, corners(null, null_starts), null_starts},
      full_counts{1, corners(full, full_starts), full_starts};
  std::array<ChunkBuffers, 3> runs;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    job.null_options.starts = null_counts[i];
    job.full_options.starts = full_counts[i];
    runs[i].resize(null, refit ? nullptr : &full, 0, n, false);
    run(runs[i].chunk);
  }
  const auto fewest = [&](const kernels::Shape& s, const std::array<int, 3>& counts, FitBuffers ChunkBuffers::*side) {
    const std::vector<double>& best = (runs[2].*side).deviance;
    for (std::size_t i = always_several_starts(s) ? 1 : 0; i < 2; ++i) {
      const std::vector<double>& found = (runs[i].*side).deviance;
      bool enough = true;
      for (std::size_t r = 0; r < found.size(); ++r) enough = enough && !(found[r] > best[r] + 1e-8);
      if (enough) return counts[i];
    }
    return counts[2];
  };
  job.null_options.starts = fewest(null, null_counts, &ChunkBuffers::null);
  job.full_options.starts = refit ? full_starts : fewest(full, full_counts, &ChunkBuffers::full);
}

}  // namespace batchlmm
