#include "host/cli/model_input.hpp"

#include <CLI/App.hpp>
#include <optional>

#include "batchlmm/error.hpp"
#include "host/cli/arguments.hpp"
#include "host/data/read.hpp"

namespace batchlmm::cli {
namespace {

Contrast contrast_of(const std::string& name, const std::string& argument) {
  if (name == "treatment") return Contrast::treatment;
  if (name == "sum") return Contrast::sum;
  if (name == "helmert") return Contrast::helmert;
  if (name == "polynomial" || name == "poly") return Contrast::polynomial;
  throw InputError("--contrasts: expected treatment, sum, helmert or polynomial, found '" + name + "' in '" + argument +
                   "'");
}

ModelOptions model_options(const ModelInput& input) {
  ModelOptions options;
  for (const auto& argument : split_lists("--contrasts", input.contrasts)) {
    const auto equals = argument.rfind('=');
    if (equals == std::string::npos) {
      options.unordered = contrast_of(argument, argument);
    } else {
      options.contrasts.emplace_back(argument.substr(0, equals), contrast_of(argument.substr(equals + 1), argument));
    }
  }
  return options;
}

Table table_of(const ModelInput& input) {
  ReadOptions options;
  options.factors = split_lists("--factor", input.factors);
  return read_table(input.data, options);
}

/// Some rows of a table.
Table table_of_rows(const Table& table, const std::vector<std::size_t>& rows) {
  Table out = table;
  out.rows = rows.size();
  const auto chosen = [&](const auto& values) {
    std::decay_t<decltype(values)> some;
    some.reserve(rows.size());
    for (const std::size_t row : rows) some.push_back(values[row]);
    return some;
  };
  for (Column& column : out.columns) {
    if (auto* factor = std::get_if<Factor>(&column.data))
      factor->codes = chosen(factor->codes);
    else
      column.data = chosen(std::get<Numeric>(column.data));
  }
  return out;
}

}  // namespace

void add_model_input(CLI::App& command, ModelInput& input) {
  command.add_option("DATA", input.data, "Table: CSV, Parquet, Arrow IPC / Feather")->required()->option_text(" ");
  add_coding_options(command, input);
}

void add_coding_options(CLI::App& command, ModelInput& input) {
  command.add_option("--factor", input.factors, "Columns to read as factors")
      ->allow_extra_args(false)
      ->option_text("A,B,...");
  command
      .add_option(
          "--contrasts", input.contrasts,
          "Coding of factors: treatment (default), sum, helmert or polynomial; without A= for all unordered ones")
      ->allow_extra_args(false)
      ->option_text("[A=]sum,...");
}

ModelSource::ModelSource(const ModelInput& input)
    : factors_(split_lists("--factor", input.factors)), options_(model_options(input)), table_(table_of(input)) {
  for (const auto& choice : options_.contrasts) {
    if (table_.find(choice.first) == nullptr) {
      throw DataError("--contrasts: no column '" + choice.first + "' in " + input.data);
    }
  }
  name_ = input.data.substr(input.data.find_last_of('/') + 1);
}

Table ModelSource::read_other(const std::string& path) const {
  Table table = read_table(path);
  ReadOptions options;
  for (const std::string& name : factors_)
    if (table.find(name) != nullptr) options.factors.push_back(name);
  return options.factors.empty() ? table : read_table(path, options);
}

std::shared_ptr<const ModelMatrices> ModelSource::matrices(const std::string& formula,
                                                           bool without_random_effects) const {
  ModelOptions options = options_;
  options.without_random_effects = without_random_effects;
  return std::make_shared<const ModelMatrices>(model_matrices(parse_formula(formula), table_, options));
}

std::shared_ptr<const ModelMatrices> ModelSource::matrices_on_rows(const std::string& formula,
                                                                   const ModelMatrices& like) const {
  const auto on_all = matrices(formula, true);
  if (on_all->rows == like.rows) return on_all;
  ModelOptions options = options_;
  options.without_random_effects = true;
  auto on_rows = std::make_shared<ModelMatrices>(
      model_matrices(parse_formula(formula), table_of_rows(table_, like.rows), options));
  on_rows->rows = like.rows;
  on_rows->rows_dropped = like.rows_dropped;
  return on_rows;
}

std::vector<TermHypothesis> ModelSource::hypotheses(const std::string& formula, const ModelMatrices& model,
                                                    TermTestType type) const {
  return term_hypotheses(parse_formula(formula), table_, options_, model, type);
}

}  // namespace batchlmm::cli
