// Replicates fitted on interpolants, for lanes of one instruction set; compiled once for each.
#include "kernels/cpu.hpp"
#include "kernels/interpolant_fit.hpp"
#include "kernels/tile.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

template <class V>
struct InterpolantTile {
  explicit InterpolantTile(const Interpolant& t) {
    Arena<V*> count{nullptr};
    lay_out(t, count);
    memory = aligned_array<V>(count.used);
    Arena<V*> arena{memory.get()};
    lay_out(t, arena);
  }
  void lay_out(const Interpolant& t, Arena<V*>& arena) {
    tabulate = make_tabulate_scratch(t, arena);
    table = make_interpolant_table(t, arena);
    fit = make_interpolant_scratch(t, arena);
  }
  Aligned<V> memory;
  TabulateScratch<V*> tabulate;
  InterpolantTable<V*> table;
  InterpolantScratch<V*> fit;
};

/// @param model  0: the smaller one of the table, 1: the larger
/// @param start  null, or an optimum of a model inside this one
template <class V>
InterpolantOptimum<V> fit_tile(const InterpolantJob& job, const Interpolant& t, int model,
                               const InterpolantTile<V>& tile, const InterpolantOptimum<V>* start) {
  return with_levels(t.levels, [&](auto levels) {
    return fit_interpolant<decltype(levels)::value, V>(t, tile.table.phi[model], job.finish, tile.fit,
                                                       start == nullptr ? nullptr : start->u);
  });
}

template <class V>
void interpolate_chunk(const InterpolantJob& job, const InterpolantChunk& also, BootstrapChunk& chunk) {
  constexpr int width = Lanes<V>::width;
  const BootstrapJob& draws = *job.bootstrap;
  const Shape &null = *draws.null, &full = *draws.full;
  const bool refit = chunk.full.status == nullptr;
  InterpolantTile<V> null_tile(job.null);
  std::unique_ptr<InterpolantTile<V>> full_tile;
  if (!refit && !job.same_random_effects) full_tile = std::make_unique<InterpolantTile<V>>(job.full);
  const std::size_t n0 = null.response, n1 = full.response;
  Aligned<V> memory = aligned_array<V>(n0 + n1 + full.columns() + draws.sampler.rows);
  V *null_response = memory.get(), *full_response = null_response + n0, *scratch = full_response + n1;

  for (std::uint64_t begin = 0; begin < chunk.count; begin += width) {
    IntOf<V> replicate(0);
    for (int l = 0; l < width; ++l) set_lane(replicate, l, chunk.first + begin + l);
    draw_replicate<V>(full, draws.full_design, draws.sampler, draws.seed, replicate, full_response, null_response,
                      scratch, scratch + full.columns());
    // With equal random effects both models' statistics are in the full's response vector.
    const V* response = job.same_random_effects ? full_response : null_response;
    tabulate<V>(job.null, response, null_tile.tabulate, null_tile.table);
    const InterpolantOptimum<V> smaller = fit_tile<V>(job, job.null, 0, null_tile, nullptr);
    InterpolantOptimum<V> larger = smaller;
    const Interpolant& full_table = job.same_random_effects ? job.null : job.full;
    if (!refit) {
      if (job.same_random_effects) {
        larger = fit_tile<V>(job, job.null, 1, null_tile, &smaller);
      } else {
        tabulate<V>(job.full, full_response, full_tile->tabulate, full_tile->table);
        larger = fit_tile<V>(job, job.full, 0, *full_tile, nullptr);
      }
    }
    for (int l = 0; l < width && begin + l < chunk.count; ++l) {
      const std::uint64_t i = begin + l;
      bool serves = record_interpolant<V>(null, job.null, smaller, l, i, chunk.null);
      if (!refit) {
        serves = record_interpolant<V>(full, full_table, larger, l, i, chunk.full) && serves;
        // The full model holds the null.
        serves = serves && chunk.full.deviance[i] <= chunk.null.deviance[i] + 1e-8;
      }
      also.refused[i] = serves ? 0 : 1;
      if (also.null_response != nullptr)
        for (std::size_t e = 0; e < n0; ++e) also.null_response[i * n0 + e] = lane(null_response[e], l);
      if (also.full_response != nullptr)
        for (std::size_t e = 0; e < n1; ++e) also.full_response[i * n1 + e] = lane(full_response[e], l);
    }
  }
}

}  // namespace

void interpolate(const InterpolantJob& job, const InterpolantChunk& also, BootstrapChunk& chunk) {
  // Two vectors a tile: the rotations then load little beside what they multiply.
  interpolate_chunk<Pack<2>>(job, also, chunk);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
