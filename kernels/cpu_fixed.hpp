/// @file
/// Fits of common shapes with all sizes but the number of streamed levels known at compile time. They are spread over
/// several sources, one a kind of shape, since each takes seconds to compile.
#pragma once

#include "kernels/fixed_shape.hpp"
#include "kernels/tile.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Fits items of one shape that share one design.
using FitTiles = void (*)(const Shape& shape, const FitItems& job);

/// The fit for a shape whose streamed factor has one column; null where its sizes were not compiled in.
FitTiles fixed_one_column(const Shape& shape);
/// The same with two columns.
FitTiles fixed_two_columns(const Shape& shape);

template <class V, class S>
void fit_fixed(const Shape& shape, const FitItems& job) {
  Tile<V, double, StreamingText<(S::own[0] == 1 ? 1 : 0), S>>(shape).fit(job);
}
/// The first of the shapes S that `shape` is.
template <class V, class... S>
FitTiles find_fixed(const Shape& shape) {
  FitTiles found = nullptr;
  (void)((S::is_shape_of(shape) && (found = fit_fixed<V, S>, true)) || ...);
  return found;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
