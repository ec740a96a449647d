/// @file
/// Tail probabilities of Student's t and of F with any real denominator degrees of freedom, lanes side by side.
///
/// With y = df1 f / df2, a = df2 / 2, b = df1 / 2 and x = 1 / (1 + y) the upper tail of F is the incomplete beta
/// function I_x(a, b). b is a half: from I_x(a, 1) = x^a or from the continued fraction of I_x(a, 1/2) (Abramowitz and
/// Stegun 1964, 26.5.8) all terms of
///     I_x(a, b + 1) = I_x(a, b) + x^a (1 - x)^b Gamma(a + b) / (Gamma(a) Gamma(b + 1))
/// are positive. The fraction's denominators are multiplied out, so that two of its terms take one division.
#pragma once

#include "kernels/elementary.hpp"

namespace batchlmm::kernels {

/// What a tail probability is where the continued fraction did not converge: left to the host.
inline constexpr double tail_not_found = -1;

inline namespace BATCHLMM_ISA {

/// log(1 + y), y >= 0.
template <class V>
BATCHLMM_INLINE V logarithm_of_one_plus(const V& y) {
  const V u = y + V(1.0);
  return logarithm(u) + (y - (u - V(1.0))) / u;
}

/// Gamma(a + 1/2) / Gamma(a), a > 0: with w = a - 1/4 a series in w^{-2} (Tricomi and Erdelyi 1951), from a >= 16 on.
template <class V>
BATCHLMM_INLINE V gamma_ratio(const V& a) {
  V shifted = a, above = V(1.0), below = V(1.0);
  for (int i = 0; i < 16; ++i) {
    const auto small = shifted < V(16.0);
    above = select(small, above * shifted, above);
    below = select(small, below * (shifted + V(0.5)), below);
    shifted = select(small, shifted + V(1.0), shifted);
  }
  const V w = shifted - V(0.25), z = V(1.0) / (w * w);
  V t = fma(z, V(20491783.0 / 8589934592.0), V(-174317.0 / 134217728.0));
  t = fma(z, t, V(631.0 / 524288.0));
  t = fma(z, t, V(-19.0 / 8192.0));
  t = fma(z, t, V(1.0 / 64.0));
  return square_root(w) * fma(z, t, V(1.0)) * (above / below);
}

/// I_x(a, 1/2).
/// @param y         1/x - 1 >= 0
/// @param log_1_y   log(1 + y)
/// @param leading   x^a (1 - x)^{1/2} Gamma(a + 1/2) / (Gamma(a) Gamma(1/2))
template <class V>
BATCHLMM_INLINE V half_beta(const V& a, const V& y, const V& leading) {
  constexpr int most = 256;
  const V one_y = y + V(1.0), x = V(1.0) / one_y, rest = y / one_y;
  // The fraction converges fast for x < (a + 1) / (a + b + 2); beyond, that of I_{1-x}(b, a).
  const auto direct = x * (a + V(2.5)) < a + V(1.0);
  const V p = select(direct, a, V(0.5)), q = select(direct, V(0.5), a), z = select(direct, x, rest);
  // p / (p + e_1 / (p + 1 + e_2 / (p + 2 + ...))), e_2m = m (q - m) z, e_2m+1 = -(p + m) (p + q + m) z, by its
  // convergents' numerators and denominators.
  V n0 = V(0.0), n1 = p, d0 = V(1.0), d1 = p;
  V value = V(1.0);
  auto open = V(0.0) <= V(0.0);
  for (int m = 0; m < most; ++m) {
    const V at = V(double(m));
    const V odd = -((p + at) * (p + q + at) * z), r1 = p + V(2.0 * m + 1);
    const V n2 = fma(r1, n1, odd * n0), d2 = fma(r1, d1, odd * d0);
    const V even = V(double(m + 1)) * (q - V(double(m + 1))) * z, r2 = p + V(2.0 * m + 2);
    const V n3 = fma(r2, n2, even * n1), d3 = fma(r2, d2, even * d1);
    const V inverse = V(1.0) / d3, now = n3 * inverse;
    const auto same = absolute(now - value) <= V(1e-15) * absolute(now);
    value = select(open, now, value);
    open = open && !same;
    if (!any(open)) break;
    n0 = n2 * inverse;
    d0 = d2 * inverse;
    n1 = now;
    d1 = V(1.0);
  }
  const V tail = leading * value / p;
  return select(open, V(tail_not_found), select(direct, tail, V(1.0) - tail));
}

/// P(F >= f) for F with df1, df2 degrees of freedom; NaN where df2 <= 0, or f < 0 or NaN.
/// @param df1  a whole number, the same in all lanes
/// @return tail_not_found where df2 is very large and f near 1
template <class V>
BATCHLMM_FUNCTION inline V f_tail(const V& f, int df1, const V& df2) {
  const auto proper = df2 > V(0.0) && f >= V(0.0) && f < V(1e300) && df2 < V(1e300);
  const V a = select(proper, V(0.5) * df2, V(1.0)), y = select(proper, V(double(df1)) * f / df2, V(1.0));
  const V power = exponential(-(a * logarithm_of_one_plus(y))), rest = y / (y + V(1.0));
  V term, value;
  double b;
  MaskOf<V> found = V(0.0) <= V(0.0);
  if (df1 % 2 == 0) {
    value = power;
    term = power * rest * a;
    b = 1;
  } else {
    constexpr double inverse_root_pi = 0.56418958354775628695;
    const V leading = power * square_root(rest) * gamma_ratio(a) * V(inverse_root_pi);
    value = half_beta(a, y, leading);
    found = value >= V(0.0);
    term = leading + leading;
    b = 0.5;
  }
  for (; 2 * b + 1 < df1; b += 1) {
    value = value + term;
    term = term * rest * (a + V(b)) * V(1 / (b + 1));
  }
  value = select(found, minimum(value, V(1.0)), V(tail_not_found));
  return select(proper, value, V(__builtin_nan("")));
}

/// P(|T| >= |t|) for Student's t with df degrees of freedom.
template <class V>
BATCHLMM_INLINE V two_sided_tail(const V& t, const V& df) {
  return f_tail<V>(t * t, 1, df);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
