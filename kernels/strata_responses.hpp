/// @file
/// The records of tier 1 (strata.hpp) from responses that are given, not drawn: all that a record needs is linear in
/// the response vector of the streaming tier (shape.hpp), but for squares. With M the map to orthonormal coordinates of
/// the strata,
///     c = M u,   S = sum over free copies of c c',   rss = u'_last - |c_rest|^2
/// where u_last is what the streamed columns leave of y'y, and c_rest are coordinates of what the strata's range and
/// the touched residual directions have beyond the streamed columns.
#pragma once

#include "kernels/product_tiles.hpp"
#include "kernels/strata_sampler.hpp"

namespace batchlmm::kernels {

/// Responses on one design and how they become what a draw gives.
struct StrataResponses {
  const double* response = nullptr;  ///< items x length; null: replicates are drawn
  int length = 0;                    ///< of a response vector
  int outputs = 0;                   ///< rows of M
  int rest = 0;                      ///< its last rows: c_rest
  /// outputs x (length - 1), row-major. Its first rows give a draw's coordinates; then come, stratum by stratum and
  /// copy by copy, those of the free copies; then c_rest.
  const double* map = nullptr;
};

inline namespace BATCHLMM_ISA {

/// Entries of scratch that one call of `read_strata` needs.
BATCHLMM_INLINE std::size_t strata_response_scratch(const StrataSampler& s, const StrataResponses& given) {
  return strata_draw_scratch(s) + static_cast<std::size_t>(given.outputs) + given.length;
}

/// In place of draw_strata: items first, first + 1, ..., one a lane; lanes from `count` on repeat the last item.
/// @param scratch  strata_response_scratch(s, given) entries; a draw's coordinates stand first
template <class V, class A>
BATCHLMM_FUNCTION inline void read_strata(const StrataSampler& s, const StrataResponses& given, std::uint64_t first,
                                          std::uint64_t count, const A& null, const A& full, const A& scratch) {
  const int linear = given.length - 1;
  const A coordinates = scratch, wisharts = coordinates + s.coordinates, small = wisharts + s.wisharts;
  const A more = scratch + strata_draw_scratch(s);  // what follows the coordinates among the outputs
  const A u = more + given.outputs;
  for (int l = 0; l < Lanes<V>::width; ++l) {
    const std::uint64_t item = first + (static_cast<std::uint64_t>(l) < count ? l : count - 1);
    const double* from = given.response + item * given.length;
    for (int e = 0; e < given.length; ++e) set_lane(u[e], l, from[e]);
  }
  product<V>(
      given.outputs, 1, linear, [&](int i, int e) { return V(given.map[static_cast<std::size_t>(i) * linear + e]); },
      [&](int e, int) { return V(u[e]); },
      [&](int i, int, const V& c) {
        if (i < s.coordinates)
          coordinates[i] = c;
        else
          more[i - s.coordinates] = c;
      });
  int at = 0;
  for (int i = 0; i < s.strata; ++i) {
    const SampledStratum& stratum = s.stratum[i];
    const int d = stratum.d;
    if (stratum.free <= 0) continue;
    const A w = wisharts + stratum.wishart;
    for (int e = 0; e < triangle_size(d); ++e) w[e] = V(0.0);
    for (int copy = 0; copy < stratum.free; ++copy, at += d)
      for (int r = 0; r < d; ++r)
        for (int c = 0; c <= r; ++c) w[triangle(r, c)] = fma(more[at + r], more[at + c], w[triangle(r, c)]);
  }
  V rss = u[linear];
  for (int i = 0; i < given.rest; ++i, ++at) rss = fnma(V(more[at]), V(more[at]), rss);
  const A residual = coordinates + s.residual_coordinates;
  make_record<V>(s.null, coordinates, wisharts, residual, s.residual, rss, null, small);
  if (s.full.record > 0) make_record<V>(s.full, coordinates, wisharts, residual, s.residual, rss, full, small);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
