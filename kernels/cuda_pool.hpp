/// @file
/// The places of work of all usable devices. Internal to kernels/*.cu.
#pragma once

#include "kernels/cuda_device.hpp"
#include "kernels/slot_pool.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Numbers of the usable devices, at least one.
/// @throws BackendUnavailable without a usable device
const std::vector<int>& usable_cuda_devices();

using CudaPool = SlotPool<CudaDevice>;

/// Made at the first call and kept to the end of the program.
/// @throws BackendUnavailable without a usable device
CudaPool& cuda_pool();

/// Calls f(device) on a place of work that is free, with its device current.
template <class F>
auto with_cuda_device(const F& f) {
  return cuda_pool().run([&](CudaDevice& device) {
    device.use();
    return f(device);
  });
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
