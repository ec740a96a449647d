// Queues for large models of a build without CUDA.
#include "kernels/cuda.hpp"
#include "kernels/cuda_large.hpp"

namespace batchlmm::kernels {
namespace {

[[noreturn]] void unavailable() { throw BackendUnavailable("the cuda backend cannot be used: " + cuda_status().why); }

}  // namespace

int cuda_large_devices() { unavailable(); }
std::unique_ptr<LargeDevice> make_cuda_large_device(int) { unavailable(); }

}  // namespace batchlmm::kernels
