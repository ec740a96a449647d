/// @file
/// Coordinates of the terms' T = lambda lambda' for the optimizer. A pivoted Cholesky factor (rows permuted so that the
/// largest variance comes first) is re-made at every iterate: a T without full rank then has its zeros at the end, and
/// the last diagonal, as the coordinate w >= 0 of a variance, is the only one with a bound. Permutations are one-hot
/// matrices, since lanes pivot differently.
///
/// **A variance's coordinate.** With v = 1 + c rho (the variance of a level's mean, relative to the error's there) the
/// deviance is near m (log v + s / v), and Newton's method takes the longer the less that looks like a parabola. Of
/// the powers of v it is v^{-1/3} that has no third derivative at the minimum, as the cube root makes a gamma variate
/// normal (Wilson and Hilferty 1931); v^{-1/4} is next to it and takes two square roots:
///     w = 4 (1 - u), u = v^{-1/4};   drho/dw = v / (c u),   d2rho/dw2 = 5/4 (drho/dw) / u.
/// **Columns of l.** A column whose diagonal is well above 0 has the coordinates w of l_cc^2 and beta_r = l_rc / l_cc,
/// the regression on it: in them the Gaussian deviance separates. Others (and those of a T whose rank is lower) keep
/// the entries of l themselves, which are regular at 0. Lanes choose by themselves.
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

/// A variance ratio's coordinate and its derivatives.
template <class V>
struct RatioCoordinate {
  V u;     ///< v^{-1/4}, v = 1 + c rho
  V rate;  ///< drho/dw
  /// @param rho_c  c rho
  BATCHLMM_INLINE RatioCoordinate(const V& rho_c, double c) {
    const V v = rho_c + V(1.0);
    u = square_root(V(1.0) / square_root(v));
    rate = v / (u * V(c));
  }
  BATCHLMM_INLINE V coordinate() const { return (V(1.0) - u) * V(4.0); }
  /// d2rho/dw2 over drho/dw
  BATCHLMM_INLINE V bend() const { return V(1.25) / u; }
};
/// Steps of w stop where u would shrink to this part of itself: v grows 256-fold.
inline constexpr double least_u_shrinkage = 0.25;
/// rho where u is what it is.
template <class V>
BATCHLMM_INLINE V ratio_of(const V& u, double c) {
  const V u2 = u * u;
  return (V(1.0) / (u2 * u2) - V(1.0)) * V(1.0 / c);
}

/// The coordinates of a column of l that is not the term's last: entries of l, or (w, beta).
template <class V>
struct ColumnChart {
  MaskOf<V> regression;  ///< (w, beta)
  V diagonal;            ///< l_cc there, else 1: dl_rc/dbeta_r
  V u;                   ///< of l_cc
  V rate;                ///< dl_cc/dw, and dl_rc/dw over beta_r
  V second;              ///< d2l_cc/dw2
  BATCHLMM_INLINE ColumnChart(const V& l, double c) {
    const V rho_c = V(c) * l * l;
    regression = rho_c > V(1.0);
    const RatioCoordinate<V> ratio(rho_c, c);
    u = ratio.u;
    diagonal = select(regression, l, V(1.0));
    const V inverse = V(1.0) / diagonal;
    rate = ratio.rate * inverse * V(0.5);
    second = rate * (ratio.bend() - rate * inverse);
  }
};

/// The optimizer's coordinates of one tile.
template <class A>
struct Coordinates {
  A l;      ///< per term k x k lower triangular, pivoted rows; at the term's lambda offset
  A pivot;  ///< per term k x k one-hot
  A w;      ///< per term: coordinate of l_last^2
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
    x.w[b] = RatioCoordinate<V>(last * last * V(s.scale(b)), s.scale(b)).coordinate();
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
    for (int c = 0; c < k; ++c) {
      const bool last = c == k - 1;
      const V step = fraction * d[triangle(c, c)];
      V diagonal;
      if (last) {
        const V w = maximum(step + x.w[b], V(0.0));
        const V rho = ratio_of(fma(V(-0.25), w, V(1.0)), s.scale(b));
        diagonal = square_root(maximum(rho, V(0.0)));
      } else {
        const V l_cc = l[c * k + c];
        const ColumnChart<V> chart(l_cc, s.scale(b));
        // A step that would take the variance below 0 takes most of it.
        const V rho =
            maximum(ratio_of(maximum(fma(V(-0.25), step, chart.u), V(least_u_shrinkage) * chart.u), s.scale(b)),
                    V(0.01) * l_cc * l_cc);
        const V root = square_root(rho);
        diagonal = select(chart.regression, root, l_cc + step);
        for (int r = c + 1; r < k; ++r) {
          const V plain = l[r * k + c], move = fraction * d[triangle(r, c)];
          const V value = select(chart.regression, root * (plain / chart.diagonal + move), plain + move);
          for (int i = 0; i < k; ++i) out[i * k + c] = fma(pivot[r * k + i], value, out[i * k + c]);
        }
      }
      if (k == 1) {
        out[0] = diagonal;
        break;
      }
      for (int i = 0; i < k; ++i) out[i * k + c] = fma(pivot[c * k + i], diagonal, out[i * k + c]);
    }
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
