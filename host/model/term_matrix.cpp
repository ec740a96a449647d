#include "host/model/term_matrix.hpp"

#include <array>
#include <cstdio>
#include <utility>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

constexpr double kMaxElements = 2.5e8;  // 2 GB
constexpr double kMaxColumns = 20'000;

Contrast contrast_of(const Variable& variable, const Factor& factor, const ModelOptions& options) {
  for (const auto& [name, contrast] : options.contrasts)
    if (name == variable.label ||
        (variable.expression->kind == Expression::Kind::variable && name == variable.expression->name))
      return contrast;
  return factor.ordered ? options.ordered : options.unordered;
}

/// The coding of a variable in one term; of a numeric variable only the suffixes of its columns.
struct Part {
  const Factor* factor = nullptr;
  const NumericValue* numbers = nullptr;
  Coding coding;
  std::string label;
  [[nodiscard]] std::size_t columns() const { return coding.suffixes.size(); }
};

Part part_of(const Variable& variable, bool full, const ModelFrame& frame, const ModelOptions& options) {
  Part part;
  part.label = variable.label;
  const Value& value = frame.at(variable.label);
  part.factor = std::get_if<Factor>(&value);
  if (part.factor != nullptr) {
    part.coding =
        full ? full_coding(*part.factor) : contrast_coding(contrast_of(variable, *part.factor, options), *part.factor);
  } else {
    part.numbers = &std::get<NumericValue>(value);
    part.coding.suffixes = part.numbers->column_names;
    part.coding.suffixes.resize(static_cast<std::size_t>(part.numbers->values.cols()));
  }
  return part;
}

/// Writes the products of the parts' columns, the first part's column varying fastest.
void write_columns(const std::vector<Part>& parts, Eigen::Ref<Eigen::MatrixXd> to, std::vector<std::string>& names) {
  std::vector<std::size_t> column(parts.size(), 0);
  for (Eigen::Index c = 0; c < to.cols(); ++c) {
    auto target = to.col(c);
    std::string name;
    target.setOnes();
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Part& part = parts[i];
      const auto j = static_cast<Eigen::Index>(column[i]);
      name += (i > 0 ? ":" : "") + part.label + part.coding.suffixes[column[i]];
      if (part.factor != nullptr) {
        const std::vector<std::int32_t>& codes = part.factor->codes;
        for (Eigen::Index row = 0; row < target.size(); ++row)
          target[row] *= part.coding.matrix(codes[static_cast<std::size_t>(row)], j);
      } else {
        target.array() *= part.numbers->values.col(j).array();
      }
    }
    names.push_back(std::move(name));
    for (std::size_t i = 0; i < parts.size() && ++column[i] == parts[i].columns(); ++i) column[i] = 0;
  }
}

}  // namespace

TermMatrix term_matrix(Terms terms, const ModelFrame& frame, const ModelOptions& options, const std::string& where) {
  std::vector<bool> is_factor;
  for (const Variable& variable : terms.variables)
    is_factor.push_back(std::holds_alternative<Factor>(frame.at(variable.label)));
  if (!terms.intercept) code_without_intercept(terms, is_factor);

  const auto rows = static_cast<Eigen::Index>(frame.rows().size());
  // Sizes first: an interaction of large factors must be refused, not tried.
  double columns = terms.intercept ? 1 : 0;
  for (const Term& term : terms.terms) {
    double product = 1;
    for (std::size_t i = 0; i < term.variables.size(); ++i) {
      const Variable& variable = terms.variables[term.variables[i]];
      const Value& value = frame.at(variable.label);
      if (const auto* factor = std::get_if<Factor>(&value)) {
        if (factor->levels.size() < 2)
          throw ModelError("factor '" + variable.label + "' in the " + where + " has one level only, '" +
                           factor->levels.at(0) + "', in the " + std::to_string(rows) +
                           " rows used; expected two or more");
        product *= static_cast<double>(factor->levels.size() - (term.full[i] ? 0 : 1));
      } else {
        product *= static_cast<double>(std::get<NumericValue>(value).values.cols());
      }
    }
    columns += product;
  }
  if (columns > kMaxColumns || columns * static_cast<double>(rows) > kMaxElements) {
    std::array<char, 32> count{};
    std::snprintf(count.data(), count.size(), columns < 1e15 ? "%.0f" : "%.3g", columns);
    throw ModelError("the " + where + " make a matrix of " + std::to_string(rows) + " rows and " + count.data() +
                     " columns; at most 20000 columns and 250 million numbers are accepted");
  }

  TermMatrix result;
  result.values.resize(rows, static_cast<Eigen::Index>(columns));
  Eigen::Index at = 0;
  if (terms.intercept) {
    result.values.col(at++).setOnes();
    result.names.emplace_back("(Intercept)");
    result.assign.push_back(0);
  }
  for (std::size_t t = 0; t < terms.terms.size(); ++t) {
    const Term& term = terms.terms[t];
    std::vector<Part> parts;
    Eigen::Index width = 1;
    for (std::size_t i = 0; i < term.variables.size(); ++i) {
      parts.push_back(part_of(terms.variables[term.variables[i]], term.full[i], frame, options));
      width *= static_cast<Eigen::Index>(parts.back().columns());
    }
    write_columns(parts, result.values.middleCols(at, width), result.names);
    result.assign.resize(result.names.size(), static_cast<int>(t) + 1);
    at += width;
  }
  return result;
}

}  // namespace batchlmm
