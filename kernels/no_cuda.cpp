// The CUDA backend of a build without CUDA.
#include "batchlmm/error.hpp"
#include "kernels/cuda.hpp"

namespace batchlmm::kernels {
namespace {

[[noreturn]] void unavailable() { throw BackendUnavailable("the cuda backend cannot be used: " + cuda_status().why); }

}  // namespace

CudaStatus cuda_status() { return {false, "this build has no CUDA backend", ""}; }
int cuda_slots() { unavailable(); }
void cuda_fit(const FitJob&) { unavailable(); }
void cuda_bootstrap(const BootstrapJob&, BootstrapChunk&) { unavailable(); }
void cuda_interpolate(const InterpolantJob&, bool, std::uint8_t*, BootstrapChunk&) { unavailable(); }
std::uint64_t cuda_chunk_length(const BootstrapJob&) { unavailable(); }
std::uint64_t cuda_interpolant_chunk_length(const InterpolantJob&) { unavailable(); }

}  // namespace batchlmm::kernels
