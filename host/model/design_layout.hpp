/// @file
/// What designs have in common that differ in values, or in the rows that are there: the elimination plan, the shape,
/// and where each level of each grouping factor stands in it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "host/model/model.hpp"

namespace batchlmm {

/// Made from one model; fits every design whose rows fall into the model's levels with the same nesting. Levels without
/// rows take no part.
///
/// Its shape is that of the kernels for lanes with designs of their own: N comes with each design, the constant is 0,
/// and each term's scale is rounded to a power of two, so that a fit's bits depend on the layout through its levels
/// alone.
class DesignLayout {
public:
  /// @param model  not large
  explicit DesignLayout(const Model& model);
  DesignLayout(const DesignLayout&) = delete;
  DesignLayout& operator=(const DesignLayout&) = delete;

  [[nodiscard]] const kernels::Shape& shape() const { return shape_; }
  /// Columns of the dense Schur complement.
  [[nodiscard]] int schur() const { return schur_; }
  [[nodiscard]] int term_of(int kernel_term) const { return term_of_[kernel_term]; }
  /// Kernel term of the streamed factor, whose levels have positions.
  [[nodiscard]] int streamed_term() const { return streamed_term_; }
  /// Streaming position of a level of the streamed factor.
  [[nodiscard]] int position_of(int level) const { return place_of_level_[streamed_term_][level]; }
  /// Node of stage t >= 1 that holds streamed position j.
  [[nodiscard]] int node_of(int stage, int position) const { return node_of_[stage][position]; }
  /// Streamed stages: the position or node of a term's level.
  [[nodiscard]] int place_of(int kernel_term, int level) const { return place_of_level_[kernel_term][level]; }
  [[nodiscard]] bool is_dense(int kernel_term) const { return place_of_level_[kernel_term].empty(); }

  /// Replicates of both can stand side by side in the lanes of one tile.
  [[nodiscard]] bool same_lanes(const DesignLayout& other) const;

private:
  kernels::Shape shape_;
  int schur_ = 0, streamed_term_ = 0;
  std::vector<int> term_of_;
  std::array<std::vector<int>, kernels::max_stages> node_of_, node_end_;
  std::vector<std::vector<int>> place_of_level_;  ///< per kernel term; empty where the term is dense
};

/// Doubles of one design's constants.
std::size_t design_doubles(const kernels::Shape& shape);

}  // namespace batchlmm
