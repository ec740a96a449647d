#include <CLI/App.hpp>
#include <memory>

#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/model_input.hpp"
#include "host/inference/plan.hpp"

namespace batchlmm::cli {
namespace {

struct PlanArguments {
  std::string formula;
  ModelInput input;
  std::string null;
  std::string threads;
  std::string tier = "auto";
  bool ml = false;
  bool json = false;
};

std::string run_plan(const PlanArguments& arguments) {
  constexpr std::uint64_t most_threads = 4096;
  PlanOptions options;
  options.method = arguments.ml ? Method::ml : Method::reml;
  if (!arguments.threads.empty())
    options.threads = static_cast<int>(whole_number("--threads", arguments.threads, 1, most_threads));
  options.tier = tier_of_name(arguments.tier);
  const std::string formula = on_one_line(arguments.formula), null = on_one_line(arguments.null);
  parse_formula(formula);  // a slip in a formula shows before a large table is read
  if (!null.empty()) parse_formula(null);
  const ModelSource source(arguments.input);
  const Plan result = plan(source.matrices(formula), null.empty() ? nullptr : source.matrices(null), options);
  return arguments.json ? plan_json(result) : plan_text(result, source.name());
}

}  // namespace

Run add_plan_command(CLI::App& app) {
  auto arguments = std::make_shared<PlanArguments>();
  CLI::App* command = app.add_subcommand(
      "plan", "Show what a fit and its bootstrap would do and cost, without doing it: elimination, tier, memory");
  command->add_option("FORMULA", arguments->formula, "Model: 'y ~ x + (1 + x | group)'")->required()->option_text(" ");
  add_model_input(*command, arguments->input);
  command->add_option("NULL", arguments->null, "The smaller model's formula, for a likelihood-ratio test")
      ->option_text(" ");
  command->add_flag("--ml", arguments->ml, "Refits by maximum likelihood (default REML)");
  command->add_option("--threads", arguments->threads, "CPU threads (default: all cores)")->option_text("T");
  command->add_option("--tier", arguments->tier, "auto (default), symmetry, streaming, shared or large")
      ->option_text("T");
  command->add_flag("--json", arguments->json, "Print JSON in full precision");
  return [arguments] { return run_plan(*arguments); };
}

}  // namespace batchlmm::cli
