/// @file
/// The ceiling of the machine: double-precision multiply-adds per second of one thread, by instruction set.
#pragma once

#include <string>

namespace batchlmm::bench {

struct Ceiling {
  std::string isa;                      ///< as CpuKernels::name
  double multiply_adds_per_second = 0;  ///< one thread, all lanes counted
};

/// Measures with the vectors and the fused multiply-add of the kernels: independent chains in registers, no memory.
/// @param isa  "baseline", "avx2" or "avx512"; one that this processor has
/// @throws ModelError for an instruction set that the program was not built with
Ceiling measure_ceiling(const std::string& isa);

}  // namespace batchlmm::bench
