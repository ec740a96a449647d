#include <CLI/App.hpp>
#include <limits>
#include <memory>

#include "batchlmm/error.hpp"
#include "host/batch/tier.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/model_input.hpp"
#include "host/cli/output.hpp"
#include "host/cli/progress.hpp"
#include "host/inference/lrt.hpp"
#include "host/inference/lrt_report.hpp"

namespace batchlmm::cli {
namespace {

/// As given: numbers are read by `whole_number`, which says clearly what is wrong with one.
struct LrtArguments {
  std::string null;
  std::string full;
  ModelInput input;
  std::string replicates = "0";
  std::string first = "0";
  std::string seed = "1";
  std::string backend = "auto";
  std::string tier = "auto";
  std::string threads;
  std::string out;
  bool json = false;
};

BackendChoice backend_of(const std::string& name) {
  if (name == "auto") return BackendChoice::automatic;
  if (name == "cpu") return BackendChoice::cpu;
  if (name == "cuda") return BackendChoice::cuda;
  throw InputError("--backend: expected auto, cpu or cuda, found '" + name + "'");
}

BootstrapOptions bootstrap_options(const LrtArguments& arguments) {
  constexpr std::uint64_t most_threads = 4096;
  BootstrapOptions options;
  options.replicates = whole_number("--replicates", arguments.replicates);
  options.first =
      whole_number("--first", arguments.first, 0, std::numeric_limits<std::uint64_t>::max() - options.replicates);
  options.seed = whole_number("--seed", arguments.seed);
  options.backend = backend_of(arguments.backend);
  options.tier = tier_of_name(arguments.tier);
  if (!arguments.threads.empty()) {
    options.threads = static_cast<int>(whole_number("--threads", arguments.threads, 1, most_threads));
  }
  options.out = arguments.out;
  if (!options.out.empty()) {
    if (options.replicates == 0) throw InputError("--out: keeps the replicates and needs --replicates, found none");
    check_output_file(options.out);
  }
  return options;
}

Outcome run_lrt(const LrtArguments& arguments) {
  BootstrapOptions options = bootstrap_options(arguments);
  options.warn = warn;
  const std::string null = on_one_line(arguments.null);
  const std::string full = on_one_line(arguments.full);
  parse_formula(null);  // a slip in a formula shows before a large table is read
  parse_formula(full);
  const ModelSource source(arguments.input);
  auto null_matrices = source.matrices(null);
  auto full_matrices = source.matrices(full);
  Progress progress;
  if (progress.shown()) {
    options.progress = [&progress](std::uint64_t done, std::uint64_t total) { progress.update(done, total); };
  }
  const LikelihoodRatioTest test = likelihood_ratio_test(std::move(null_matrices), std::move(full_matrices), options);
  Outcome outcome = arguments.json ? lrt_json(test) : lrt_text(test, source.name());
  if (test.bootstrap && !test.bootstrap->stopped.empty())
    outcome.failure = "the bootstrap stopped after " + std::to_string(test.bootstrap->replicates) + " of " +
                      std::to_string(test.bootstrap->asked) + " replicates: " + test.bootstrap->stopped;
  return outcome;
}

}  // namespace

Run add_lrt_command(CLI::App& app) {
  auto arguments = std::make_shared<LrtArguments>();
  CLI::App* command =
      app.add_subcommand("lrt", "Likelihood-ratio test of two nested models, with a parametric-bootstrap p-value");
  command->add_option("NULL", arguments->null, "The smaller model's formula")->required()->option_text(" ");
  command->add_option("FULL", arguments->full, "The larger model's formula")->required()->option_text(" ");
  add_model_input(*command, arguments->input);
  command->add_option("--replicates", arguments->replicates, "Bootstrap replicates (default 0: no bootstrap)")
      ->option_text("N");
  command->add_option("--seed", arguments->seed, "Seed of the random numbers (default 1)")->option_text("S");
  command->add_option("--first", arguments->first, "Index of the first replicate (default 0)")->option_text("N");
  command->add_option("--backend", arguments->backend, "auto (default), cpu or cuda")->option_text("B");
  command->add_option("--tier", arguments->tier, "auto (default), symmetry, streaming, shared or large")
      ->option_text("T");
  command->add_option("--threads", arguments->threads, "CPU threads (default: all cores)")->option_text("T");
  command->add_option("--out", arguments->out, "Keep every replicate: FILE.parquet, .csv or .arrow")
      ->option_text("FILE");
  command->add_flag("--json", arguments->json, "Print JSON in full precision");
  return [arguments] { return run_lrt(*arguments); };
}

}  // namespace batchlmm::cli
