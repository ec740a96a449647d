// The ceiling of CUDA devices, in a build without CUDA.
#include "batchlmm/error.hpp"
#include "kernels/cuda.hpp"
#include "kernels/cuda_ceiling.hpp"

namespace batchlmm::kernels {

CudaCeiling measure_cuda_ceiling() {
  throw BackendUnavailable("the cuda backend cannot be used: " + cuda_status().why);
}

}  // namespace batchlmm::kernels
