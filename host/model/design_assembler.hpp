/// @file
/// The kernels' constants of one design after the other, of one layout: what differs from replicate to replicate is
/// worked out anew and nothing else, without memory of its own for each.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "host/model/design_layout.hpp"

namespace batchlmm {

/// Columns of a design: each has an entry for every row, those that are left out included.
struct DesignColumns {
  std::vector<const double*> columns;
  /// Of columns that are in gauge already (mean square 1, orthogonal over all rows): the map back, columns.size()
  /// squared; null where the gauge is to be found from the rows that are there.
  const Eigen::MatrixXd* map = nullptr;
};

/// One design on a layout, and one response.
struct DesignRows {
  Eigen::Index rows = 0;
  const std::uint8_t* present = nullptr;  ///< rows; null: all are there
  DesignColumns x;
  std::vector<DesignColumns> z;            ///< per kernel term
  std::vector<const std::int32_t*> level;  ///< per kernel term: each row's level, as the layout's model numbers them
  std::vector<std::vector<std::int32_t>> renumbered;  ///< per kernel term: `level` to the layout's; empty: as it is
  const double* y = nullptr;                          ///< offset not subtracted
  const double* offset = nullptr;                     ///< null: none
};

/// What leads from the kernels' results back to the user's coordinates.
struct AssembledDesign {
  bool fittable = false;      ///< X has full rank on the rows that are there, and lme4's conditions on sizes hold
  Eigen::Index rows = 0;      ///< that are there
  double degrees = 0;         ///< N
  double constant = 0;        ///< to be added to the kernels' criterion
  std::vector<double> x_map;  ///< p x p, column by column: X = columns * map
  std::vector<double> z_map;  ///< per kernel term k x k, column by column, at the shape's offsets of lambda
  std::vector<double> ols;    ///< p, in X's gauge: taken off the response, to be added to beta
};

/// Works out designs of one layout, one at a time; a thread has its own.
class DesignAssembler {
public:
  explicit DesignAssembler(const DesignLayout& layout) : layout_(&layout) {}

  /// @param[out] constants  design_doubles(shape()) doubles
  /// @param[out] response   shape().response doubles
  void assemble(const DesignRows& rows, double* constants, double* response, AssembledDesign& result);
  /// The kernels' view of constants that were written by `assemble`.
  [[nodiscard]] kernels::Design<double> design(const double* constants) const;

private:
  bool sort_rows(const DesignRows& rows);
  bool take_columns(const DesignColumns& from, double* to, double* map);
  void add_level(int position, double* constants, double* response);

  const DesignLayout* layout_;
  const DesignRows* rows_ = nullptr;
  Eigen::Index n_ = 0;                            ///< rows that are there
  std::vector<int> begin_, order_;                ///< rows by streaming position
  std::vector<std::vector<std::int32_t>> level_;  ///< per kernel term, in that order
  std::vector<double> x_, y_, level_rows_, cross_, norms_;
  std::vector<std::vector<double>> z_;
  std::vector<int> slot_of_column_, column_of_slot_, seen_;
};

}  // namespace batchlmm
