// What a device reaches at most: multiply-adds in registers, and copies.
#include <algorithm>
#include <chrono>

#include "kernels/cuda_ceiling.hpp"
#include "kernels/cuda_pool.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

constexpr int chains = 8, unrolled = 16;
constexpr unsigned ceiling_threads = 256;

/// trips * unrolled multiply-adds in each chain of each thread. Nothing is written, but the compiler cannot know.
__global__ void __launch_bounds__(ceiling_threads) ceiling_kernel(double* out, double factor, double term, int trips) {
  double x[chains];
#pragma unroll
  for (int c = 0; c < chains; ++c) x[c] = term * (c + 1) + threadIdx.x;
  for (int t = 0; t < trips; ++t) {
#pragma unroll
    for (int u = 0; u < unrolled; ++u)
#pragma unroll
      for (int c = 0; c < chains; ++c) x[c] = ::fma(x[c], factor, term);
  }
  double sum = 0;
#pragma unroll
  for (int c = 0; c < chains; ++c) sum += x[c];
  if (sum == 0.123) out[0] = sum;
}

class Event {
public:
  Event() { check(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { (void)cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  [[nodiscard]] cudaEvent_t get() const { return event_; }

private:
  cudaEvent_t event_ = nullptr;
};

/// Seconds that f's work takes on the stream: the best of five.
template <class F>
double best_seconds(cudaStream_t stream, const F& f) {
  const Event begin, end;
  double best = 0;
  for (int round = 0; round < 5; ++round) {
    check(cudaEventRecord(begin.get(), stream), "cudaEventRecord");
    f();
    check(cudaEventRecord(end.get(), stream), "cudaEventRecord");
    check(cudaEventSynchronize(end.get()), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "cudaEventElapsedTime");
    const double seconds = 1e-3 * milliseconds;
    best = round == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

class PinnedBytes {
public:
  explicit PinnedBytes(std::size_t n) { check(cudaHostAlloc(&at_, n, cudaHostAllocDefault), "cudaHostAlloc"); }
  ~PinnedBytes() { (void)cudaFreeHost(at_); }
  PinnedBytes(const PinnedBytes&) = delete;
  PinnedBytes& operator=(const PinnedBytes&) = delete;
  [[nodiscard]] void* get() const { return at_; }

private:
  void* at_ = nullptr;
};

CudaCeiling measure(CudaDevice& device) {
  constexpr std::size_t half = std::size_t{128} << 20;
  constexpr int trips = 40'000;
  CudaCeiling ceiling;
  if (!device.reserve(2 * half)) throw ComputationError("the device's memory is too small to measure copies");
  std::byte* memory = device.memory();
  const PinnedBytes pinned(half);
  int multiprocessors = 0;
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device.device()),
        "cudaDeviceGetAttribute");
  // One wave: more blocks than are resident would leave a tail.
  const unsigned blocks = static_cast<unsigned>(multiprocessors) * 4;
  const double seconds = best_seconds(device.stream(), [&] {
    ceiling_kernel<<<blocks, ceiling_threads, 0, device.stream()>>>(reinterpret_cast<double*>(memory), 0.999999, 1e-3,
                                                                    trips);
    check(cudaGetLastError(), "launch of ceiling_kernel");
  });
  ceiling.multiply_adds_per_second =
      static_cast<double>(blocks) * ceiling_threads * chains * unrolled * trips / seconds;
  const auto rate = [&](void* to, const void* from, cudaMemcpyKind kind) {
    return half / best_seconds(device.stream(), [&] {
             check(cudaMemcpyAsync(to, from, half, kind, device.stream()), "cudaMemcpyAsync");
           });
  };
  ceiling.write_bytes_per_second = rate(memory, pinned.get(), cudaMemcpyHostToDevice);
  ceiling.read_bytes_per_second = rate(pinned.get(), memory, cudaMemcpyDeviceToHost);
  ceiling.copy_bytes_per_second = 2 * rate(memory + half, memory, cudaMemcpyDeviceToDevice);
  return ceiling;
}

}  // namespace
}  // namespace BATCHLMM_ISA

CudaCeiling measure_cuda_ceiling() {
  const auto start = std::chrono::steady_clock::now();
  (void)cuda_pool();
  const double started = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CudaCeiling ceiling = with_cuda_device([](CudaDevice& device) { return measure(device); });
  ceiling.start_seconds = started;
  return ceiling;
}

}  // namespace batchlmm::kernels
