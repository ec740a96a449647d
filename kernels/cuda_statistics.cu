// Counting, sorting and quantiles of replicates on a device, by Thrust.
#include <thrust/execution_policy.h>
#include <thrust/system/cuda/error.h>
#include <thrust/system_error.h>

#include "kernels/cuda_check.hpp"
#include "kernels/cuda_launch.hpp"
#include "kernels/device_statistics.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

/// Thrust's temporary memory: from the job's scratch, so that nothing is allocated while kernels run; what does not fit
/// is.
class Scratch {
public:
  using value_type = char;
  Scratch(std::byte* base, std::size_t bytes) : base_(reinterpret_cast<char*>(base)), bytes_(bytes) {}
  char* allocate(std::ptrdiff_t n) {
    constexpr std::size_t alignment = 256;
    const std::size_t size = (static_cast<std::size_t>(n) + alignment - 1) / alignment * alignment;
    if (size <= bytes_ - used_) {
      char* at = base_ + used_;
      used_ += size;
      return at;
    }
    void* at = nullptr;
    check(cudaMalloc(&at, size), "cudaMalloc");
    return static_cast<char*>(at);
  }
  void deallocate(char* at, std::size_t) {
    if (at < base_ || at >= base_ + bytes_) (void)cudaFree(at);
  }

private:
  char* base_;
  std::size_t bytes_, used_ = 0;
};

/// Calls f(policy) and waits for the stream.
template <class F>
void with_policy(const CudaQueue& queue, std::byte* scratch, std::size_t bytes, const char* what, const F& f) {
  Scratch memory(scratch, bytes);
  try {
    f(thrust::cuda::par(memory).on(queue.stream));
  } catch (const thrust::system_error& error) {
    if (error.code().category() == thrust::cuda_category()) check(static_cast<cudaError_t>(error.code().value()), what);
    throw ComputationError(std::string(what) + " failed: " + error.what());
  }
  check(cudaStreamSynchronize(queue.stream), what);
}

}  // namespace

void launch(const CudaQueue& queue, const StatisticArguments& a) {
  with_policy(queue, a.scratch, statistic_scratch_bytes, StatisticArguments::kernel,
              [&](const auto& policy) { add(*a.counts, count_replicates(policy, a)); });
}

void launch(const CudaQueue& queue, const DistributionArguments& a) {
  with_policy(queue, a.scratch, a.scratch_bytes, DistributionArguments::kernel,
              [&](const auto& policy) { distribution(policy, a); });
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
