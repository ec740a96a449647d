#include <CLI/App.hpp>
#include <memory>

#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/fit_input.hpp"
#include "host/cli/output.hpp"
#include "host/inference/diagnostic_plots.hpp"

namespace batchlmm::cli {
namespace {

struct PlotArguments {
  FitInput fit;
  std::string kind = "diagnostics";
  std::vector<std::string> groups;
  std::string level = "0.95";
  std::string out;
};

Outcome run_plot(const PlotArguments& arguments) {
  const DiagnosticPlot kind = diagnostic_plot_of_name(arguments.kind);
  DiagnosticPlotOptions options;
  options.level = probability("--level", arguments.level);
  options.groups = split_lists("--group", arguments.groups);
  check_plot_file(arguments.out, "--out");
  const FittedModel model(arguments.fit);
  svg::write_svg(arguments.out, diagnostic_figure(model.fit(), kind, options));
  return std::string();
}

}  // namespace

Run add_plot_command(CLI::App& app) {
  auto arguments = std::make_shared<PlotArguments>();
  CLI::App* command = app.add_subcommand("plot", "Pictures of a fit as an SVG file: its modes, its residuals");
  add_fit_input(*command, arguments->fit);
  command
      ->add_option("--kind", arguments->kind,
                   "caterpillar, qq-ranef, residuals, qq, scale-location, leverage or (default) diagnostics: the last "
                   "four together")
      ->option_text("KIND");
  command->add_option("--group", arguments->groups, "Grouping factors whose modes are shown (default: all)")
      ->allow_extra_args(false)
      ->option_text("A,B,...");
  command->add_option("--level", arguments->level, "Level of the modes' intervals (default 0.95)")->option_text("P");
  command->add_option("--out", arguments->out, "The picture: FILE.svg")->required()->option_text("FILE");
  return [arguments] { return run_plot(*arguments); };
}

}  // namespace batchlmm::cli
