// The streaming tier's kernels: draws, and which text's kernel (cuda_fit_*.cu) fits a shape. Threads live for a whole
// launch and take the next item from a counter, so that none waits for the slowest; their arrays lie element by element
// in global memory, threads side by side.
#include "kernels/cuda_check.hpp"
#include "kernels/cuda_launch.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

__global__ void __launch_bounds__(cuda_block_threads) draw_kernel(const __grid_constant__ DrawArguments a) {
  const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread < a.threads) draw_one_lane(a, thread);
}

}  // namespace

void launch(const CudaQueue& queue, const DrawArguments& a) {
  draw_kernel<<<cuda_blocks(a.threads), cuda_block_threads, 0, queue.stream>>>(a);
  check(cudaGetLastError(), "launch of draw_kernel");
}

void launch(const CudaQueue& queue, const FitArguments& a) {
  if (a.trip != nullptr && launch_traced(queue, a)) return;
  if (a.mapping != Mapping::thread) {
    launch_teams(queue, a);
    return;
  }
  with_text(text_kind(a.shape), [&](auto text) { FitKernel<decltype(text)>::launch(queue, a); });
}

std::size_t resident_workers(const FitFamily& family) {
  if (family.mapping != Mapping::thread) return resident_teams(family);
  return with_text(family.text, [](auto text) { return FitKernel<decltype(text)>::resident_workers(); });
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
