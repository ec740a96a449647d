#include "host/inference/fit_tidy.hpp"

#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>

#include "host/inference/parameters.hpp"

namespace batchlmm {
namespace {

/// Wald's interval of a row that has its estimate and standard error.
void add_interval(TidyRow& row, double level) {
  const double p = 0.5 + 0.5 * level;
  const double quantile = std::isfinite(row.df) && row.df > 0
                              ? boost::math::quantile(boost::math::students_t(row.df), p)
                              : boost::math::quantile(boost::math::normal(), p);
  row.conf_low = row.estimate - quantile * row.std_error;
  row.conf_high = row.estimate + quantile * row.std_error;
}

}  // namespace

std::vector<TidyRow> fit_tidy(const Fit& fit, const FitTidyOptions& options, const SmallSampleTests* tests) {
  std::vector<TidyRow> rows;
  const std::vector<Parameter> parameters = model_parameters(*fit.model);
  const auto row_of = [&](const Parameter& parameter) {
    TidyRow row;
    row.effect = parameter.effect;
    row.group = parameter.group;
    row.term = parameter.tidy_term;
    row.estimate = parameter_value(parameter, fit);
    return row;
  };
  for (const Parameter& parameter : parameters) {
    if (!options.fixed || parameter.kind != ParameterKind::fixed) continue;
    TidyRow row = row_of(parameter);
    if (tests != nullptr) {
      const ContrastTest test = tests->test(Eigen::VectorXd(Eigen::VectorXd::Unit(fit.beta.size(), parameter.row)));
      row.std_error = test.se;
      row.statistic = test.t;
      row.df = test.df;
      row.p_value = test.p;
    } else {
      row.std_error = std::sqrt(fit.vcov(parameter.row, parameter.row));
      row.statistic = row.estimate / row.std_error;
    }
    if (options.confidence) add_interval(row, *options.confidence);
    rows.push_back(std::move(row));
  }
  for (const Parameter& parameter : parameters)
    if (options.ran_pars && parameter.kind != ParameterKind::fixed) rows.push_back(row_of(parameter));
  if (!options.ran_vals) return rows;
  const JointCovariance joint(fit);
  for (std::size_t t = 0; t < fit.model->random.size(); ++t) {
    const RandomTerm& term = fit.model->random[t];
    const Eigen::MatrixXd sd = joint.conditional_sd(static_cast<int>(t));
    for (std::size_t c = 0; c < term.names.size(); ++c)
      for (std::size_t l = 0; l < term.levels.size(); ++l) {
        TidyRow row;
        row.effect = "ran_vals";
        row.group = term.group;
        row.level = term.levels[l];
        row.term = term.names[c];
        row.estimate = fit.modes[t](static_cast<Eigen::Index>(l), static_cast<Eigen::Index>(c));
        row.std_error = sd(static_cast<Eigen::Index>(l), static_cast<Eigen::Index>(c));
        if (options.confidence) add_interval(row, *options.confidence);
        rows.push_back(std::move(row));
      }
  }
  return rows;
}

}  // namespace batchlmm
