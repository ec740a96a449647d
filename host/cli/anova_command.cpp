#include <CLI/App.hpp>
#include <memory>

#include "batchlmm/error.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/model_input.hpp"
#include "host/cli/output.hpp"
#include "host/inference/term_tests.hpp"

namespace batchlmm::cli {
namespace {

struct AnovaArguments {
  std::string formula;
  ModelInput input;
  std::string type = "III";
  std::string ddf = "satterthwaite";
  std::vector<std::string> contrasts;
  std::string level = "0.95";
  bool ml = false;
  bool reml = false;
  bool json = false;
  bool csv = false;
};

TermTestType type_of(const std::string& name) {
  if (name == "I" || name == "1") return TermTestType::one;
  if (name == "II" || name == "2") return TermTestType::two;
  if (name == "III" || name == "3") return TermTestType::three;
  throw InputError("--type: expected I, II or III, found '" + name + "'");
}

std::string run_anova(const AnovaArguments& arguments) {
  const TermTestType type = type_of(arguments.type);
  const SmallSample method = small_sample_of_name(arguments.ddf);
  if (method == SmallSample::kenward_roger && arguments.ml)
    throw InputError("--ddf kenward-roger: expected a fit by REML, found --ml");
  const double level = probability("--level", arguments.level);
  const std::string formula = on_one_line(arguments.formula);
  parse_formula(formula);  // a slip in the formula shows before a large table is read
  const ModelSource source(arguments.input);
  auto matrices = source.matrices(formula);
  const auto hypotheses = source.hypotheses(formula, *matrices, type);
  const TermTests tests = test_terms(fit(std::move(matrices), arguments.ml ? Method::ml : Method::reml, warn),
                                     hypotheses, type, method, arguments.contrasts, level);
  return arguments.json ? term_tests_json(tests) : arguments.csv ? term_tests_csv(tests) : term_tests_text(tests);
}

}  // namespace

Run add_anova_command(CLI::App& app) {
  auto arguments = std::make_shared<AnovaArguments>();
  CLI::App* command = app.add_subcommand(
      "anova",
      "F tests of the fixed-effects terms (types I, II, III) and of contrasts, with small-sample degrees of freedom");
  command->add_option("FORMULA", arguments->formula, "Model: 'y ~ x + (1 + x | group)'")->required()->option_text(" ");
  add_model_input(*command, arguments->input);
  command->add_option("--type", arguments->type, "I (sequential), II or III (default)")->option_text("T");
  command->add_option("--ddf", arguments->ddf, "satterthwaite (default) or kenward-roger")->option_text("M");
  command
      ->add_option("--contrast", arguments->contrasts,
                   "Linear contrast of coefficients, 'a - (b + c) / 2' or '0, 1, -1'; rows of a joint test by ';'")
      ->allow_extra_args(false)
      ->option_text("TEXT");
  command->add_option("--level", arguments->level, "Level of the contrasts' intervals (default 0.95)")
      ->option_text("P");
  CLI::Option* ml = command->add_flag("--ml", arguments->ml, "Maximum likelihood");
  command->add_flag("--reml", arguments->reml, "REML (the default)")->excludes(ml);
  CLI::Option* json = command->add_flag("--json", arguments->json, "Print JSON in full precision");
  command->add_flag("--csv", arguments->csv, "Print a tidy table")->excludes(json);
  return [arguments] { return run_anova(*arguments); };
}

}  // namespace batchlmm::cli
