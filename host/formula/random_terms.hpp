/// @file
/// Random-effects terms as lme4 takes them: `||` split, `/` expanded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/formula/formula.hpp"
#include "host/formula/terms.hpp"

namespace batchlmm {

/// `(effects | group)` with one grouping factor.
struct RandomEffects {
  Terms effects;
  /// A variable, a call, or ":" of such.
  std::shared_ptr<const Expression> group;
  std::string group_name;    ///< as lme4 names it: "subject", "cask:batch", "c:(b:a)"
  std::string text;          ///< "Days | Subject", as lme4 names the term
  std::size_t position = 0;  ///< in the formula
};

/// The terms in the order in which lme4 finds them.
/// `(x || g)` becomes `(1 | g)` and `(0 + x | g)`, one term for each term of the left side's formula: the columns of a
/// factor there stay correlated. `(x | a/b)` becomes `(x | b:a)` and `(x | a)`.
/// @throws FormulaError
std::vector<RandomEffects> expand_random_terms(const Formula& formula);

/// The effects of the terms that `(effects || group)` stands for: "1", "0 + x", ...
using EffectsText = std::string;
std::vector<EffectsText> split_uncorrelated(const Expression& effects, const Formula& formula);

}  // namespace batchlmm
