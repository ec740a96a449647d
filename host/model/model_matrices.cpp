#include "host/model/model_matrices.hpp"

#include <string>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/data/factor.hpp"
#include "host/formula/deparse.hpp"
#include "host/formula/random_terms.hpp"
#include "host/formula/terms.hpp"
#include "host/model/fixed_effects.hpp"
#include "host/model/model_frame.hpp"
#include "host/model/random_effects.hpp"

namespace batchlmm {
namespace {

/// @throws FormulaError where the response is also a fixed effect
void check_response_is_left(const Variable& response, const Terms& fixed, const Formula& formula) {
  for (const Term& term : fixed.terms)
    for (const std::size_t v : term.variables)
      if (fixed.variables[v].label == response.label)
        throw FormulaError("the response '" + response.label + "' stands also among the fixed effects", formula.text,
                           fixed.variables[v].expression->position);
}

/// The only column of a numeric variable. @throws FormulaError
const Eigen::MatrixXd& single_column(const Variable& variable, const ModelFrame& frame, const Formula& formula,
                                     const std::string& role) {
  const Value& value = frame.at(variable.label);
  if (std::holds_alternative<Factor>(value))
    throw FormulaError("the " + role + " '" + variable.label + "' is a factor; expected a numeric column", formula.text,
                       variable.expression->position);
  const Eigen::MatrixXd& values = std::get<NumericValue>(value).values;
  if (values.cols() != 1)
    throw FormulaError(
        "the " + role + " '" + variable.label + "' has " + std::to_string(values.cols()) + " columns; expected one",
        formula.text, variable.expression->position);
  return values;
}

/// Misspelt names among the contrasts must not pass unnoticed; a variable of another formula may be named.
/// @throws ModelError
void check_contrast_names(const ModelOptions& options, const Table& table) {
  for (const auto& option : options.contrasts) {
    const std::string& name = option.first;
    if (table.find(name) != nullptr) continue;
    std::vector<std::string> columns;
    try {
      collect_columns(*parse_formula("y ~ " + name).right_hand_side, columns);
    } catch (const FormulaError&) {
      columns = {name};
    }
    for (const std::string& column : columns)
      if (table.find(column) == nullptr)
        throw ModelError("contrasts for '" + name + "': " + missing_column_message(table, column));
  }
}

}  // namespace

ModelMatrices model_matrices(const Formula& formula, const Table& table, const ModelOptions& options) {
  const Terms fixed = expand_terms(formula.fixed.get(), formula);
  const std::vector<RandomEffects> random = expand_random_terms(formula);
  if (random.empty() && !options.without_random_effects)
    throw ModelError("the formula has no random-effects term; expected at least one, as in (1 | group): '" +
                     formula.text + "'");
  const Variable response{deparse(*formula.response), formula.response};
  check_response_is_left(response, fixed, formula);
  check_contrast_names(options, table);

  const ModelFrame frame = model_frame(formula, table);
  ModelMatrices matrices;
  matrices.formula = deparse(formula);
  matrices.response = response.label;
  matrices.rows = frame.rows();
  matrices.rows_dropped = table.rows - matrices.rows.size();
  matrices.y = single_column(response, frame, formula, "response").col(0);
  if (matrices.y.minCoeff() == matrices.y.maxCoeff())
    throw ModelError("the response '" + response.label + "' is constant: " + format_number(matrices.y[0]) +
                     " in each of the " + std::to_string(matrices.y.size()) + " rows used");
  matrices.offset = Eigen::VectorXd::Zero(matrices.y.size());
  for (const std::size_t v : fixed.offsets)
    matrices.offset += single_column(fixed.variables[v], frame, formula, "offset").col(0);

  FixedEffects effects = fixed_effects(fixed, frame, options);
  matrices.X = std::move(effects.X);
  matrices.x_names = std::move(effects.names);
  for (const Term& term : fixed.terms) matrices.x_terms.push_back(fixed.label(term));
  matrices.x_assign = std::move(effects.assign);
  matrices.dropped_columns = std::move(effects.dropped_columns);
  matrices.random = random_effects(random, frame, options);
  return matrices;
}

}  // namespace batchlmm
