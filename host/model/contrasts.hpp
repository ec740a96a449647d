/// @file
/// How a factor's levels become columns of a model matrix.
#pragma once

#include <Eigen/Core>
#include <string>
#include <utility>
#include <vector>

#include "host/data/table.hpp"

namespace batchlmm {

enum class Contrast { treatment, sum, helmert, polynomial };

/// A row for each level, a column for each coefficient.
struct Coding {
  Eigen::MatrixXd matrix;             ///< levels x columns
  std::vector<std::string> suffixes;  ///< what R appends to the factor's name: "pol", "1", ".L"
};

/// R's contr.treatment, contr.sum, contr.helmert, contr.poly: one column fewer than there are levels.
/// @param factor  with two levels at least
Coding contrast_coding(Contrast contrast, const Factor& factor);

/// A column for each level.
Coding full_coding(const Factor& factor);

}  // namespace batchlmm
