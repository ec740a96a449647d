/// @file
/// Chi-square variates by Marsaglia and Tsang (2000), "A simple method for generating gamma variables": exact, any
/// degrees of freedom.
#pragma once

#include "kernels/normal.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// @param degrees  degrees of freedom, shared by all lanes; 0 gives 0
/// @param stream   a stream of its own (attempt i uses blocks 2i and 2i+1)
template <class V>
BATCHLMM_INLINE V chi_square(std::uint64_t seed, const IntOf<V>& replicate, std::uint32_t stream, double degrees) {
  using I = IntOf<V>;
  if (degrees <= 0) return V(0.0);
  if (degrees < 1.5) {
    V z, unused;
    normal_pair<V>(philox<V>(seed, replicate, I(0), stream), z, unused);
    return z * z;
  }
  const double d = 0.5 * degrees - 1.0 / 3.0;
  const double c = 1.0 / square_root(9.0 * d);
  V result = V(0.0);
  auto open = V(0.0) <= V(0.0);  // lanes still without an accepted draw: all
  for (std::uint64_t attempt = 0; any(open) && attempt < 1000; ++attempt) {
    V x, unused;
    normal_pair<V>(philox<V>(seed, replicate, I(2 * attempt), stream), x, unused);
    const PhiloxWords<V> words = philox<V>(seed, replicate, I(2 * attempt + 1), stream);
    const V u = uniform<V>(words.word[0], words.word[1]);
    const V t = fma(x, V(c), V(1.0));
    const auto positive = t > V(0.0);
    const V v = t * t * t;
    const V bound = fma(V(0.5) * x, x, V(d) * (V(1.0) - v + logarithm(select(positive, v, V(1.0)))));
    const auto accept = open && positive && (logarithm(u) < bound);
    result = select(accept, V(2.0 * d) * v, result);
    open = open && !accept;
  }
  return result;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
