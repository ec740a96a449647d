/// @file
/// The formula language of R and lme4, parsed: `y ~ x + (1 + x | g)`.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace batchlmm {

/// A node of the expression tree. `position` is the byte offset of the node's first character in the formula.
///
/// Parentheses are kept, as R keeps them: a call of the function "(" with one argument. A named argument of a call
/// (`raw = TRUE`) is a binary node "=" whose first argument is a variable.
struct Expression {
  enum class Kind { number, variable, call, unary_minus, unary_plus, binary };
  Kind kind{};
  /// Variable or function name, or the operator's text: "+" "-" "*" "/" ":" "^" "|" "||" "=" "%in%" "%%" "%/%".
  /// For a number "L" where it was written as an integer (`2L`), else empty.
  std::string name;
  double value = 0;  ///< of a number
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
  std::string text;                                   ///< as given
  std::shared_ptr<const Expression> response;         ///< never null
  std::shared_ptr<const Expression> right_hand_side;  ///< all of it, random-effects terms included; never null
  /// Right-hand side without the random-effects terms; null when none is left.
  std::shared_ptr<const Expression> fixed;
  std::vector<RandomSyntax> random;
};

/// Bounds that keep hostile input from exhausting the stack.
inline constexpr std::size_t kMaxFormulaLength = 100'000;  ///< bytes
inline constexpr int kMaxNesting = 200;                    ///< parentheses, calls and signs within each other
inline constexpr int kMaxDepth = 1'000;                    ///< of the expression tree: operators in one chain

/// @throws FormulaError with the position of the fault
Formula parse_formula(const std::string& text);

}  // namespace batchlmm
