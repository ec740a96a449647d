/// @file
/// Kernels that are compiled where they run, by NVRTC: code for one model's own structure (traced_fit.hpp). What has
/// been compiled is kept on disk. A build without CUDA has
/// no_cuda_runtime_compiler.cpp instead.
#pragma once

#include <string>
#include <vector>

namespace batchlmm::kernels {

/// A source file's machine code.
struct RuntimeCode {
  std::vector<char> cubin;
  std::string log;  ///< what the compiler said of registers and spills; empty where it was on disk
  bool from_disk = false;
};

/// Compiles a CUDA source that includes headers of kernels/. Any thread may call; no device is needed.
/// @param compute_capability  10 major + minor of the device: 90
/// @throws BackendUnavailable where NVRTC cannot be opened or the build has no CUDA, ComputationError with the
/// compiler's first error
RuntimeCode compile_at_run_time(const std::string& source, int compute_capability);

/// NVRTC's shared object, "libnvrtc.so.13".
std::string runtime_compiler_name();
/// Where it was found. @throws BackendUnavailable as compile_at_run_time
std::string runtime_compiler_file();

/// Where compiled kernels are kept: BATCHLMM_CACHE, or batchlmm in XDG_CACHE_HOME or ~/.cache; empty (BATCHLMM_CACHE is
/// empty, or none of them is set): nowhere.
std::string runtime_code_folder();

}  // namespace batchlmm::kernels
