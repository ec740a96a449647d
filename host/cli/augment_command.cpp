#include <CLI/App.hpp>
#include <limits>
#include <memory>

#include "batchlmm/error.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/fit_input.hpp"
#include "host/cli/output.hpp"
#include "host/inference/augment.hpp"

namespace batchlmm::cli {
namespace {

struct AugmentArguments {
  FitInput fit;
  std::string out;
};

Outcome run_augment(const AugmentArguments& arguments) {
  if (!arguments.out.empty()) check_output_file(arguments.out);
  const FittedModel model(arguments.fit);
  return put_table(augmented(model.fit(), model.source().table()), arguments.out);
}

}  // namespace

Run add_augment_command(CLI::App& app) {
  auto arguments = std::make_shared<AugmentArguments>();
  CLI::App* command = app.add_subcommand(
      "augment", "The data with fitted values, residuals, leverages and Cook's distances: broom.mixed's augment");
  add_fit_input(*command, arguments->fit);
  command
      ->add_option("--out", arguments->out, "Write to FILE.parquet, .csv or .arrow (default: CSV to standard output)")
      ->option_text("FILE");
  return [arguments] { return run_augment(*arguments); };
}

}  // namespace batchlmm::cli
