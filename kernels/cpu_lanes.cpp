// The kernels for lanes of one instruction set; compiled once for each.
#include "kernels/ceiling.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cpu_fixed.hpp"
#include "kernels/shared_start.hpp"
#include "kernels/tile.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

/// Fits the items by the text for this shape.
void fit_items(const Shape& shape, const FitItems& job) {
  if (job.design_of == nullptr)
    for (const auto find : {fixed_one_column, fixed_two_columns})
      if (const FitTiles fixed = find(shape); fixed != nullptr) return fixed(shape, job);
  with_text(text_kind(shape), [&](auto text) {
    using Text = decltype(text);
    using V = Pack<Text::vectors>;
    if (job.design_of != nullptr)
      Tile<Pack<1>, Pack<1>, Text>(shape).fit(job);
    else
      Tile<V, double, Text>(shape).fit(job);
  });
}

void fit(const FitJob& job) {
  const Shape& s = *job.shape;
  fit_items(s, {job.design,
                job.design_of,
                job.items,
                {job.response, static_cast<std::size_t>(s.response), 1},
                job.first_start,
                job.one_start,
                nullptr,
                job.starts,
                nullptr,
                job.options,
                job.parameters,
                job.results});
}

/// Starting points of the null fits of one tile's replicates.
template <class V>
class TileStarts {
public:
  TileStarts(const BootstrapJob& job, std::uint64_t tiles) : null_(*job.null), shared_(job.null_shared) {
    if (shared_ == nullptr) return;
    Arena<V*> count{nullptr};
    (void)make_shared_start_scratch(null_, count);
    memory_ = aligned_array<V>(count.used + null_.lambdas);
    starts_.resize(tiles * Lanes<V>::width * null_.lambdas);
  }
  void add(std::uint64_t tile, const V* response) {
    if (shared_ == nullptr) return;
    Arena<V*> arena{memory_.get()};
    const auto scratch = make_shared_start_scratch(null_, arena);
    V* lambda = arena.take(null_.lambdas);
    shared_start<V>(null_, *shared_, response, scratch, lambda);
    double* to = starts_.data() + tile * Lanes<V>::width * null_.lambdas;
    for (int l = 0; l < Lanes<V>::width; ++l)
      for (int i = 0; i < null_.lambdas; ++i) *to++ = lane(lambda[i], l);
  }
  [[nodiscard]] bool empty() const { return shared_ == nullptr; }
  [[nodiscard]] const double* data() const { return starts_.data(); }

private:
  const Shape& null_;
  const SharedStart* shared_;
  Aligned<V> memory_;
  std::vector<double> starts_;
};

void bootstrap(const BootstrapJob& job, BootstrapChunk& chunk) {
  using V = Pack<2>;
  constexpr int width = Lanes<V>::width;
  const Shape &null = *job.null, &full = *job.full;
  const std::uint64_t tiles = (chunk.count + width - 1) / width;
  const std::size_t n0 = null.response, n1 = full.response;
  V *null_response = kept_array<V, 0>(tiles * n0), *full_response = kept_array<V, 1>(tiles * n1);
  TileStarts<V> starts(job, tiles);
  {
    Aligned<V> scratch = aligned_array<V>(full.columns() + job.sampler.rows);
    for (std::uint64_t tile = 0; tile < tiles; ++tile) {
      IntOf<V> replicate(0);
      for (int l = 0; l < width; ++l) set_lane(replicate, l, chunk.first + tile * width + l);
      draw_replicate<V>(full, job.full_design, job.sampler, job.seed, replicate, full_response + tile * n1,
                        null_response + tile * n0, scratch.get(), scratch.get() + full.columns());
      starts.add(tile, null_response + tile * n0);
    }
  }
  const auto tiled = [](const V* responses, std::size_t n) {
    return TiledResponses{reinterpret_cast<const double*>(responses), n * width, width};
  };
  FitResults null_results = chunk.null;
  std::vector<std::uint8_t> several(tells_minima(job) && chunk.full.status != nullptr ? chunk.count : 0);
  if (!several.empty()) null_results.several = several.data();
  fit_items(null, {&job.null_design, nullptr, chunk.count, tiled(null_response, n0),
                   starts.empty() ? job.null_starts : starts.data(), starts.empty(), nullptr, job.null_starts, nullptr,
                   job.null_options, job.parameters, null_results});
  if (chunk.full.status == nullptr) return;
  std::vector<double> start(chunk.count * full.lambdas);
  for (std::uint64_t i = 0; i < chunk.count; ++i)
    full_start(job, chunk.null.lambda + i * null.lambdas, start.data() + i * full.lambdas);
  fit_items(full, {&job.full_design, nullptr, chunk.count, tiled(full_response, n1), start.data(), false,
                   chunk.null.deviance, job.full_starts, &null_results, job.full_options, job.parameters, chunk.full});
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

extern const StrataKernels strata_kernels_of_this_isa;
extern const NewtonKernels newton_kernels_of_this_isa;
extern const SparseRowKernels sparse_row_kernels_of_this_isa;
extern const ResponseKernels response_kernels_of_this_isa;
extern const NormalKernels normal_kernels_of_this_isa;

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
                                     ceiling_chains,
                                     &strata_kernels_of_this_isa,
                                     &newton_kernels_of_this_isa,
                                     &sparse_row_kernels_of_this_isa,
                                     &response_kernels_of_this_isa,
                                     &normal_kernels_of_this_isa};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
