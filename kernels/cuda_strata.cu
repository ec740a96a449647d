// Tier 1's kernels: draws and fits on strata, one replicate a thread, as the streaming tier's.
#include "kernels/cuda_check.hpp"
#include "kernels/cuda_fit_kernel.hpp"
#include "kernels/cuda_launch.hpp"
#include "kernels/cuda_pool.hpp"
#include "kernels/cuda_strata.hpp"
#include "kernels/device_strata.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

__global__ void __launch_bounds__(cuda_block_threads)
    draw_strata_kernel(const __grid_constant__ StrataDrawArguments a) {
  const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread < a.threads) draw_strata_one_lane(a, thread);
}

__global__ void __launch_bounds__(cuda_block_threads)
    fit_strata_kernel(const __grid_constant__ StrataFitArguments a, unsigned long long* next) {
  const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread < a.fit.threads) fit_strata_one_lane(a, thread, NextItem{next, a.fit.job.items});
}

}  // namespace

void launch(const CudaQueue& queue, const StrataDrawArguments& a) {
  draw_strata_kernel<<<cuda_blocks(a.threads), cuda_block_threads, 0, queue.stream>>>(a);
  check(cudaGetLastError(), "launch of draw_strata_kernel");
}

void launch(const CudaQueue& queue, const StrataFitArguments& a) {
  if (a.fit.trip != nullptr && launch_traced(queue, a)) return;
  fit_strata_kernel<<<cuda_blocks(a.fit.threads), cuda_block_threads, 0, queue.stream>>>(a, queue.next);
  check(cudaGetLastError(), "launch of fit_strata_kernel");
}

std::size_t resident_workers(const StrataFamily& /*family*/) { return cuda_resident_threads(fit_strata_kernel); }

}  // namespace BATCHLMM_ISA

void cuda_strata_bootstrap(const StrataJob& job, BootstrapChunk& chunk) {
  with_cuda_device(
      [&](CudaDevice& device) { run_replicates(device, StrataWork(job, chunk.full.status == nullptr), chunk); });
}

StatisticCounts cuda_strata_summarize(const StrataJob& job, std::uint64_t first, std::uint64_t count, double observed,
                                      bool refit) {
  return with_cuda_device(
      [&](CudaDevice& device) { return run_summary(device, StrataWork(job, refit), first, count, observed, refit); });
}

std::uint64_t cuda_strata_chunk_length(const StrataJob& job, bool refit) {
  return with_cuda_device([&](CudaDevice& device) { return chunk_items(device, StrataWork(job, refit)); });
}

}  // namespace batchlmm::kernels
