// The CUDA backend: one replicate a thread. Threads live for a whole launch and take the next item from a counter, so
// that none waits for the slowest; their arrays lie element by element in global memory, threads side by side.
#include <cuda_runtime_api.h>

#include <mutex>
#include <source_location>
#include <string>

#include "kernels/cuda.hpp"
#include "kernels/device_run.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

constexpr int block_threads = 128;
/// Share of the device's free memory that a job may take.
constexpr double memory_share = 0.6;
/// Smallest compute capability that this file is compiled for.
constexpr int least_major = 8;

/// Clears the error, so that the next call does not see it.
/// @throws ComputationError naming the call
void check(cudaError_t error, const char* call, std::source_location at = std::source_location::current()) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  throw ComputationError(std::string("CUDA: ") + call + " failed: " + cudaGetErrorString(error) + " (" +
                         cudaGetErrorName(error) + ", kernels/cuda.cu:" + std::to_string(at.line()) + ")");
}

__global__ void __launch_bounds__(block_threads) draw_kernel(const __grid_constant__ DrawArguments a) {
  const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread < a.threads) draw_one_lane(a, thread);
}

/// Hands out the items, one by one, to all threads.
struct NextItem {
  unsigned long long* next;
  std::uint64_t items;
  __device__ bool operator()(std::uint64_t& item) const {
    item = atomicAdd(next, 1ULL);
    return item < items;
  }
};

template <class Text>
__global__ void __launch_bounds__(block_threads)
    fit_kernel(const __grid_constant__ FitArguments a, unsigned long long* next) {
  const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread < a.threads) fit_one_lane<Text>(a, thread, NextItem{next, a.job.items});
}

/// The device that is current at the first call, with one block of its memory that grows and is kept between jobs.
class CudaDevice {
public:
  CudaDevice() {
    check(cudaGetDevice(&device_), "cudaGetDevice");
    int multiprocessors = 0, most_blocks = 1;
    check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device_), "cudaDeviceGetAttribute");
    for (const TextKind kind : text_kinds)
      with_text(kind, [&](auto text) {
        int n = 0;
        check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&n, fit_kernel<decltype(text)>, block_threads, 0),
              "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
        most_blocks = std::max(most_blocks, n);
      });
    resident_ = static_cast<std::size_t>(multiprocessors) * most_blocks * block_threads;
    check(cudaMalloc(&next_, sizeof *next_), "cudaMalloc");
  }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;
  // At exit the driver may be gone already: it has then freed the memory itself, and says so by an error of no
  // interest.
  ~CudaDevice() {
    (void)cudaFree(memory_);
    (void)cudaFree(next_);
    (void)cudaGetLastError();
  }

  /// Makes the device current for the calling thread.
  void use() { check(cudaSetDevice(device_), "cudaSetDevice"); }

  [[nodiscard]] std::size_t resident_threads() const { return resident_; }
  [[nodiscard]] std::size_t usable_bytes() const {
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return std::max(bytes_, static_cast<std::size_t>(memory_share * static_cast<double>(free + bytes_)));
  }
  bool reserve(std::size_t bytes) {
    if (bytes <= bytes_) return true;
    check(cudaFree(memory_), "cudaFree");
    memory_ = nullptr;
    bytes_ = 0;
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      return false;
    }
    check(error, "cudaMalloc");
    memory_ = static_cast<std::byte*>(memory);
    bytes_ = bytes;
    return true;
  }
  [[nodiscard]] std::byte* memory() const { return memory_; }

  void write(void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "cudaMemcpy to the device");
  }
  void read(void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy from the device");
  }

  void draw(const DrawArguments& a) {
    draw_kernel<<<blocks(a.threads), block_threads>>>(a);
    check(cudaGetLastError(), "launch of draw_kernel");
    check(cudaDeviceSynchronize(), "draw_kernel");
  }
  void fit(const FitArguments& a) {
    check(cudaMemset(next_, 0, sizeof *next_), "cudaMemset");
    with_text(text_kind(a.shape),
              [&](auto text) { fit_kernel<decltype(text)><<<blocks(a.threads), block_threads>>>(a, next_); });
    check(cudaGetLastError(), "launch of fit_kernel");
    check(cudaDeviceSynchronize(), "fit_kernel");
  }

private:
  static unsigned blocks(std::size_t threads) {
    return static_cast<unsigned>((threads + block_threads - 1) / block_threads);
  }
  int device_ = 0;
  std::size_t resident_ = 0, bytes_ = 0;
  std::byte* memory_ = nullptr;
  unsigned long long* next_ = nullptr;
};

/// Calls f(device), one call at a time.
/// @throws BackendUnavailable without a usable device
template <class F>
auto with_device(const F& f) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  static const CudaStatus status = cuda_status();
  if (!status.usable) throw BackendUnavailable("the cuda backend cannot be used: " + status.why);
  static CudaDevice device;
  device.use();
  return f(device);
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string error_text(cudaError_t error) {
  return std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
}

}  // namespace
}  // namespace BATCHLMM_ISA

CudaStatus cuda_status() {
  CudaStatus status;
  int devices = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess) {
    (void)cudaGetLastError();
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    if (error == cudaErrorInsufficientDriver && driver == 0)
      status.why = "no CUDA driver was found";
    else if (error == cudaErrorInsufficientDriver)
      status.why = "the driver (CUDA " + version_text(driver) + ") is older than this build's CUDA runtime (" +
                   version_text(CUDART_VERSION) + ")";
    else
      status.why = "no CUDA device was found (" + error_text(error) + ")";
    return status;
  }
  int device = 0;
  cudaDeviceProp properties;
  cudaError_t error = devices > 0 ? cudaGetDevice(&device) : cudaErrorNoDevice;
  if (error == cudaSuccess) error = cudaGetDeviceProperties(&properties, device);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    status.why = "no CUDA device was found (" + error_text(error) + ")";
    return status;
  }
  const std::string name = std::string(properties.name) + ", compute capability " + std::to_string(properties.major) +
                           "." + std::to_string(properties.minor);
  if (properties.major < least_major) {
    status.why = "the device (" + name + ") is older than compute capability " + std::to_string(least_major) + ".0";
    return status;
  }
  // Fails where this build has no code that the device can run, and where a context cannot be made.
  cudaFuncAttributes attributes;
  error = cudaFuncGetAttributes(&attributes, fit_kernel<StreamingText<0>>);
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    status.why = "the device (" + name + ") cannot run this build's kernels (" + error_text(error) + ")";
    return status;
  }
  status.usable = true;
  status.device = name;
  return status;
}

void cuda_fit(const FitJob& job) {
  with_device([&](CudaDevice& device) { run_fits(device, job); });
}

void cuda_bootstrap(const BootstrapJob& job, BootstrapChunk& chunk) {
  with_device([&](CudaDevice& device) { run_bootstrap(device, job, chunk); });
}

std::uint64_t cuda_chunk_length(const BootstrapJob& job) {
  return with_device([&](CudaDevice& device) { return chunk_items(device, job); });
}

}  // namespace batchlmm::kernels
