// The CUDA backend of a build without CUDA.
#include "batchlmm/error.hpp"
#include "kernels/cuda.hpp"

namespace batchlmm::kernels {
namespace {

[[noreturn]] void unavailable() { throw BackendUnavailable("the cuda backend cannot be used: " + cuda_status().why); }

}  // namespace

CudaStatus cuda_status() { return {false, "this build has no CUDA backend", ""}; }
CudaInventory cuda_inventory() {
  CudaInventory inventory;
  inventory.why = cuda_status().why;
  return inventory;
}
int cuda_slots() { unavailable(); }
void cuda_fit(const FitJob&) { unavailable(); }
void cuda_bootstrap(const BootstrapJob&, BootstrapChunk&) { unavailable(); }
void cuda_interpolate(const InterpolantJob&, bool, std::uint8_t*, BootstrapChunk&) { unavailable(); }
std::uint64_t cuda_interpolant_chunk_length(const InterpolantJob&) { unavailable(); }
StatisticCounts cuda_summarize(const InterpolantJob&, std::uint64_t, std::uint64_t, double, bool, std::uint8_t*) {
  unavailable();
}
StatisticCounts cuda_summarize(const BootstrapJob&, std::uint64_t, std::uint64_t, double, bool) { unavailable(); }
std::uint64_t cuda_chunk_length(const BootstrapJob&) { unavailable(); }
Distribution cuda_distribution(std::span<const double>, std::span<const std::uint8_t>, double, std::span<const double>,
                               std::span<const double>) {
  unavailable();
}

}  // namespace batchlmm::kernels
