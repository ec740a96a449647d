/// @file
/// Coordinates of the terms' T = lambda lambda' for the optimizer. A pivoted Cholesky factor (rows permuted so that the
/// largest variance comes first) is re-made at every iterate: a T without full rank then has its zeros at the end, and
/// the last diagonal, as z = log1p(c l^2) >= 0, is the only coordinate with a bound. Permutations are one-hot matrices,
/// since lanes pivot differently.
#pragma once

#include "kernels/elementary.hpp"
#include "kernels/workspace.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template <class V>
BATCHLMM_INLINE void swap_if(const MaskOf<V>& m, V& a, V& b) {
  const V x = select(m, b, a);
  b = select(m, a, b);
  a = x;
}

/// Pivoted Cholesky of T (k x k, symmetric, overwritten): P T P' = l l'.
/// @param pivot  k x k one-hot: row r of the factor belongs to row i of T where pivot(r, i) = 1
/// @param zero   pivots up to this count as 0
template <class V, class A>
BATCHLMM_INLINE void pivoted_cholesky(int k, const A& t, const A& pivot, const A& l, double zero) {
  for (int i = 0; i < k; ++i)
    for (int j = 0; j < k; ++j) {
      pivot[i * k + j] = V(i == j ? 1.0 : 0.0);
      l[i * k + j] = V(0.0);
    }
  for (int j = 0; j < k; ++j) {
    for (int i = j + 1; i < k; ++i) {
      const auto larger = t[i * k + i] > t[j * k + j] * V(1.0 + 1e-12);
      if (!any(larger)) continue;
      for (int e = 0; e < k; ++e) {
        swap_if<V>(larger, t[i * k + e], t[j * k + e]);
        swap_if<V>(larger, pivot[i * k + e], pivot[j * k + e]);
        swap_if<V>(larger, l[i * k + e], l[j * k + e]);
      }
      for (int e = 0; e < k; ++e) swap_if<V>(larger, t[e * k + i], t[e * k + j]);
    }
    const auto positive = t[j * k + j] > V(zero);
    const V root = square_root(select(positive, V(t[j * k + j]), V(1.0)));
    const V inverse = select(positive, V(1.0) / root, V(0.0));
    l[j * k + j] = select(positive, root, V(0.0));
    for (int i = j + 1; i < k; ++i) l[i * k + j] = t[i * k + j] * inverse;
    for (int i = j + 1; i < k; ++i)
      for (int e = j + 1; e <= i; ++e) {
        const V x = fnma(V(l[i * k + j]), V(l[e * k + j]), V(t[i * k + e]));
        t[i * k + e] = x;
        t[e * k + i] = x;
      }
  }
}

/// The optimizer's coordinates of one tile.
template <class A>
struct Coordinates {
  A l;      ///< per term k x k lower triangular, pivoted rows; at the term's lambda offset
  A pivot;  ///< per term k x k one-hot
  A z;      ///< per term: log1p(c l_last^2)
};

/// Coordinates of `lambda`. `scratch`: k x k of the largest term.
/// @param s  a Shape or Terms
template <class V, class S, class L, class A>
BATCHLMM_INLINE void to_coordinates(const S& s, const L& lambda, const Coordinates<A>& x, const A& scratch) {
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k;
    const L la = lambda + term.lambda;
    const A l = x.l + term.lambda, pivot = x.pivot + term.lambda;
    if (k == 1) {
      l[0] = absolute(V(la[0]));
      pivot[0] = V(1.0);
    } else {
      for (int i = 0; i < k; ++i)
        for (int j = 0; j <= i; ++j) {
          V t = V(0.0);
          for (int e = 0; e < k; ++e) t = fma(la[i * k + e], la[j * k + e], t);
          scratch[i * k + j] = t;
          scratch[j * k + i] = t;
        }
      pivoted_cholesky<V>(k, scratch, pivot, l, 1e-14 / s.scale(b));
    }
    const V last = l[k * k - 1];
    x.z[b] = logarithm(fma(last * last, V(s.scale(b)), V(1.0)));
  }
}

/// lambda at coordinates moved by `fraction` times `direction` (m entries; none where null).
template <class V, class S, class A, class L>
BATCHLMM_INLINE void from_coordinates(const S& s, const Coordinates<A>& x, const A& direction, const V& fraction,
                                      const L& lambda) {
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k;
    const A l = x.l + term.lambda, pivot = x.pivot + term.lambda, d = direction + term.parameter;
    const L out = lambda + term.lambda;
    for (int i = 0; i < k * k; ++i) out[i] = V(0.0);
    for (int r = 0; r < k; ++r)
      for (int c = 0; c <= r; ++c) {
        V value;
        if (r == k - 1 && c == k - 1) {
          const V z = maximum(fma(fraction, V(d[triangle(r, c)]), V(x.z[b])), V(0.0));
          value = square_root((exponential(z) - V(1.0)) * V(1.0 / s.scale(b)));
          value = select(z > V(0.0), value, V(0.0));
        } else {
          value = fma(fraction, V(d[triangle(r, c)]), V(l[r * k + c]));
        }
        if (k == 1) {
          out[0] = value;
          break;
        }
        for (int i = 0; i < k; ++i) out[i * k + c] = fma(pivot[r * k + i], value, out[i * k + c]);
      }
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
