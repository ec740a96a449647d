/// @file
/// Smaller formulas for tests of single terms: a fixed-effects term dropped, a random-effects term reduced or removed.
#pragma once

#include <string>
#include <vector>

#include "host/formula/formula.hpp"

namespace batchlmm {

/// A formula with one term less.
struct TermDeletion {
  std::string term;     ///< as R's tables name it: "attitude", "(1 | subject)", "Days in (Days | Subject)"
  std::string formula;  ///< without it, as R's `update` deparses it; may have no random-effects term
  /// Where `formula` may be no smaller model, the one without the whole random-effects term; else empty.
  std::string otherwise;
};

/// The formula with its random-effects terms written out behind the fixed effects, the fixed effects by degree as R's
/// `update` leaves them: the model as `lmerTest::ranova` shows it.
/// @throws FormulaError
std::string written_out(const Formula& formula);

/// One for each fixed-effects term that no other term contains (R's `drop.scope`: `a` may not go while `a:b` stays), in
/// R's order of terms.
/// @throws FormulaError
std::vector<TermDeletion> fixed_term_deletions(const Formula& formula);

/// Those of `lmerTest::ranova(reduce.terms = TRUE)`: of each random-effects term every effect that may go by
/// marginality, where the last one leaves (1 | g); a term that is (1 | g), or has nothing that may go, is removed. A
/// term without intercept and with one effect becomes (1 | g), too, which is a smaller model only where the effect is a
/// factor; else `otherwise` is.
/// @param reduce  false: every random-effects term is removed as a whole
/// @throws FormulaError
std::vector<TermDeletion> random_term_deletions(const Formula& formula, bool reduce = true);

}  // namespace batchlmm
