#include <CLI/App.hpp>
#include <memory>

#include "batchlmm/error.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/bootstrap_arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/model_input.hpp"
#include "host/cli/output.hpp"
#include "host/cli/progress.hpp"
#include "host/inference/lrt.hpp"
#include "host/inference/lrt_report.hpp"
#include "host/inference/null_distribution_figure.hpp"

namespace batchlmm::cli {
namespace {

constexpr int plot_bins = 60;

struct LrtArguments {
  std::string null;
  std::string full;
  std::vector<std::string> rest;  ///< larger models, then the table
  ModelInput input;
  BootstrapArguments bootstrap;
  bool reml = false;
  std::string out;
  std::string plot;
  bool json = false;
  bool csv = false;
};

Outcome run_lrt(LrtArguments arguments) {
  BootstrapOptions options = bootstrap_options(arguments.bootstrap);
  options.method = arguments.reml ? Method::reml : Method::ml;
  options.warn = warn;
  options.out = arguments.out;
  std::vector<std::string> formulas{arguments.null, arguments.full};
  formulas.insert(formulas.end(), arguments.rest.begin(), arguments.rest.end() - 1);
  arguments.input.data = arguments.rest.back();
  if (!options.out.empty()) {
    if (options.replicates == 0) throw InputError("--out: keeps the replicates and needs --replicates, found none");
    if (formulas.size() != 2)
      throw InputError("--out: keeps the replicates of one test; expected two models, found " +
                       std::to_string(formulas.size()));
    check_output_file(options.out);
  }
  if (!arguments.plot.empty()) {
    if (options.replicates == 0) throw InputError("--plot: draws the replicates and needs --replicates, found none");
    check_plot_file(arguments.plot);
    options.bins = plot_bins;
  }
  for (std::string& formula : formulas) {
    formula = on_one_line(formula);
    parse_formula(formula);  // a slip in a formula shows before a large table is read
  }
  const ModelSource source(arguments.input);
  std::vector<std::shared_ptr<const ModelMatrices>> models;
  models.reserve(formulas.size());
  for (const std::string& formula : formulas) models.push_back(source.matrices(formula, true));
  Progress progress;
  if (progress.shown()) {
    options.progress = [&progress](std::uint64_t done, std::uint64_t total) { progress.update(done, total); };
  }
  const std::vector<LikelihoodRatioTest> tests = likelihood_ratio_chain(models, options);
  Outcome outcome = arguments.json ? lrt_json(tests) : arguments.csv ? lrt_csv(tests) : lrt_text(tests, source.name());
  outcome.failure = stopped_bootstrap(tests);
  if (!arguments.plot.empty()) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < tests.size(); ++i)
      names.push_back("m" + std::to_string(i + 1) + " against m" + std::to_string(i));
    svg::write_svg(arguments.plot, null_distribution_figure(tests, names));
  }
  return outcome;
}

}  // namespace

Run add_lrt_command(CLI::App& app) {
  auto arguments = std::make_shared<LrtArguments>();
  CLI::App* command = app.add_subcommand(
      "lrt",
      "Likelihood-ratio tests of nested models, each against the one before, with parametric-bootstrap p-values");
  command->add_option("NULL", arguments->null, "The smallest model's formula")->required()->option_text(" ");
  command->add_option("FULL", arguments->full, "A larger model's formula")->required()->option_text(" ");
  command
      ->add_option("DATA", arguments->rest,
                   "Still larger models' formulas, if any; then the table: CSV, Parquet, Arrow "
                   "IPC / Feather")
      ->required()
      ->option_text("...");
  add_coding_options(*command, arguments->input);
  command->add_flag("--reml", arguments->reml, "Fit by REML: tests of variance components (same fixed effects)");
  add_bootstrap_options(*command, arguments->bootstrap);
  command->add_option("--out", arguments->out, "Keep every replicate: FILE.parquet, .csv or .arrow")
      ->option_text("FILE");
  command->add_option("--plot", arguments->plot, "Draw the statistics' null distribution: FILE.svg")
      ->option_text("FILE");
  CLI::Option* json = command->add_flag("--json", arguments->json, "Print JSON in full precision");
  command->add_flag("--csv", arguments->csv, "Print a table with broom's column names")->excludes(json);
  return [arguments] { return run_lrt(*arguments); };
}

}  // namespace batchlmm::cli
