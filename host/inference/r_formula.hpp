/// @file
/// A formula's text as R writes it (R's `deparse`).
#pragma once

#include <limits>
#include <string>
#include <vector>

namespace batchlmm {

/// The formula in R's spacing: "y~x+(1|g)" becomes "y ~ x + (1 | g)". Parentheses and names stay as given.
/// @param cutoff  a line is broken after the first operator or comma beyond this many characters (R's `width.cutoff`)
/// @return the lines; the text as given where it is not a formula
std::vector<std::string> r_deparse(const std::string& formula, int cutoff = 60);

/// The same on one line.
std::string r_formula(const std::string& formula);

}  // namespace batchlmm
