#include <CLI/App.hpp>
#include <charconv>
#include <limits>
#include <memory>

#include "batchlmm/error.hpp"
#include "host/batch/tier.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/model_input.hpp"
#include "host/cli/output.hpp"
#include "host/cli/progress.hpp"
#include "host/inference/fit_bootstrap.hpp"
#include "host/inference/fit_bootstrap_report.hpp"

namespace batchlmm::cli {
namespace {

/// As given: numbers are read by `whole_number`, which says clearly what is wrong with one.
struct BootstrapArguments {
  std::string formula;
  ModelInput input;
  std::string type = "parametric";
  std::string replicates = "1000";
  std::string first = "0";
  std::string seed = "1";
  std::string level = "0.95";
  std::vector<std::string> intervals;
  std::vector<std::string> contrasts;
  std::vector<std::string> expressions;
  std::vector<std::string> cases;
  std::string weights;
  std::string correction;
  std::string reb_type;
  std::string backend = "auto";
  std::string tier = "auto";
  std::string threads;
  std::string out;
  std::string plot;
  bool ml = false, reml = false, theta = false, json = false, csv = false;
};

BackendChoice backend_of(const std::string& name) {
  if (name == "auto") return BackendChoice::automatic;
  if (name == "cpu") return BackendChoice::cpu;
  if (name == "cuda") return BackendChoice::cuda;
  throw InputError("--backend: expected auto, cpu or cuda, found '" + name + "'");
}

double level_of(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || stop != end || error != std::errc{} || !(value > 0 && value < 1))
    throw InputError("--level: expected a number between 0 and 1, found '" + text + "'");
  return value;
}

std::vector<IntervalKind> interval_kinds(const std::vector<std::string>& lists) {
  std::vector<IntervalKind> kinds;
  const auto add = [&](IntervalKind kind) {
    for (const IntervalKind known : kinds)
      if (known == kind) return;
    kinds.push_back(kind);
  };
  for (const std::string& name : split_lists("--interval", lists)) {
    if (name == "all") {
      for (const IntervalKind kind : {IntervalKind::percentile, IntervalKind::basic, IntervalKind::normal,
                                      IntervalKind::studentized, IntervalKind::bca, IntervalKind::shortest})
        add(kind);
    } else {
      add(interval_kind_of_name(name));
    }
  }
  if (kinds.empty()) kinds.push_back(IntervalKind::percentile);
  return kinds;
}

/// An option that belongs to one type of bootstrap. @throws InputError where it is given with another
void require_type(const char* option, bool given, BootstrapType needed, BootstrapType type) {
  if (given && type != needed)
    throw InputError(std::string(option) + ": belongs to --type " + bootstrap_type_name(needed) + ", found --type " +
                     bootstrap_type_name(type));
}

ResampleOptions resample_options(const BootstrapArguments& arguments, BootstrapType type) {
  using Weights = ResampleOptions::WildWeights;
  using Correction = ResampleOptions::Correction;
  ResampleOptions options;
  require_type("--case", !arguments.cases.empty(), BootstrapType::cases, type);
  require_type("--aux-dist", !arguments.weights.empty(), BootstrapType::wild, type);
  require_type("--hccme", !arguments.correction.empty(), BootstrapType::wild, type);
  require_type("--reb-type", !arguments.reb_type.empty(), BootstrapType::block, type);
  options.cases = split_lists("--case", arguments.cases);
  const std::string& weights = arguments.weights;
  if (weights == "rademacher")
    options.weights = Weights::rademacher;
  else if (weights == "webb")
    options.weights = Weights::webb;
  else if (weights == "norm" || weights == "normal")
    options.weights = Weights::normal;
  else if (!weights.empty() && weights != "mammen")
    throw InputError("--aux-dist: expected mammen, rademacher, webb or normal, found '" + weights + "'");
  if (arguments.correction == "hc2")
    options.correction = Correction::hc2;
  else if (!arguments.correction.empty() && arguments.correction != "hc3")
    throw InputError("--hccme: expected hc2 or hc3, found '" + arguments.correction + "'");
  if (!arguments.reb_type.empty())
    options.reb_type = static_cast<int>(whole_number("--reb-type", arguments.reb_type, 0, 2));
  return options;
}

FitBootstrapOptions bootstrap_options(const BootstrapArguments& arguments) {
  constexpr std::uint64_t most_threads = 4096;
  FitBootstrapOptions options;
  options.type = bootstrap_type_of_name(arguments.type);
  options.resample = resample_options(arguments, options.type);
  options.replicates = whole_number("--replicates", arguments.replicates, 2);
  options.first =
      whole_number("--first", arguments.first, 0, std::numeric_limits<std::uint64_t>::max() - options.replicates);
  options.seed = whole_number("--seed", arguments.seed);
  options.level = level_of(arguments.level);
  options.intervals = interval_kinds(arguments.intervals);
  options.theta = arguments.theta;
  options.contrasts = arguments.contrasts;
  options.expressions = arguments.expressions;
  options.backend = backend_of(arguments.backend);
  options.tier = tier_of_name(arguments.tier);
  if (options.tier && options.type != BootstrapType::parametric)
    throw InputError("--tier: belongs to --type parametric, found --type " +
                     std::string(bootstrap_type_name(options.type)));
  if (!arguments.threads.empty())
    options.threads = static_cast<int>(whole_number("--threads", arguments.threads, 1, most_threads));
  options.out = arguments.out;
  if (!options.out.empty()) check_output_file(options.out);
  if (!arguments.plot.empty()) check_plot_file(arguments.plot);
  return options;
}

Outcome run_bootstrap(const BootstrapArguments& arguments) {
  FitBootstrapOptions options = bootstrap_options(arguments);
  options.warn = warn;
  const std::string formula = on_one_line(arguments.formula);
  parse_formula(formula);  // a slip in the formula shows before a large table is read
  const ModelSource source(arguments.input);
  Progress progress;
  if (progress.shown())
    options.progress = [&progress](std::uint64_t done, std::uint64_t total) { progress.update(done, total); };
  const FitBootstrap result =
      bootstrap_fit(source.matrices(formula), arguments.ml ? Method::ml : Method::reml, options);
  if (!arguments.plot.empty()) write_fit_bootstrap_svg(arguments.plot, result);
  Outcome outcome = arguments.json  ? fit_bootstrap_json(result)
                    : arguments.csv ? fit_bootstrap_csv(result)
                                    : fit_bootstrap_text(result, source.name());
  if (!result.stopped.empty())
    outcome.failure = "the bootstrap stopped after " + std::to_string(result.replicates_run) + " of " +
                      std::to_string(options.replicates) + " replicates: " + result.stopped;
  return outcome;
}

}  // namespace

Run add_bootstrap_command(CLI::App& app) {
  auto arguments = std::make_shared<BootstrapArguments>();
  CLI::App* command = app.add_subcommand("bootstrap", "Bootstrap of one model: intervals for all its parameters");
  command->add_option("FORMULA", arguments->formula, "Model: 'y ~ x + (1 + x | group)'")->required()->option_text(" ");
  add_model_input(*command, arguments->input);
  CLI::Option* ml = command->add_flag("--ml", arguments->ml, "Maximum likelihood");
  command->add_flag("--reml", arguments->reml, "REML (the default)")->excludes(ml);
  command->add_option("--type", arguments->type, "parametric (default), use-u, residual, wild, case or block (reb)")
      ->option_text("T");
  command->add_option("--replicates", arguments->replicates, "Replicates (default 1000)")->option_text("N");
  command->add_option("--seed", arguments->seed, "Seed of the random numbers (default 1)")->option_text("S");
  command->add_option("--first", arguments->first, "Index of the first replicate (default 0)")->option_text("N");
  command
      ->add_option("--interval", arguments->intervals,
                   "percentile (default), basic, normal, studentized, bca, shortest, or all")
      ->allow_extra_args(false)
      ->option_text("A,B,...");
  command->add_option("--level", arguments->level, "Confidence level (default 0.95)")->option_text("P");
  command->add_flag("--theta", arguments->theta, "Report theta, too");
  command
      ->add_option("--contrast", arguments->contrasts,
                   "Contrasts of the fixed effects: 'a - b / 2', '0,1,-1'; several separated by ';'")
      ->allow_extra_args(false)
      ->option_text("C");
  command
      ->add_option("--expr", arguments->expressions,
                   "Expressions of the parameters: 'ICC = `sd_(Intercept)|g`^2 / (`sd_(Intercept)|g`^2 + sigma^2)'")
      ->allow_extra_args(false)
      ->option_text("'NAME = E'");
  command
      ->add_option("--case", arguments->cases,
                   "Case bootstrap: the factors whose levels are drawn, and rows for rows within")
      ->allow_extra_args(false)
      ->option_text("G,...");
  command
      ->add_option("--aux-dist", arguments->weights,
                   "Wild bootstrap: weights by mammen (default), rademacher, webb or normal")
      ->option_text("D");
  command->add_option("--hccme", arguments->correction, "Wild bootstrap: residuals corrected by hc3 (default) or hc2")
      ->option_text("H");
  command
      ->add_option("--reb-type", arguments->reb_type,
                   "Block bootstrap: 0 (default), 1: reflated, 2: replicates adjusted afterwards")
      ->option_text("N");
  command->add_option("--backend", arguments->backend, "auto (default), cpu or cuda")->option_text("B");
  command
      ->add_option("--tier", arguments->tier,
                   "Parametric bootstrap: auto (default), symmetry, streaming, shared or large")
      ->option_text("T");
  command->add_option("--threads", arguments->threads, "CPU threads (default: all cores)")->option_text("T");
  command->add_option("--out", arguments->out, "Keep every replicate: FILE.parquet, .csv or .arrow")
      ->option_text("FILE");
  command->add_option("--plot", arguments->plot, "Histograms with the intervals' ends: FILE.svg")->option_text("FILE");
  CLI::Option* json = command->add_flag("--json", arguments->json, "Print JSON in full precision");
  command->add_flag("--csv", arguments->csv, "Print a table with the columns of broom.mixed's tidy")->excludes(json);
  return [arguments] { return run_bootstrap(*arguments); };
}

}  // namespace batchlmm::cli
