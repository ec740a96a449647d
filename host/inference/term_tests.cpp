#include "host/inference/term_tests.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "host/inference/contrast_text.hpp"
#include "host/inference/fit_notes.hpp"
#include "host/inference/r_format.hpp"
#include "host/inference/r_formula.hpp"
#include "host/inference/r_print.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm {
namespace {

using Json = nlohmann::ordered_json;

constexpr int digits = 5;  // R's print.anova: getOption("digits") - 2

const char* method_name(SmallSample method) {
  return method == SmallSample::satterthwaite ? "Satterthwaite" : "Kenward-Roger";
}
const char* type_name(TermTestType type) {
  return type == TermTestType::one ? "I" : type == TermTestType::two ? "II" : "III";
}

/// Test statistics as `printCoefmat` formats them: four decimals, and a number that would become 0 in its own notation.
std::vector<std::string> format_statistics(const std::vector<double>& x) {
  std::vector<double> rounded = x;
  for (double& value : rounded) value = r_round(value, digits - 1);
  std::vector<std::string> texts = r_format(rounded, digits);
  for (std::size_t i = 0; i < x.size(); ++i)
    if (x[i] != 0 && rounded[i] == 0) texts[i] = r_number(x[i], digits - 1);
  return texts;
}

/// A row of a table of F tests.
struct FRow {
  std::string name;
  const FTest* test;
  double sum_square, mean_square;
};

std::string f_table(const std::vector<FRow>& rows, bool squares) {
  // Rows without a test take no part in the columns' formats.
  std::vector<double> sum, mean, df1, df2, f, p;
  for (const FRow& row : rows)
    if (row.test != nullptr) {
      sum.push_back(row.sum_square);
      mean.push_back(row.mean_square);
      df1.push_back(row.test->df1);
      df2.push_back(row.test->df2);
      f.push_back(row.test->f);
      p.push_back(row.test->p);
    }
  const auto column = [&](const std::vector<std::string>& texts) {
    std::vector<std::string> out;
    std::size_t at = 0;
    for (const FRow& row : rows) out.push_back(row.test != nullptr ? texts[at++] : "");
    return out;
  };
  const auto plain = [&](const std::vector<double>& x) { return column(r_format(r_zapsmall(x, digits), digits)); };
  TextMatrix table;
  table.right = true;
  for (const FRow& row : rows) table.row_names.push_back(row.name);
  if (squares) {
    table.column_names = {"Sum Sq", "Mean Sq"};
    table.columns = {plain(sum), plain(mean)};
  }
  for (const char* name : {"NumDF", "DenDF", "F value", "Pr(>F)"}) table.column_names.emplace_back(name);
  table.columns.push_back(plain(df1));
  table.columns.push_back(plain(df2));
  table.columns.push_back(column(format_statistics(f)));
  table.columns.push_back(column(r_format_p_values(p, digits - 1)));
  std::vector<double> by_row;
  for (const FRow& row : rows) by_row.push_back(row.test != nullptr ? row.test->p : TidyRow::none);
  const std::string legend = add_stars(table, by_row);
  return r_print(table) + legend;
}

/// One-row contrasts: estimates with their intervals.
std::string contrast_table(const TermTests& tests) {
  TextMatrix table;
  table.right = true;
  table.column_names = {"Estimate", "Std. Error", "df", "t value", "lower", "upper", "Pr(>|t|)"};
  std::vector<std::vector<double>> values(table.column_names.size());
  for (const ContrastResult& contrast : tests.contrasts) {
    if (!contrast.t) continue;
    table.row_names.push_back(contrast.text);
    const ContrastTest& t = *contrast.t;
    const std::vector<double> row{t.estimate, t.se, t.df, t.t, contrast.conf_low, contrast.conf_high, t.p};
    for (std::size_t i = 0; i < row.size(); ++i) values[i].push_back(row[i]);
  }
  if (table.row_names.empty()) return {};
  for (std::size_t i = 0; i + 1 < values.size(); ++i) table.columns.push_back(r_format(values[i], digits));
  table.columns.push_back(r_format_p_values(values.back(), digits - 1));
  return fmt::format("\nContrasts ({:g}% intervals):\n", 100 * tests.level) + r_print(table);
}

Json f_json(const FTest& f) {
  return {{"NumDF", f.df1}, {"DenDF", f.df2}, {"F", f.f}, {"F_scaling", f.scaling}, {"p", f.p}};
}

}  // namespace

TermTests test_terms(Fit fit, const std::vector<TermHypothesis>& hypotheses, TermTestType type, SmallSample method,
                     const std::vector<std::string>& contrasts, double level) {
  TermTests out;
  out.method = method;
  out.type = type;
  out.level = level;
  std::vector<Eigen::MatrixXd> rows;
  for (const std::string& text : contrasts) rows.push_back(contrast_matrix(text, fit.model->x_names));
  const SmallSampleTests tests(fit, method);
  for (const TermHypothesis& hypothesis : hypotheses) {
    TermTest term{hypothesis.term, {}, 0, 0};
    if (hypothesis.rows.rows() > 0) {
      term.test = tests.test(hypothesis.rows);
      term.mean_square = term.test->f / term.test->scaling * fit.sigma * fit.sigma;
      term.sum_square = term.mean_square * term.test->df1;
    }
    out.terms.push_back(std::move(term));
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    ContrastResult result;
    result.text = contrasts[i];
    result.f = tests.test(rows[i]);
    if (rows[i].rows() == 1) {
      result.t = tests.test(Eigen::VectorXd(rows[i].row(0)));
      const double half = result.t->df > 0 ? result.t->se * boost::math::quantile(boost::math::students_t(result.t->df),
                                                                                  0.5 + 0.5 * level)
                                           : TidyRow::none;
      result.conf_low = result.t->estimate - half;
      result.conf_high = result.t->estimate + half;
    }
    out.contrasts.push_back(std::move(result));
  }
  out.fit = std::move(fit);
  return out;
}

std::string term_tests_text(const TermTests& tests) {
  std::string out = fmt::format("Type {} Analysis of Variance Table with {}'s method\n", type_name(tests.type),
                                method_name(tests.method));
  std::vector<FRow> rows, empty, joint;
  for (const TermTest& term : tests.terms)
    (term.test ? rows : empty)
        .push_back({term.term, term.test ? &*term.test : nullptr, term.sum_square, term.mean_square});
  rows.insert(rows.end(), empty.begin(), empty.end());
  out += rows.empty() ? "(no fixed-effects terms)\n" : f_table(rows, true);
  out += missing_rows_note(tests.fit) + fit_notes(tests.fit) + contrast_table(tests);
  for (const ContrastResult& contrast : tests.contrasts)
    if (!contrast.t) joint.push_back({contrast.text, &contrast.f, 0, 0});
  if (!joint.empty()) out += "\nJoint hypotheses:\n" + f_table(joint, false);
  return out;
}

std::string term_tests_json(const TermTests& tests) {
  Json json;
  json["formula"] = r_formula(tests.fit.model->formula);
  json["method"] = tests.fit.method == Method::reml ? "REML" : "ML";
  json["nobs"] = tests.fit.model->y.size();
  json["dropped"] = tests.fit.model->rows_dropped;
  json["singular"] = tests.fit.singular;
  json["converged"] = tests.fit.converged;
  json["type"] = type_name(tests.type);
  json["ddf"] = method_name(tests.method);
  json["terms"] = Json::array();
  for (const TermTest& term : tests.terms) {
    Json row{{"term", term.term}};
    if (term.test) {
      row["sum_sq"] = term.sum_square;
      row["mean_sq"] = term.mean_square;
      row.update(f_json(*term.test));
    }
    json["terms"].push_back(std::move(row));
  }
  json["contrasts"] = Json::array();
  for (const ContrastResult& contrast : tests.contrasts) {
    Json row{{"contrast", contrast.text}};
    if (contrast.t) {
      const ContrastTest& t = *contrast.t;
      row.update({{"estimate", t.estimate}, {"se", t.se}, {"df", t.df}, {"t", t.t}, {"p", t.p}});
      row["level"] = tests.level;
      row["conf_low"] = contrast.conf_low;
      row["conf_high"] = contrast.conf_high;
    } else {
      row.update(f_json(contrast.f));
    }
    json["contrasts"].push_back(std::move(row));
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string term_tests_csv(const TermTests& tests) {
  std::string out = "term,sumsq,meansq,NumDF,DenDF,statistic,p.value\n";
  const auto add = [&](const std::string& name, double sum, double mean, const FTest* f) {
    out += csv_text(name);
    for (const double value : {sum, mean, f != nullptr ? f->df1 : TidyRow::none, f != nullptr ? f->df2 : TidyRow::none,
                               f != nullptr ? f->f : TidyRow::none, f != nullptr ? f->p : TidyRow::none})
      out += "," + csv_number(value);
    out += "\n";
  };
  for (const TermTest& term : tests.terms)
    add(term.term, term.test ? term.sum_square : TidyRow::none, term.test ? term.mean_square : TidyRow::none,
        term.test ? &*term.test : nullptr);
  for (const ContrastResult& contrast : tests.contrasts) add(contrast.text, TidyRow::none, TidyRow::none, &contrast.f);
  return out;
}

}  // namespace batchlmm
