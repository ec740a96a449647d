#include "host/model/random_effects.hpp"

#include <algorithm>
#include <utility>

#include "host/model/term_matrix.hpp"

namespace batchlmm {

std::vector<RandomTerm> random_effects(const std::vector<RandomEffects>& terms, const ModelFrame& frame,
                                       const ModelOptions& options) {
  std::vector<RandomTerm> result;
  for (const RandomEffects& term : terms) {
    TermMatrix matrix = term_matrix(term.effects, frame, options, "random-effects term (" + term.text + ")");
    Factor group = frame.group(*term.group);
    result.push_back({term.group_name, std::move(matrix.names), std::move(group.levels), std::move(group.codes),
                      std::move(matrix.values), term.text});
  }
  const auto fewer = [](const RandomTerm& a, const RandomTerm& b) { return a.levels.size() < b.levels.size(); };
  const auto more = [&](const RandomTerm& a, const RandomTerm& b) { return fewer(b, a); };
  if (!std::is_sorted(result.begin(), result.end(), more)) {
    std::stable_sort(result.begin(), result.end(), fewer);  // lme4: rev(order(nl))
    std::reverse(result.begin(), result.end());
  }
  return result;
}

}  // namespace batchlmm
