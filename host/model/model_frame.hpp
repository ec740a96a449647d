/// @file
/// The variables of a model, over the rows that are complete.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "host/data/table.hpp"
#include "host/formula/formula.hpp"
#include "host/formula/terms.hpp"
#include "host/model/evaluate.hpp"

namespace batchlmm {

/// What the data of a fit make of a formula's variables, for other data to be read alike.
struct FrameRecipe {
  Transforms transforms;
  std::map<std::string, Factor> factors;  ///< by label: levels and whether they are ordered; no codes
};

/// R's model frame: add what the model uses, then `finish` drops incomplete rows. The table and the formula must
/// outlive it.
class ModelFrame {
public:
  ModelFrame(const Table& table, const Formula& formula) : table_(table), formula_(formula) {}
  /// A frame of other data: transforms are those of the recipe, and factors (but not grouping factors) have its levels.
  /// No row need be complete.
  ModelFrame(const Table& table, const Formula& formula, const FrameRecipe& recipe)
      : table_(table), formula_(formula), recipe_(&recipe), transforms_(recipe.transforms) {}

  /// Evaluates a variable; one that is there already is not evaluated again. @throws FormulaError
  void add(const Variable& variable);
  void add(const Terms& terms);
  /// The same for a grouping factor, whose parts are made factors: a column, a call, or ":" of such.
  /// @throws FormulaError
  void add_group(const Expression& group);

  /// Keeps the rows in which no used column is missing, and drops levels of factors that no longer occur.
  /// @throws ModelError  when no row is left
  /// @throws DataError   when a variable is infinite or not a number in one of them, or has a level that the recipe
  ///                     lacks
  void finish();

  /// Of a frame that is finished.
  [[nodiscard]] FrameRecipe recipe() const;
  /// Whether a variable of this label was added.
  [[nodiscard]] bool has(const std::string& label) const { return values_.contains(label); }

  /// Ascending indices of the table's rows that are used.
  [[nodiscard]] const std::vector<std::size_t>& rows() const { return rows_; }
  /// By the variable's label, over the used rows.
  [[nodiscard]] const Value& at(const std::string& label) const { return values_.at(label); }
  /// The grouping factor over the used rows: combinations of the parts that occur.
  [[nodiscard]] Factor group(const Expression& group) const;

private:
  void use(const std::string& label, const Expression& expression);
  void keep_rows(const std::string& label, Value& value, bool grouping) const;
  /// Codes of the used rows by the recipe's levels.
  [[nodiscard]] Factor recoded(const std::string& label, const Factor& factor) const;
  /// As the recipe has it, numbers or a factor.
  [[nodiscard]] Value of_recipe_type(const Variable& variable, Value value) const;
  [[noreturn]] void fail_at(const std::string& label, const std::string& what, std::size_t used_row) const;

  const Table& table_;
  const Formula& formula_;
  const FrameRecipe* recipe_ = nullptr;  ///< null: this is the fit's own data
  Transforms transforms_;
  std::map<std::string, Value> values_;
  std::map<std::string, Value> groups_;
  std::map<std::string, std::vector<std::string>> columns_of_;  ///< by label, of variables and grouping factors
  std::vector<std::string> columns_;                            ///< of the table, that are used
  std::vector<std::size_t> rows_;
};

/// The frame of a whole formula: response, fixed effects, random-effects terms and their grouping factors.
/// @throws FormulaError, ModelError, DataError
ModelFrame model_frame(const Formula& formula, const Table& table);

}  // namespace batchlmm
