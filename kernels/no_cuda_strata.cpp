// Tier 1 on CUDA devices, in a build without CUDA.
#include "batchlmm/error.hpp"
#include "kernels/cuda.hpp"
#include "kernels/cuda_strata.hpp"

namespace batchlmm::kernels {
namespace {

[[noreturn]] void unavailable() { throw BackendUnavailable("the cuda backend cannot be used: " + cuda_status().why); }

}  // namespace

void cuda_strata_bootstrap(const StrataJob&, BootstrapChunk&) { unavailable(); }
StatisticCounts cuda_strata_summarize(const StrataJob&, std::uint64_t, std::uint64_t, double, bool) { unavailable(); }
std::uint64_t cuda_strata_chunk_length(const StrataJob&, bool) { unavailable(); }

}  // namespace batchlmm::kernels
