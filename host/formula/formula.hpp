/// @file
/// The formula language of R and lme4, parsed: `y ~ x + (1 + x | g)`.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace batchlmm {

/// A node of the expression tree. `position` is the byte offset of the node's first character in the formula.
struct Expression {
  enum class Kind { number, variable, call, unary_minus, unary_plus, binary };
  Kind kind{};
  std::string name;      ///< variable or function name, or the operator's text ("+", "-", "*", "/", ":", "^", "|", "||", "~")
  double value = 0;      ///< of a number
  std::vector<std::shared_ptr<const Expression>> arguments;
  std::size_t position = 0;
};

/// One random-effects term `(lhs | group)` as written, before `||` and `/` are expanded.
struct RandomSyntax {
  std::shared_ptr<const Expression> lhs;
  std::shared_ptr<const Expression> group;
  bool uncorrelated = false;  ///< written with `||`
  std::size_t position = 0;
};

struct Formula {
  std::string text;                                ///< as given
  std::shared_ptr<const Expression> response;      ///< never null
  std::shared_ptr<const Expression> fixed;         ///< right-hand side without the random-effects terms; null when none is left
  std::vector<RandomSyntax> random;
};

/// @throws FormulaError with the position of the fault
Formula parse_formula(const std::string& text);

}  // namespace batchlmm
