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

/// Why the device cannot be used; empty: it can.
/// @param name  set to the device's name
std::string obstacle(int device, std::string& name) {
  cudaDeviceProp properties;
  cudaError_t error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    return "device " + std::to_string(device) + " does not answer (" + error_text(error) + ")";
  }
  name = std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
         std::to_string(properties.minor);
  if (properties.major < least_major)
    return "the device (" + name + ") is older than compute capability " + std::to_string(least_major) + ".0";
  // Fails where this build has no code that the device can run, and where a context cannot be made.
  cudaFuncAttributes attributes;
  error = cudaSetDevice(device);
  if (error == cudaSuccess) error = FitKernel<StreamingText<0>>::attributes(&attributes);
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();
  return "the device (" + name + ") cannot run this build's kernels (" + error_text(error) + ")";
}

/// The usable devices, and why others are not.
struct Devices {
  std::vector<int> usable;
  std::vector<std::string> name;  ///< of the usable ones
  std::string why;                ///< the first that is not, or why there is none
};

Devices find_devices() {
  Devices found;
  int devices = 0;
  cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices == 0) error = cudaErrorNoDevice;
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    if (error == cudaErrorInsufficientDriver && driver == 0)
      found.why = "no CUDA driver was found";
    else if (error == cudaErrorInsufficientDriver)
      found.why = "the driver (CUDA " + version_text(driver) + ") is older than this build's CUDA runtime (" +
                  version_text(CUDART_VERSION) + ")";
    else
      found.why = "no CUDA device was found (" + error_text(error) + ")";
    return found;
  }
  for (int device = 0; device < devices; ++device) {
    std::string name;
    const std::string why = obstacle(device, name);
    if (why.empty()) {
      found.usable.push_back(device);
      found.name.push_back(name);
    } else if (found.why.empty()) {
      found.why = why;
    }
  }
  if (cudaSetDevice(found.usable.empty() ? 0 : found.usable.front()) != cudaSuccess) (void)cudaGetLastError();
  return found;
}

/// As they were at the first call.
const Devices& known_devices() {
  static const Devices devices = find_devices();
  return devices;
}

}  // namespace

const std::vector<int>& usable_cuda_devices() {
  const Devices& devices = known_devices();
  if (devices.usable.empty()) throw BackendUnavailable("the cuda backend cannot be used: " + devices.why);
  return devices.usable;
}

CudaPool& cuda_pool() {
  const std::vector<int>& devices = usable_cuda_devices();
  static const std::unique_ptr<CudaPool> all = [&] {
    auto made = std::make_unique<CudaPool>();
    for (const int device : devices) {
      check(cudaSetDevice(device), "cudaSetDevice");
      std::size_t free = 0, total = 0;
      check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
      for (int slot = 0; slot < cuda_slots_a_device; ++slot)
        made->add(std::make_unique<CudaDevice>(device, free), device);
    }
    return made;
  }();
  return *all;
}

}  // namespace BATCHLMM_ISA

CudaStatus cuda_status() {
  const Devices& found = known_devices();
  CudaStatus status;
  status.usable = !found.usable.empty();
  if (!status.usable) {
    status.why = found.why;
    return status;
  }
  status.device = found.name.front();
  if (found.name.size() > 1) status.device += " and " + std::to_string(found.name.size() - 1) + " more";
  return status;
}

int cuda_slots() { return static_cast<int>(cuda_pool().size()); }

void cuda_fit(const FitJob& job) {
  with_cuda_device([&](CudaDevice& device) { run_fits(device, job); });
}

void cuda_bootstrap(const BootstrapJob& job, BootstrapChunk& chunk) {
  with_cuda_device([&](CudaDevice& device) { run_replicates(device, StreamingWork(job), chunk); });
}

std::uint64_t cuda_chunk_length(const BootstrapJob& job) {
  return with_cuda_device([&](CudaDevice& device) { return chunk_items(device, StreamingWork(job)); });
}

}  // namespace batchlmm::kernels
