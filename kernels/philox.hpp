/// @file
/// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy
/// as 1, 2, 3"). Key = seed; counter = (replicate low, replicate high, draw, stream). A number is a pure function of
/// these, so a replicate has the same bits on any backend, thread, tile or shard.
#pragma once

#include "kernels/lanes.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Four 32-bit words a lane, each in the low half of a 64-bit integer.
template <class V>
struct PhiloxWords {
  IntOf<V> word[4];
};

/// @param replicate  per lane, 64 bits
/// @param draw       which block of four words of this stream (per lane: rejection may advance lanes unequally)
template <class V>
BATCHLMM_INLINE PhiloxWords<V> philox(std::uint64_t seed, const IntOf<V>& replicate, const IntOf<V>& draw,
                                      std::uint32_t stream) {
  using I = IntOf<V>;
  const I low = I(0xffffffffULL);
  I c0 = replicate & low, c1 = replicate >> 32, c2 = draw & low, c3 = I(stream);
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const I p0 = multiply_low(I(0xD2511F53ULL), c0), p1 = multiply_low(I(0xCD9E8D57ULL), c2);
    c0 = (p1 >> 32) ^ c1 ^ I(k0);
    c2 = (p0 >> 32) ^ c3 ^ I(k1);
    c1 = p1 & low;
    c3 = p0 & low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// Uniform on (0, 1) with 53 bits from two words; never 0 or 1.
template <class V>
BATCHLMM_INLINE V uniform(const IntOf<V>& high, const IntOf<V>& low) {
  return (to_double(((high << 32) | low) >> 11) + V(0.5)) * V(0x1p-53);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
