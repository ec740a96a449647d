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
#include "host/inference/fit_tidy.hpp"
#include "host/inference/summary.hpp"
#include "host/model/small_sample.hpp"

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
  bool csv = false;
  std::string conf;
  std::vector<std::string> effects;
  std::string ddf = "none";
};

/// Which rows the tidy table has.
FitTidyOptions tidy_options(const FitArguments& arguments) {
  if (!arguments.csv && (!arguments.conf.empty() || !arguments.effects.empty()))
    throw InputError(std::string(arguments.conf.empty() ? "--effects" : "--conf") +
                     ": is about the table of --csv, found none");
  FitTidyOptions options;
  options.ran_vals = arguments.ranef;
  if (!arguments.conf.empty()) options.confidence = probability("--conf", arguments.conf);
  if (arguments.effects.empty()) return options;
  options.fixed = options.ran_pars = options.ran_vals = false;
  for (const std::string& name : split_lists("--effects", arguments.effects)) {
    if (name == "fixed")
      options.fixed = true;
    else if (name == "ran_pars")
      options.ran_pars = true;
    else if (name == "ran_vals")
      options.ran_vals = true;
    else
      throw InputError("--effects: expected fixed, ran_pars or ran_vals, found '" + name + "'");
  }
  return options;
}

std::string run_fit(const FitArguments& arguments) {
  std::optional<SmallSample> ddf;
  if (arguments.ddf != "none") ddf = small_sample_of_name(arguments.ddf);
  if (ddf == SmallSample::kenward_roger && arguments.ml)
    throw InputError("--ddf kenward-roger: expected a fit by REML, found --ml");
  const FitTidyOptions tidy = tidy_options(arguments);
  const std::string formula = on_one_line(arguments.formula);
  parse_formula(formula);  // a slip in the formula shows before a large table is read
  const ModelSource source(arguments.input);
  const Fit result = fit(source.matrices(formula), arguments.ml ? Method::ml : Method::reml, warn);
  std::optional<SmallSampleTests> tests;
  if (ddf) tests.emplace(result, *ddf);
  const SmallSampleTests* used = tests ? &*tests : nullptr;
  if (arguments.csv) return tidy_csv(fit_tidy(result, tidy, used));
  if (arguments.json) {
    std::optional<JointCovariance> joint;
    if (arguments.ranef) joint.emplace(result);
    return fit_json(result, used, joint ? &*joint : nullptr);
  }
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
  CLI::Option* json = command->add_flag("--json", arguments->json,
                                        "Print JSON in full precision; with --ranef the modes' standard errors");
  command->add_flag("--csv", arguments->csv, "Print a tidy table: broom.mixed's tidy")->excludes(json);
  command
      ->add_option("--effects", arguments->effects,
                   "Rows of --csv: fixed, ran_pars (both by default), ran_vals (by default with --ranef)")
      ->allow_extra_args(false)
      ->option_text("A,B,...");
  command->add_option("--conf", arguments->conf, "Wald intervals in --csv, of this level (0.95)")->option_text("P");
  return [arguments] { return run_fit(*arguments); };
}

}  // namespace batchlmm::cli
