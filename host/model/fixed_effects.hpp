/// @file
/// The fixed-effects model matrix at full column rank.
#pragma once

#include <Eigen/Core>
#include <string>
#include <vector>

#include "host/model/term_matrix.hpp"

namespace batchlmm {

/// Columns that are linearly independent, in their order: a column whose part orthogonal to those before it is shorter
/// than `tolerance` of its length is left out (LINPACK's dqrdc2 as R uses it for lm and lme4).
std::vector<Eigen::Index> independent_columns(Eigen::MatrixXd matrix, double tolerance = 1e-7);

struct FixedEffects {
  Eigen::MatrixXd X;                         ///< n x p, full column rank
  std::vector<std::string> names;            ///< p
  std::vector<int> assign;                   ///< p: 0 for the intercept, t + 1 for terms.terms[t]
  std::vector<std::string> dropped_columns;  ///< left out as collinear, in the formula's order
  std::vector<Eigen::Index> kept;            ///< p: which of the formula's columns X has
};

/// @throws ModelError
FixedEffects fixed_effects(const Terms& terms, const ModelFrame& frame, const ModelOptions& options);

}  // namespace batchlmm
