/// @file
/// How many multiply-adds a thread can do at most: what it does when they are all that it does.
#pragma once

#include <cstdint>

#include "kernels/lanes.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Chains of multiply-adds, all lanes counted: a chain waits for its last result, and twelve vectors hide the latency
/// of two units of four or five cycles, and leave registers for the factors.
inline constexpr int ceiling_chains = 12 * native_width;

/// `trips` multiply-adds in each chain.
double run_ceiling(std::uint64_t trips);

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
