/// @file
/// The teams of a CUDA device's threads (team.hpp), and the kernels that fit by them as the host calls them. Internal
/// to kernels/*.cu.
#pragma once

#include "kernels/cuda_launch.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// T neighbouring threads of a warp.
template <int T>
struct WarpTeam {
  static constexpr bool alone = false;
  static constexpr int members = T, block_threads = 32, blocks = 4;
  __device__ static int rank() { return static_cast<int>(threadIdx.x) % T; }
  BATCHLMM_INLINE static constexpr int size() { return T; }
  __device__ static unsigned mask() {
    if constexpr (T == 32)
      return 0xffffffffu;
    else
      return ((1u << T) - 1u) << (threadIdx.x % 32 / T * T);
  }
  __device__ static void sync() { __syncwarp(mask()); }
  template <class X>
  __device__ static X from_first(X x) {
    unsigned long long bits = 0;
    memcpy(&bits, &x, sizeof x);
    bits = __shfl_sync(mask(), bits, 0, T);
    memcpy(&x, &bits, sizeof x);
    return x;
  }
};

/// All threads of a block.
template <int T>
struct BlockTeam {
  static constexpr bool alone = false;
  static constexpr int members = T, block_threads = T, blocks = 2;
  __device__ static int rank() { return static_cast<int>(threadIdx.x); }
  BATCHLMM_INLINE static constexpr int size() { return T; }
  __device__ static void sync() { __syncthreads(); }
  template <class X>
  __device__ static X from_first(X x) {
    __shared__ unsigned long long bits;
    __syncthreads();
    if (threadIdx.x == 0) memcpy(&bits, &x, sizeof x);
    __syncthreads();
    memcpy(&x, &bits, sizeof x);
    return x;
  }
};

/// As FitKernel, for shapes with the text StreamingText<LK>.
template <class Team, int LK>
struct TeamKernel {
  static void launch(const CudaQueue& queue, const FitArguments& a);
  static std::size_t resident_teams(const FitFamily& family);
};

/// The teams of the mappings (mapping.hpp).
using LanesTeam = WarpTeam<8>;
using WholeWarpTeam = WarpTeam<32>;
using WholeBlockTeam = BlockTeam<128>;

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
