// predict, simulate, augment, glance, plot and fit --csv, run as a user runs them.
#include <cmath>
#include <map>

#include "host/data/read.hpp"
#include "tests/cli_run.hpp"

namespace batchlmm::tests {
namespace {

const std::string data_folder = BATCHLMM_TEST_DATA;
const std::string sleepstudy = data_folder + "/sleepstudy.csv";
const std::string sleep_model = "Reaction ~ Days + (Days | Subject)";

/// Cells of a CSV text without quotes, by column.
std::map<std::string, Strings> columns_of(const std::string& csv) {
  std::istringstream lines(csv);
  std::string line;
  std::vector<Strings> rows;
  while (std::getline(lines, line)) {
    Strings cells{""};
    for (const char c : line) {
      if (c == ',')
        cells.emplace_back();
      else
        cells.back() += c;
    }
    rows.push_back(std::move(cells));
  }
  std::map<std::string, Strings> columns;
  for (std::size_t r = 1; r < rows.size(); ++r) {
    EXPECT_EQ(rows[r].size(), rows[0].size()) << "row " << r;
    for (std::size_t c = 0; c < std::min(rows[r].size(), rows[0].size()); ++c)
      columns[rows[0][c]].push_back(rows[r][c]);
  }
  return columns;
}

std::string header_of(const std::string& csv) { return csv.substr(0, csv.find('\n')); }

/// Golden numbers of tests/data/predictions/predictions.R.
json golden(const std::string& name) {
  return json::parse(std::ifstream(data_folder + "/predictions/" + name + ".json"));
}

/// "NA" and null are one.
void expect_cell(const std::string& cell, const json& expected, double relative, const std::string& where) {
  if (expected.is_null()) {
    EXPECT_EQ(cell, "NA") << where;
  } else if (expected.is_string()) {
    EXPECT_EQ(cell, expected.get<std::string>()) << where;
  } else {
    const double value = expected.get<double>();
    EXPECT_NEAR(std::stod(cell), value, relative * (1e-3 + std::abs(value))) << where;
  }
}

class CliPredict : public Cli {};
class CliSimulate : public Cli {};
class CliAugment : public Cli {};
class CliGlance : public Cli {};
class CliPlot : public Cli {};
class CliTidy : public Cli {};

TEST_F(CliPredict, PrintsCsvThatAgreesWithLme4) {
  const json expected = golden("sleep");
  for (const json& prediction : expected["predictions"]) {
    const std::string re = prediction["re"];

    const auto columns = columns_of(good({"predict", sleep_model, sleepstudy, "--newdata",
                                          data_folder + "/predictions/sleep.csv", "--allow-new-levels", "--re", re}));

    ASSERT_EQ(columns.at("fit").size(), prediction["fit"].size());
    for (std::size_t i = 0; i < columns.at("fit").size(); ++i)
      expect_cell(columns.at("fit")[i], prediction["fit"][i], 1e-8, re + ", row " + std::to_string(i + 1));
    EXPECT_EQ(columns.at("se.fit")[4], "NA") << "Days is missing";
    EXPECT_EQ(columns.at("row")[5], "6");
  }
}

TEST_F(CliPredict, WritesWhatItPrintsToFilesOfEveryFormat) {
  const Strings command = {"predict", model_2, politeness, "--interval", "confidence"};
  const std::string csv = good(command);
  const auto columns = columns_of(csv);
  EXPECT_EQ(header_of(csv), "row,fit,se.fit,lwr,upr");
  EXPECT_EQ(columns.at("fit").size(), 84U);
  EXPECT_EQ(columns.at("fit")[38], "NA") << "the row whose frequency is missing";

  for (const std::string ending : {"csv", "parquet", "arrow"}) {
    Strings with_file = command;
    const std::string path = (work() / ("p." + ending)).string();
    with_file.insert(with_file.end(), {"--out", path});
    EXPECT_EQ(good(with_file), "");

    const Table table = read_table(path);

    ASSERT_EQ(table.rows, 84U);
    for (const auto& [name, cells] : columns) {
      const auto& values = std::get<Numeric>(table.at(name).data);
      for (std::size_t i = 0; i < cells.size(); ++i) {
        if (cells[i] == "NA")
          EXPECT_TRUE(std::isnan(values[i]));
        else
          EXPECT_EQ(values[i], std::stod(cells[i])) << name << " " << i;
      }
    }
  }
}

TEST_F(CliPredict, JsonHasTheSameNumbers) {
  const auto columns = columns_of(good({"predict", sleep_model, sleepstudy, "--interval", "prediction"}));

  const json found = json::parse(good({"predict", sleep_model, sleepstudy, "--interval", "prediction", "--json"}));

  EXPECT_EQ(found["re"], json::array({"all"}));
  EXPECT_EQ(found["level"], 0.95);
  for (const std::string name : {"fit", "se.fit", "lwr", "upr"})
    for (std::size_t i = 0; i < 180; ++i) EXPECT_EQ(found[name][i].get<double>(), std::stod(columns.at(name)[i]));
}

TEST_F(CliPredict, BadInputIsSaidInOneLine) {
  const std::string rows = table("attitude,gender,subject,scenario\nrude,F,F1,1\n");
  expect_contains(refused({"predict", model_2, politeness, "--newdata", rows}), "'attitude' is 'rude' in data row 1");
  const std::string levels = table("attitude,gender,subject,scenario\npol,F,F9,1\n");
  expect_contains(refused({"predict", model_2, politeness, "--newdata", levels}),
                  "'subject' has levels that the fit does not know: 'F9'");
  const std::string columns = table("attitude,subject,scenario\npol,F1,1\n");
  EXPECT_NE(run({"predict", model_2, politeness, "--newdata", columns}).err.find("gender"), std::string::npos);
  expect_contains(refused({"predict", model_2, politeness, "--re", "subjct"}), "did you mean 'subject'?");
  expect_contains(refused({"predict", model_2, politeness, "--re", "none", "--re", "subject"}), "stands alone");
  expect_contains(refused({"predict", model_2, politeness, "--interval", "wide"}), "none, confidence or prediction");
  expect_contains(refused({"predict", model_2, politeness, "--level", "95"}), "--level");
  expect_contains(refused({"predict", model_2, politeness, "--out", "p.txt"}), ".parquet, .csv or .arrow");
  expect_contains(refused({"predict", sleep_model, sleepstudy, "--re", "(1 | Subject)", "--interval", "prediction"}),
                  "whole random-effects terms");
}

TEST_F(CliSimulate, TheSameSeedGivesTheSameBytesAndRangesFitTogether) {
  const std::string all = good({"simulate", model_2, politeness, "--nsim", "3", "--seed", "7"}),
                    again = good({"simulate", model_2, politeness, "--nsim", "3", "--seed", "7"}),
                    last = good({"simulate", model_2, politeness, "--nsim", "1", "--seed", "7", "--first", "2"});

  EXPECT_EQ(all, again);
  EXPECT_EQ(header_of(all), "row,sim_1,sim_2,sim_3");
  EXPECT_EQ(columns_of(all).at("sim_3"), columns_of(last).at("sim_3"));
  EXPECT_NE(columns_of(all).at("sim_1"), columns_of(all).at("sim_2"));
  EXPECT_EQ(columns_of(all).at("sim_1")[38], "NA");
}

TEST_F(CliSimulate, TheLongTableHasTheSameNumbers) {
  const auto wide = columns_of(good({"simulate", sleep_model, sleepstudy, "--nsim", "2", "--use-u"})),
             tall = columns_of(good({"simulate", sleep_model, sleepstudy, "--nsim", "2", "--use-u", "--long"}));

  Strings joined = wide.at("sim_1");
  joined.insert(joined.end(), wide.at("sim_2").begin(), wide.at("sim_2").end());
  EXPECT_EQ(tall.at("Reaction"), joined);
  EXPECT_EQ(tall.at("sim")[200], "2");
  EXPECT_EQ(tall.at("row")[200], "21");
}

TEST_F(CliSimulate, BadInputIsSaidInOneLine) {
  expect_contains(refused({"simulate", model_2, politeness, "--nsim", "0"}), "--nsim");
  const std::string rows = table("attitude,gender,subject,scenario\npol,F,F9,1\n");
  expect_contains(refused({"simulate", model_2, politeness, "--newdata", rows, "--use-u"}), "'F9'");
  good({"simulate", model_2, politeness, "--newdata", rows});
}

TEST_F(CliAugment, HasBroomMixedsColumnsAndNumbers) {
  const json expected = golden("politeness");

  const std::string csv = good({"augment", expected["formula"], politeness, "--ml"});

  const auto columns = columns_of(csv);
  EXPECT_TRUE(header_of(csv).starts_with("subject,gender,scenario,attitude,frequency,.fitted,.resid,.hat,.cooksd,"));
  for (const json& name : expected["augment_names"])  // R numbers the rows where some are left out
    EXPECT_TRUE(columns.contains(name) || name == ".rownames") << name;
  std::size_t used = 0;
  for (std::size_t i = 0; i < 84; ++i) {
    if (columns.at("frequency")[i] == "NA") {
      EXPECT_EQ(columns.at(".fitted")[i], "NA");
      continue;
    }
    expect_cell(columns.at(".fitted")[i], expected["fitted"][used], 1e-8, ".fitted");
    expect_cell(columns.at(".resid")[i], expected["residuals"][used], 1e-6, ".resid");
    expect_cell(columns.at(".hat")[i], expected["hat"][used], 1e-7, ".hat");
    expect_cell(columns.at(".cooksd")[i], expected["cooks"][used], 1e-6, ".cooksd");
    expect_cell(columns.at(".fixed")[i], expected["own"][1]["fit"][used], 1e-8, ".fixed");
    ++used;
  }
  EXPECT_EQ(used, 83U);
}

TEST_F(CliAugment, KeepsTextAndItsMissingValuesInParquet) {
  std::string text = "y,g,note\n";
  for (int i = 0; i < 12; ++i)
    text += std::to_string(std::sin(3.7 * i) + i % 4) + ",g" + std::to_string(i % 4) + (i == 2 ? ",NA\n" : ",a b\n");
  const std::string path = (work() / "a.parquet").string();

  good({"augment", "y ~ 1 + (1 | g)", table(text), "--out", path});

  const Table found = read_table(path);
  const auto& note = std::get<Factor>(found.at("note").data);
  EXPECT_EQ(note.levels, Strings{"a b"});
  EXPECT_EQ(note.codes[2], -1);
  EXPECT_EQ(note.codes[3], 0);
}

TEST_F(CliGlance, RowAgreesWithBroomMixedAndPerformance) {
  for (const std::string name : {"sleep", "politeness", "pastes"}) {
    const json expected = golden(name);
    Strings command = {"glance", expected["formula"], data_folder + "/" + expected["file"].get<std::string>()};
    if (!expected["reml"].get<bool>()) command.emplace_back("--ml");
    const json found = json::parse(good([&] {
      Strings with_json = command;
      with_json.emplace_back("--json");
      return with_json;
    }()));
    command.emplace_back("--csv");

    const auto columns = columns_of(good(command));

    for (const auto& [key, value] : expected["glance"].items()) {
      ASSERT_TRUE(columns.contains(key)) << key;
      expect_cell(columns.at(key)[0], value, 1e-8, name + " " + key);
      EXPECT_NEAR(found[key].get<double>(), value.get<double>(), 1e-8 * std::abs(value.get<double>()));
    }
    expect_cell(columns.at("R2_marginal")[0], expected["r2_marginal"], 1e-6, name);
    expect_cell(columns.at("R2_conditional")[0], expected["r2_conditional"], 1e-7, name);
    expect_cell(columns.at("ICC_adjusted")[0], expected["icc_adjusted"], 1e-7, name);
    expect_cell(columns.at("ICC_unadjusted")[0], expected["icc_unadjusted"], 1e-7, name);
    double hat = 0;
    for (const json& h : expected["hat"]) hat += h.get<double>();
    EXPECT_NEAR(std::stod(columns.at("effective.parameters")[0]), hat, 1e-6);
  }
}

TEST_F(CliGlance, TextSaysWhatMattersMost) {
  const std::string text = good({"glance", sleep_model, sleepstudy});

  // performance 0.10.2: R2 0.799 and 0.279, ICC 0.722 and 0.521; AICc 1756.114.
  expect_contains(text, "R2                      marginal 0.279, conditional 0.799\n");
  expect_contains(text, "ICC                     adjusted 0.722, unadjusted 0.521\n");
  expect_contains(text, "1755.628, 1756.114, 1774.786\n");
  expect_contains(text, "(1 + Days | Subject)");
}

TEST_F(CliTidy, TableAgreesWithBroomMixed) {
  for (const std::string name : {"sleep", "politeness", "pastes", "penicillin"}) {
    const json expected = golden(name);
    Strings command = {"fit",   expected["formula"], data_folder + "/" + expected["file"].get<std::string>(),
                       "--csv", "--ranef",           "--conf",
                       "0.95"};
    if (!expected["reml"].get<bool>()) command.emplace_back("--ml");

    const std::string csv = good(command);

    EXPECT_EQ(header_of(csv), "effect,group,level,term,estimate,std.error,statistic,df,p.value,conf.low,conf.high");
    const auto columns = columns_of(csv);
    ASSERT_EQ(columns.at("effect").size(), expected["tidy"].size());
    for (const json& row : expected["tidy"]) {
      std::size_t at = 0;  // rows of one model may come in another order
      const auto same = [&](const char* key) {
        return columns.at(key)[at] == (row.contains(key) && !row[key].is_null() ? row[key].get<std::string>() : "NA");
      };
      while (at < columns.at("effect").size() && !(same("effect") && same("group") && same("level") && same("term")))
        ++at;
      ASSERT_LT(at, columns.at("effect").size()) << row;
      for (const char* key : {"estimate", "std.error", "statistic", "conf.low", "conf.high"})
        expect_cell(columns.at(key)[at], row.contains(key) ? row[key] : json(), 2e-6, name + " " + row.dump());
      EXPECT_EQ(columns.at("df")[at], "NA");
    }
  }
}

TEST_F(CliTidy, DegreesOfFreedomAndPValuesAreThoseOfLmerTest) {
  const json expected = golden("sleep");

  const auto columns =
      columns_of(good({"fit", sleep_model, sleepstudy, "--csv", "--ddf", "satterthwaite", "--conf", "0.95"}));

  ASSERT_FALSE(columns.contains("level"));
  for (std::size_t i = 0; i < expected["tests"].size(); ++i) {
    const json& row = expected["tests"][i];
    EXPECT_EQ(columns.at("term")[i], row["term"].get<std::string>());
    // lmerTest's optimum and derivatives are numerical.
    for (const char* key : {"estimate", "std.error", "df", "conf.low", "conf.high"})
      expect_cell(columns.at(key)[i], row[key], 2e-5, key);
    expect_cell(columns.at("p.value")[i], row["p.value"], 1e-3, "p.value");
  }
}

TEST_F(CliTidy, EffectsAreChosenAndBadOnesRefused) {
  const auto fixed = columns_of(good({"fit", sleep_model, sleepstudy, "--csv", "--effects", "fixed"})),
             modes = columns_of(good({"fit", sleep_model, sleepstudy, "--csv", "--effects", "ran_vals"}));

  EXPECT_EQ(fixed.at("effect"), (Strings{"fixed", "fixed"}));
  EXPECT_EQ(modes.at("effect").size(), 36U);
  expect_contains(refused({"fit", sleep_model, sleepstudy, "--csv", "--effects", "random"}), "ran_pars");
  expect_contains(refused({"fit", sleep_model, sleepstudy, "--conf", "0.95"}), "--csv");
  expect_contains(refused({"fit", sleep_model, sleepstudy, "--csv", "--conf", "2"}), "--conf");
}

TEST_F(CliTidy, JsonHasStandardErrorsOfTheModesWhereTheyAreAskedFor) {
  const json without = json::parse(good({"fit", sleep_model, sleepstudy, "--json"})),
             with = json::parse(good({"fit", sleep_model, sleepstudy, "--json", "--ranef"}));

  EXPECT_FALSE(without["ranef"]["Subject"].contains("se"));
  // as.data.frame(ranef(m, condVar = TRUE))$condsd of lme4 1.1-31
  EXPECT_NEAR(with["ranef"]["Subject"]["se"][0][0].get<double>(), 12.07086, 5e-5);
  EXPECT_NEAR(with["ranef"]["Subject"]["se"][17][1].get<double>(), 2.304839, 5e-6);
}

TEST_F(CliPlot, EveryKindWritesAFigure) {
  for (const std::string kind :
       {"caterpillar", "qq-ranef", "residuals", "qq", "scale-location", "leverage", "diagnostics"}) {
    const std::string path = (work() / (kind + ".svg")).string();

    EXPECT_EQ(good({"plot", sleep_model, sleepstudy, "--kind", kind, "--out", path}), "");

    const std::string svg = contents(path);
    EXPECT_TRUE(svg.starts_with("<svg ")) << kind;
    EXPECT_TRUE(svg.ends_with("</svg>\n")) << kind;
    expect_contains(svg, "Reaction ~ Days + (Days | Subject)</title>");
    EXPECT_EQ(svg.find("nan"), std::string::npos);
  }
}

TEST_F(CliPlot, CaterpillarOrdersLevelsByTheirModes) {
  const std::string path = (work() / "c.svg").string();

  good({"plot", sleep_model, sleepstudy, "--kind", "caterpillar", "--out", path});

  // ranef(): 337 has the largest intercept, 309 the smallest; 308 the largest slope, 335 the smallest.
  const std::string svg = contents(path);
  const std::size_t slope = svg.find("Days by Subject");
  EXPECT_LT(svg.find(">337<"), svg.find(">309<"));
  EXPECT_NE(slope, std::string::npos);
}

TEST_F(CliPlot, BadInputIsSaidInOneLine) {
  expect_contains(refused({"plot", sleep_model, sleepstudy, "--kind", "pie", "--out", "p.svg"}), "caterpillar");
  expect_contains(refused({"plot", sleep_model, sleepstudy, "--out", "p.png"}), ".svg");
  expect_contains(refused({"plot", sleep_model, sleepstudy, "--out", "no/folder/p.svg"}), "cannot write");
  expect_contains(
      refused({"plot", sleep_model, sleepstudy, "--kind", "caterpillar", "--group", "subject", "--out", "p.svg"}),
      "did you mean 'Subject'?");
}

}  // namespace
}  // namespace batchlmm::tests
