#include "host/model/check_model.hpp"

#include <string>

#include "batchlmm/error.hpp"

namespace batchlmm {

void check_model(const ModelMatrices& matrices) {
  const std::size_t n = matrices.rows.size();
  const std::string rows = std::to_string(n);
  for (const RandomTerm& term : matrices.random) {
    if (term.levels.size() < 2)
      throw ModelError("grouping factor '" + term.group + "' has one level only, '" + term.levels.at(0) + "', in the " +
                       rows + " rows used; grouping factors must have > 1 sampled level");
  }
  for (const RandomTerm& term : matrices.random) {
    if (term.levels.size() >= n)
      throw ModelError("grouping factor '" + term.group + "' has " + std::to_string(term.levels.size()) +
                       " levels in the " + rows +
                       " rows used; the number of levels of each grouping factor must be < number of observations");
  }
  for (const RandomTerm& term : matrices.random) {
    const std::size_t effects = term.levels.size() * term.names.size();
    if (n <= effects)
      throw ModelError("number of observations (=" + rows +
                       ") <= number of random effects (=" + std::to_string(effects) + ") for term (" + term.text +
                       "); the random-effects parameters and the residual variance are not identifiable");
  }
  if (matrices.x_names.size() >= n)
    throw ModelError("the model has " + std::to_string(matrices.x_names.size()) + " fixed effects for " + rows +
                     " rows; expected fewer fixed effects than rows");
}

}  // namespace batchlmm
