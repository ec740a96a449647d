#include "host/inference/fit_json.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "host/inference/level_tables.hpp"
#include "host/inference/r_formula.hpp"
#include "host/inference/summary.hpp"

namespace batchlmm {
namespace {

using Json = nlohmann::ordered_json;

Json array_of(const Eigen::VectorXd& x) { return std::vector<double>(x.data(), x.data() + x.size()); }

/// Array of rows.
Json array_of_rows(const Eigen::MatrixXd& matrix) {
  Json rows = Json::array();
  for (Eigen::Index i = 0; i < matrix.rows(); ++i) rows.push_back(array_of(matrix.row(i)));
  return rows;
}

Json tables_of(const std::vector<LevelTable>& tables) {
  Json object = Json::object();
  for (const auto& table : tables) {
    object[table.group] = {{"levels", table.levels}, {"terms", table.columns}, {"values", array_of_rows(table.values)}};
  }
  return object;
}

}  // namespace

std::string fit_json(const Fit& fit, const SmallSampleTests* tests, const JointCovariance* joint) {
  const ModelMatrices& model = *fit.model;
  Json json;
  json["formula"] = r_formula(model.formula);
  json["method"] = fit.method == Method::reml ? "REML" : "ML";
  json["nobs"] = model.y.size();
  json["dropped"] = model.rows_dropped;
  json["criterion"] = fit.criterion;
  json["logLik"] = fit.log_likelihood;
  json["AIC"] = fit.aic;
  json["BIC"] = fit.bic;
  json["df"] = fit.parameters;
  json["theta"] = array_of(fit.theta);
  json["sigma"] = fit.sigma;

  json["fixed"] = Json::array();
  for (Eigen::Index i = 0; i < fit.beta.size(); ++i) {
    const double error = std::sqrt(fit.vcov(i, i));
    Json effect{{"name", model.x_names[static_cast<std::size_t>(i)]},
                {"estimate", fit.beta[i]},
                {"se", error},
                {"t", fit.beta[i] / error}};
    if (tests != nullptr) {
      const ContrastTest test = tests->test(Eigen::VectorXd(Eigen::VectorXd::Unit(fit.beta.size(), i)));
      effect["se"] = test.se;
      effect["t"] = test.t;
      effect["df"] = test.df;
      effect["p"] = test.p;
    }
    json["fixed"].push_back(effect);
  }
  if (tests != nullptr) json["ddf"] = tests->method() == SmallSample::satterthwaite ? "satterthwaite" : "kenward-roger";
  json["dropped_columns"] = model.dropped_columns;
  json["vcov"] = array_of_rows(tests != nullptr ? tests->covariance() : fit.vcov);

  json["random"] = Json::array();
  Json boundary_terms = Json::array();
  for (std::size_t i = 0; i < model.random.size(); ++i) {
    const RandomTerm& term = model.random[i];
    json["random"].push_back({{"group", term.group},
                              {"levels", term.levels.size()},
                              {"terms", term.names},
                              {"sd", array_of(fit.random[i].sd)},
                              {"corr", array_of_rows(fit.random[i].corr)}});
    if (fit.random[i].boundary) boundary_terms.push_back(term_label(term));
  }
  json["ranef"] = tables_of(conditional_modes(fit));
  if (joint != nullptr) {
    std::vector<Eigen::MatrixXd> sd;
    for (std::size_t t = 0; t < model.random.size(); ++t) sd.push_back(joint->conditional_sd(static_cast<int>(t)));
    for (const LevelTable& table : by_group(model, sd)) json["ranef"][table.group]["se"] = array_of_rows(table.values);
  }
  json["coef"] = tables_of(level_coefficients(fit));
  json["scaled_residuals"] = residual_quantiles(fit);
  json["singular"] = fit.singular;
  json["boundary_terms"] = std::move(boundary_terms);
  json["converged"] = fit.converged;
  if (!fit.converged) json["message"] = fit.message;
  json["evaluations"] = fit.evaluations;
  json["gradient_norm"] = fit.gradient_norm;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace batchlmm
