#include <CLI/App.hpp>
#include <memory>

#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/model_input.hpp"
#include "host/cli/output.hpp"
#include "host/inference/fit.hpp"
#include "host/inference/fit_json.hpp"
#include "host/inference/summary.hpp"

namespace batchlmm::cli {
namespace {

struct FitArguments {
  std::string formula;
  ModelInput input;
  bool ml = false;
  bool reml = false;
  bool ranef = false;
  bool coef = false;
  bool json = false;
};

std::string run_fit(const FitArguments& arguments) {
  const std::string formula = on_one_line(arguments.formula);
  parse_formula(formula);  // a slip in the formula shows before a large table is read
  const ModelSource source(arguments.input);
  const Fit result = fit(source.matrices(formula), arguments.ml ? Method::ml : Method::reml, warn);
  if (arguments.json) return fit_json(result);
  std::string text = summary_text(result, source.name());
  if (arguments.ranef) text += "\nConditional modes (ranef):\n" + ranef_text(result);
  if (arguments.coef) text += "\nCoefficients per level (coef):\n" + coef_text(result);
  return text;
}

}  // namespace

Run add_fit_command(CLI::App& app) {
  auto arguments = std::make_shared<FitArguments>();
  CLI::App* command = app.add_subcommand("fit", "Fit a linear mixed model and print what lme4's summary prints");
  command->add_option("FORMULA", arguments->formula, "Model: 'y ~ x + (1 + x | group)'")->required()->option_text(" ");
  add_model_input(*command, arguments->input);
  CLI::Option* ml = command->add_flag("--ml", arguments->ml, "Maximum likelihood");
  command->add_flag("--reml", arguments->reml, "REML (the default)")->excludes(ml);
  command->add_flag("--ranef", arguments->ranef, "Print the conditional modes as well");
  command->add_flag("--coef", arguments->coef, "Print the coefficients per level as well");
  command->add_flag("--json", arguments->json, "Print JSON in full precision");
  return [arguments] { return run_fit(*arguments); };
}

}  // namespace batchlmm::cli
