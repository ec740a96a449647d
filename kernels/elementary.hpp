/// @file
/// log, exp, sin and cos by polynomials of our own: the same bits on every backend, and cheaper than a vector math
/// library. Errors: log below 1 ulp, exp below 1.5 ulp, sin and cos of pi x below 2 ulp (measured in
/// tests/elementary_test.cpp).
#pragma once

#include "kernels/lanes.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Natural logarithm of a positive, finite, normal number (fdlibm's reduction and polynomial, evaluated with fma).
template <class V>
BATCHLMM_INLINE V logarithm(const V& x) {
  using I = IntOf<V>;
  const I b = to_bits(x);
  // x = 2^k m with m in [sqrt(1/2), sqrt(2)); k is biased by 2048 to stay non-negative, so that no signed shift is
  // needed.
  const I shifted = b - I(0x3FE6A09E667F3BCDULL) + I(0x8000000000000000ULL);
  const I biased = shifted >> 52;
  const V m = from_bits(b - ((biased - I(2048)) << 52));
  const V k = to_double(biased) - V(2048.0);
  const V f = m - V(1.0), s = f / (f + V(2.0)), z = s * s, w = z * z;
  const V t1 =
      w * fma(w, fma(w, V(1.531383769920937332e-01), V(2.222219843214978396e-01)), V(3.999999999940941908e-01));
  const V t2 =
      z * fma(w, fma(w, fma(w, V(1.479819860511658591e-01), V(1.818357216161805012e-01)), V(2.857142874366239149e-01)),
              V(6.666666666666735130e-01));
  const V r = t1 + t2, h = V(0.5) * f * f;
  return fma(k, V(6.93147180369123816490e-01), f - (h - fma(s, h + r, k * V(1.90821492927058770002e-10))));
}

/// Exponential for |x| <= 700; beyond, the value at the bound.
template <class V>
BATCHLMM_INLINE V exponential(const V& argument) {
  using I = IntOf<V>;
  const V x = minimum(maximum(argument, V(-700.0)), V(700.0));
  const V shift = V(6755399441055744.0);  // 1.5 * 2^52: adding it rounds to the nearest integer
  const V t = fma(x, V(1.4426950408889634), shift);
  const V k = t - shift;
  V r = fma(k, V(-6.93147180369123816490e-01), x);
  r = fma(k, V(-1.90821492927058770002e-10), r);
  // Taylor series to degree 13 on |r| <= log(2)/2: remainder 4e-18.
  V p = V(1.6059043836821613e-10);
  p = fma(p, r, V(2.08767569878681e-09));
  p = fma(p, r, V(2.505210838544172e-08));
  p = fma(p, r, V(2.755731922398589e-07));
  p = fma(p, r, V(2.7557319223985893e-06));
  p = fma(p, r, V(2.48015873015873e-05));
  p = fma(p, r, V(1.984126984126984e-04));
  p = fma(p, r, V(1.388888888888889e-03));
  p = fma(p, r, V(8.333333333333333e-03));
  p = fma(p, r, V(4.1666666666666664e-02));
  p = fma(p, r, V(1.6666666666666666e-01));
  p = fma(p, r, V(0.5));
  p = fma(p, r, V(1.0));
  p = fma(p, r, V(1.0));
  return from_bits(to_bits(p) + ((to_bits(t) - I(0x4338000000000000ULL)) << 52));
}

/// sin(pi x) and cos(pi x) for x in [0, 2).
template <class V>
BATCHLMM_INLINE void sin_cos_pi(const V& x, V& sine, V& cosine) {
  using I = IntOf<V>;
  const V shift = V(6755399441055744.0);
  const V q = fma(x, V(2.0), shift);
  const I n = to_bits(q);  // its low bits: the nearest multiple of 1/2
  const V r = fma(q - shift, V(-0.5), x), r2 = r * r;
  V p = fma(r2, V(-2.1915353447830217e-05), V(4.6630280576761255e-04));
  p = fma(r2, p, V(-7.3704309457143504e-03));
  p = fma(r2, p, V(8.2145886611128232e-02));
  p = fma(r2, p, V(-5.9926452932079210e-01));
  p = fma(r2, p, V(2.5501640398773455e+00));
  p = fma(r2, p, V(-5.1677127800499703e+00));
  const V s = fma(r, V(3.141592653589793116), r * fma(r2, p, V(1.2246467991473532e-16)));
  V c = fma(r2, V(4.3030695870329470e-06), V(-1.0463810492484570e-04));
  c = fma(r2, c, V(1.9295743094039231e-03));
  c = fma(r2, c, V(-2.5806891390014061e-02));
  c = fma(r2, c, V(2.3533063035889321e-01));
  c = fma(r2, c, V(-1.3352627688545895e+00));
  c = fma(r2, c, V(4.0587121264167685e+00));
  c = fma(r2, c, V(-4.934802200544679));
  c = fma(r2, c, V(1.0));
  const auto odd = (n & I(1)) != 0;
  const V a = select(odd, c, s), b = select(odd, s, c);
  sine = from_bits(to_bits(a) ^ ((n & I(2)) << 62));
  cosine = from_bits(to_bits(b) ^ (((n + I(1)) & I(2)) << 62));
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
