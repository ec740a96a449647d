// Exact laws for lanes of one instruction set; compiled once for each.
#include "kernels/cpu_spectral.hpp"

#include <algorithm>
#include <vector>

#include "kernels/spectral.hpp"
#include "kernels/tile.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

double statistic(const SpectralLaw& law, const double* s, double residual, double dropped) {
  SpectralDraw<double> draw;
  draw.s = s;
  draw.residual = residual;
  draw.dropped = dropped;
  return law.closed ? closed_statistic<double>(law, draw) : spectral_search(law, draw);
}

std::uint64_t draw(const SpectralLaw& law, std::uint64_t seed, std::uint64_t first, std::uint64_t count,
                   double* statistics) {
  using V = Pack<2>;
  constexpr int width = Lanes<V>::width;
  V* const s = kept_array<V, 2>(law.groups);
  std::vector<double> one(law.groups);
  std::uint64_t searched = 0;
  for (std::uint64_t from = 0; from < count; from += width) {
    IntOf<V> replicate(0);
    for (int l = 0; l < width; ++l) set_lane(replicate, l, first + from + l);
    const SpectralDraw<V> draw = draw_spectral<V>(law, seed, replicate, s);
    MaskOf<V> settled = V(0.0) <= V(0.0);
    const V value = law.closed ? closed_statistic<V>(law, draw) : spectral_statistic<V>(law, draw, settled);
    const int lanes = static_cast<int>(std::min<std::uint64_t>(width, count - from));
    for (int l = 0; l < lanes; ++l) {
      statistics[from + l] = lane(value, l);
      if (lane(settled, l)) continue;
      for (int i = 0; i < law.groups; ++i) one[i] = lane(s[i], l);
      statistics[from + l] = statistic(law, one.data(), lane(draw.residual, l), lane(draw.dropped, l));
      ++searched;
    }
  }
  return searched;
}

}  // namespace

extern const SpectralKernels spectral_kernels_of_this_isa;
const SpectralKernels spectral_kernels_of_this_isa{draw, statistic};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
