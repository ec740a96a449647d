/// @file
/// Making, crossing and reducing factors.
#pragma once

#include "host/data/table.hpp"

namespace batchlmm {

/// Numeric values to a factor; levels in numeric order, printed as R prints them (15 significant digits, no trailing zeros).
Factor make_factor(const Numeric& values);

/// The factor of the combinations that occur, levels "a:b" ordered by `a`'s level then `b`'s (as lme4's `a:b` grouping).
Factor interaction(const Factor& a, const Factor& b);

/// Keeps `rows` (ascending indices) and drops levels that no longer occur.
Factor subset(const Factor& factor, const std::vector<std::size_t>& rows);

}  // namespace batchlmm
