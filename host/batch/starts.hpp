/// @file
/// Starting points shared by all replicates.
#pragma once

#include <vector>

#include "host/model/model.hpp"

namespace batchlmm {

/// Starting points of one model's fits, one after the other (each shape.lambdas long): a unit variance ratio, a small
/// and a large one, and every term in turn at zero. Where the dense Schur complement has many columns only the first:
/// the several minima of small unbalanced designs do not occur there.
std::vector<std::vector<double>> default_starts(const Model& model);
/// @param schur  columns of the dense Schur complement
std::vector<std::vector<double>> default_starts(const kernels::Shape& shape, int schur);

/// The generating value first (inside the cone where it is singular), then each term in turn at zero where there are
/// several, then the other default ones.
/// @param lambda  generating factors, kernels' order and gauge
std::vector<double> shared_starts(const Model& model, const std::vector<double>& lambda);

}  // namespace batchlmm
