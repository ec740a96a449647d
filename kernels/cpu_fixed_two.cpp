// Shapes whose streamed factor has two columns: a random intercept and slope, and two crossed ones.
#include "kernels/cpu_fixed.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

template <int P, bool Reml>
using Single = FixedShape<P, Reml, FixedTerm{2, 1, 0}>;
template <int P, int Levels>
using Crossed = FixedShape<P, false, FixedTerm{2, 1, 0}, FixedTerm{2, Levels, 1}>;

}  // namespace

FitTiles fixed_two_columns(const Shape& shape) {
  using V = Pack<1>;
  return find_fixed<V, Single<1, false>, Single<2, false>, Single<2, true>, Crossed<2, 6>, Crossed<3, 6>>(shape);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
