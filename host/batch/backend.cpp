#include "host/batch/backend.hpp"

#include <algorithm>
#include <thread>

#include "batchlmm/error.hpp"
#include "kernels/cuda.hpp"

namespace batchlmm {
namespace {

/// Below this many replicates the CPU is done before a device has started.
constexpr std::uint64_t few_items = 20'000;

}  // namespace

Backend choose_backend(BackendChoice choice, std::uint64_t items) {
  if (choice == BackendChoice::cpu || (choice == BackendChoice::automatic && items < few_items)) return {};
  const kernels::CudaStatus status = kernels::cuda_status();
  if (choice == BackendChoice::cuda && !status.usable)
    throw BackendUnavailable("the cuda backend cannot be used: " + status.why);
  return {status.usable};
}

int thread_count(int threads) {
  if (threads > 0) return threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace batchlmm
