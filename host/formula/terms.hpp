/// @file
/// A formula's right-hand side expanded to terms, as R's `terms.formula` does it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/formula/formula.hpp"

namespace batchlmm {

/// What a term is made of: a column, or a call such as `log(x)`.
struct Variable {
  std::string label;  ///< deparsed: "x", "log(x)", "`a b`"
  std::shared_ptr<const Expression> expression;
};

struct Term {
  std::vector<std::size_t> variables;  ///< indices into Terms::variables, ascending
  /// Per variable: whether a factor needs a column for each level here (R's code 2), not contrasts (R's code 1).
  /// Contrasts do where a term before this one (or the intercept) already spans what the factor's sum would.
  std::vector<bool> full;
};

struct Terms {
  bool intercept = true;
  std::vector<Variable> variables;   ///< distinct, in order of appearance; also those of terms that "-" took out
  std::vector<Term> terms;           ///< by degree, else in order of appearance; without those of offsets
  std::vector<std::size_t> offsets;  ///< variables that are calls of offset()

  /// "a:b"
  [[nodiscard]] std::string label(const Term& term) const;
};

/// Expands `+ - * : / ^ %in% ( )`, 0 and 1.
/// @param tree     may be null: no terms, an intercept
/// @param formula  of which `tree` is a part, for messages
/// @throws FormulaError
Terms expand_terms(const Expression* tree, const Formula& formula);

/// Sets `full` of every term by R's rule of marginality; `intercept` plays no part (see `code_without_intercept`).
void code_terms(Terms& terms);

/// In a model without intercept the first factor of the first term that has one gets a column for each level.
/// @param is_factor  per variable
void code_without_intercept(Terms& terms, const std::vector<bool>& is_factor);

}  // namespace batchlmm
