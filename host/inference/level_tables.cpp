#include "host/inference/level_tables.hpp"

#include <algorithm>

namespace batchlmm {
namespace {

Eigen::Index column_of(const std::vector<std::string>& columns, const std::string& name) {
  return std::find(columns.begin(), columns.end(), name) - columns.begin();
}

}  // namespace

std::vector<LevelTable> by_group(const ModelMatrices& model, const std::vector<Eigen::MatrixXd>& values) {
  std::vector<LevelTable> tables;
  const auto& terms = model.random;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    auto table = std::find_if(tables.begin(), tables.end(),
                              [&](const LevelTable& earlier) { return earlier.group == terms[i].group; });
    if (table == tables.end()) {
      tables.push_back({terms[i].group, terms[i].levels, terms[i].names, values[i]});
      continue;
    }
    table->columns.insert(table->columns.end(), terms[i].names.begin(), terms[i].names.end());
    Eigen::MatrixXd both(table->values.rows(), table->values.cols() + values[i].cols());
    both << table->values, values[i];
    table->values = std::move(both);
  }
  return tables;
}

std::vector<LevelTable> conditional_modes(const Fit& fit) { return by_group(*fit.model, fit.modes); }

std::vector<LevelTable> level_coefficients(const Fit& fit) {
  std::vector<LevelTable> tables = conditional_modes(fit);
  const auto& fixed = fit.model->x_names;
  std::vector<std::string> columns;
  for (const auto& table : tables) {
    for (const auto& name : table.columns) {
      const bool known = std::find(fixed.begin(), fixed.end(), name) != fixed.end() ||
                         std::find(columns.begin(), columns.end(), name) != columns.end();
      if (!known) columns.push_back(name);
    }
  }
  const auto random_only = static_cast<Eigen::Index>(columns.size());
  columns.insert(columns.end(), fixed.begin(), fixed.end());

  for (auto& table : tables) {
    Eigen::MatrixXd values = Eigen::MatrixXd::Zero(table.values.rows(), static_cast<Eigen::Index>(columns.size()));
    values.rightCols(values.cols() - random_only).rowwise() = fit.beta.transpose();
    for (std::size_t j = 0; j < table.columns.size(); ++j) {
      values.col(column_of(columns, table.columns[j])) += table.values.col(static_cast<Eigen::Index>(j));
    }
    table.values = std::move(values);
    table.columns = columns;
  }
  return tables;
}

std::string term_label(const RandomTerm& term) {
  const bool intercept = !term.names.empty() && term.names.front() == "(Intercept)";
  std::string label = intercept ? "(1" : "(0";
  for (std::size_t i = intercept ? 1 : 0; i < term.names.size(); ++i) label += " + " + term.names[i];
  return label + " | " + term.group + ")";
}

}  // namespace batchlmm
