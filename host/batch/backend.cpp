#include "host/batch/backend.hpp"

#include <algorithm>
#include <thread>

#include "batchlmm/error.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"

namespace batchlmm {

BackendSeconds predict_seconds(double multiply_adds, std::uint64_t items, int threads, int lanes, int devices,
                               const BackendRates& rates) {
  const double all = (multiply_adds > 0 ? multiply_adds : rates.unknown_multiply_adds) * static_cast<double>(items);
  return {all / (rates.cpu_lane_rate * lanes * threads), rates.device_start + all / (rates.device_rate * devices)};
}

Backend choose_backend(BackendChoice choice, double multiply_adds, std::uint64_t items, int threads) {
  if (choice == BackendChoice::cpu) return {};
  if (choice == BackendChoice::cuda) {
    require_backend(choice);
    return {true};
  }
  // To ask for the devices starts them: not for work that the CPU has done by then.
  const auto seconds = [&](int devices) {
    return predict_seconds(multiply_adds, items, threads, kernels::cpu_kernels().lanes, devices);
  };
  if (seconds(1).cpu <= BackendRates{}.device_start || !kernels::cuda_status().usable) return {};
  int devices = 0;
  for (const kernels::CudaDeviceInfo& device : kernels::cuda_inventory().devices) devices += device.usable ? 1 : 0;
  const BackendSeconds of = seconds(std::max(devices, 1));
  return {of.cuda < of.cpu};
}

void require_backend(BackendChoice choice) {
  if (choice != BackendChoice::cuda) return;
  const kernels::CudaStatus status = kernels::cuda_status();
  if (!status.usable) throw BackendUnavailable("the cuda backend cannot be used: " + status.why);
}

int thread_count(int threads) {
  if (threads > 0) return threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace batchlmm
