// The toolkit's libraries of a build without CUDA.
#include "kernels/cuda_library_status.hpp"

namespace batchlmm::kernels {

std::vector<CudaLibraryStatus> cuda_libraries() { return {}; }

}  // namespace batchlmm::kernels
