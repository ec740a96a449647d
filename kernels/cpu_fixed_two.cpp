// Shapes whose streamed factor has two columns: a random intercept and slope.
#include "kernels/cpu_fixed.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

template <int P, bool Reml>
using Single = FixedShape<P, Reml, FixedTerm{2, 1, 0}>;

}  // namespace

FitTiles fixed_two_columns(const Shape& shape) {
  using V = Pack<1>;
  return find_fixed<V, Single<1, false>, Single<2, false>, Single<2, true>>(shape);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
