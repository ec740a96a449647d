#include "host/formula/term_deletion.hpp"

#include <algorithm>

#include "host/formula/deparse.hpp"
#include "host/formula/random_terms.hpp"
#include "host/formula/terms.hpp"

namespace batchlmm {
namespace {

/// Positions of the terms that no other term contains.
std::vector<std::size_t> droppable(const Terms& terms) {
  std::vector<std::size_t> scope;
  for (std::size_t i = 0; i < terms.terms.size(); ++i) {
    const std::vector<std::size_t>& variables = terms.terms[i].variables;
    const auto contains = [&](const Term& other) {
      return &other != &terms.terms[i] &&
             std::includes(other.variables.begin(), other.variables.end(), variables.begin(), variables.end());
    };
    if (std::none_of(terms.terms.begin(), terms.terms.end(), contains)) scope.push_back(i);
  }
  return scope;
}

Terms without(const Terms& terms, std::size_t term) {
  Terms rest = terms;
  rest.terms.erase(rest.terms.begin() + static_cast<std::ptrdiff_t>(term));
  return rest;
}

/// R's `simplify`: terms by degree (bars are of the first), offsets, "- 1" without an intercept; "1" for an intercept
/// alone. Equal bars stand once.
std::string simplified(const Terms& terms, const std::vector<std::string>& bars) {
  std::vector<std::string> pieces;
  for (const Term& term : terms.terms)
    if (term.variables.size() == 1) pieces.push_back(terms.label(term));
  for (const std::string& bar : bars)
    if (std::find(pieces.begin(), pieces.end(), "(" + bar + ")") == pieces.end()) pieces.push_back("(" + bar + ")");
  for (const Term& term : terms.terms)
    if (term.variables.size() != 1) pieces.push_back(terms.label(term));
  for (const std::size_t v : terms.offsets) pieces.push_back(terms.variables[v].label);
  std::string text;
  for (const std::string& piece : pieces) text += (text.empty() ? "" : " + ") + piece;
  if (!terms.intercept) return text.empty() ? "0" : text + " - 1";
  return text.empty() ? "1" : text;
}

std::vector<std::string> bars_of(const std::vector<RandomEffects>& random) {
  std::vector<std::string> bars;
  bars.reserve(random.size());
  for (const RandomEffects& term : random) bars.push_back(term.text);
  return bars;
}

std::string with_response(const Formula& formula, const std::string& right_hand_side) {
  return deparse(*formula.response) + " ~ " + right_hand_side;
}

}  // namespace

std::string written_out(const Formula& formula) {
  return with_response(formula,
                       simplified(expand_terms(formula.fixed.get(), formula), bars_of(expand_random_terms(formula))));
}

std::vector<TermDeletion> fixed_term_deletions(const Formula& formula) {
  const Terms fixed = expand_terms(formula.fixed.get(), formula);
  const std::vector<std::string> bars = bars_of(expand_random_terms(formula));
  std::vector<TermDeletion> deletions;
  for (const std::size_t term : droppable(fixed))
    deletions.push_back(
        {fixed.label(fixed.terms[term]), with_response(formula, simplified(without(fixed, term), bars)), ""});
  return deletions;
}

std::vector<TermDeletion> random_term_deletions(const Formula& formula, bool reduce) {
  const Terms fixed = expand_terms(formula.fixed.get(), formula);
  const std::vector<RandomEffects> random = expand_random_terms(formula);
  const std::vector<std::string> bars = bars_of(random);
  std::vector<TermDeletion> deletions;
  for (std::size_t r = 0; r < random.size(); ++r) {
    const Terms& effects = random[r].effects;
    std::vector<std::string> rest = bars;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(r));
    const std::string removed = with_response(formula, simplified(fixed, rest)), bar = "(" + bars[r] + ")";
    const std::vector<std::size_t> scope = droppable(effects);
    if (!reduce || scope.empty()) {
      deletions.push_back({bar, removed, ""});
      continue;
    }
    for (const std::size_t term : scope) {
      const bool last = effects.terms.size() == 1;
      std::vector<std::string> reduced = bars;
      reduced[r] = (last ? "1" : simplified(without(effects, term), {})) + " | " + deparse(*random[r].group);
      deletions.push_back({effects.label(effects.terms[term]) + " in " + bar,
                           with_response(formula, simplified(fixed, reduced)),
                           last && !effects.intercept ? removed : ""});
    }
  }
  return deletions;
}

}  // namespace batchlmm
