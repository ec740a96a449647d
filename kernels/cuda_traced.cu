// Launches of code that was made for one model (traced_fit.hpp): compiled at its first launch, then kept.
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "kernels/cuda_check.hpp"
#include "kernels/cuda_launch.hpp"
#include "kernels/cuda_runtime_compiler.hpp"
#include "kernels/traced_fit.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

/// A kernel on the current device.
struct TracedKernel {
  cudaKernel_t kernel = nullptr;
  int threads = 0;           ///< of a block
  std::size_t on_chip = 0;   ///< bytes of a block
  std::size_t resident = 0;  ///< threads that run at a time
};

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

TracedKernel make_kernel(const TracedTrip& trip, int device) {
  TracedKernel made;
  made.threads =
      traced_block_threads(trip, static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device)));
  if (made.threads == 0) return made;
  made.on_chip = traced_block_bytes(trip, made.threads);
  const int capability =
      10 * attribute(cudaDevAttrComputeCapabilityMajor, device) + attribute(cudaDevAttrComputeCapabilityMinor, device);
  const RuntimeCode code = compile_at_run_time(traced_fit_source(trip, made.threads), capability);
  cudaLibrary_t library = nullptr;
  check(cudaLibraryLoadData(&library, code.cubin.data(), nullptr, nullptr, 0, nullptr, nullptr, 0),
        "cudaLibraryLoadData");
  check(cudaLibraryGetKernel(&made.kernel, library, "fit"), "cudaLibraryGetKernel");
  const void* function = reinterpret_cast<const void*>(made.kernel);
  check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(made.on_chip)),
        "cudaFuncSetAttribute");
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, made.threads, made.on_chip),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  made.resident = static_cast<std::size_t>(attribute(cudaDevAttrMultiProcessorCount, device)) *
                  static_cast<std::size_t>(blocks > 0 ? blocks : 1) * static_cast<std::size_t>(made.threads);
  return made;
}

/// The kernel of a trip on the current device; made once a process and device. Without a compiler at run time: none.
TracedKernel kernel_of(const TracedTrip& trip) {
  static std::mutex mutex;
  // By all that the source is made of; kept loaded to the end of the program.
  static std::map<std::tuple<int, std::string, int, int, bool>, TracedKernel> kernels;
  static bool compiler = true;
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard lock(mutex);
  if (!compiler) return {};
  const auto key = std::make_tuple(device, trip.source, trip.response, trip.scratch, trip.strata);
  const auto found = kernels.find(key);
  if (found != kernels.end()) return found->second;
  try {
    return kernels.emplace(key, make_kernel(trip, device)).first->second;
  } catch (const BackendUnavailable&) {
    compiler = false;
    return {};
  }
}

/// @param fit  the part of `a` that all fits have
template <class Arguments>
bool launch_kernel(const CudaQueue& queue, Arguments& a, FitArguments& fit) {
  const TracedTrip& trip = *fit.trip;
  const TracedKernel kernel = kernel_of(trip);
  if (kernel.kernel == nullptr) return false;
  fit.threads = std::min<std::size_t>(kernel.resident, fit.job.items);
  fit.memory = nullptr;
  const unsigned blocks = static_cast<unsigned>((fit.threads + kernel.threads - 1) / kernel.threads);
  // The kernel's own copy of the constants: one of at least one number.
  double none = 0;
  const double* constants = trip.constants.empty() ? &none : trip.constants.data();
  unsigned long long* next = queue.next;
  void* arguments[] = {&a, const_cast<double*>(constants), &next};
  check(cudaLaunchKernel(reinterpret_cast<const void*>(kernel.kernel), dim3(blocks),
                         dim3(static_cast<unsigned>(kernel.threads)), arguments, kernel.on_chip, queue.stream),
        "launch of a kernel made for the model");
  return true;
}

}  // namespace

bool launch_traced(const CudaQueue& queue, const FitArguments& a) {
  FitArguments own = a;
  return launch_kernel(queue, own, own);
}
bool launch_traced(const CudaQueue& queue, const StrataFitArguments& a) {
  StrataFitArguments own = a;
  return launch_kernel(queue, own, own.fit);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
