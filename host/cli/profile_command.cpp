#include <CLI/App.hpp>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "batchlmm/error.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/model_input.hpp"
#include "host/cli/output.hpp"
#include "host/inference/profile.hpp"
#include "host/inference/profile_report.hpp"

namespace batchlmm::cli {
namespace {

struct ProfileArguments {
  std::string formula;
  ModelInput input;
  std::string level = "0.95";
  std::vector<std::string> parameters;
  std::string out;
  std::string plot;
  bool json = false;
  bool csv = false;
};

std::string run_profile(const ProfileArguments& arguments) {
  ProfileOptions options;
  options.level = probability("--level", arguments.level);
  options.parameters = split_lists("--parm", arguments.parameters);
  if (!arguments.out.empty()) check_output_file(arguments.out);
  if (!arguments.plot.empty()) check_plot_file(arguments.plot);
  const std::string formula = on_one_line(arguments.formula);
  parse_formula(formula);  // a slip in the formula shows before a large table is read
  const ModelSource source(arguments.input);
  const Profile result = profile(source.matrices(formula), options);
  if (!arguments.out.empty()) write_profile_points(result, arguments.out);
  if (!arguments.plot.empty()) svg::write_svg(arguments.plot, profile_figure(result));
  if (arguments.json) return profile_json(result);
  return arguments.csv ? profile_csv(result) : profile_text(result, source.name());
}

}  // namespace

Run add_profile_command(CLI::App& app) {
  auto arguments = std::make_shared<ProfileArguments>();
  CLI::App* command = app.add_subcommand("profile", "Profile-likelihood intervals of all parameters");
  command->add_option("FORMULA", arguments->formula, "Model: 'y ~ x + (1 + x | group)'")->required()->option_text(" ");
  add_model_input(*command, arguments->input);
  command->add_option("--level", arguments->level, "Of the intervals (default 0.95)")->option_text("P");
  command->add_option("--parm", arguments->parameters, "Parameters, as the table names them (default: all)")
      ->allow_extra_args(false)
      ->option_text("NAME,...");
  command->add_option("--out", arguments->out, "Keep the profile's points: FILE.parquet, .csv or .arrow")
      ->option_text("FILE");
  command->add_option("--plot", arguments->plot, "Draw zeta of every parameter: FILE.svg")->option_text("FILE");
  CLI::Option* json = command->add_flag("--json", arguments->json, "Print JSON in full precision");
  command->add_flag("--csv", arguments->csv, "Print the intervals as CSV with broom.mixed's columns")->excludes(json);
  return [arguments] { return run_profile(*arguments); };
}

}  // namespace batchlmm::cli
