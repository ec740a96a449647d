// Shapes whose streamed factor has one column: a random intercept.
#include "kernels/cpu_fixed.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

template <int P, bool Reml>
using Single = FixedShape<P, Reml, FixedTerm{1, 1, 0}>;

}  // namespace

FitTiles fixed_one_column(const Shape& shape) {
  // Two vectors a tile hide the latency of the scalar recurrences.
  using V = Pack<2>;
  return find_fixed<V, Single<1, false>, Single<2, false>, Single<1, true>, Single<2, true>>(shape);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
