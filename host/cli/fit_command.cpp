#include <CLI/App.hpp>
#include <memory>
#include <optional>

#include "batchlmm/error.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/model_input.hpp"
#include "host/cli/output.hpp"
#include "host/inference/fit.hpp"
#include "host/inference/fit_json.hpp"
#include "host/inference/small_sample.hpp"
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
  std::string ddf = "none";
};

std::string run_fit(const FitArguments& arguments) {
  const std::optional<SmallSample> ddf =
      arguments.ddf == "none" ? std::nullopt : std::optional(small_sample_of_name(arguments.ddf));
  if (ddf == SmallSample::kenward_roger && arguments.ml)
    throw InputError("--ddf kenward-roger: expected a fit by REML, found --ml");
  const std::string formula = on_one_line(arguments.formula);
  parse_formula(formula);  // a slip in the formula shows before a large table is read
  const ModelSource source(arguments.input);
  const Fit result = fit(source.matrices(formula), arguments.ml ? Method::ml : Method::reml, warn);
  std::optional<SmallSampleTests> tests;
  if (ddf) tests.emplace(result, *ddf);
  const SmallSampleTests* used = tests ? &*tests : nullptr;
  if (arguments.json) return fit_json(result, used);
  std::string text = summary_text(result, source.name(), used);
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
  command
      ->add_option(
          "--ddf", arguments->ddf,
          "Degrees of freedom and p-values of the fixed effects: satterthwaite or kenward-roger (default none)")
      ->option_text("M");
  command->add_flag("--ranef", arguments->ranef, "Print the conditional modes as well");
  command->add_flag("--coef", arguments->coef, "Print the coefficients per level as well");
  command->add_flag("--json", arguments->json, "Print JSON in full precision");
  return [arguments] { return run_fit(*arguments); };
}

}  // namespace batchlmm::cli
