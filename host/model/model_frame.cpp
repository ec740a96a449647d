#include "host/model/model_frame.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/data/factor.hpp"
#include "host/data/missing.hpp"
#include "host/data/nearest_name.hpp"
#include "host/formula/deparse.hpp"
#include "host/formula/random_terms.hpp"
#include "host/formula/terms.hpp"

namespace batchlmm {
namespace {

bool is_parenthesis(const Expression& e) { return e.kind == Expression::Kind::call && e.name == "("; }
bool is_interaction(const Expression& e) { return e.kind == Expression::Kind::binary && e.name == ":"; }

}  // namespace

void ModelFrame::use(const std::string& label, const Expression& expression) {
  std::vector<std::string>& names = columns_of_[label];
  collect_columns(expression, names);
  // A name that the table lacks is a constant such as TRUE: evaluation would have refused any other.
  std::erase_if(names, [&](const std::string& name) { return table_.find(name) == nullptr; });
  for (const std::string& name : names)
    if (std::find(columns_.begin(), columns_.end(), name) == columns_.end()) columns_.push_back(name);
}

void ModelFrame::add(const Variable& variable) {
  if (values_.contains(variable.label)) return;
  Value value = evaluate(*variable.expression, table_, formula_, transforms_);
  if (recipe_ != nullptr) value = of_recipe_type(variable, std::move(value));
  values_.emplace(variable.label, std::move(value));
  use(variable.label, *variable.expression);
}

Value ModelFrame::of_recipe_type(const Variable& variable, Value value) const {
  const bool factor_there = recipe_->factors.contains(variable.label);
  const auto* numbers = std::get_if<NumericValue>(&value);
  if (factor_there && numbers != nullptr && numbers->values.cols() == 1)
    return make_factor(Numeric(numbers->values.data(), numbers->values.data() + numbers->values.size()));
  if (!factor_there && numbers == nullptr)
    throw DataError("'" + variable.label + "' has text in " + table_.source +
                    "; expected numbers, as in the data of the fit");
  return value;
}

void ModelFrame::add(const Terms& terms) {
  for (const Variable& variable : terms.variables) add(variable);
}

// Recursion goes as deep as the tree, which the parser bounds.
void ModelFrame::add_group(const Expression& group) {
  if (is_parenthesis(group)) return add_group(*group.arguments[0]);
  if (is_interaction(group)) {
    add_group(*group.arguments[0]);
    return add_group(*group.arguments[1]);
  }
  std::string label = deparse(group);
  if (groups_.contains(label)) return;
  Value value = evaluate(group, table_, formula_, transforms_);
  if (const auto* numbers = std::get_if<NumericValue>(&value)) {
    if (numbers->values.cols() != 1)
      throw FormulaError("'" + label + "' has several columns and cannot be a grouping factor", formula_.text,
                         group.position);
    value = make_factor(Numeric(numbers->values.data(), numbers->values.data() + numbers->values.size()));
  }
  use(label, group);
  groups_.emplace(std::move(label), std::move(value));
}

void ModelFrame::fail_at(const std::string& label, const std::string& what, std::size_t used_row) const {
  const std::size_t row = rows_[used_row];
  std::string message = "'" + label + "' " + what + " in data row " + std::to_string(row + 1) + " of " + table_.source;
  std::string found;
  for (const std::string& name : columns_of_.at(label)) {
    const Column& column = table_.at(name);
    if (name == label || column.is_factor()) continue;
    found += (found.empty() ? " (" : ", ") + name + " = " + format_number(std::get<Numeric>(column.data)[row]);
  }
  throw DataError(message + (found.empty() ? "" : found + ")") + "; expected a finite value in every complete row");
}

Factor ModelFrame::recoded(const std::string& label, const Factor& factor) const {
  const Factor& known = recipe_->factors.at(label);
  std::vector<std::int32_t> code_of(factor.levels.size(), -1);
  for (std::size_t l = 0; l < factor.levels.size(); ++l) {
    const auto found = std::find(known.levels.begin(), known.levels.end(), factor.levels[l]);
    if (found != known.levels.end()) code_of[l] = static_cast<std::int32_t>(found - known.levels.begin());
  }
  Factor result{known.levels, {}, known.ordered};
  for (const std::size_t row : rows_) {
    const std::int32_t code = factor.codes[row];
    if (code >= 0 && code_of[static_cast<std::size_t>(code)] < 0)
      throw DataError("'" + label + "' is '" + factor.levels[static_cast<std::size_t>(code)] + "' in data row " +
                      std::to_string(row + 1) + " of " + table_.source + "; expected one of the fit's levels" +
                      nearest_name_hint(factor.levels[static_cast<std::size_t>(code)], known.levels, "levels"));
    result.codes.push_back(code < 0 ? -1 : code_of[static_cast<std::size_t>(code)]);
  }
  return result;
}

FrameRecipe ModelFrame::recipe() const {
  FrameRecipe recipe{transforms_, {}};
  for (const auto& [label, value] : values_)
    if (const auto* factor = std::get_if<Factor>(&value))
      recipe.factors.emplace(label, Factor{factor->levels, {}, factor->ordered});
  return recipe;
}

void ModelFrame::keep_rows(const std::string& label, Value& value, bool grouping) const {
  if (auto* factor = std::get_if<Factor>(&value)) {
    *factor = recipe_ != nullptr && !grouping ? recoded(label, *factor) : subset(*factor, rows_);
    const auto missing = std::find(factor->codes.begin(), factor->codes.end(), -1);
    if (missing != factor->codes.end())
      fail_at(label, "has no level", static_cast<std::size_t>(missing - factor->codes.begin()));
    return;
  }
  auto& numbers = std::get<NumericValue>(value);
  if (rows_.size() < table_.rows) {
    Eigen::MatrixXd kept(static_cast<Eigen::Index>(rows_.size()), numbers.values.cols());
    for (Eigen::Index j = 0; j < kept.cols(); ++j)
      for (Eigen::Index i = 0; i < kept.rows(); ++i)
        kept(i, j) = numbers.values(static_cast<Eigen::Index>(rows_[static_cast<std::size_t>(i)]), j);
    numbers.values = std::move(kept);
  }
  for (Eigen::Index j = 0; j < numbers.values.cols(); ++j) {
    for (Eigen::Index i = 0; i < numbers.values.rows(); ++i) {
      const double v = numbers.values(i, j);
      if (!std::isfinite(v))
        fail_at(label, std::isnan(v) ? "is not a number" : "is infinite", static_cast<std::size_t>(i));
    }
  }
}

void ModelFrame::finish() {
  rows_ = complete_cases(table_, columns_);
  if (rows_.empty() && recipe_ == nullptr) {
    std::string names;
    for (const std::string& name : columns_) names += (names.empty() ? "" : ", ") + name;
    throw ModelError("no rows are left: each of the " + std::to_string(table_.rows) + " rows of " + table_.source +
                     " has a missing value in one of " + names);
  }
  for (auto& [label, value] : values_) keep_rows(label, value, false);
  for (auto& [label, value] : groups_) keep_rows(label, value, true);
}

Factor ModelFrame::group(const Expression& group) const {
  if (is_parenthesis(group)) return this->group(*group.arguments[0]);
  if (is_interaction(group)) return interaction(this->group(*group.arguments[0]), this->group(*group.arguments[1]));
  return std::get<Factor>(groups_.at(deparse(group)));
}

ModelFrame model_frame(const Formula& formula, const Table& table) {
  ModelFrame frame(table, formula);
  frame.add(Variable{deparse(*formula.response), formula.response});
  frame.add(expand_terms(formula.fixed.get(), formula));
  for (const RandomEffects& term : expand_random_terms(formula)) {
    frame.add(term.effects);
    frame.add_group(*term.group);
  }
  frame.finish();
  return frame;
}

}  // namespace batchlmm
