/// @file
/// Many draws of one replicate side by side.
#pragma once

#include <cstdint>

namespace batchlmm::kernels {

/// Entry points of one instruction set (CpuKernels::normals).
struct NormalKernels {
  /// The first `count` draws of Normals<double>(seed, replicate, stream), with the same bits on every instruction set.
  void (*fill)(std::uint64_t seed, std::uint64_t replicate, std::uint32_t stream, std::uint64_t count, double* out);
};

}  // namespace batchlmm::kernels
