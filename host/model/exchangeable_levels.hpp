/// @file
/// Levels of grouping factors that are alike, found by comparing cross-products.
///
/// Levels l = 1 ... c of one factor are exchangeable when their own cross-products and those with every level of the
/// other factors are equal. Contrasts among them are then orthogonal to everything else, and each behaves as one level
/// alone: c - 1 copies of a system of one node. What is left of the levels is their sum. Sums that hang together with
/// no other ones make systems of their own, of which alike ones are copies again. The random effects of a balanced
/// design so come down to systems of a few columns, whatever the number of levels.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/model/matrix_algebra.hpp"
#include "host/model/model.hpp"

namespace batchlmm {

/// The terms on one grouping factor.
struct GroupingFactor {
  std::vector<int> terms;  ///< the kernels'
  int levels = 0;
  const std::vector<std::int32_t>* level_of_row = nullptr;
  Eigen::MatrixXd z;  ///< n x K, the terms' columns side by side, in the kernels' gauge
};
std::vector<GroupingFactor> grouping_factors(const Model& model);

/// A level's share in a node.
struct NodeLevel {
  int node = 0;
  int level = 0;
  double weight = 0;
};

/// A system of nodes, and where in the design it occurs.
struct ExchangeableSystem {
  ColumnSystem columns;             ///< node by node, the factor's K columns each
  std::vector<int> factor_of_node;  ///< index into grouping_factors()
  std::vector<int> column_of_node;  ///< first column
  /// Column j of a node is, in a copy, the sum over the node's levels of weight times the level's column j.
  std::vector<std::vector<NodeLevel>> copies;
};

/// Mutually orthogonal systems that together span the columns of Z.
/// @param largest  columns of one system beyond which the search ends
/// @param why      one line where it ended
std::optional<std::vector<ExchangeableSystem>> exchangeable_systems(const std::vector<GroupingFactor>& factors,
                                                                    const kernels::Shape& shape, int largest,
                                                                    std::string* why);

}  // namespace batchlmm
