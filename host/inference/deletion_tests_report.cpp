#include "host/inference/deletion_tests_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "host/batch/tier.hpp"
#include "host/inference/bootstrap_test_report.hpp"
#include "host/inference/fit_notes.hpp"
#include "host/inference/r_format.hpp"
#include "host/inference/r_print.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm {
namespace {

using Json = nlohmann::ordered_json;

constexpr int digits = 5;  // R's print.anova: getOption("digits") - 2
constexpr double none = TidyRow::none;

/// NaN prints as an empty cell.
std::vector<std::string> cells(const std::vector<double>& values,
                               std::vector<std::string> (*format)(const std::vector<double>&)) {
  std::vector<double> finite;
  for (const double value : values)
    if (!std::isnan(value)) finite.push_back(value);
  const std::vector<std::string> texts = format(finite);
  std::vector<std::string> out;
  out.reserve(values.size());
  std::size_t next = 0;
  for (const double value : values) out.push_back(std::isnan(value) ? "" : texts[next++]);
  return out;
}

std::vector<std::string> zapped(const std::vector<double>& values) {
  return r_format(r_zapsmall(values, digits), digits);
}
std::vector<std::string> as_are(const std::vector<double>& values) { return r_format(values, digits); }
std::vector<std::string> p_values(const std::vector<double>& values) { return r_format_p_values(values, digits - 1); }

/// A term's numbers; where the model without it has as many parameters it is the model itself.
struct Row {
  double npar, log_likelihood, aic, statistic, df, p;
};
Row row_of(const DeletionTest& term, const Fit& full) {
  if (!term.test) return {static_cast<double>(full.parameters), full.log_likelihood, full.aic, 0, 0, none};
  const Fit& null = term.test->null;
  return {static_cast<double>(null.parameters), null.log_likelihood, null.aic, term.test->statistic,
          static_cast<double>(term.test->df),   term.test->p_chisq};
}

std::string deletion_table(const DeletionTests& tests, DeletionLayout layout) {
  const Fit& full = tests.full;
  std::vector<double> npar{static_cast<double>(full.parameters)}, log_likelihood{full.log_likelihood}, aic{full.aic},
      statistic{none}, df{none}, p{none};
  TextMatrix table;
  table.right = true;
  table.row_names = {"<none>"};
  for (const DeletionTest& term : tests.terms) {
    const Row row = row_of(term, full);
    table.row_names.push_back(term.term);
    npar.push_back(row.npar);
    log_likelihood.push_back(row.log_likelihood);
    aic.push_back(row.aic);
    statistic.push_back(row.statistic);
    df.push_back(row.df);
    p.push_back(row.p);
  }
  if (layout == DeletionLayout::ranova) {
    table.column_names = {"npar", "logLik", "AIC", "LRT", "Df", "Pr(>Chisq)"};
    table.columns = {cells(npar, zapped), cells(log_likelihood, zapped),
                     cells(aic, zapped),  cells(statistic, zapped),
                     cells(df, as_are),   cells(p, p_values)};
  } else {
    table.column_names = {"npar", "AIC", "LRT", "Pr(Chi)"};
    table.columns = {cells(df, zapped), cells(aic, zapped), cells(statistic, zapped), cells(p, p_values)};
  }
  const std::string legend = add_stars(table, p);
  return r_print(table) + legend;
}

/// All terms' bootstraps in one table, then what each has on its own.
std::string bootstrap_table(const DeletionTests& tests) {
  std::vector<const DeletionTest*> with;
  for (const DeletionTest& term : tests.terms)
    if (term.test && term.test->bootstrap) with.push_back(&term);
  if (with.empty()) return {};
  TextMatrix table;
  table.right = true;
  table.column_names = {"p.boot", "2.5 %", "97.5 %", "extreme", "used", "failed", "zeros", "mean"};
  table.columns.resize(table.column_names.size());
  double seconds = 0;
  for (const DeletionTest* term : with) {
    const BootstrapTest& b = *term->test->bootstrap;
    seconds += b.seconds;
    table.row_names.push_back(term->term);
    const std::vector<std::string> row{fmt::format("{:.4g}", b.p),
                                       fmt::format("{:.4g}", b.interval[0]),
                                       fmt::format("{:.4g}", b.interval[1]),
                                       std::to_string(b.extreme),
                                       std::to_string(b.used),
                                       std::to_string(b.replicates - b.used),
                                       fmt::format("{:.4g}", b.share_zero),
                                       fmt::format("{:.4g}", b.mean_statistic)};
    for (std::size_t c = 0; c < row.size(); ++c) table.columns[c].push_back(row[c]);
  }
  const BootstrapTest& any = *with.front()->test->bootstrap;
  std::string out = fmt::format("\nParametric bootstrap: {}{} replicates a term, seed {}\n",
                                any.rule.is_set() ? "at most " : "", any.asked, any.seed) +
                    r_print(table);
  for (const DeletionTest* term : with) {
    const BootstrapTest& b = *term->test->bootstrap;
    if (b.rule_met) out += fmt::format("{}: the rule ended it after {} replicates\n", term->term, b.replicates);
    if (!b.stopped.empty())
      out += fmt::format("{}: stopped after {} replicates: {}\n", term->term, b.replicates, b.stopped);
  }
  std::string tiers;
  for (const DeletionTest* term : with) {
    const std::string tier = tier_name(term->test->bootstrap->tier);
    if (tiers.find(tier) == std::string::npos) tiers += (tiers.empty() ? "" : " and ") + tier;
  }
  return out + fmt::format("  time {:.3g} s ({}, {} {}, {} tier)\n", seconds, any.backend, any.threads,
                           any.threads == 1 ? "thread" : "threads", tiers);
}

}  // namespace

std::string deletion_tests_text(const DeletionTests& tests, DeletionLayout layout, const std::string& formula) {
  std::string out = layout == DeletionLayout::ranova ? "ANOVA-like table for random-effects: " : "";
  out += "Single term deletions\n\nModel:\n" + formula + "\n" + deletion_table(tests, layout);
  out += missing_rows_note(tests.full) + fit_notes(tests.full);
  for (const DeletionTest& term : tests.terms)
    if (term.test) out += fit_notes(term.test->null, "without " + term.term + ": ");
  for (const DeletionTest& term : tests.terms) {
    if (!term.test) out += term.term + ": the model without it has as many parameters, there is no test\n";
    if (term.test) out += law_note(*term.test, term.term);
  }
  return out + bootstrap_table(tests);
}

std::string deletion_tests_json(const DeletionTests& tests, const std::string& formula) {
  const Fit& full = tests.full;
  Json json;
  json["formula"] = formula;
  json["method"] = full.method == Method::reml ? "REML" : "ML";
  json["nobs"] = full.model->y.size();
  json["dropped"] = full.model->rows_dropped;
  json["npar"] = full.parameters;
  json["logLik"] = full.log_likelihood;
  json["AIC"] = full.aic;
  json["singular"] = full.singular;
  json["converged"] = full.converged;
  json["terms"] = Json::array();
  for (const DeletionTest& term : tests.terms) {
    const Row row = row_of(term, full);
    Json item{{"term", term.term}, {"formula", term.formula}, {"npar", row.npar}, {"logLik", row.log_likelihood},
              {"AIC", row.aic},    {"singular", nullptr},     {"test", nullptr}};
    if (term.test) {
      item["singular"] = term.test->null.singular;
      item["test"] = Json::object();
      add_test_json(item["test"], *term.test);
    }
    json["terms"].push_back(std::move(item));
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string deletion_tests_csv(const DeletionTests& tests) {
  std::vector<TidyRow> rows;
  for (const DeletionTest& term : tests.terms)
    if (term.test) add_test_rows(rows, *term.test, term.term);
  return tidy_csv(rows);
}

}  // namespace batchlmm
