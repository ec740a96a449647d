#include "host/inference/bootstrap_quantities.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

#include "batchlmm/error.hpp"
#include "host/data/nearest_name.hpp"
#include "host/inference/contrast_text.hpp"
#include "host/model/evaluate.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\n"), last = text.find_last_not_of(" \t\n");
  return first == std::string_view::npos ? "" : std::string(text.substr(first, last - first + 1));
}

/// The first '=' that stands outside of backquotes and parentheses.
std::size_t equals_sign(const std::string& text) {
  bool quoted = false;
  int depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && quoted)
      ++i;
    else if (text[i] == '`')
      quoted = !quoted;
    else if (!quoted && (text[i] == '(' || text[i] == ')'))
      depth += text[i] == '(' ? 1 : -1;
    else if (!quoted && depth == 0 && text[i] == '=')
      return i;
  }
  return std::string::npos;
}

/// Functions of formulas that look at all values of a column, or make none: they have no place here.
const Expression* column_function(const Expression& e) {
  constexpr std::array<std::string_view, 6> names{"scale", "poly", "factor", "as.factor", "ordered", "offset"};
  if (e.kind == Expression::Kind::call && std::find(names.begin(), names.end(), e.name) != names.end()) return &e;
  for (const auto& argument : e.arguments)
    if (const Expression* found = column_function(*argument)) return found;
  return nullptr;
}

/// Columns of theta that hold a term's lambda.
struct ThetaColumns {
  Index first = 0, k = 0;
  [[nodiscard]] Index at(Index row, Index column) const {
    return first + column * k - column * (column - 1) / 2 + row - column;
  }
};

std::vector<ThetaColumns> theta_columns(const ModelMatrices& model) {
  std::vector<ThetaColumns> out;
  Index first = 0;
  for (const RandomTerm& term : model.random) {
    const Index k = term.z.cols();
    out.push_back({first, k});
    first += k * (k + 1) / 2;
  }
  return out;
}

}  // namespace

void ParameterRows::resize(Index rows, Index p, Index m) {
  beta.resize(rows, p);
  theta.resize(rows, m);
  sigma.resize(rows);
}

std::vector<std::string> theta_labels(const ModelMatrices& model) {
  std::vector<std::string> out;
  for (const RandomTerm& term : model.random)
    for (std::size_t j = 0; j < term.names.size(); ++j)
      for (std::size_t i = j; i < term.names.size(); ++i)
        out.push_back(fmt::format("theta_{}{}|{}", i == j ? "" : term.names[i] + ".", term.names[j], term.group));
  return out;
}

BootstrapQuantities::BootstrapQuantities(const ModelMatrices& model, bool theta,
                                         const std::vector<std::string>& contrasts,
                                         const std::vector<std::string>& expressions)
    : model_(model), parameters_(model_parameters(model)), theta_(theta), theta_labels_(theta_labels(model)) {
  const Index p = model.X.cols();
  for (const Parameter& parameter : parameters_) {
    Quantity& q =
        list_.emplace_back(Quantity{parameter.label, parameter.effect, parameter.group, parameter.tidy_term, {}});
    if (parameter.kind == ParameterKind::fixed) q.contrast = VectorXd::Unit(p, parameter.row);
  }
  if (theta)
    for (const std::string& label : theta_labels_) {
      const auto bar = label.rfind('|');
      list_.push_back({label, "ran_pars", label.substr(bar + 1), label.substr(0, bar).replace(0, 6, "theta__"), {}});
    }
  for (const std::string& text : contrasts) {
    const MatrixXd rows = contrast_matrix(text, model.x_names);
    std::string_view left = text;
    for (Index i = 0; i < rows.rows(); ++i) {
      // A row goes up to the next semicolon outside of backquotes.
      std::size_t end = 0;
      bool quoted = false;
      while (end < left.size() && (quoted || left[end] != ';')) {
        if (left[end] == '\\' && quoted)
          ++end;
        else if (left[end] == '`')
          quoted = !quoted;
        ++end;
      }
      end = std::min(end, left.size());
      list_.push_back(
          {trimmed(left.substr(0, end)), "contrast", "", trimmed(left.substr(0, end)), rows.row(i).transpose()});
      left.remove_prefix(std::min(left.size(), end + 1));
      ++contrasts_;
    }
  }
  for (const std::string& text : expressions) add_expression(text);
}

void BootstrapQuantities::add_expression(const std::string& text) {
  const std::size_t equals = equals_sign(text);
  std::string name = trimmed(equals == std::string::npos ? text : text.substr(0, equals));
  const std::string right = trimmed(equals == std::string::npos ? text : text.substr(equals + 1));
  if (equals != std::string::npos && name.size() > 1 && name.front() == '`' && name.back() == '`')
    name = name.substr(1, name.size() - 2);
  if (name.empty() || right.empty()) throw InputError("--expr: expected NAME = EXPRESSION, found '" + text + "'");
  std::vector<std::string> known;
  for (const Parameter& parameter : parameters_) known.push_back(parameter.label);
  known.insert(known.end(), theta_labels_.begin(), theta_labels_.end());
  for (const Quantity& q : list_)
    if (q.label == name) throw InputError("--expr: expected a name that is not taken, found '" + name + "'");
  Formula formula;
  try {
    formula = parse_formula("`value` ~ " + right);
  } catch (const FormulaError& error) {
    throw InputError(fmt::format("--expr '{}': {}", right, error.what()));
  }
  if (!formula.random.empty())
    throw InputError("--expr '" + right + "': '|' outside of a name; expected it in backquotes");
  if (const Expression* found = column_function(*formula.right_hand_side))
    throw InputError("--expr '" + right + "': expected a function of numbers, found '" + found->name + "'");
  std::vector<std::string> used;
  collect_columns(*formula.right_hand_side, used);
  for (const std::string& column : used)
    if (std::find(known.begin(), known.end(), column) == known.end())
      throw InputError("--expr: no parameter '" + column + "'" + nearest_name_hint(column, known, "parameters"));
  if (used.empty()) throw InputError("--expr: '" + right + "' has no parameter in it; expected one of the model's");
  list_.push_back({name, "expression", "", name, {}});
  expressions_.push_back(std::move(formula));
  // A function that is not known shows at once.
  ParameterRows one;
  one.resize(1, model_.X.cols(), static_cast<Index>(theta_labels_.size()));
  one.beta.setOnes();
  one.theta.setOnes();
  one.sigma.setOnes();
  try {
    (void)values(one);
  } catch (const FormulaError& error) {
    throw InputError(fmt::format("--expr '{}': {}", right, error.what()));
  }
}

MatrixXd BootstrapQuantities::values(const ParameterRows& rows) const {
  const Index n = rows.sigma.size();
  MatrixXd out(n, static_cast<Index>(list_.size()));
  const std::vector<ThetaColumns> columns = theta_columns(model_);
  Index at = 0;
  const auto norm2 = [&](int term, Index row) {
    const ThetaColumns& t = columns[static_cast<std::size_t>(term)];
    Eigen::ArrayXd sum = Eigen::ArrayXd::Zero(n);
    for (Index c = 0; c <= row; ++c) sum += rows.theta.col(t.at(row, c)).array().square();
    return sum;
  };
  for (const Parameter& parameter : parameters_) {
    auto to = out.col(at++).array();
    switch (parameter.kind) {
      case ParameterKind::fixed:
        to = rows.beta.col(parameter.row).array();
        break;
      case ParameterKind::sigma:
        to = rows.sigma.array();
        break;
      case ParameterKind::sd:
        to = rows.sigma.array() * norm2(parameter.term, parameter.row).sqrt();
        break;
      case ParameterKind::correlation: {
        const ThetaColumns& t = columns[static_cast<std::size_t>(parameter.term)];
        Eigen::ArrayXd product = Eigen::ArrayXd::Zero(n);
        for (Index c = 0; c <= parameter.column; ++c)
          product += rows.theta.col(t.at(parameter.row, c)).array() * rows.theta.col(t.at(parameter.column, c)).array();
        // 0 / 0 where a variance is 0.
        to = product / (norm2(parameter.term, parameter.row).sqrt() * norm2(parameter.term, parameter.column).sqrt());
        break;
      }
    }
  }
  if (theta_)
    for (Index c = 0; c < rows.theta.cols(); ++c) out.col(at++) = rows.theta.col(c);
  for (std::size_t i = 0; i < contrasts_; ++i, ++at)
    out.col(at).noalias() = rows.beta * list_[static_cast<std::size_t>(at)].contrast;
  if (expressions_.empty()) return out;

  std::vector<std::string> used;
  for (const Formula& formula : expressions_) collect_columns(*formula.right_hand_side, used);
  const auto is_used = [&](const std::string& name) { return std::find(used.begin(), used.end(), name) != used.end(); };
  Table table;
  table.rows = static_cast<std::size_t>(n);
  const auto add = [&](const std::string& name, const auto& values) {
    if (is_used(name) && table.find(name) == nullptr)
      table.columns.push_back({name, Numeric(values.begin(), values.end())});
  };
  for (std::size_t i = 0; i < parameters_.size(); ++i) add(parameters_[i].label, out.col(static_cast<Index>(i)));
  for (std::size_t i = 0; i < theta_labels_.size(); ++i) add(theta_labels_[i], rows.theta.col(static_cast<Index>(i)));
  for (const Formula& formula : expressions_) {
    const Value value = evaluate(*formula.right_hand_side, table, formula);
    out.col(at++) = std::get<NumericValue>(value).values.col(0);
  }
  return out;
}

}  // namespace batchlmm
