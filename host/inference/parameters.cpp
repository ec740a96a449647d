#include "host/inference/parameters.hpp"

#include <fmt/format.h>

#include <limits>

#include "batchlmm/error.hpp"
#include "host/data/nearest_name.hpp"

namespace batchlmm {

std::vector<Parameter> model_parameters(const ModelMatrices& model) {
  std::vector<Parameter> out;
  for (std::size_t t = 0; t < model.random.size(); ++t) {
    const RandomTerm& term = model.random[t];
    const auto k = static_cast<int>(term.names.size());
    const auto name = [&](int i) -> const std::string& { return term.names[static_cast<std::size_t>(i)]; };
    for (int column = 0; column < k; ++column)
      for (int row = column; row < k; ++row) {
        const bool sd = row == column;
        out.push_back({sd ? ParameterKind::sd : ParameterKind::correlation, static_cast<int>(t), row, column,
                       sd ? fmt::format("sd_{}|{}", name(row), term.group)
                          : fmt::format("cor_{}.{}|{}", name(row), name(column), term.group),
                       "ran_pars", term.group,
                       sd ? fmt::format("sd__{}", name(row)) : fmt::format("cor__{}.{}", name(column), name(row))});
      }
  }
  out.push_back({ParameterKind::sigma, 0, 0, 0, "sigma", "ran_pars", "Residual", "sd__Observation"});
  for (std::size_t j = 0; j < model.x_names.size(); ++j)
    out.push_back({ParameterKind::fixed, 0, static_cast<int>(j), 0, model.x_names[j], "fixed", "", model.x_names[j]});
  return out;
}

double parameter_value(const Parameter& parameter, const Eigen::VectorXd& beta,
                       const std::vector<Eigen::MatrixXd>& lambda, double sigma) {
  switch (parameter.kind) {
    case ParameterKind::fixed:
      return beta[parameter.row];
    case ParameterKind::sigma:
      return sigma;
    case ParameterKind::sd:
      return sigma * lambda[static_cast<std::size_t>(parameter.term)].row(parameter.row).norm();
    case ParameterKind::correlation: {
      const Eigen::MatrixXd& l = lambda[static_cast<std::size_t>(parameter.term)];
      const double scale = l.row(parameter.row).norm() * l.row(parameter.column).norm();
      return scale > 0 ? l.row(parameter.row).dot(l.row(parameter.column)) / scale
                       : std::numeric_limits<double>::quiet_NaN();
    }
  }
  return std::numeric_limits<double>::quiet_NaN();
}

std::vector<Eigen::MatrixXd> term_lambdas(const Fit& fit) {
  std::vector<Eigen::MatrixXd> lambda;
  for (const TermCovariance& term : fit.random) lambda.push_back(term.lambda);
  return lambda;
}

double parameter_value(const Parameter& parameter, const Fit& fit) {
  return parameter_value(parameter, fit.beta, term_lambdas(fit), fit.sigma);
}

std::size_t find_parameter(const std::vector<Parameter>& parameters, std::string_view label) {
  std::size_t covariances = 0;
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const bool covariance = parameters[i].kind == ParameterKind::sd || parameters[i].kind == ParameterKind::correlation;
    if (covariance) ++covariances;
    if (label == parameters[i].label || (covariance && label == fmt::format(".sig{:02}", covariances)) ||
        (parameters[i].kind == ParameterKind::sigma && label == ".sigma"))
      return i;
    labels.push_back(parameters[i].label);
  }
  throw InputError(fmt::format("expected a parameter of the model, found '{}'{}", label,
                               nearest_name_hint(label, labels, "parameters")));
}

}  // namespace batchlmm
