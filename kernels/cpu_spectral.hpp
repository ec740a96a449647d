/// @file
/// Draws from the exact law of a likelihood-ratio statistic on the CPU.
#pragma once

#include <cstdint>

#include "kernels/spectral_law.hpp"

namespace batchlmm::kernels {

struct CpuKernels;

/// Entry points of one instruction set.
struct SpectralKernels {
  /// Statistics of draws first .. first + count - 1.
  /// @param[out] statistics  count
  /// @return how many draws had to be searched one by one
  std::uint64_t (*draw)(const SpectralLaw& law, std::uint64_t seed, std::uint64_t first, std::uint64_t count,
                        double* statistics);
  /// The statistic of given sums of squares. @param s  groups
  double (*statistic)(const SpectralLaw& law, const double* s, double residual, double dropped);
};

/// Those of the same instruction set. @param kernels  one of all_cpu_kernels()
const SpectralKernels& spectral_kernels(const CpuKernels& kernels);

}  // namespace batchlmm::kernels
