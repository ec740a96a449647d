// The kernels for lanes of one instruction set; compiled once for each.
#include "kernels/ceiling.hpp"
#include "kernels/cpu.hpp"
#include "kernels/tile.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

template <class V>
bool load_lane(const double* from, std::size_t stride, int n, int l, V* to) {
  bool finite = true;
  for (int e = 0; e < n; ++e) {
    const double x = from[e * stride];
    finite = finite && std::isfinite(x);
    set_lane(to[e], l, x);
  }
  return finite;
}

template <class V, int LK, class C>
void fit_items(const FitJob& job) {
  const Shape& s = *job.shape;
  Tile<V, LK, C> tile(s);
  const auto load = [&](std::uint64_t i, int l, V* to) {
    return load_lane<V>(job.response + i * s.response, 1, s.response, l, to);
  };
  const auto start = [&](std::uint64_t i, int l, V* lambda) {
    load_lane<V>(job.first_start + (job.one_start ? 0 : i * s.lambdas), 1, s.lambdas, l, lambda);
  };
  const auto limit = [](std::uint64_t) { return std::numeric_limits<double>::infinity(); };
  tile.fit(job.design, job.design_of, job.items, load, start, limit, job.starts, job.options, job.parameters,
           job.results);
}

template <class V, int LK>
void bootstrap_chunk(const BootstrapJob& job, BootstrapChunk& chunk) {
  constexpr int width = Lanes<V>::width;
  const Shape &null = *job.null, &full = *job.full;
  const std::uint64_t tiles = (chunk.count + width - 1) / width;
  const std::size_t n0 = null.response, n1 = full.response;
  Aligned<V> null_response = aligned_array<V>(tiles * n0), full_response = aligned_array<V>(tiles * n1);
  {
    Aligned<V> scratch = aligned_array<V>(full.columns() + job.sampler.rows);
    for (std::uint64_t tile = 0; tile < tiles; ++tile) {
      IntOf<V> replicate(0);
      for (int l = 0; l < width; ++l) set_lane(replicate, l, chunk.first + tile * width + l);
      draw_replicate<V>(full, job.full_design, job.sampler, job.seed, replicate, full_response.get() + tile * n1,
                        null_response.get() + tile * n0, scratch.get(), scratch.get() + full.columns());
    }
  }
  // Element e of item i stands at [tile][e][lane].
  const auto load_from = [&](const V* from, std::size_t n) {
    return [from, n](std::uint64_t i, int l, V* to) {
      bool finite = true;
      const V* tile = from + i / width * n;
      for (std::size_t e = 0; e < n; ++e) {
        const double x = lane(tile[e], static_cast<int>(i % width));
        finite = finite && std::isfinite(x);
        set_lane(to[e], l, x);
      }
      return finite;
    };
  };
  {
    Tile<V, LK, double> tile(null);
    tile.fit(
        &job.null_design, nullptr, chunk.count, load_from(null_response.get(), n0),
        [&](std::uint64_t, int l, V* lambda) { load_lane<V>(job.null_starts, 1, null.lambdas, l, lambda); },
        [](std::uint64_t) { return std::numeric_limits<double>::infinity(); }, job.null_starts, job.null_options,
        job.parameters, chunk.null);
  }
  if (chunk.full.status != nullptr) {
    Tile<V, LK, double> tile(full);
    std::vector<double> start(full.lambdas);
    tile.fit(
        &job.full_design, nullptr, chunk.count, load_from(full_response.get(), n1),
        [&](std::uint64_t i, int l, V* lambda) {
          full_start(job, chunk.null.lambda + i * null.lambdas, start.data());
          load_lane<V>(start.data(), 1, full.lambdas, l, lambda);
        },
        [&](std::uint64_t i) { return chunk.null.deviance[i]; }, job.full_starts, job.full_options, job.parameters,
        chunk.full);
  }
}

// Two vectors a lane-tile hide the latency of the scalar recurrences where the streamed factor has one column.
void fit(const FitJob& job) {
  // The text for one column is taken whether the designs are the items' own or not: an item has the same bits.
  const bool own_designs = job.design_of != nullptr, one_column = job.shape->own[0] == 1;
  if (own_designs && one_column)
    fit_items<Pack<1>, 1, Pack<1>>(job);
  else if (own_designs)
    fit_items<Pack<1>, 0, Pack<1>>(job);
  else if (one_column)
    fit_items<Pack<2>, 1, double>(job);
  else
    fit_items<Pack<1>, 0, double>(job);
}

void bootstrap(const BootstrapJob& job, BootstrapChunk& chunk) {
  if (job.full->own[0] == 1 && job.null->own[0] == 1)
    bootstrap_chunk<Pack<2>, 1>(job, chunk);
  else
    bootstrap_chunk<Pack<1>, 0>(job, chunk);
}

std::size_t scratch(const Shape& shape) {
  Arena<double*> count{nullptr};
  (void)make_workspace(shape, count);
  return count.used;
}

ScalarEvaluation evaluate_one(const Shape& s, const Design<double>& design, const double* response,
                              const double* lambda, double* memory, bool derivatives) {
  Arena<double*> arena{memory};
  const Workspace<double*> w = make_workspace(s, arena);
  for (int i = 0; i < s.lambdas; ++i) w.lambda[i] = lambda[i];
  const Evaluation<double> e = s.own[0] == 1 ? evaluate<1, double>(s, design, response, w, derivatives)
                                             : evaluate<0, double>(s, design, response, w, derivatives);
  return {e.deviance, e.r2, e.ok, w.gradient, w.hessian, w.information, w.beta, w.x_factor, w.modes};
}

}  // namespace

/// In cpu_interpolant.cpp.
void interpolate(const InterpolantJob& job, const InterpolantChunk& also, BootstrapChunk& chunk);

#define BATCHLMM_TEXT2(x) #x
#define BATCHLMM_TEXT(x) BATCHLMM_TEXT2(x)

/// The table of this instruction set; its name is unique through the inline namespace.
extern const CpuKernels kernels_of_this_isa;
const CpuKernels kernels_of_this_isa{BATCHLMM_TEXT(BATCHLMM_ISA),
                                     2 * native_width,
                                     fit,
                                     scratch,
                                     evaluate_one,
                                     bootstrap,
                                     interpolate,
                                     run_ceiling,
                                     ceiling_chains};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
