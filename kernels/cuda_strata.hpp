/// @file
/// Tier 1 on CUDA devices, as the host sees it; errors as in cuda.hpp.
#pragma once

#include "kernels/cpu_strata.hpp"
#include "kernels/statistic.hpp"

namespace batchlmm::kernels {

void cuda_strata_bootstrap(const StrataJob& job, BootstrapChunk& chunk);
/// The counts alone, as cuda_summarize.
StatisticCounts cuda_strata_summarize(const StrataJob& job, std::uint64_t first, std::uint64_t count, double observed,
                                      bool refit);
/// Replicates that one call should hold. @param refit  one model is drawn from and refitted
std::uint64_t cuda_strata_chunk_length(const StrataJob& job, bool refit);

}  // namespace batchlmm::kernels
