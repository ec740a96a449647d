/// @file
/// The model matrices of other data, coded as those of a fit: factors by the fit's levels and contrasts, scale() and
/// poly() by the fit's values.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/formula/random_terms.hpp"
#include "host/model/model_frame.hpp"
#include "host/model/model_matrices.hpp"

namespace batchlmm {

/// A random-effects term over new rows.
struct NewTerm {
  Eigen::MatrixXd z;                ///< rows x k; no rows where it was not asked for
  std::vector<std::int32_t> level;  ///< per row: of the fit's levels, or after them of `new_levels`; or empty
  std::vector<std::string> new_levels;
};

/// Rows of a table for which predictions can be made.
struct NewRows {
  std::size_t table_rows = 0;
  std::vector<std::size_t> rows;  ///< n: those without missing value in what was asked for, ascending
  Eigen::MatrixXd X;              ///< n x p, columns as the fit's
  Eigen::VectorXd offset;         ///< n
  std::vector<NewTerm> terms;     ///< as ModelMatrices::random
};

/// What a prediction takes of a random-effects term.
enum class TermUse { none, columns, levels };  ///< nothing; z; z and the levels

/// Makes NewRows by a formula and the table of its fit.
class NewData {
public:
  /// @param matrices  model_matrices(formula, table, options)
  /// @param table     must outlive this
  NewData(Formula formula, const Table& table, ModelOptions options, std::shared_ptr<const ModelMatrices> matrices);
  NewData(const NewData&) = delete;
  NewData& operator=(const NewData&) = delete;

  /// @param use  per term of ModelMatrices::random
  /// @throws FormulaError, DataError  a column is missing or of another type; a factor has a level that is not the
  ///                                  fit's (a grouping factor may)
  [[nodiscard]] NewRows rows(const Table& table, const std::vector<TermUse>& use) const;
  /// The fit's own rows, with all terms.
  [[nodiscard]] NewRows own_rows() const;

  /// Which columns of which terms a text names: a grouping factor's name stands for all terms on it, "(1 | Subject)"
  /// for those columns of the terms on it.
  /// @return per term, per column
  /// @throws InputError, FormulaError
  [[nodiscard]] std::vector<std::vector<bool>> columns_named(const std::string& text) const;

  [[nodiscard]] const ModelMatrices& matrices() const { return *matrices_; }

private:
  Formula formula_;
  ModelOptions options_;
  std::shared_ptr<const ModelMatrices> matrices_;
  Terms fixed_;
  std::vector<RandomEffects> random_;  ///< in the order of ModelMatrices::random
  ModelFrame frame_;                   ///< of the fit's data
  FrameRecipe recipe_;
  std::vector<Eigen::Index> kept_;
  std::size_t table_rows_;
};

}  // namespace batchlmm
