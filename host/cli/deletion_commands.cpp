// `ranova` and `drop1`: tests of single terms.
#include <CLI/App.hpp>
#include <memory>

#include "batchlmm/error.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/bootstrap_arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/model_input.hpp"
#include "host/cli/output.hpp"
#include "host/cli/progress.hpp"
#include "host/inference/deletion_tests.hpp"
#include "host/inference/deletion_tests_report.hpp"
#include "host/inference/r_formula.hpp"

namespace batchlmm::cli {
namespace {

struct DeletionArguments {
  std::string formula;
  ModelInput input;
  BootstrapArguments bootstrap;
  bool ml = false;     ///< of ranova
  bool whole = false;  ///< of ranova
  bool json = false;
  bool csv = false;
};

Outcome run_deletions(const DeletionArguments& arguments, DeletionLayout layout) {
  const bool random = layout == DeletionLayout::ranova;
  BootstrapOptions options = bootstrap_options(arguments.bootstrap);
  options.method = random && !arguments.ml ? Method::reml : Method::ml;
  options.warn = warn;
  const std::string text = on_one_line(arguments.formula);
  const Formula formula = parse_formula(text);
  const std::vector<TermDeletion> deletions =
      random ? random_term_deletions(formula, !arguments.whole) : fixed_term_deletions(formula);
  const ModelSource source(arguments.input);
  const auto full = source.matrices(text);
  if (deletions.empty()) throw ModelError("\"" + full->formula + "\" has no fixed-effects term that could be dropped");
  Progress progress;
  if (progress.shown()) {
    options.progress = [&progress](std::uint64_t done, std::uint64_t total) { progress.update(done, total); };
  }
  const DeletionTests tests = deletion_tests(
      full, deletions, [&](const std::string& of) { return source.matrices_on_rows(of, *full); }, options);
  std::string shown = written_out(formula);
  if (!random) {
    shown.clear();
    for (const std::string& line : r_deparse(full->formula)) shown += (shown.empty() ? "" : "\n") + line;
  }
  Outcome outcome = arguments.json  ? deletion_tests_json(tests, random ? shown : r_formula(full->formula))
                     : arguments.csv ? deletion_tests_csv(tests)
                                    : deletion_tests_text(tests, layout, shown);
  std::vector<LikelihoodRatioTest> done;
  for (const DeletionTest& term : tests.terms)
    if (term.test) done.push_back(*term.test);
  outcome.failure = stopped_bootstrap(done);
  return outcome;
}

/// What both commands have.
void add_common(CLI::App& command, DeletionArguments& arguments) {
  command.add_option("FORMULA", arguments.formula, "Model: 'y ~ x + (1 + x | group)'")->required()->option_text(" ");
  add_model_input(command, arguments.input);
}
void add_bootstrap_and_output(CLI::App& command, DeletionArguments& arguments) {
  add_bootstrap_options(command, arguments.bootstrap);
  CLI::Option* json = command.add_flag("--json", arguments.json, "Print JSON in full precision");
  command.add_flag("--csv", arguments.csv, "Print a table with broom's column names")->excludes(json);
}

}  // namespace

Run add_ranova_command(CLI::App& app) {
  auto arguments = std::make_shared<DeletionArguments>();
  CLI::App* command = app.add_subcommand(
      "ranova",
      "Test each random-effects term: the model without it, or with one of its effects less, as lmerTest does");
  add_common(*command, *arguments);
  command->add_flag("--ml", arguments->ml, "Maximum likelihood in place of REML");
  command->add_flag("--whole-terms", arguments->whole, "Remove terms as a whole instead of reducing them");
  add_bootstrap_and_output(*command, *arguments);
  return [arguments] { return run_deletions(*arguments, DeletionLayout::ranova); };
}

Run add_drop1_command(CLI::App& app) {
  auto arguments = std::make_shared<DeletionArguments>();
  CLI::App* command = app.add_subcommand(
      "drop1", "Test each fixed-effects term that no other one contains by a likelihood ratio (maximum likelihood)");
  add_common(*command, *arguments);
  add_bootstrap_and_output(*command, *arguments);
  return [arguments] { return run_deletions(*arguments, DeletionLayout::drop1); };
}

}  // namespace batchlmm::cli
