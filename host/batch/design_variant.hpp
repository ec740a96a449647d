/// @file
/// A design that differs from another in some values and rows, said in few words.
#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <string>
#include <vector>

#include "host/model/model_matrices.hpp"

namespace batchlmm {

/// A design of a batch with some columns exchanged, some rows left out, and a response of its own.
struct DesignVariant {
  /// New values of the columns of this name, in X and in every random-effects term that has it. Columns that are made
  /// from it (interactions as "x:attitudepol", "I(x^2)") are columns of their own.
  struct Column {
    std::string name;
    Eigen::VectorXd values;  ///< n, those of rows that are left out are not looked at
  };
  std::size_t design = 0;            ///< as Batch::add_design numbers them
  std::vector<Column> columns;       ///< may be empty
  std::vector<std::size_t> missing;  ///< rows of the design that are left out, 0-based, in any order; may be empty
  Eigen::VectorXd y;                 ///< n, offset not subtracted, as `values`; empty: the design's own response
};

/// The variant written out: what `model_matrices` gives for the table with these values and rows. Levels without rows
/// are dropped; X keeps its columns.
/// @param design  that the variant differs from
/// @throws ModelError where a column is not there or made of another's name, or a size does not fit
ModelMatrices variant_matrices(const ModelMatrices& design, const DesignVariant& variant);

/// Where the exchanged columns stand.
struct ExchangedColumns {
  struct Place {
    int term = 0;    ///< model term; -1: X
    int column = 0;  ///< of X or of the term's z
    int source = 0;  ///< index into DesignVariant::columns
  };
  std::vector<Place> places;
};
/// @throws ModelError as variant_matrices
ExchangedColumns find_columns(const ModelMatrices& design, const DesignVariant& variant);
/// Sizes and row numbers. @throws ModelError as variant_matrices
void check_sizes(const ModelMatrices& design, const DesignVariant& variant);

}  // namespace batchlmm
