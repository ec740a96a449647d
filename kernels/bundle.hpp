/// @file
/// A bundle of replicates, one after the other in memory, that a thread of a device works on together: each entry of a
/// table that it loads then serves all of them. The device's counterpart of a Pack, without vector types.
#pragma once

#include "kernels/workspace.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Aligned for the device's widest loads.
template <int N>
struct alignas(16) Bundle {
  double v[N];
  Bundle() = default;
  BATCHLMM_INLINE Bundle(double x) {  // NOLINT: broadcast
    for (int i = 0; i < N; ++i) v[i] = x;
  }
};

template <int N>
struct Lanes<Bundle<N>> {
  static constexpr int width = N;
};

template <int N>
BATCHLMM_INLINE Bundle<N> operator-(Bundle<N> a, const Bundle<N>& b) {
  for (int i = 0; i < N; ++i) a.v[i] = a.v[i] - b.v[i];
  return a;
}
template <int N>
BATCHLMM_INLINE Bundle<N> operator*(Bundle<N> a, const Bundle<N>& b) {
  for (int i = 0; i < N; ++i) a.v[i] = a.v[i] * b.v[i];
  return a;
}
template <int N>
BATCHLMM_INLINE Bundle<N> fma(const Bundle<N>& a, const Bundle<N>& b, Bundle<N> c) {
  for (int i = 0; i < N; ++i) c.v[i] = fma(a.v[i], b.v[i], c.v[i]);
  return c;
}
/// c - a b
template <int N>
BATCHLMM_INLINE Bundle<N> fnma(const Bundle<N>& a, const Bundle<N>& b, Bundle<N> c) {
  for (int i = 0; i < N; ++i) c.v[i] = fnma(a.v[i], b.v[i], c.v[i]);
  return c;
}

/// Array of bundles inside memory that `stride` bundles share: element after element, bundles side by side.
template <int N>
struct StridedBundles {
  Bundle<N>* data = nullptr;
  std::size_t stride = 1;
  BATCHLMM_INLINE Bundle<N>& operator[](std::size_t i) const { return data[i * stride]; }
  BATCHLMM_INLINE StridedBundles operator+(std::size_t i) const { return {data + i * stride, stride}; }
};
/// The array of bundle `bundle` where each element's doubles stand side by side, N for each of `stride` bundles.
template <int N>
BATCHLMM_INLINE StridedBundles<N> strided_bundles(double* doubles, std::size_t bundle, std::size_t stride) {
  return {reinterpret_cast<Bundle<N>*>(doubles) + bundle, stride};
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
