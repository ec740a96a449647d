#include <CLI/App.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "batchlmm/error.hpp"
#include "host/cli/arguments.hpp"
#include "host/cli/commands.hpp"
#include "host/cli/fit_input.hpp"
#include "host/cli/output.hpp"
#include "host/inference/predict.hpp"
#include "host/inference/r_formula.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm::cli {
namespace {

struct PredictArguments {
  FitInput fit;
  std::string newdata;
  std::vector<std::string> re;
  bool allow_new_levels = false;
  bool no_se = false;
  std::string interval = "none";
  std::string level = "0.95";
  std::string out;
  bool json = false;
};

PredictionInterval interval_of(const std::string& name) {
  if (name == "none") return PredictionInterval::none;
  if (name == "confidence") return PredictionInterval::confidence;
  if (name == "prediction") return PredictionInterval::prediction;
  throw InputError("--interval: expected none, confidence or prediction, found '" + name + "'");
}

/// lme4's re.form.
ChosenModes modes_of(const std::vector<std::string>& texts, const NewData& data) {
  ChosenModes chosen = texts.empty() ? all_modes(data.matrices()) : no_modes(data.matrices());
  for (const std::string& text : texts) {
    if ((text == "none" || text == "all") && texts.size() > 1)
      throw InputError("--re: '" + text + "' stands alone, found " + std::to_string(texts.size()) + " values");
    if (text == "none") continue;
    const ChosenModes named = text == "all" ? all_modes(data.matrices()) : data.columns_named(text);
    for (std::size_t t = 0; t < chosen.size(); ++t)
      for (std::size_t c = 0; c < chosen[t].size(); ++c) chosen[t][c] = chosen[t][c] || named[t][c];
  }
  return chosen;
}

std::string predictions_json(const FittedModel& model, const PredictArguments& arguments, const NewRows& rows,
                             const Predictions& predictions) {
  nlohmann::ordered_json json;
  json["formula"] = r_formula(model.matrices().formula);
  json["method"] = model.fit().method == Method::reml ? "REML" : "ML";
  json["re"] = arguments.re.empty() ? std::vector<std::string>{"all"} : arguments.re;
  json["interval"] = arguments.interval;
  if (arguments.interval != "none") json["level"] = probability("--level", arguments.level);
  json["rows"] = rows.table_rows;
  json["missing"] = rows.table_rows - rows.rows.size();
  json["new_levels"] = nlohmann::ordered_json::object();
  for (std::size_t t = 0; t < rows.terms.size(); ++t)
    if (!rows.terms[t].new_levels.empty())
      json["new_levels"][model.matrices().random[t].group] = rows.terms[t].new_levels;
  json["fit"] = predictions.fit;
  if (!predictions.se.empty()) json["se.fit"] = predictions.se;
  if (!predictions.low.empty()) {
    json["lwr"] = predictions.low;
    json["upr"] = predictions.high;
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

Outcome run_predict(const PredictArguments& arguments) {
  PredictOptions options;
  options.interval = interval_of(arguments.interval);
  options.level = probability("--level", arguments.level);
  options.allow_new_levels = arguments.allow_new_levels;
  options.standard_errors = !arguments.no_se;
  if (!arguments.out.empty()) check_output_file(arguments.out);
  const FittedModel model(arguments.fit);
  const NewData data = model.new_data();
  options.modes = modes_of(arguments.re, data);
  const NewRows rows = arguments.newdata.empty() ? data.own_rows()
                                                 : data.rows(model.source().read_other(arguments.newdata),
                                                             needed_terms(model.matrices(), options));
  const Predictions predictions = predict(model.fit(), rows, options);
  if (arguments.json) return predictions_json(model, arguments, rows, predictions);

  Table table;
  table.rows = rows.table_rows;
  Numeric number(table.rows);
  for (std::size_t i = 0; i < number.size(); ++i) number[i] = static_cast<double>(i + 1);
  table.columns = {{"row", std::move(number)}, {"fit", predictions.fit}};
  if (!predictions.se.empty()) table.columns.push_back({"se.fit", predictions.se});
  if (!predictions.low.empty()) {
    table.columns.push_back({"lwr", predictions.low});
    table.columns.push_back({"upr", predictions.high});
  }
  return put_table(table, arguments.out);
}

}  // namespace

Run add_predict_command(CLI::App& app) {
  auto arguments = std::make_shared<PredictArguments>();
  CLI::App* command =
      app.add_subcommand("predict", "Predictions with standard errors, for the data or for new ones: lme4's predict");
  add_fit_input(*command, arguments->fit);
  command->add_option("--newdata", arguments->newdata, "Predict the rows of this table (default: those of DATA)")
      ->option_text("FILE");
  command
      ->add_option("--re", arguments->re,
                   "Random effects to be conditional on: all (default), none, a grouping factor or '(1 | group)'; may "
                   "be given several times")
      ->allow_extra_args(false)
      ->option_text("TERM");
  command->add_flag("--allow-new-levels", arguments->allow_new_levels,
                    "Levels of grouping factors that the fit does not know have modes of 0");
  command->add_option("--interval", arguments->interval, "none (default), confidence or prediction")->option_text("I");
  command->add_option("--level", arguments->level, "Level of the interval (default 0.95)")->option_text("P");
  command->add_flag("--no-se", arguments->no_se, "Leave out the standard errors");
  command
      ->add_option("--out", arguments->out, "Write to FILE.parquet, .csv or .arrow (default: CSV to standard output)")
      ->option_text("FILE");
  command->add_flag("--json", arguments->json, "Print JSON in full precision");
  return [arguments] { return run_predict(*arguments); };
}

}  // namespace batchlmm::cli
