/// @file
/// The kernel that fits by one text. Included by the .cu files that compile it, each for texts of its own:
///     template struct FitKernel<StreamingText<0>>;
#pragma once

#include "kernels/cuda_check.hpp"
#include "kernels/cuda_launch.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Hands out the items, one by one, to all threads.
struct NextItem {
  unsigned long long* next;
  std::uint64_t items;
  __device__ bool operator()(std::uint64_t& item) const {
    item = atomicAdd(next, 1ULL);
    return item < items;
  }
};

/// Threads of a kernel that all multiprocessors of the current device run at a time, in blocks of cuda_block_threads.
template <class Kernel>
std::size_t cuda_resident_threads(Kernel kernel) {
  int device = 0, multiprocessors = 0, blocks = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, cuda_block_threads, 0),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return static_cast<std::size_t>(multiprocessors) * std::max(blocks, 1) * cuda_block_threads;
}

template <class Text>
__global__ void __launch_bounds__(cuda_block_threads)
    fit_kernel(const __grid_constant__ FitArguments a, unsigned long long* next) {
  const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread < a.threads) fit_one_lane<Text>(a, thread, NextItem{next, a.job.items});
}

template <class Text>
void FitKernel<Text>::launch(const CudaQueue& queue, const FitArguments& a) {
  fit_kernel<Text><<<cuda_blocks(a.threads), cuda_block_threads, 0, queue.stream>>>(a, queue.next);
  check(cudaGetLastError(), "launch of fit_kernel");
}

template <class Text>
std::size_t FitKernel<Text>::resident_workers() {
  return cuda_resident_threads(fit_kernel<Text>);
}

template <class Text>
cudaError_t FitKernel<Text>::attributes(cudaFuncAttributes* to) {
  return cudaFuncGetAttributes(to, fit_kernel<Text>);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
