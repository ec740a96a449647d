/// @file
/// A place of work on a CUDA device: the `Device` of device_run.hpp. Internal to kernels/*.cu.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "kernels/cuda_check.hpp"
#include "kernels/cuda_launch.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Places of work on each device: while one copies, or its results are collected, the other's kernels run.
inline constexpr int cuda_slots_a_device = 2;
/// Share of the memory found free that a place may take.
inline constexpr double cuda_memory_share = 0.3;

/// A stream with what its work needs: one block of device memory, which grows and is kept between jobs, a counter for
/// the kernels, and pinned memory that copies go through. One job at a time.
class CudaDevice {
public:
  /// @param free_bytes  of the device's memory, before any place was made on it
  CudaDevice(int device, std::size_t free_bytes)
      : device_(device), usable_(static_cast<std::size_t>(cuda_memory_share * static_cast<double>(free_bytes))) {
    use();
    try {
      check(cudaStreamCreateWithFlags(&queue_.stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
      check(cudaMalloc(&queue_.next, sizeof *queue_.next), "cudaMalloc");
      check(cudaHostAlloc(reinterpret_cast<void**>(&staging_), halves * half_bytes, cudaHostAllocDefault),
            "cudaHostAlloc");
      for (cudaEvent_t& event : copied_)
        check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    } catch (...) {
      release();
      throw;
    }
  }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;
  ~CudaDevice() { release(); }

  [[nodiscard]] int device() const { return device_; }
  /// For work that is not one of this class's launches, like a library's.
  [[nodiscard]] cudaStream_t stream() const { return queue_.stream; }
  /// Makes the device current for the calling thread.
  void use() const { check(cudaSetDevice(device_), "cudaSetDevice"); }

  template <class Family>
  [[nodiscard]] std::size_t resident_workers(const Family& family) const {
    return kernels::resident_workers(family);
  }
  [[nodiscard]] std::size_t usable_bytes() const { return std::max(bytes_, usable_); }
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

  /// `from` may be changed when this returns; the stream's later work finds the copy.
  void write(void* to, const void* from, std::size_t bytes) {
    for (std::size_t begin = 0, k = 0; begin < bytes; begin += half_bytes, ++k) {
      const std::size_t n = std::min(half_bytes, bytes - begin), half = k % halves;
      check(cudaEventSynchronize(copied_[half]), "cudaEventSynchronize");  // the half's earlier copy
      std::memcpy(staging_ + half * half_bytes, static_cast<const std::byte*>(from) + begin, n);
      check(cudaMemcpyAsync(static_cast<std::byte*>(to) + begin, staging_ + half * half_bytes, n,
                            cudaMemcpyHostToDevice, queue_.stream),
            "cudaMemcpyAsync to the device");
      check(cudaEventRecord(copied_[half], queue_.stream), "cudaEventRecord");
    }
  }
  /// `to` holds the copy when this returns. While one half is copied to `to`, the device fills the other.
  void read(void* to, const void* from, std::size_t bytes) {
    const std::size_t pieces = (bytes + half_bytes - 1) / half_bytes;
    const auto length = [&](std::size_t k) { return std::min(half_bytes, bytes - k * half_bytes); };
    const auto issue = [&](std::size_t k) {
      const std::size_t half = k % halves;
      check(cudaMemcpyAsync(staging_ + half * half_bytes, static_cast<const std::byte*>(from) + k * half_bytes,
                            length(k), cudaMemcpyDeviceToHost, queue_.stream),
            "cudaMemcpyAsync from the device");
      check(cudaEventRecord(copied_[half], queue_.stream), "cudaEventRecord");
    };
    if (pieces > 0) issue(0);
    for (std::size_t k = 0; k < pieces; ++k) {
      if (k + 1 < pieces) issue(k + 1);
      check(cudaEventSynchronize(copied_[k % halves]), "cudaMemcpyAsync from the device");
      std::memcpy(static_cast<std::byte*>(to) + k * half_bytes, staging_ + k % halves * half_bytes, length(k));
    }
  }

  /// Runs the kernel of the arguments' family to its end, so that an error is known by the kernel's name; the other
  /// place's work fills the gap.
  template <class Arguments>
  void launch(const Arguments& a) {
    check(cudaMemsetAsync(queue_.next, 0, sizeof *queue_.next, queue_.stream), "cudaMemsetAsync");
    kernels::launch(queue_, a);
    check(cudaStreamSynchronize(queue_.stream), Arguments::kernel);
  }

private:
  static constexpr std::size_t halves = 2, half_bytes = std::size_t{4} << 20;

  // At exit the driver may be gone already: it has then freed everything itself, and says so by an error of no
  // interest.
  void release() {
    for (cudaEvent_t event : copied_)
      if (event != nullptr) (void)cudaEventDestroy(event);
    (void)cudaFreeHost(staging_);
    (void)cudaFree(memory_);
    (void)cudaFree(queue_.next);
    if (queue_.stream != nullptr) (void)cudaStreamDestroy(queue_.stream);
    (void)cudaGetLastError();
  }

  int device_ = 0;
  std::size_t usable_ = 0, bytes_ = 0;
  CudaQueue queue_;
  std::byte *memory_ = nullptr, *staging_ = nullptr;
  cudaEvent_t copied_[halves] = {};
};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
