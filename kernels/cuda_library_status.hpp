/// @file
/// Which of the CUDA toolkit's libraries can be used here. kernels/cuda_libraries.cpp implements it; a build without
/// CUDA links kernels/no_cuda_libraries.cpp instead.
#pragma once

#include <string>
#include <vector>

namespace batchlmm::kernels {

struct CudaLibraryStatus {
  std::string name;     ///< "libcublas.so.13"
  bool usable = false;  ///< found, with all functions that are used
  std::string why;      ///< why not (one line)
  std::string file;     ///< what the loader was given
};
/// Opens all of them (a second); no device is needed for that. None in a build without CUDA.
std::vector<CudaLibraryStatus> cuda_libraries();

}  // namespace batchlmm::kernels
