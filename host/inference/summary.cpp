#include "host/inference/summary.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "host/inference/fit_notes.hpp"
#include "host/inference/level_tables.hpp"
#include "host/inference/r_format.hpp"
#include "host/inference/r_formula.hpp"
#include "host/inference/r_print.hpp"

namespace batchlmm {
namespace {

constexpr int digits = 4;                // lme4's summary: getOption("digits") - 3
constexpr int largest_correlation = 20;  // lme4.summary.cor.max

std::vector<double> to_vector(const Eigen::VectorXd& x) { return {x.data(), x.data() + x.size()}; }

std::string heading(const Fit& fit, const std::string& data, const SmallSampleTests* tests) {
  std::string out =
      fit.method == Method::reml ? "Linear mixed model fit by REML" : "Linear mixed model fit by maximum likelihood";
  if (tests != nullptr)
    out += tests->method() == SmallSample::satterthwaite ? ". t-tests use Satterthwaite's method\n"
                                                         : ". t-tests use Kenward-Roger's method\n";
  else
    out += fit.method == Method::reml ? " ['lmerMod']\n" : "  ['lmerMod']\n";
  std::vector<std::string> pieces = r_deparse(fit.model->formula);
  pieces.insert(pieces.begin(), "Formula:");
  return out + r_cat_fill(pieces) + r_cat_fill({"   Data:", data}) + "\n";
}

std::string criterion_block(const Fit& fit) {
  if (fit.method == Method::reml) {
    return r_cat_fill({"REML criterion at convergence:", r_number(r_round(fit.criterion, 1))}) + "\n";
  }
  const double residual_df = static_cast<double>(fit.model->y.size()) - fit.parameters;
  std::vector<double> values{fit.aic, fit.bic, fit.log_likelihood, fit.criterion, residual_df};
  for (double& value : values) value = r_round(value, 1);
  auto texts = r_format(values);
  texts.back() = r_number(residual_df);
  return r_print_named({"AIC", "BIC", "logLik", "deviance", "df.resid"}, texts) + "\n";
}

std::string residual_block(const Fit& fit) {
  const auto quantiles = residual_quantiles(fit);
  const auto values = r_zapsmall({quantiles.begin(), quantiles.end()}, digits + 1);
  return "Scaled residuals: \n" + r_print_named({"Min", "1Q", "Median", "3Q", "Max"}, r_format(values, digits)) + "\n";
}

/// Names of the terms in the table of random effects: unlike names where two terms have one grouping factor.
std::vector<std::string> term_names(const Fit& fit) {
  std::vector<std::string> names;
  for (const auto& term : fit.model->random) names.push_back(term.group);
  auto sorted = names;
  std::sort(sorted.begin(), sorted.end());
  const bool twice = std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
  return twice ? r_make_names(names) : names;
}

std::string random_effects_block(const Fit& fit) {
  const auto& terms = fit.model->random;
  std::size_t widest = 1;
  for (const auto& term : terms) widest = std::max(widest, term.names.size());

  TextMatrix table;
  table.column_names = {"Groups", "Name", "Variance", "Std.Dev."};
  std::vector<std::string> groups;
  std::vector<std::string> names;
  std::vector<double> deviations;
  std::vector<std::vector<std::string>> correlations(widest - 1);
  const auto term_name = term_names(fit);
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const auto k = static_cast<Eigen::Index>(terms[i].names.size());
    std::vector<double> corr;  // all of it sets the common width, the lower triangle is shown
    for (Eigen::Index column = 0; column < k; ++column) {
      for (Eigen::Index row = 0; row < k; ++row) {
        corr.push_back(row == column ? 1.0 : r_round(fit.random[i].corr(row, column), 2));
      }
    }
    const auto texts = r_format(corr, 7, 2);
    for (Eigen::Index row = 0; row < k; ++row) {
      groups.push_back(row == 0 ? term_name[i] : "");
      names.push_back(terms[i].names[static_cast<std::size_t>(row)]);
      deviations.push_back(fit.random[i].sd[row]);
      for (std::size_t column = 0; column + 1 < widest; ++column) {
        const bool shown = static_cast<Eigen::Index>(column) < row;
        const auto cell = column * static_cast<std::size_t>(k) + static_cast<std::size_t>(row);
        correlations[column].push_back(shown ? texts[cell] : "");
      }
    }
  }
  groups.emplace_back("Residual");
  names.emplace_back();
  deviations.push_back(fit.sigma);
  std::vector<double> variances = deviations;
  for (double& variance : variances) variance *= variance;

  table.row_names.assign(groups.size(), "");
  table.columns = {groups, names, r_format(variances, digits), r_format(deviations, digits)};
  for (std::size_t column = 0; column + 1 < widest; ++column) {
    correlations[column].emplace_back();
    table.column_names.emplace_back(column == 0 ? "Corr" : "");
    table.columns.push_back(correlations[column]);
  }
  return "Random effects:\n" + r_print(table);
}

std::string observations_line(const Fit& fit) {
  std::string groups;
  std::vector<std::string> seen;
  for (const auto& term : fit.model->random) {
    if (std::find(seen.begin(), seen.end(), term.group) != seen.end()) continue;
    seen.push_back(term.group);
    groups += (groups.empty() ? "" : "; ") + term.group + ", " + std::to_string(term.levels.size());
  }
  return r_cat_fill({"Number of obs: " + std::to_string(fit.model->y.size()) + ", groups: ", groups}) +
         missing_rows_note(fit);
}

/// Estimates and standard errors as R's `printCoefmat` formats them, together: `digits` significant digits for the
/// smallest in magnitude, and a number that would become 0 in its own notation.
std::vector<std::string> format_estimates(const std::vector<double>& x) {
  double smallest = std::numeric_limits<double>::infinity();
  for (const double value : x) {
    if (std::isfinite(value) && value != 0) smallest = std::min(smallest, std::abs(value));
  }
  const int leading = std::isfinite(smallest) ? 1 + static_cast<int>(std::floor(std::log10(smallest))) : 1;
  std::vector<double> rounded = x;
  for (double& value : rounded) value = r_round(value, std::max(1, digits - leading));
  auto texts = r_format(rounded, digits);

  std::vector<std::size_t> lost;
  std::vector<double> lost_values;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::isfinite(x[i]) && x[i] != 0 && std::strtod(texts[i].c_str(), nullptr) == 0) {
      lost.push_back(i);
      lost_values.push_back(x[i]);
    }
  }
  const auto kept = r_format(lost_values, digits - 1);
  for (std::size_t i = 0; i < lost.size(); ++i) texts[lost[i]] = kept[i];
  return texts;
}

std::string fixed_effects_block(const Fit& fit, const SmallSampleTests* tests) {
  const auto p = static_cast<std::size_t>(fit.beta.size());
  if (p == 0) return {};
  // Estimates, errors and degrees of freedom have one format, column by column.
  std::vector<double> estimates = to_vector(fit.beta), errors, df, t, p_values;
  for (std::size_t i = 0; i < p; ++i) {
    const auto index = static_cast<Eigen::Index>(i);
    double error = std::sqrt(fit.vcov(index, index)), statistic = fit.beta[index] / error;
    if (tests != nullptr) {
      const ContrastTest test = tests->test(Eigen::VectorXd(Eigen::VectorXd::Unit(fit.beta.size(), index)));
      error = test.se;
      statistic = test.t;
      df.push_back(test.df);
      p_values.push_back(test.p);
    }
    errors.push_back(error);
    t.push_back(r_round(statistic, digits - 1));
  }
  std::vector<double> together = estimates;
  together.insert(together.end(), errors.begin(), errors.end());
  together.insert(together.end(), df.begin(), df.end());
  const auto texts = format_estimates(together);
  const auto column = [&](std::size_t i) {
    const auto first = texts.begin() + static_cast<std::ptrdiff_t>(i * p);
    return std::vector<std::string>(first, first + static_cast<std::ptrdiff_t>(p));
  };
  TextMatrix table;
  table.right = true;
  table.row_names = fit.model->x_names;
  table.column_names = {"Estimate", "Std. Error"};
  table.columns = {column(0), column(1)};
  if (tests != nullptr) {
    table.column_names.emplace_back("df");
    table.columns.push_back(column(2));
  }
  table.column_names.emplace_back("t value");
  table.columns.push_back(r_format(t, digits));
  std::string legend;
  if (tests != nullptr) {
    table.column_names.emplace_back("Pr(>|t|)");
    table.columns.push_back(r_format_p_values(p_values, digits - 1));
    legend = add_stars(table, p_values);
  }
  return "\nFixed effects:\n" + r_print(table) + legend;
}

std::string correlation_block(const Fit& fit, const Eigen::MatrixXd& vcov) {
  const auto p = static_cast<std::size_t>(fit.beta.size());
  if (p <= 1) return {};
  if (p > largest_correlation) {
    return "\nCorrelation of Fixed Effects: not shown by default, as p = " + std::to_string(p) + " > " +
           std::to_string(largest_correlation) + " (the covariance matrix is in the JSON output)\n";
  }
  const Eigen::VectorXd errors = vcov.diagonal().cwiseSqrt();
  std::vector<double> all;  // the whole matrix sets the common width, the lower triangle is shown
  for (Eigen::Index j = 0; j < vcov.cols(); ++j) {
    for (Eigen::Index i = 0; i < vcov.rows(); ++i) {
      all.push_back(i == j ? 1.0 : r_round(vcov(i, j) / errors[i] / errors[j], 3));
    }
  }
  const auto texts = r_format(all, 7, 3);
  const auto row_names = r_abbreviate(fit.model->x_names, 11);
  const auto column_names = r_abbreviate(fit.model->x_names, 6);
  TextMatrix table;
  table.row_names.assign(row_names.begin() + 1, row_names.end());
  table.column_names.assign(column_names.begin(), column_names.end() - 1);
  for (std::size_t j = 0; j + 1 < p; ++j) {
    std::vector<std::string> column;
    for (std::size_t i = 1; i < p; ++i) column.push_back(i > j ? texts[j * p + i] : "");
    table.columns.push_back(column);
  }
  return "\nCorrelation of Fixed Effects:\n" + r_print(table);
}

std::string level_tables_text(const std::vector<LevelTable>& tables) {
  std::string out;
  for (const auto& level_table : tables) {
    TextMatrix table;
    table.right = true;
    table.row_names = level_table.levels;
    table.column_names = level_table.columns;
    for (Eigen::Index j = 0; j < level_table.values.cols(); ++j) {
      table.columns.push_back(r_format(to_vector(level_table.values.col(j))));
    }
    const std::string& group = level_table.group;
    out += "$" + (r_is_syntactic(group) ? group : "`" + group + "`") + "\n" + r_print(table) + "\n";
  }
  return out;
}

}  // namespace

std::string summary_text(const Fit& fit, const std::string& data, const SmallSampleTests* tests) {
  return heading(fit, data, tests) + criterion_block(fit) + residual_block(fit) + random_effects_block(fit) +
         observations_line(fit) + fixed_effects_block(fit, tests) +
         correlation_block(fit, tests != nullptr ? tests->covariance() : fit.vcov) +
         (fit.model->dropped_columns.empty() ? "" : "fit warnings:\n") + fit_notes(fit);
}

std::string ranef_text(const Fit& fit) { return level_tables_text(conditional_modes(fit)); }

std::string coef_text(const Fit& fit) { return level_tables_text(level_coefficients(fit)); }

std::array<double, 5> residual_quantiles(const Fit& fit) {
  std::vector<double> sorted = to_vector(fit.scaled_residuals);
  std::sort(sorted.begin(), sorted.end());
  std::array<double, 5> quantiles{};
  if (sorted.empty()) return quantiles;
  for (std::size_t i = 0; i < quantiles.size(); ++i) {
    const double at = static_cast<double>(sorted.size() - 1) * static_cast<double>(i) / 4.0;
    const auto below = static_cast<std::size_t>(at);
    const double weight = at - static_cast<double>(below);
    quantiles[i] = weight == 0 ? sorted[below] : (1 - weight) * sorted[below] + weight * sorted[below + 1];
  }
  return quantiles;
}

}  // namespace batchlmm
