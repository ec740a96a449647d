/// @file
/// Return codes of the CUDA runtime as exceptions. Internal to kernels/*.cu.
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>
#include <string>

#include "batchlmm/error.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// The device's context is of no use after these: every later call on it fails, too.
inline bool is_lost(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorDevicesUnavailable:
    case cudaErrorAssert:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

/// Clears the error, so that the next call does not see it.
/// @param call  the call that returned `error`, or the kernel that had run before it
/// @throws DeviceLost, DeviceError naming the call, the error, the place and the device
inline void check(cudaError_t error, const std::string& call,
                  std::source_location at = std::source_location::current()) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  int device = -1;
  if (cudaGetDevice(&device) != cudaSuccess) (void)cudaGetLastError();
  std::string file = at.file_name();
  file = file.substr(file.rfind("kernels/") == std::string::npos ? 0 : file.rfind("kernels/"));
  DeviceFailure failure{call, cudaGetErrorName(error), cudaGetErrorString(error),
                        file + ":" + std::to_string(at.line()), device};
  if (is_lost(error)) throw DeviceLost(failure);
  throw DeviceError(failure);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
