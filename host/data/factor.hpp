/// @file
/// Making, crossing and reducing factors.
#pragma once

#include "host/data/table.hpp"

namespace batchlmm {

/// Numeric values to a factor; levels in numeric order, printed as R prints them (15 significant digits, no trailing
/// zeros, the shorter of fixed and scientific notation). Values that print alike are one level, as in R's `factor()`.
/// Where all values are whole numbers (below 2^53) they print as integers, without exponent.
Factor make_factor(const Numeric& values);

/// Text to a factor; levels in byte order of their UTF-8 text (the C locale's order: "B" before "a").
/// An empty text is a level like another.
Factor make_factor(const std::vector<std::string>& values);

/// The factor of the combinations that occur, levels "a:b" ordered by `a`'s level then `b`'s (as lme4's `a:b`
/// grouping); missing where either is. `a` and `b` have equal length.
Factor interaction(const Factor& a, const Factor& b);

/// Keeps `rows` (ascending indices) and drops levels that no longer occur. The order of the rest, and `ordered`, stay.
Factor subset(const Factor& factor, const std::vector<std::size_t>& rows);

/// A number as R's `as.character` prints a double: 15 significant digits at most.
std::string format_number(double value);

}  // namespace batchlmm
