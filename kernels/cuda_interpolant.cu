// The kernels of the shared factorization (one_lane_interpolant.hpp), and its entry points.
#include "kernels/cuda.hpp"
#include "kernels/cuda_check.hpp"
#include "kernels/cuda_fit_kernel.hpp"
#include "kernels/cuda_launch.hpp"
#include "kernels/cuda_pool.hpp"
#include "kernels/device_interpolant.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

template <int Level>
__global__ void __launch_bounds__(cuda_block_threads) tabulate_kernel(const __grid_constant__ TabulateArguments a) {
  const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread < a.threads) tabulate_one_lane<Level>(a, thread);
}

// Two blocks a multiprocessor, so that the registers hold all of a step.
template <int Levels>
__global__ void __launch_bounds__(cuda_block_threads, 2)
    fit_interpolant_kernel(const __grid_constant__ InterpolantFitArguments a) {
  const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread < a.threads) fit_interpolant_one_lane<Levels>(a, thread);
}

}  // namespace

void launch(const CudaQueue& queue, const TabulateArguments& a) {
  with_levels(a.level + 1, [&](auto levels) {
    tabulate_kernel<decltype(levels)::value - 1><<<cuda_blocks(a.threads), cuda_block_threads, 0, queue.stream>>>(a);
  });
  check(cudaGetLastError(), "launch of tabulate_kernel");
}

void launch(const CudaQueue& queue, const InterpolantFitArguments& a) {
  with_levels(a.table.levels, [&](auto levels) {
    fit_interpolant_kernel<decltype(levels)::value><<<cuda_blocks(a.threads), cuda_block_threads, 0, queue.stream>>>(a);
  });
  check(cudaGetLastError(), "launch of fit_interpolant_kernel");
}

std::size_t resident_workers(const TabulateFamily&) { return cuda_resident_threads(tabulate_kernel<0>); }

std::size_t resident_workers(const InterpolantFamily& family) {
  return with_levels(family.levels, [](auto levels) {
    return cuda_resident_threads(fit_interpolant_kernel<decltype(levels)::value>);
  });
}

}  // namespace BATCHLMM_ISA

void cuda_interpolate(const InterpolantJob& job, bool parameters, std::uint8_t* refused, BootstrapChunk& chunk) {
  with_cuda_device([&](CudaDevice& device) { run_interpolants(device, job, parameters, refused, chunk); });
}

StatisticCounts cuda_summarize(const InterpolantJob& job, std::uint64_t first, std::uint64_t count, double observed,
                               bool refit, std::uint8_t* refused) {
  return with_cuda_device(
      [&](CudaDevice& device) { return run_interpolant_summary(device, job, first, count, observed, refit, refused); });
}

std::uint64_t cuda_interpolant_chunk_length(const InterpolantJob& job) {
  return with_cuda_device([&](CudaDevice& device) { return interpolant_chunk_items(device, job); });
}

}  // namespace batchlmm::kernels
