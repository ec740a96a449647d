/// @file
/// The CUDA backend, as the host sees it. kernels/cuda.cu implements it; a build without CUDA links kernels/no_cuda.cpp
/// instead.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/interpolant_job.hpp"
#include "kernels/statistic.hpp"

namespace batchlmm::kernels {

/// Whether a device can be used here; if not, `why` says why (one line).
struct CudaStatus {
  bool usable = false;
  std::string why;
  std::string device;  ///< name of the device that will be used, and how many more there are
};
CudaStatus cuda_status();

/// A device that the driver shows.
struct CudaDeviceInfo {
  int number = 0;
  std::string name;
  int major = 0, minor = 0;  ///< compute capability
  int multiprocessors = 0;
  std::uint64_t total_bytes = 0, free_bytes = 0;  ///< of memory; 0: not known
  bool usable = false;
  std::string why;  ///< why it is not usable (one line)
};
struct CudaInventory {
  std::string why;              ///< why there is no device at all (one line); empty: there are some
  std::string driver, runtime;  ///< versions ("13.0"), where they are known
  std::vector<CudaDeviceInfo> devices;
};
CudaInventory cuda_inventory();

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
/// The counts over replicates first .. first + count - 1, whose results stay on the device.
/// @param observed  the statistic that a replicate is compared with
/// @param refit     the null model alone is fitted
StatisticCounts cuda_summarize(const BootstrapJob& job, std::uint64_t first, std::uint64_t count, double observed,
                               bool refit);
/// The same of fits on interpolants, over those that are not refused.
StatisticCounts cuda_summarize(const InterpolantJob& job, std::uint64_t first, std::uint64_t count, double observed,
                               bool refit, std::uint8_t* refused);
/// Replicates that one call should hold to fill the device within a share of its free memory.
std::uint64_t cuda_chunk_length(const BootstrapJob& job);
std::uint64_t cuda_interpolant_chunk_length(const InterpolantJob& job);

/// Sorts and counts values of replicates, such as a bootstrap's statistics, on a device.
/// @param values         n, those of used replicates not NaN
/// @param status         n
/// @param probabilities  in [0, 1]
/// @param edges          ascending; none or at least two
Distribution cuda_distribution(std::span<const double> values, std::span<const std::uint8_t> status, double observed,
                               std::span<const double> probabilities, std::span<const double> edges);

}  // namespace batchlmm::kernels
