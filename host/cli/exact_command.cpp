#include <CLI/App.hpp>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/model_input.hpp"
#include "host/cli/output.hpp"
#include "host/cli/progress.hpp"
#include "host/formula/deparse.hpp"
#include "host/inference/exact.hpp"
#include "host/inference/exact_report.hpp"

namespace batchlmm::cli {
namespace {

struct ExactArguments {
  std::string formula;
  ModelInput input;
  std::string null;
  bool ml = false;
  std::string draws = "1000000";
  std::string seed = "1";
  std::string threads;
  std::string out;
  std::string plot;
  bool json = false;
  bool csv = false;
};

/// "y ~ x" of "y ~ x + (1 | g)"
std::string fixed_part(const std::string& text) {
  const Formula formula = parse_formula(text);
  return deparse(*formula.response) + " ~ " + (formula.fixed ? deparse(*formula.fixed) : "1");
}

std::string run_exact(const ExactArguments& arguments) {
  constexpr std::uint64_t most_threads = 4096;
  ExactOptions options;
  if (arguments.ml) options.method = Method::ml;
  options.draws = whole_number("--replicates", arguments.draws, 1);
  options.seed = whole_number("--seed", arguments.seed);
  if (!arguments.threads.empty())
    options.threads = static_cast<int>(whole_number("--threads", arguments.threads, 1, most_threads));
  if (!arguments.out.empty()) check_output_file(arguments.out);
  if (!arguments.plot.empty()) check_plot_file(arguments.plot);
  options.keep = !arguments.out.empty() || !arguments.plot.empty();
  const std::string formula = on_one_line(arguments.formula), null = on_one_line(arguments.null);
  parse_formula(formula);  // a slip in a formula shows before a large table is read
  if (!null.empty() && !parse_formula(null).random.empty())
    throw InputError("--null: expected fixed effects only, found a random-effects term in \"" + null + "\"");
  const ModelSource source(arguments.input);
  auto full = source.matrices(formula);
  // The null's fixed effects are read beside the model's random effects: rows are then the same.
  std::shared_ptr<const ModelMatrices> smaller;
  if (!null.empty() && full->random.size() == 1) smaller = source.matrices(null + " + (" + full->random[0].text + ")");
  Progress progress;
  if (progress.shown())
    options.progress = [&progress](std::uint64_t done, std::uint64_t total) { progress.update(done, total); };
  ExactTest test = exact_test(std::move(full), smaller, options);
  test.null = fixed_part(null.empty() ? formula : null);
  if (!arguments.out.empty()) write_draws(test, arguments.out);
  if (!arguments.plot.empty()) svg::write_svg(arguments.plot, exact_figure(test));
  if (arguments.json) return exact_json(test);
  return arguments.csv ? exact_csv(test) : exact_text(test, source.name());
}

}  // namespace

Run add_exact_command(CLI::App& app) {
  auto arguments = std::make_shared<ExactArguments>();
  CLI::App* command =
      app.add_subcommand("exact", "Exact (restricted) likelihood-ratio test of a model's one variance component");
  command->add_option("FORMULA", arguments->formula, "Model: 'y ~ x + (1 | group)'")->required()->option_text(" ");
  add_model_input(*command, arguments->input);
  command->add_option("--null", arguments->null, "Null with fewer fixed effects, which are tested too (by ML): 'y ~ 1'")
      ->option_text("FORMULA");
  command->add_flag("--ml", arguments->ml, "Likelihood-ratio statistic by ML (default: restricted, by REML)");
  command->add_option("--replicates", arguments->draws, "Draws from the null distribution (default 1000000)")
      ->option_text("N");
  command->add_option("--seed", arguments->seed, "Seed of the random numbers (default 1)")->option_text("S");
  command->add_option("--threads", arguments->threads, "CPU threads (default: all cores)")->option_text("T");
  command->add_option("--out", arguments->out, "Keep every draw: FILE.parquet, .csv or .arrow")->option_text("FILE");
  command->add_option("--plot", arguments->plot, "Draw the null distribution: FILE.svg")->option_text("FILE");
  CLI::Option* json = command->add_flag("--json", arguments->json, "Print JSON in full precision");
  command->add_flag("--csv", arguments->csv, "Print a row of CSV with broom.mixed's columns")->excludes(json);
  return [arguments] { return run_exact(*arguments); };
}

}  // namespace batchlmm::cli
