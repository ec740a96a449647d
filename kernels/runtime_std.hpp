/// @file
/// What the kernel text takes from the standard library, for the compiler at run time, which has none.
#pragma once

namespace std {

using size_t = decltype(sizeof(0));
using ptrdiff_t = long;
using int16_t = short;
using int64_t = long;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long;

__device__ inline void* memcpy(void* to, const void* from, size_t n) { return ::memcpy(to, from, n); }

template <class T>
struct numeric_limits;
template <>
struct numeric_limits<double> {
  __device__ static double infinity() { return __longlong_as_double(0x7FF0000000000000LL); }
  __device__ static double quiet_NaN() { return __longlong_as_double(0x7FF8000000000000LL); }
};

template <class A, class B>
inline constexpr bool is_same_v = false;
template <class A>
inline constexpr bool is_same_v<A, A> = true;

}  // namespace std
