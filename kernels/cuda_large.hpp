/// @file
/// Queues on CUDA devices for models with a large Schur complement. kernels/cuda_large.cu implements them; a build
/// without CUDA links kernels/no_cuda_large.cpp instead.
#pragma once

#include <memory>

#include "kernels/large_device.hpp"

namespace batchlmm::kernels {

/// Usable devices, at least one. @throws BackendUnavailable without one, or where the toolkit's libraries are missing
int cuda_large_devices();

/// A queue of its own on one of them: a stream, and handles and workspaces of cuBLAS and cuSOLVER.
/// @param which  0 .. cuda_large_devices() - 1
/// @throws BackendUnavailable, DeviceMemoryError, DeviceError
std::unique_ptr<LargeDevice> make_cuda_large_device(int which);

}  // namespace batchlmm::kernels
