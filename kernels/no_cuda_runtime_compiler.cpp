// The compiler at run time, in a build without CUDA.
#include "batchlmm/error.hpp"
#include "kernels/cuda_runtime_compiler.hpp"

namespace batchlmm::kernels {

RuntimeCode compile_at_run_time(const std::string&, int) {
  throw BackendUnavailable("the cuda backend cannot be used: this build has no CUDA backend");
}
std::string runtime_compiler_name() { return {}; }
std::string runtime_compiler_file() {
  throw BackendUnavailable("the cuda backend cannot be used: this build has no CUDA backend");
}
std::string runtime_code_folder() { return {}; }

}  // namespace batchlmm::kernels
