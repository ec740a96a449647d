/// @file
/// A starting point by the method of moments, in time linear in the rows.
#pragma once

#include <Eigen/Core>
#include <vector>

#include "host/model/model.hpp"

namespace batchlmm {

/// Diagonal factors of the terms' T whose variances make the sums of squares between levels, column by column, equal to
/// their expectations (Henderson's third method without the fixed effects; Searle, Casella and McCulloch 1992, section
/// 5.3). Variances that would be small or negative are replaced by small ones.
/// @param y  n, the fixed effects taken off by ordinary least squares
/// @return all kernel terms' lambda, row-major, at the shape's offsets
std::vector<double> moment_start(const Model& model, const Eigen::VectorXd& y);

}  // namespace batchlmm
