#include "host/cli/fit_input.hpp"

#include <CLI/App.hpp>

#include "host/cli/arguments.hpp"
#include "host/cli/output.hpp"
#include "host/formula/formula.hpp"

namespace batchlmm::cli {

void add_fit_input(CLI::App& command, FitInput& input) {
  command.add_option("FORMULA", input.formula, "Model: 'y ~ x + (1 + x | group)'")->required()->option_text(" ");
  add_model_input(command, input.model);
  CLI::Option* ml = command.add_flag("--ml", input.ml, "Maximum likelihood");
  command.add_flag("--reml", input.reml, "REML (the default)")->excludes(ml);
}

namespace {

/// A slip in the formula shows before a large table is read.
std::string checked(const std::string& formula) {
  std::string line = on_one_line(formula);
  parse_formula(line);
  return line;
}

}  // namespace

FittedModel::FittedModel(const FitInput& input)
    : formula_(checked(input.formula)),
      source_(input.model),
      matrices_(source_.matrices(formula_)),
      fit_(batchlmm::fit(matrices_, input.ml ? Method::ml : Method::reml, warn)) {}

NewData FittedModel::new_data() const {
  return {parse_formula(formula_), source_.table(), source_.options(), matrices_};
}

}  // namespace batchlmm::cli
