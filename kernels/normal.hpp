/// @file
/// Standard normals by Box and Muller (1958): exact, without rejection, two from one Philox block.
#pragma once

#include "kernels/elementary.hpp"
#include "kernels/philox.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Two independent standard normals from four words.
template <class V>
BATCHLMM_INLINE void normal_pair(const PhiloxWords<V>& words, V& first, V& second) {
  const V u = uniform<V>(words.word[0], words.word[1]);
  const V angle = uniform<V>(words.word[2], words.word[3]) * V(2.0);
  const V radius = square_root(V(-2.0) * logarithm(u));
  V s, c;
  sin_cos_pi(angle, s, c);
  first = radius * c;
  second = radius * s;
}

/// A stream of standard normals of one replicate a lane: draw after draw, in order.
template <class V>
class Normals {
public:
  BATCHLMM_INLINE Normals(std::uint64_t seed, const IntOf<V>& replicate, std::uint32_t stream)
      : seed_(seed), replicate_(replicate), stream_(stream) {}
  BATCHLMM_INLINE V next() {
    if (have_) {
      have_ = false;
      return spare_;
    }
    V first;
    normal_pair<V>(philox<V>(seed_, replicate_, IntOf<V>(draw_++), stream_), first, spare_);
    have_ = true;
    return first;
  }

private:
  std::uint64_t seed_;
  IntOf<V> replicate_;
  std::uint32_t stream_;
  std::uint64_t draw_ = 0;
  V spare_ = V(0.0);
  bool have_ = false;
};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
