// The CUDA backend's entry points: which devices can be used, and jobs on the places of work that they have
// (cuda_device.hpp). The kernels are in the other .cu files.
#include <string>

#include "kernels/cuda.hpp"
#include "kernels/cuda_pool.hpp"
#include "kernels/device_run.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

/// Smallest compute capability that the kernels are compiled for.
constexpr int least_major = 8;

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string error_text(cudaError_t error) {
  return std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
}

CudaDeviceInfo describe(int device) {
  CudaDeviceInfo info;
  info.number = device;
  cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    info.why = "device " + std::to_string(device) + " does not answer (" + error_text(error) + ")";
    return info;
  }
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  info.multiprocessors = properties.multiProcessorCount;
  info.total_bytes = properties.totalGlobalMem;
  const std::string name =
      info.name + ", compute capability " + std::to_string(info.major) + "." + std::to_string(info.minor);
  if (info.major < least_major) {
    info.why = "the device (" + name + ") is older than compute capability " + std::to_string(least_major) + ".0";
    return info;
  }
  // Fails where this build has no code that the device can run, and where a context cannot be made.
  cudaFuncAttributes attributes;
  error = cudaSetDevice(device);
  if (error == cudaSuccess) error = FitKernel<StreamingText<0>>::attributes(&attributes);
  std::size_t free = 0, total = 0;
  if (error == cudaSuccess) error = cudaMemGetInfo(&free, &total);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    info.why = "the device (" + name + ") cannot run this build's kernels (" + error_text(error) + ")";
    return info;
  }
  info.free_bytes = free;
  info.usable = true;
  return info;
}

CudaInventory find_devices() {
  CudaInventory found;
  int devices = 0, driver = 0;
  found.runtime = version_text(CUDART_VERSION);
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0) found.driver = version_text(driver);
  cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices == 0) error = cudaErrorNoDevice;
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    if (error == cudaErrorInsufficientDriver && driver == 0)
      found.why = "no CUDA driver was found";
    else if (error == cudaErrorInsufficientDriver)
      found.why =
          "the driver (CUDA " + found.driver + ") is older than this build's CUDA runtime (" + found.runtime + ")";
    else
      found.why = "no CUDA device was found (" + error_text(error) + ")";
    return found;
  }
  int first_usable = 0;
  for (int device = devices - 1; device >= 0; --device) {
    found.devices.insert(found.devices.begin(), describe(device));
    if (found.devices.front().usable) first_usable = device;
  }
  if (cudaSetDevice(first_usable) != cudaSuccess) (void)cudaGetLastError();
  return found;
}

/// As they were at the first call.
const CudaInventory& known_devices() {
  static const CudaInventory devices = find_devices();
  return devices;
}

}  // namespace

const std::vector<int>& usable_cuda_devices() {
  const CudaStatus status = cuda_status();
  if (!status.usable) throw BackendUnavailable("the cuda backend cannot be used: " + status.why);
  static const std::vector<int> usable = [] {
    std::vector<int> numbers;
    for (const CudaDeviceInfo& info : known_devices().devices)
      if (info.usable) numbers.push_back(info.number);
    return numbers;
  }();
  return usable;
}

CudaPool& cuda_pool() {
  (void)usable_cuda_devices();
  static const std::unique_ptr<CudaPool> all = [] {
    auto made = std::make_unique<CudaPool>();
    for (const CudaDeviceInfo& info : known_devices().devices) {
      if (!info.usable) continue;
      for (int slot = 0; slot < cuda_slots_a_device; ++slot)
        made->add(std::make_unique<CudaDevice>(info.number, info.free_bytes), info.number);
    }
    return made;
  }();
  return *all;
}

namespace {
StreamingWork streaming_work(const BootstrapJob& job) {
  return StreamingWork(job, mapping_of(*job.null), mapping_of(*job.full));
}
}  // namespace

}  // namespace BATCHLMM_ISA

CudaInventory cuda_inventory() { return known_devices(); }

CudaStatus cuda_status() {
  const CudaInventory& found = known_devices();
  CudaStatus status;
  status.why = found.why;
  int usable = 0;
  for (const CudaDeviceInfo& info : found.devices) {
    if (!info.usable && status.why.empty()) status.why = info.why;
    if (info.usable && usable++ == 0)
      status.device =
          info.name + ", compute capability " + std::to_string(info.major) + "." + std::to_string(info.minor);
  }
  status.usable = usable > 0;
  if (status.usable) status.why.clear();
  if (usable > 1) status.device += " and " + std::to_string(usable - 1) + " more";
  return status;
}

int cuda_slots() { return static_cast<int>(cuda_pool().size()); }

void cuda_fit(const FitJob& job) {
  with_cuda_device([&](CudaDevice& device) { run_fits(device, job, mapping_of(*job.shape)); });
}

void cuda_bootstrap(const BootstrapJob& job, BootstrapChunk& chunk) {
  with_cuda_device([&](CudaDevice& device) { run_replicates(device, streaming_work(job), chunk); });
}

StatisticCounts cuda_summarize(const BootstrapJob& job, std::uint64_t first, std::uint64_t count, double observed,
                               bool refit) {
  return with_cuda_device(
      [&](CudaDevice& device) { return run_summary(device, streaming_work(job), first, count, observed, refit); });
}

Distribution cuda_distribution(std::span<const double> values, std::span<const std::uint8_t> status, double observed,
                               std::span<const double> probabilities, std::span<const double> edges) {
  return with_cuda_device(
      [&](CudaDevice& device) { return run_distribution(device, values, status, observed, probabilities, edges); });
}

std::uint64_t cuda_chunk_length(const BootstrapJob& job) {
  return with_cuda_device([&](CudaDevice& device) { return chunk_items(device, streaming_work(job)); });
}

}  // namespace batchlmm::kernels
