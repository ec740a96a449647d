#include <CLI/App.hpp>
#include <memory>

#include "host/cli/commands.hpp"
#include "host/cli/fit_input.hpp"
#include "host/inference/glance.hpp"

namespace batchlmm::cli {
namespace {

struct GlanceArguments {
  FitInput fit;
  bool json = false;
  bool csv = false;
};

Outcome run_glance(const GlanceArguments& arguments) {
  const FittedModel model(arguments.fit);
  const Glance facts = glance(model.fit());
  if (arguments.json) return glance_json(facts);
  if (arguments.csv) return glance_csv(facts);
  return glance_text(facts, model.source().name());
}

}  // namespace

Run add_glance_command(CLI::App& app) {
  auto arguments = std::make_shared<GlanceArguments>();
  CLI::App* command =
      app.add_subcommand("glance", "A fit in one row: criteria, effective parameters, R2 (marginal, conditional), ICC");
  add_fit_input(*command, arguments->fit);
  CLI::Option* json = command->add_flag("--json", arguments->json, "Print JSON in full precision");
  command->add_flag("--csv", arguments->csv, "Print CSV in full precision")->excludes(json);
  return [arguments] { return run_glance(*arguments); };
}

}  // namespace batchlmm::cli
