// Replicates fitted on interpolants, for lanes of one instruction set; compiled once for each.
#include "kernels/cpu.hpp"
#include "kernels/interpolant.hpp"
#include "kernels/tile.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

template <class V>
struct InterpolantTile {
  explicit InterpolantTile(const Interpolant& t) {
    memory = aligned_array<V>(lay_out<V>(t, nullptr, arrays));
    lay_out<V>(t, memory.get(), arrays);
  }
  Aligned<V> memory;
  InterpolantMemory<V> arrays;
};

/// Writes lane l's optimum as item i's result.
/// @return false where it does not serve
template <class V>
bool record_interpolant(const Shape& s, const Interpolant& t, const InterpolantOptimum<V>& optimum, const V* rho, int l,
                        std::uint64_t i, const FitResults& r) {
  std::uint32_t boundary = 0;
  for (int level = 0; level < t.levels; ++level) {
    const int b = t.level[level].term;
    const double lambda = square_root(lane(rho[level], l));
    r.lambda[i * s.lambdas + s.term[b].lambda] = lambda;
    if (lambda < singular_tolerance) boundary |= 1u << b;
  }
  r.status[i] = boundary != 0 ? fit_boundary : fit_converged;
  r.deviance[i] = lane(optimum.value, l) + t.constant;
  if (r.boundary != nullptr) r.boundary[i] = boundary;
  if (r.evaluations != nullptr) r.evaluations[i] = static_cast<std::uint16_t>(lane(optimum.evaluations, l));
  return lane(optimum.reached, l) && std::isfinite(r.deviance[i]);
}

template <class V>
void variance_ratios(const Interpolant& t, const InterpolantOptimum<V>& optimum, V* rho) {
  for (int level = 0; level < t.levels; ++level) {
    const InterpolantLevel& from = t.level[level];
    const V x = optimum.u[level] * V(0.25 * from.upper), inverse = V(1.0 / from.scale);
    const V ratio = from.logarithmic ? exponential(x) - V(1.0) : x / (V(1.0) - x);
    rho[level] = maximum(ratio * inverse, V(0.0));
  }
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
    tabulate<V>(job.null, response, null_tile.arrays);
    const InterpolantOptimum<V> smaller = fit_interpolant<V>(job.null, 0, job.finish, null_tile.arrays, nullptr);
    V null_rho[max_interpolated], full_rho[max_interpolated];
    variance_ratios<V>(job.null, smaller, null_rho);
    InterpolantOptimum<V> larger = smaller;
    const Interpolant& full_table = job.same_random_effects ? job.null : job.full;
    if (!refit) {
      if (job.same_random_effects) {
        larger = fit_interpolant<V>(job.null, 1, job.finish, null_tile.arrays, &smaller);
      } else {
        tabulate<V>(job.full, full_response, full_tile->arrays);
        larger = fit_interpolant<V>(job.full, 0, job.finish, full_tile->arrays, nullptr);
      }
      variance_ratios<V>(full_table, larger, full_rho);
    }
    for (int l = 0; l < width && begin + l < chunk.count; ++l) {
      const std::uint64_t i = begin + l;
      bool serves = record_interpolant<V>(null, job.null, smaller, null_rho, l, i, chunk.null);
      if (!refit) {
        serves = record_interpolant<V>(full, full_table, larger, full_rho, l, i, chunk.full) && serves;
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
