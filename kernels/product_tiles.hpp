/// @file
/// Small matrix products of lanes, several entries at a time: their sums hide each other's latency and share loads. An
/// entry's sum is taken in order, so that its bits do not depend on the entries beside it.
#pragma once

#include "kernels/lanes.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// out(i, j, sum over e of left(i, e) right(e, j)) for i in [i0, i0 + R), j in [j0, j0 + C), e in [first, last).
template <int R, int C, class V, class Left, class Right, class Out>
BATCHLMM_INLINE void product_tile(int i0, int j0, int first, int last, const Left& left, const Right& right,
                                  const Out& out) {
  V sum[R][C];
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < C; ++j) sum[i][j] = V(0.0);
  for (int e = first; e < last; ++e) {
    V l[R], r[C];
    for (int i = 0; i < R; ++i) l[i] = left(i0 + i, e);
    for (int j = 0; j < C; ++j) r[j] = right(e, j0 + j);
    for (int i = 0; i < R; ++i)
      for (int j = 0; j < C; ++j) sum[i][j] = fma(l[i], r[j], sum[i][j]);
  }
  for (int i = 0; i < R; ++i)
    for (int j = 0; j < C; ++j) out(i0 + i, j0 + j, sum[i][j]);
}

/// out(i, j, sum over e < n of left(i, e) right(e, j)) for all i < rows, j < columns.
template <class V, class Left, class Right, class Out>
BATCHLMM_INLINE void product(int rows, int columns, int n, const Left& left, const Right& right, const Out& out) {
  int i = 0;
  for (; i + 4 <= rows; i += 4) {
    int j = 0;
    for (; j + 2 <= columns; j += 2) product_tile<4, 2, V>(i, j, 0, n, left, right, out);
    for (; j < columns; ++j) product_tile<4, 1, V>(i, j, 0, n, left, right, out);
  }
  for (; i < rows; ++i) {
    int j = 0;
    for (; j + 2 <= columns; j += 2) product_tile<1, 2, V>(i, j, 0, n, left, right, out);
    for (; j < columns; ++j) product_tile<1, 1, V>(i, j, 0, n, left, right, out);
  }
}

/// The same for the entries i >= j of a symmetric product of order n; `out` is called for i >= j only.
template <class V, class Left, class Right, class Out>
BATCHLMM_INLINE void symmetric_product(int order, int n, const Left& left, const Right& right, const Out& out) {
  const auto lower = [&](int i, int j, const V& sum) {
    if (i >= j) out(i, j, sum);
  };
  int i = 0;
  for (; i + 4 <= order; i += 4)
    for (int j = 0; j < i + 4; j += 2) product_tile<4, 2, V>(i, j, 0, n, left, right, lower);
  for (; i < order; ++i) {
    int j = 0;
    for (; j + 2 <= i + 1; j += 2) product_tile<1, 2, V>(i, j, 0, n, left, right, out);
    for (; j <= i; ++j) product_tile<1, 1, V>(i, j, 0, n, left, right, out);
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
