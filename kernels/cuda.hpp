/// @file
/// The CUDA backend, as the host sees it. kernels/cuda.cu implements it; a build without CUDA links kernels/no_cuda.cpp
/// instead.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/interpolant_job.hpp"
#include "kernels/jobs.hpp"

namespace batchlmm::kernels {

/// Whether a device can be used here; if not, `why` says why (one line).
struct CudaStatus {
  bool usable = false;
  std::string why;
  std::string device;  ///< name of the device that will be used, and how many more there are
};
CudaStatus cuda_status();

/// Places of work over all usable devices: so many calls of the functions below run at a time, on whatever device is
/// free. More wait for their turn. @throws BackendUnavailable
int cuda_slots();

/// One lane a thread. Throws BackendUnavailable without a usable device, DeviceError with the call that failed,
/// DeviceLost where the device is of no more use.
void cuda_fit(const FitJob& job);
void cuda_bootstrap(const BootstrapJob& job, BootstrapChunk& chunk);
/// Draws a chunk's replicates and fits them on interpolants.
/// @param parameters  beta and r^2 are wanted too
/// @param refused     chunk.count: 1 where the interpolant does not serve and the results are void
void cuda_interpolate(const InterpolantJob& job, bool parameters, std::uint8_t* refused, BootstrapChunk& chunk);
/// Replicates that one call should hold to fill the device within a share of its free memory.
std::uint64_t cuda_chunk_length(const BootstrapJob& job);
std::uint64_t cuda_interpolant_chunk_length(const InterpolantJob& job);

}  // namespace batchlmm::kernels
