/// @file
/// The kernels of the CUDA backend, as the host calls them: for every family of kernels one function that launches it
/// and one that says how many of its workers a device runs at a time. Internal to kernels/*.cu: each of these files
/// stands alone and holds some of the kernels.
///
/// A family is a structure of arguments with a plain text for one worker (one_lane.hpp). A new one is added by
///   1. the structure, the text and a `...Family` in a header that the tests run on the CPU (tests/host_device.hpp gets
///      a `launch` of the structure);
///   2. `launch` and `resident_workers` for it here, and a .cu file with the kernel and both of them.
/// CudaDevice (cuda_device.hpp) then has it: its launch() and resident_workers() are templates over what stands here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/one_lane.hpp"
#include "kernels/one_lane_interpolant.hpp"
#include "kernels/one_lane_strata.hpp"
#include "kernels/statistic.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Where a launch goes: the stream, and a counter in device memory that is 0 when the kernel starts.
struct CudaQueue {
  cudaStream_t stream = nullptr;
  unsigned long long* next = nullptr;
};

/// Threads of a block where a worker is a thread.
inline constexpr unsigned cuda_block_threads = 128;

/// Blocks that hold so many workers of one thread.
inline unsigned cuda_blocks(std::size_t workers) {
  return static_cast<unsigned>((workers + cuda_block_threads - 1) / cuda_block_threads);
}

/// draw_one_lane on a.threads threads. Like all launches: it returns at once; @throws DeviceError
void launch(const CudaQueue& queue, const DrawArguments& a);
/// fit_one_lane of the shape's text on a.threads threads.
void launch(const CudaQueue& queue, const FitArguments& a);
/// The code that was made for the model (a.trip), on as many threads as the device runs at a time.
/// @return false where there is no compiler at run time or too little on-chip memory: the text serves as well
bool launch_traced(const CudaQueue& queue, const FitArguments& a);
bool launch_traced(const CudaQueue& queue, const StrataFitArguments& a);
/// fit_by_team on a.threads teams of a.mapping.
void launch_teams(const CudaQueue& queue, const FitArguments& a);
std::size_t resident_teams(const FitFamily& family);
/// Statistics (device_statistics.hpp); these two return when they are done.
void launch(const CudaQueue& queue, const StatisticArguments& a);
void launch(const CudaQueue& queue, const DistributionArguments& a);
/// Threads or teams of a fit that all multiprocessors of the current device run at a time.
std::size_t resident_workers(const FitFamily& family);

/// draw_strata_one_lane on a.threads threads.
void launch(const CudaQueue& queue, const StrataDrawArguments& a);
/// fit_strata_one_lane on a.fit.threads threads.
void launch(const CudaQueue& queue, const StrataFitArguments& a);
std::size_t resident_workers(const StrataFamily& family);
/// tabulate_one_lane of a.level, fit_interpolant_one_lane of a.table.levels, on a.threads threads.
void launch(const CudaQueue& queue, const TabulateArguments& a);
void launch(const CudaQueue& queue, const InterpolantFitArguments& a);
std::size_t resident_workers(const TabulateFamily& family);
std::size_t resident_workers(const InterpolantFamily& family);

/// The kernel of one text; each is compiled in one .cu file (cuda_fit_kernel.hpp).
template <class Text>
struct FitKernel {
  static void launch(const CudaQueue& queue, const FitArguments& a);
  static std::size_t resident_workers();
  static cudaError_t attributes(cudaFuncAttributes* to);
};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
