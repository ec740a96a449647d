/// @file
/// Value types of the kernels. The kernel text is written once, for a value type V: a double (GPU threads, single fits)
/// or a Pack of native vectors of doubles, one replicate a lane. Lanes never mix, so that a replicate's bits do not
/// depend on its neighbours; multiply-adds are explicit (contraction is off) so that they do not depend on the compiler
/// either.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__CUDACC__)
#define BATCHLMM_INLINE __host__ __device__ __forceinline__
#define BATCHLMM_FUNCTION __host__ __device__
#define BATCHLMM_INLINE_LAMBDA
#else
#define BATCHLMM_INLINE inline __attribute__((always_inline))
#define BATCHLMM_FUNCTION
#define BATCHLMM_INLINE_LAMBDA __attribute__((always_inline))  // between a lambda's parameters and its body
#endif

#ifndef BATCHLMM_ISA
#define BATCHLMM_ISA portable
#endif

namespace batchlmm::kernels {
// One inline namespace an instruction set: no inline function of an AVX-512 object can be linked into baseline code.
inline namespace BATCHLMM_ISA {

// ---------------------------------------------------------------- V = double
template <class V>
struct Lanes;

template <>
struct Lanes<double> {
  static constexpr int width = 1;
  using Mask = bool;
  using Int = std::uint64_t;
};

BATCHLMM_INLINE double fma(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return ::fma(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}
BATCHLMM_INLINE double square_root(double a) {
#if defined(__CUDA_ARCH__)
  return ::sqrt(a);
#else
  return __builtin_sqrt(a);
#endif
}
BATCHLMM_INLINE double select(bool m, double a, double b) { return m ? a : b; }
BATCHLMM_INLINE std::uint64_t select(bool m, std::uint64_t a, std::uint64_t b) { return m ? a : b; }
BATCHLMM_INLINE bool any(bool m) { return m; }
BATCHLMM_INLINE bool lane(bool m, int) { return m; }
BATCHLMM_INLINE double lane(double a, int) { return a; }
BATCHLMM_INLINE void set_lane(double& a, int, double x) { a = x; }
BATCHLMM_INLINE void set_lane(bool& a, int, bool x) { a = x; }
BATCHLMM_INLINE void set_lane(std::uint64_t& a, int, std::uint64_t x) { a = x; }
BATCHLMM_INLINE std::uint64_t to_bits(double a) {
  std::uint64_t b;
  std::memcpy(&b, &a, sizeof b);
  return b;
}
BATCHLMM_INLINE double from_bits(std::uint64_t b) {
  double a;
  std::memcpy(&a, &b, sizeof a);
  return a;
}
/// Product of the low 32 bits of both.
BATCHLMM_INLINE std::uint64_t multiply_low(std::uint64_t a, std::uint64_t b) {
  return (a & 0xffffffffu) * (b & 0xffffffffu);
}
/// An integer below 2^53 as a double.
BATCHLMM_INLINE double to_double(std::uint64_t a) { return static_cast<double>(a); }

/// `a`, loaded once: see the one for Packs.
template <class V>
BATCHLMM_INLINE V in_register(const V& a) {
  return a;
}

#if !defined(__CUDACC__)
// ---------------------------------------------------------------- V = Pack of NV native vectors
#if defined(__AVX512F__)
inline constexpr int native_width = 8;
#elif defined(__AVX2__)
inline constexpr int native_width = 4;
#else
inline constexpr int native_width = 2;
#endif
using NativeReal = double __attribute__((vector_size(native_width * 8)));
using NativeInt = std::uint64_t __attribute__((vector_size(native_width * 8)));
using NativeMask = std::int64_t __attribute__((vector_size(native_width * 8)));

/// Comparisons of Packs: all bits of a lane set where true.
template <int NV>
struct PackMask {
  NativeMask v[NV];
};
template <int NV>
struct PackInt {
  NativeInt v[NV];
  PackInt() = default;
  BATCHLMM_INLINE PackInt(std::uint64_t x) {  // NOLINT: broadcast
    for (int i = 0; i < NV; ++i) v[i] = NativeInt{} + x;
  }
};
/// NV native vectors of doubles: native_width * NV replicates side by side.
template <int NV>
struct Pack {
  NativeReal v[NV];
  Pack() = default;
  BATCHLMM_INLINE Pack(double x) {  // NOLINT: broadcast
    // Taking zero away folds to a broadcast; adding it would not: -0.0 + 0.0 is 0.0.
    for (int i = 0; i < NV; ++i) v[i] = x - NativeReal{};
  }
};

template <int NV>
struct Lanes<Pack<NV>> {
  static constexpr int width = native_width * NV;
  using Mask = PackMask<NV>;
  using Int = PackInt<NV>;
};

// NOLINTBEGIN(bugprone-macro-parentheses): TYPE is a template's name.
#define BATCHLMM_PACK_BINARY(TYPE, OP)                                                             \
  template <int NV>                                                                                \
  BATCHLMM_INLINE TYPE<NV> operator OP(TYPE<NV> a, const TYPE<NV>& b) {                            \
    for (int i = 0; i < NV; ++i) a.v[i] = a.v[i] OP b.v[i];                                        \
    return a;                                                                                      \
  }                                                                                                \
  template <int NV, class S>                                                                       \
  BATCHLMM_INLINE TYPE<NV> operator OP(const TYPE<NV>& a, S b) requires(std::is_arithmetic_v<S>) { \
    return a OP TYPE<NV>(b);                                                                       \
  }                                                                                                \
  template <int NV, class S>                                                                       \
  BATCHLMM_INLINE TYPE<NV> operator OP(S a, const TYPE<NV>& b) requires(std::is_arithmetic_v<S>) { \
    return TYPE<NV>(a) OP b;                                                                       \
  }
BATCHLMM_PACK_BINARY(Pack, +)
BATCHLMM_PACK_BINARY(Pack, -)
BATCHLMM_PACK_BINARY(Pack, *)
BATCHLMM_PACK_BINARY(Pack, /)
BATCHLMM_PACK_BINARY(PackInt, +)
BATCHLMM_PACK_BINARY(PackInt, -)
BATCHLMM_PACK_BINARY(PackInt, ^)
BATCHLMM_PACK_BINARY(PackInt, |)
BATCHLMM_PACK_BINARY(PackInt, &)
#undef BATCHLMM_PACK_BINARY
// NOLINTEND(bugprone-macro-parentheses)

#define BATCHLMM_PACK_COMPARE(OP)                                                  \
  template <int NV>                                                                \
  BATCHLMM_INLINE PackMask<NV> operator OP(const Pack<NV>& a, const Pack<NV>& b) { \
    PackMask<NV> m;                                                                \
    for (int i = 0; i < NV; ++i) m.v[i] = a.v[i] OP b.v[i];                        \
    return m;                                                                      \
  }                                                                                \
  template <int NV>                                                                \
  BATCHLMM_INLINE PackMask<NV> operator OP(const Pack<NV>& a, double b) {          \
    return a OP Pack<NV>(b);                                                       \
  }
BATCHLMM_PACK_COMPARE(<)
BATCHLMM_PACK_COMPARE(<=)
BATCHLMM_PACK_COMPARE(>)
BATCHLMM_PACK_COMPARE(>=)
#undef BATCHLMM_PACK_COMPARE

template <int NV>
BATCHLMM_INLINE Pack<NV> operator-(Pack<NV> a) {
  for (int i = 0; i < NV; ++i) a.v[i] = -a.v[i];
  return a;
}
template <int NV>
BATCHLMM_INLINE PackMask<NV> operator!=(const PackInt<NV>& a, std::uint64_t b) {
  PackMask<NV> m;
  for (int i = 0; i < NV; ++i) m.v[i] = a.v[i] != (NativeInt{} + b);
  return m;
}
template <int NV>
BATCHLMM_INLINE PackInt<NV> operator<<(PackInt<NV> a, int s) {
  for (int i = 0; i < NV; ++i) a.v[i] = a.v[i] << s;
  return a;
}
template <int NV>
BATCHLMM_INLINE PackInt<NV> operator>>(PackInt<NV> a, int s) {
  for (int i = 0; i < NV; ++i) a.v[i] = a.v[i] >> s;
  return a;
}
// Masks use && || ! as a bool does (V = double); both sides are always evaluated.
template <int NV>
BATCHLMM_INLINE PackMask<NV> operator&&(PackMask<NV> a, const PackMask<NV>& b) {
  for (int i = 0; i < NV; ++i) a.v[i] = a.v[i] & b.v[i];
  return a;
}
template <int NV>
BATCHLMM_INLINE PackMask<NV> operator||(PackMask<NV> a, const PackMask<NV>& b) {
  for (int i = 0; i < NV; ++i) a.v[i] = a.v[i] | b.v[i];
  return a;
}
template <int NV>
BATCHLMM_INLINE PackMask<NV> operator!(PackMask<NV> a) {
  for (int i = 0; i < NV; ++i) a.v[i] = ~a.v[i];
  return a;
}

BATCHLMM_INLINE NativeReal native_fma(NativeReal a, NativeReal b, NativeReal c) {
#if defined(__AVX512F__)
  return (NativeReal)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__FMA__)
  return (NativeReal)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
  for (int i = 0; i < native_width; ++i) c[i] = __builtin_fma(a[i], b[i], c[i]);
  return c;
#endif
}
/// c - a b
BATCHLMM_INLINE NativeReal native_fnma(NativeReal a, NativeReal b, NativeReal c) {
#if defined(__AVX512F__)
  return (NativeReal)_mm512_fnmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__FMA__)
  return (NativeReal)_mm256_fnmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
  return native_fma(-a, b, c);
#endif
}
BATCHLMM_INLINE NativeReal native_sqrt(NativeReal a) {
#if defined(__AVX512F__)
  return (NativeReal)_mm512_sqrt_pd((__m512d)a);
#elif defined(__AVX2__)
  return (NativeReal)_mm256_sqrt_pd((__m256d)a);
#else
  for (int i = 0; i < native_width; ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
#endif
}
BATCHLMM_INLINE NativeInt native_multiply_low(NativeInt a, NativeInt b) {
#if defined(__AVX512F__)
  return (NativeInt)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (NativeInt)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
  return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

template <int NV>
BATCHLMM_INLINE Pack<NV> fma(const Pack<NV>& a, const Pack<NV>& b, Pack<NV> c) {
  for (int i = 0; i < NV; ++i) c.v[i] = native_fma(a.v[i], b.v[i], c.v[i]);
  return c;
}
template <int NV>
BATCHLMM_INLINE Pack<NV> fma(const Pack<NV>& a, double b, const Pack<NV>& c) {
  return fma(a, Pack<NV>(b), c);
}
template <int NV>
BATCHLMM_INLINE Pack<NV> fma(double a, const Pack<NV>& b, const Pack<NV>& c) {
  return fma(Pack<NV>(a), b, c);
}
template <int NV>
BATCHLMM_INLINE Pack<NV> fnma(const Pack<NV>& a, const Pack<NV>& b, Pack<NV> c) {
  for (int i = 0; i < NV; ++i) c.v[i] = native_fnma(a.v[i], b.v[i], c.v[i]);
  return c;
}
template <int NV>
BATCHLMM_INLINE Pack<NV> square_root(Pack<NV> a) {
  for (int i = 0; i < NV; ++i) a.v[i] = native_sqrt(a.v[i]);
  return a;
}
template <int NV>
BATCHLMM_INLINE Pack<NV> select(const PackMask<NV>& m, Pack<NV> a, const Pack<NV>& b) {
  for (int i = 0; i < NV; ++i) a.v[i] = m.v[i] ? a.v[i] : b.v[i];
  return a;
}
template <int NV>
BATCHLMM_INLINE PackInt<NV> select(const PackMask<NV>& m, PackInt<NV> a, const PackInt<NV>& b) {
  for (int i = 0; i < NV; ++i) a.v[i] = m.v[i] ? a.v[i] : b.v[i];
  return a;
}
template <int NV>
BATCHLMM_INLINE bool any(const PackMask<NV>& m) {
  NativeMask all = m.v[0];
  for (int i = 1; i < NV; ++i) all = all | m.v[i];
  std::int64_t r = 0;
  for (int i = 0; i < native_width; ++i) r |= all[i];
  return r != 0;
}
template <int NV>
BATCHLMM_INLINE bool lane(const PackMask<NV>& m, int l) {
  return m.v[l / native_width][l % native_width] != 0;
}
template <int NV>
BATCHLMM_INLINE double lane(const Pack<NV>& a, int l) {
  return a.v[l / native_width][l % native_width];
}
template <int NV>
BATCHLMM_INLINE void set_lane(Pack<NV>& a, int l, double x) {
  a.v[l / native_width][l % native_width] = x;
}
template <int NV>
BATCHLMM_INLINE void set_lane(PackInt<NV>& a, int l, std::uint64_t x) {
  a.v[l / native_width][l % native_width] = x;
}
template <int NV>
BATCHLMM_INLINE void set_lane(PackMask<NV>& a, int l, bool x) {
  a.v[l / native_width][l % native_width] = x ? -1 : 0;
}
template <int NV>
BATCHLMM_INLINE PackInt<NV> to_bits(const Pack<NV>& a) {
  PackInt<NV> b;
  for (int i = 0; i < NV; ++i) b.v[i] = (NativeInt)a.v[i];
  return b;
}
template <int NV>
BATCHLMM_INLINE Pack<NV> from_bits(const PackInt<NV>& b) {
  Pack<NV> a;
  for (int i = 0; i < NV; ++i) a.v[i] = (NativeReal)b.v[i];
  return a;
}
template <int NV>
BATCHLMM_INLINE PackInt<NV> multiply_low(PackInt<NV> a, const PackInt<NV>& b) {
  for (int i = 0; i < NV; ++i) a.v[i] = native_multiply_low(a.v[i], b.v[i]);
  return a;
}
template <int NV>
BATCHLMM_INLINE Pack<NV> to_double(const PackInt<NV>& a) {
  Pack<NV> r;
  // Below 2^53 a signed conversion is exact, and cheaper than an unsigned one.
  for (int i = 0; i < NV; ++i) r.v[i] = __builtin_convertvector((NativeMask)a.v[i], NativeReal);
  return r;
}
/// `a`, loaded once: GCC would take an array's entry from memory anew at each of a few uses, and loads are what limits
/// sums of products.
template <int NV>
BATCHLMM_INLINE Pack<NV> in_register(Pack<NV> a) {
  for (int i = 0; i < NV; ++i) {
#if defined(__AVX512F__)
    asm("" : "+v"(a.v[i]));  // NOLINT(hicpp-no-assembler): no instruction
#else
    asm("" : "+x"(a.v[i]));  // NOLINT(hicpp-no-assembler)
#endif
  }
  return a;
}
#endif  // !__CUDACC__

// ---------------------------------------------------------------- for every V
template <class V>
using MaskOf = typename Lanes<V>::Mask;
template <class V>
using IntOf = typename Lanes<V>::Int;

/// c - a b, in one rounding.
BATCHLMM_INLINE double fnma(double a, double b, double c) { return fma(-a, b, c); }
template <class V>
BATCHLMM_INLINE V maximum(const V& a, const V& b) {
  return select(a > b, a, b);
}
template <class V>
BATCHLMM_INLINE V minimum(const V& a, const V& b) {
  return select(a < b, a, b);
}
template <class V>
BATCHLMM_INLINE V absolute(const V& a) {
  return select(a < V(0.0), -a, a);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
