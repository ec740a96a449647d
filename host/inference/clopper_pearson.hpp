/// @file
/// Exact interval of a share that was counted.
#pragma once

#include <array>
#include <cstdint>

namespace batchlmm {

/// 95 % interval of Clopper and Pearson (1934, Biometrika 26) for a share, from x of n.
std::array<double, 2> clopper_pearson(std::uint64_t x, std::uint64_t n);

}  // namespace batchlmm
