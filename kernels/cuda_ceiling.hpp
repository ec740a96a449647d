/// @file
/// What a CUDA device reaches at most, measured: beside these the benchmarks' numbers are put.
#pragma once

namespace batchlmm::kernels {

struct CudaCeiling {
  double start_seconds = 0;             ///< until the first call had a context and memory; 0: it had them before
  double multiply_adds_per_second = 0;  ///< double precision, independent chains in registers
  double write_bytes_per_second = 0;    ///< pinned memory to the device
  double read_bytes_per_second = 0;     ///< the device to pinned memory
  double copy_bytes_per_second = 0;     ///< within the device's memory, bytes read and bytes written
};
/// Measures on a device that is free: about a second.
/// @throws BackendUnavailable, DeviceError
CudaCeiling measure_cuda_ceiling();

}  // namespace batchlmm::kernels
