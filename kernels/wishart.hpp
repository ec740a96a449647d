/// @file
/// Wishart matrices by Bartlett's decomposition (1933): with A lower triangular, A_ii^2 chi-square with m - i degrees
/// of freedom and standard normals below, LA(LA)' is Wishart(LL', m). Where m < d the m normal vectors themselves.
#pragma once

#include "kernels/chi_square.hpp"
#include "kernels/shape.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Chi-square variates one after the other, each from a stream of its own.
template <class V>
class ChiSquares {
public:
  /// @param stream  first of the streams that are used
  BATCHLMM_INLINE ChiSquares(std::uint64_t seed, const IntOf<V>& replicate, std::uint32_t stream)
      : seed_(seed), replicate_(replicate), stream_(stream) {}
  BATCHLMM_INLINE V next(double degrees) { return chi_square<V>(seed_, replicate_, stream_++, degrees); }

private:
  std::uint64_t seed_;
  IntOf<V> replicate_;
  std::uint32_t stream_;
};

/// Draws sum over m copies of x x', x ~ N(0, LL').
/// @param l        d x d lower triangular, row-major
/// @param out      packed d
/// @param scratch  d x d
template <class V, class A>
BATCHLMM_INLINE void wishart(int d, int m, const double* l, Normals<V>& normals, ChiSquares<V>& chi_squares,
                             const A& out, const A& scratch) {
  if (d == 1) {
    out[0] = V(l[0] * l[0]) * chi_squares.next(m);
    return;
  }
  const int columns = m < d ? m : d;
  // LA, column by column.
  for (int c = 0; c < columns; ++c) {
    for (int i = 0; i < d; ++i) scratch[i * d + c] = V(0.0);
    for (int r = m < d ? 0 : c; r < d; ++r) {
      const V a = m >= d && r == c ? square_root(chi_squares.next(m - c)) : normals.next();
      for (int i = r; i < d; ++i) scratch[i * d + c] = fma(V(l[i * d + r]), a, V(scratch[i * d + c]));
    }
  }
  for (int i = 0; i < d; ++i)
    for (int j = 0; j <= i; ++j) {
      V t = V(0.0);
      for (int c = 0; c < columns; ++c) t = fma(scratch[i * d + c], scratch[j * d + c], t);
      out[triangle(i, j)] = t;
    }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
