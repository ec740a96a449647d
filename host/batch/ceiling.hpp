/// @file
/// The ceiling of the machine: double-precision multiply-adds per second of one thread, by instruction set.
#pragma once

#include <string>

namespace batchlmm {

struct Ceiling {
  std::string isa;                      ///< as kernels::CpuKernels::name
  double multiply_adds_per_second = 0;  ///< one thread, all lanes counted
};

/// Measures with the vectors and the fused multiply-add of the kernels: independent chains in registers, no memory. The
/// best of several rounds, that of one that was not disturbed.
/// @param isa      "baseline", "avx2" or "avx512"
/// @param rounds   each of `seconds`: long beside the clock, short beside a time slice
/// @throws InputError for an instruction set that the program or the processor does not have
Ceiling measure_ceiling(const std::string& isa, int rounds = 12, double seconds = 0.02);

}  // namespace batchlmm
