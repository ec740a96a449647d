/// @file
/// Conditional modes and coefficients by grouping factor: lme4's `ranef` and `coef`.
#pragma once

#include <Eigen/Core>
#include <string>
#include <vector>

#include "host/inference/fit.hpp"

namespace batchlmm {

/// One row a level of a grouping factor, one column a coefficient.
struct LevelTable {
  std::string group;
  std::vector<std::string> levels;  ///< rows
  std::vector<std::string> columns;
  Eigen::MatrixXd values;  ///< levels x columns
};

/// Numbers of each term (levels x k), terms on one grouping factor side by side.
std::vector<LevelTable> by_group(const ModelMatrices& model, const std::vector<Eigen::MatrixXd>& values);

/// The conditional modes, likewise.
std::vector<LevelTable> conditional_modes(const Fit& fit);

/// Fixed effects plus conditional modes. A coefficient that only a random-effects term has counts as 0 among the fixed
/// effects and stands before them in every table, as in lme4.
std::vector<LevelTable> level_coefficients(const Fit& fit);

/// A random-effects term written from its coefficients: "(1 + Days | Subject)".
std::string term_label(const RandomTerm& term);

}  // namespace batchlmm
