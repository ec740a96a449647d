/// @file
/// What batchlmm can run on here: the processor, and the CUDA devices that the driver shows.
#pragma once

#include <string>
#include <vector>

#include "kernels/cuda.hpp"
#include "kernels/cuda_library_status.hpp"

namespace batchlmm {

struct Devices {
  int threads = 0;                            ///< of the processor
  std::string instruction_set;                ///< that the kernels take: "baseline", "avx2", "avx512"
  int lanes = 0;                              ///< replicates side by side in the widest tile
  std::vector<std::string> instruction_sets;  ///< all that this program and processor have
  kernels::CudaInventory cuda;
  kernels::CudaStatus status;
  std::vector<kernels::CudaLibraryStatus> libraries;  ///< of the CUDA toolkit, where the build has CUDA
};

/// Asks the driver, and makes a context on every device that can be used.
Devices find_devices();

/// A few lines for people.
std::string devices_text(const Devices& devices);
/// The same facts as one JSON object, closed by a newline.
std::string devices_json(const Devices& devices);

}  // namespace batchlmm
