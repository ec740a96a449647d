#include <CLI/App.hpp>
#include <limits>
#include <memory>

#include "batchlmm/error.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/fit_input.hpp"
#include "host/cli/output.hpp"
#include "host/inference/predict.hpp"
#include "host/model/memory.hpp"

namespace batchlmm::cli {
namespace {

struct SimulateArguments {
  FitInput fit;
  std::string newdata;
  std::string nsim = "1";
  std::string seed = "1";
  std::string first = "0";
  bool use_u = false;
  bool allow_new_levels = false;
  bool tall = false;
  std::string out;
};

Outcome run_simulate(const SimulateArguments& arguments) {
  const std::uint64_t count = whole_number("--nsim", arguments.nsim, 1, 1'000'000);
  SimulateOptions options;
  options.seed = whole_number("--seed", arguments.seed);
  options.first = whole_number("--first", arguments.first, 0, std::numeric_limits<std::uint64_t>::max() - count);
  options.use_modes = arguments.use_u;
  options.allow_new_levels = arguments.allow_new_levels;
  if (!arguments.out.empty()) check_output_file(arguments.out);
  const FittedModel model(arguments.fit);
  const NewData data = model.new_data();
  const std::vector<TermUse> use(model.matrices().random.size(), TermUse::levels);
  const NewRows rows =
      arguments.newdata.empty() ? data.own_rows() : data.rows(model.source().read_other(arguments.newdata), use);
  require_memory(8.0 * static_cast<double>(rows.table_rows) * static_cast<double>(count) * (arguments.tall ? 5 : 2),
                 std::to_string(count) + " responses of " + std::to_string(rows.table_rows) + " rows");
  const Eigen::MatrixXd y = simulate(model.fit(), rows, options, count);

  Table table;
  const auto row_numbers = [&](Numeric& to) {
    for (std::size_t i = 0; i < rows.table_rows; ++i) to.push_back(static_cast<double>(i + 1));
  };
  const auto responses = [&](std::uint64_t r, Numeric& to) {
    const std::size_t begin = to.size();
    to.resize(begin + rows.table_rows, std::numeric_limits<double>::quiet_NaN());
    for (std::size_t i = 0; i < rows.rows.size(); ++i)
      to[begin + rows.rows[i]] = y(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(r));
  };
  Numeric number;
  if (arguments.tall) {
    Numeric replicate, value;
    for (std::uint64_t r = 0; r < count; ++r) {
      replicate.insert(replicate.end(), rows.table_rows, static_cast<double>(options.first + r + 1));
      row_numbers(number);
      responses(r, value);
    }
    table.columns = {
        {"sim", std::move(replicate)}, {"row", std::move(number)}, {model.matrices().response, std::move(value)}};
    table.rows = rows.table_rows * count;
  } else {
    row_numbers(number);
    table.columns.push_back({"row", std::move(number)});
    for (std::uint64_t r = 0; r < count; ++r) {
      Numeric value;
      responses(r, value);
      table.columns.push_back({"sim_" + std::to_string(options.first + r + 1), std::move(value)});
    }
    table.rows = rows.table_rows;
  }
  return put_table(table, arguments.out);
}

}  // namespace

Run add_simulate_command(CLI::App& app) {
  auto arguments = std::make_shared<SimulateArguments>();
  CLI::App* command = app.add_subcommand("simulate", "New responses drawn from a fitted model: lme4's simulate");
  add_fit_input(*command, arguments->fit);
  command->add_option("--nsim", arguments->nsim, "Responses to draw (default 1)")->option_text("N");
  command->add_option("--seed", arguments->seed, "Seed of the random numbers (default 1)")->option_text("S");
  command->add_option("--first", arguments->first, "Index of the first one (default 0)")->option_text("N");
  command->add_flag("--use-u", arguments->use_u, "Keep the conditional modes; draw errors alone");
  command->add_option("--newdata", arguments->newdata, "Rows of this table (default: those of DATA)")
      ->option_text("FILE");
  command->add_flag("--allow-new-levels", arguments->allow_new_levels,
                    "With --use-u: levels that the fit does not know have modes of 0");
  command->add_flag("--long", arguments->tall, "One row a response and row, in place of columns sim_1, sim_2, ...");
  command
      ->add_option("--out", arguments->out, "Write to FILE.parquet, .csv or .arrow (default: CSV to standard output)")
      ->option_text("FILE");
  return [arguments] { return run_simulate(*arguments); };
}

}  // namespace batchlmm::cli
