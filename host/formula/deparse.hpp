/// @file
/// Expressions back to text, as R's `deparse` writes them, on one line.
#pragma once

#include <string>

#include "host/formula/formula.hpp"

namespace batchlmm {

/// "log(x,2)" becomes "log(x, 2)", "a*b" "a * b", "a : b" "a:b". Names that are not R's stand in backquotes.
/// Parentheses are added where a tree that was put together needs them: `c` crossed with `b:a` is "c:(b:a)".
std::string deparse(const Expression& expression);

/// The same for a whole formula; as lme4 shows it, `(x || g)` is written out: "((1 | g) + (0 + x | g))".
/// @throws FormulaError where the effects of such a term are not a formula
std::string deparse(const Formula& formula);

/// A name as it stands in a formula: in backquotes where it is not one of R's.
std::string quote_name(const std::string& name);

}  // namespace batchlmm
