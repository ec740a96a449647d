#include "host/inference/lrt_report.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "host/inference/bootstrap_test_report.hpp"
#include "host/inference/fit_notes.hpp"
#include "host/inference/r_format.hpp"
#include "host/inference/r_formula.hpp"
#include "host/inference/r_print.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm {
namespace {

using Json = nlohmann::ordered_json;

constexpr int digits = 5;  // R's print.anova: getOption("digits") - 2

std::string model_name(std::size_t i) { return "m" + std::to_string(i); }

/// The models of the chain.
std::vector<const Fit*> fits_of(const std::vector<LikelihoodRatioTest>& tests) {
  std::vector<const Fit*> fits{&tests.front().null};
  for (const LikelihoodRatioTest& test : tests) fits.push_back(&test.full);
  return fits;
}

std::string anova_table(const std::vector<LikelihoodRatioTest>& tests) {
  const std::vector<const Fit*> fits = fits_of(tests);
  const auto of_fits = [&](auto value) {
    std::vector<double> values;
    for (const Fit* fit : fits) values.push_back(value(*fit));
    return r_format(r_zapsmall(values, digits), digits);
  };
  const auto of_tests = [&](auto value) {
    std::vector<double> values;
    for (const LikelihoodRatioTest& test : tests) values.push_back(value(test));
    return values;
  };
  const auto below_blank = [](std::vector<std::string> cells) {
    cells.insert(cells.begin(), "");
    return cells;
  };
  const std::vector<double> p = of_tests([](const LikelihoodRatioTest& test) { return test.p_chisq; });
  TextMatrix table;
  table.right = true;
  for (std::size_t i = 0; i < fits.size(); ++i) table.row_names.push_back(model_name(i));
  table.column_names = {"npar", "AIC", "BIC", "logLik", "deviance", "Chisq", "Df", "Pr(>Chisq)"};
  table.columns = {
      of_fits([](const Fit& fit) { return static_cast<double>(fit.parameters); }),
      of_fits([](const Fit& fit) { return fit.aic; }),
      of_fits([](const Fit& fit) { return fit.bic; }),
      of_fits([](const Fit& fit) { return fit.log_likelihood; }),
      of_fits([](const Fit& fit) { return fit.criterion; }),
      below_blank(r_format(
          of_tests([](const LikelihoodRatioTest& test) { return r_round(test.statistic, digits - 1); }), digits)),
      below_blank(r_format(of_tests([](const LikelihoodRatioTest& test) { return test.df; }), digits)),
      below_blank(r_format_p_values(p, digits - 1)),
  };
  std::vector<double> by_row{std::numeric_limits<double>::quiet_NaN()};  // the smallest model is not tested
  by_row.insert(by_row.end(), p.begin(), p.end());
  const std::string legend = add_stars(table, by_row);
  return r_print(table) + legend;
}

}  // namespace

std::string lrt_text(const std::vector<LikelihoodRatioTest>& tests, const std::string& data) {
  const std::vector<const Fit*> fits = fits_of(tests);
  std::string out = "Data: " + data + "\nModels:\n";
  for (std::size_t i = 0; i < fits.size(); ++i) out += model_name(i) + ": " + r_formula(fits[i]->model->formula) + "\n";
  out += anova_table(tests);
  out += missing_rows_note(*fits.back());
  if (fits.back()->method == Method::reml) out += "  (models fitted by REML)\n";
  for (std::size_t i = 0; i < fits.size(); ++i) out += fit_notes(*fits[i], model_name(i) + ": ");
  for (std::size_t i = 0; i < tests.size(); ++i) out += law_note(tests[i], model_name(i + 1));
  for (std::size_t i = 0; i < tests.size(); ++i)
    out += bootstrap_text(tests[i], tests.size() == 1 ? "" : " of " + model_name(i + 1) + " against " + model_name(i));
  return out;
}

std::string lrt_json(const std::vector<LikelihoodRatioTest>& tests) {
  Json json;
  json["models"] = Json::array();
  const std::vector<const Fit*> fits = fits_of(tests);
  for (std::size_t i = 0; i < fits.size(); ++i) {
    const Fit& fit = *fits[i];
    json["models"].push_back({{"name", model_name(i)},
                              {"formula", r_formula(fit.model->formula)},
                              {"npar", fit.parameters},
                              {"AIC", fit.aic},
                              {"BIC", fit.bic},
                              {"logLik", fit.log_likelihood},
                              {"deviance", fit.criterion},
                              {"singular", fit.singular},
                              {"converged", fit.converged}});
  }
  json["nobs"] = fits.back()->model->y.size();
  json["dropped"] = fits.back()->model->rows_dropped;
  if (tests.size() == 1) add_test_json(json, tests.front());
  json["method"] = fits.back()->method == Method::reml ? "REML" : "ML";
  json["steps"] = Json::array();
  for (std::size_t i = 0; i < tests.size(); ++i) {
    Json step{{"null", model_name(i)}, {"full", model_name(i + 1)}};
    add_test_json(step, tests[i]);
    json["steps"].push_back(std::move(step));
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string lrt_csv(const std::vector<LikelihoodRatioTest>& tests) {
  std::vector<TidyRow> rows;
  for (std::size_t i = 0; i < tests.size(); ++i) add_test_rows(rows, tests[i], model_name(i + 1));
  return tidy_csv(rows);
}

}  // namespace batchlmm
