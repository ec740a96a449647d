/// @file
/// The order in which the random effects are eliminated: which grouping factor is streamed, which ones are streamed in
/// turn because the one before is nested in them, and which remain for the dense Schur complement.
#pragma once

#include <vector>

#include "host/model/model_matrices.hpp"

namespace batchlmm {

/// Terms on one grouping factor.
struct PlanFactor {
  std::vector<int> terms;  ///< indices into ModelMatrices::random
  int levels = 0;
  int columns = 0;                         ///< sum of the terms' k
  std::vector<std::int32_t> level_of_row;  ///< n
};

struct EliminationPlan {
  /// stages[0] is the streamed factor; stages[1..chain-1] contain the one before them level by level (nesting).
  std::vector<PlanFactor> chain;
  /// Crossed factors: the dense Schur complement, in the model's order. May be empty.
  std::vector<PlanFactor> dense;
  std::vector<int>
      streamed_order;  ///< levels of chain[0] in the order in which they are streamed: nested levels stand together
  int schur = 0;       ///< columns of the dense Schur complement
  [[nodiscard]] int stages() const { return static_cast<int>(chain.size()) - 1 + (dense.empty() ? 0 : 1); }
};

/// @param model  at least one random-effects term
EliminationPlan make_elimination_plan(const ModelMatrices& model);

}  // namespace batchlmm
