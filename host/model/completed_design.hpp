/// @file
/// A design with a few rows missing, completed to a regular one.
///
/// The deviance of the observed rows is that of all rows with an indicator column of each missing row among the fixed
/// effects, whatever stands in the missing rows, and log|V_obs| = log|V| + log|E'V^{-1}E|. So a design that is regular
/// but for a few rows keeps its strata (symmetry.hpp) at the price of a few columns.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "host/model/model_matrices.hpp"

namespace batchlmm {

/// All rows: the observed ones first, in their order, then those that are missing.
struct CompletedDesign {
  /// y and offset of a missing row are 0, its entry in `rows` is the largest std::size_t.
  std::shared_ptr<const ModelMatrices> matrices;
  std::shared_ptr<const ModelMatrices> second;  ///< of the second model, where there is one
  std::vector<int> missing;                     ///< rows of `matrices` that were not observed
  std::vector<int> observed;                    ///< row of `matrices` for each observed row
};

struct CompletionOptions {
  int most_missing = 80;        ///< rows
  double largest_share = 0.04;  ///< missing rows in all rows
  int most_patterns = 64;       ///< kinds of levels that may be left
};

/// Finds rows that a level of a grouping factor lacks and levels like it have: the same level of each crossed factor
/// and the same values of the columns that vary within levels. Columns that are constant within levels (a subject's
/// gender) keep the level's own value. Every grouping factor is tried; the completion that leaves the fewest kinds of
/// levels wins, then that with the fewest rows.
/// @return nothing where no rows are missing, too many are, or the design is irregular
std::optional<CompletedDesign> complete_design(const ModelMatrices& matrices, const CompletionOptions& options = {});

/// The same rows for two models, whose columns are looked at together.
/// @param matrices  the larger model
/// @param second    a model of the same rows
std::optional<CompletedDesign> complete_design(const ModelMatrices& matrices, const ModelMatrices& second,
                                               const CompletionOptions& options = {});

}  // namespace batchlmm
