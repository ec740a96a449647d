// Compiled once for each instruction set.
#include "kernels/cpu_responses.hpp"

#include "kernels/lanes.hpp"
#include "kernels/tile.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

using V = Pack<1>;
constexpr int width = Lanes<V>::width;

/// One tile of lanes. @param v  rows lanes of scratch; @param sums  length + p lanes
void reduce_tile(const ResponseRows& r, int items, const double* const* y, double* const* response, V* v, V* sums) {
  for (int i = 0; i < r.rows; ++i) {
    for (int l = 0; l < width; ++l) set_lane(v[i], l, y[l < items ? l : items - 1][r.row[i]]);
    v[i] = v[i] - V(r.offset[i]);
  }
  for (int e = 0; e < r.length + r.p; ++e) sums[e] = V(0.0);
  V* const ols = sums + r.length;
  for (int c = 0; c < r.p; ++c) {
    V sum(0.0);
    for (int i = 0; i < r.rows; ++i) sum = fma(V(r.x[i * r.p + c]), v[i], sum);
    ols[c] = sum / V(static_cast<double>(r.rows));
  }
  for (int i = 0; i < r.rows; ++i)
    for (int c = 0; c < r.p; ++c) v[i] = fnma(V(r.x[i * r.p + c]), ols[c], v[i]);

  V* const of_x = sums + (r.length - 1 - r.p);
  V left(0.0);
  for (int j = 0; j < r.positions; ++j) {
    const int begin = r.first[j], end = r.first[j + 1];
    // The level's own part, and once more what rounding left of it.
    for (int pass = 0; pass < 2; ++pass)
      for (int a = 0; a < r.own; ++a) {
        V own(0.0);
        for (int i = begin; i < end; ++i) own = fma(V(r.basis[i * r.own + a]), v[i], own);
        for (int i = begin; i < end; ++i) v[i] = fnma(V(r.basis[i * r.own + a]), own, v[i]);
        sums[j * r.own + a] = sums[j * r.own + a] + own;
      }
    for (int c = 0; c < r.p; ++c) {
      V sum = of_x[c];
      for (int i = begin; i < end; ++i) sum = fma(V(r.x[i * r.p + c]), v[i], sum);
      of_x[c] = sum;
    }
    for (int i = begin; i < end; ++i) {
      for (int e = i * r.outer; e < (i + 1) * r.outer; ++e) sums[r.target[e]] = fma(V(r.z[e]), v[i], sums[r.target[e]]);
      left = fma(v[i], v[i], left);
    }
  }
  sums[r.length - 1] = left;
  for (int l = 0; l < items; ++l)
    for (int e = 0; e < r.length + r.p; ++e) response[l][e] = lane(sums[e], l);
}

void reduce(const ResponseRows& rows, int items, const double* const* y, double* const* response) {
  V* const v = kept_array<V, 10>(static_cast<std::size_t>(rows.rows));
  V* const sums = kept_array<V, 11>(static_cast<std::size_t>(rows.length) + static_cast<std::size_t>(rows.p));
  for (int first = 0; first < items; first += width)
    reduce_tile(rows, items - first < width ? items - first : width, y + first, response + first, v, sums);
}

}  // namespace

/// In the table of cpu_lanes.cpp.
extern const ResponseKernels response_kernels_of_this_isa;
const ResponseKernels response_kernels_of_this_isa{reduce};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
