#include "host/inference/glance.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "host/inference/level_tables.hpp"
#include "host/inference/r_format.hpp"
#include "host/inference/r_formula.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm {
namespace {

std::string line(const std::string& name, const std::string& value) {
  return "  " + pad_right(name, 24) + value + "\n";
}

/// Names and values of the one row.
std::vector<std::pair<std::string, double>> row_of(const Glance& g) {
  return {{"nobs", static_cast<double>(g.nobs)},
          {"sigma", g.sigma},
          {"logLik", g.log_likelihood},
          {"AIC", g.aic},
          {"BIC", g.bic},
          {g.method == Method::reml ? "REMLcrit" : "deviance", g.criterion},
          {"df.residual", g.df_residual},
          {"npar", g.npar},
          {"AICc", g.aicc},
          {"RMSE", g.rmse},
          {"R2_conditional", g.explained.r2_conditional},
          {"R2_marginal", g.explained.r2_marginal},
          {"ICC_adjusted", g.explained.icc_adjusted},
          {"ICC_unadjusted", g.explained.icc_unadjusted},
          {"effective.parameters", g.effective_parameters}};
}

}  // namespace

Glance glance(const Fit& fit) {
  const ModelMatrices& m = *fit.model;
  const auto n = static_cast<double>(m.y.size());
  Glance g;
  g.formula = r_formula(m.formula);
  g.method = fit.method;
  g.nobs = static_cast<std::size_t>(m.y.size());
  g.dropped = m.rows_dropped;
  for (const RandomTerm& term : m.random) {
    const bool known =
        std::any_of(g.groups.begin(), g.groups.end(), [&](const auto& group) { return group.first == term.group; });
    if (!known) g.groups.emplace_back(term.group, term.levels.size());
    g.terms.push_back(term_label(term));
  }
  g.sigma = fit.sigma;
  g.log_likelihood = fit.log_likelihood;
  g.aic = fit.aic;
  g.bic = fit.bic;
  g.npar = fit.parameters;
  const double k = fit.parameters;
  g.aicc = n - k - 1 > 0 ? fit.aic + 2 * k * (k + 1) / (n - k - 1) : std::numeric_limits<double>::quiet_NaN();
  g.criterion = fit.criterion;
  g.df_residual = n - k;
  g.effective_parameters = JointCovariance(fit).leverages().sum();
  g.rmse = std::sqrt((m.y - fit.fitted).squaredNorm() / n);
  g.explained = explained_variance(fit);
  g.singular = fit.singular;
  g.converged = fit.converged;
  return g;
}

std::string glance_text(const Glance& g, const std::string& data) {
  const bool reml = g.method == Method::reml;
  std::string out = fmt::format("Linear mixed model fit by {}\nFormula: {}\n   Data: {}\n\n",
                                reml ? "REML" : "maximum likelihood", g.formula, data);
  out += line("observations", std::to_string(g.nobs) +
                                  (g.dropped > 0 ? fmt::format(" ({} left out for missing values)", g.dropped) : ""));
  for (const auto& [group, levels] : g.groups) out += line("levels of " + group, std::to_string(levels));
  out += line("parameters",
              fmt::format("{} (effective, trace of the hat matrix: {:.4g})", g.npar, g.effective_parameters));
  out += line(reml ? "REML criterion" : "deviance", r_number(g.criterion));
  out += line("log likelihood", r_number(g.log_likelihood));
  out += line("AIC, AICc, BIC", r_number(g.aic) + ", " + r_number(g.aicc) + ", " + r_number(g.bic));
  out += line("sigma, RMSE", r_number(g.sigma, 4) + ", " + r_number(g.rmse, 4));
  const ExplainedVariance& v = g.explained;
  out += "\nVariance of the response\n";
  double all = v.fixed + v.residual;
  for (const double part : v.random) all += part;
  const auto part = [&](const std::string& name, double value) {
    out += "  " + pad_right(name, 24) + pad_left(r_number(value, 4), 10) +
           pad_left(fmt::format("{:.1f} %", 100 * value / all), 9) + "\n";
  };
  part("fixed effects", v.fixed);
  for (std::size_t t = 0; t < v.random.size(); ++t) part(g.terms[t], v.random[t]);
  part("residual", v.residual);
  out += "\n";
  out += line("R2", fmt::format("marginal {:.3f}, conditional {:.3f}", v.r2_marginal, v.r2_conditional));
  out += line("ICC", fmt::format("adjusted {:.3f}, unadjusted {:.3f}", v.icc_adjusted, v.icc_unadjusted));
  if (g.singular) out += "boundary (singular) fit\n";
  if (!g.converged) out += "the fit did not converge\n";
  return out;
}

std::string glance_json(const Glance& g) {
  nlohmann::ordered_json json;
  json["formula"] = g.formula;
  json["method"] = g.method == Method::reml ? "REML" : "ML";
  json["dropped"] = g.dropped;
  json["groups"] = nlohmann::ordered_json::object();
  for (const auto& [group, levels] : g.groups) json["groups"][group] = levels;
  for (const auto& [name, value] : row_of(g)) json[name] = value;
  json["nobs"] = g.nobs;
  json["npar"] = g.npar;
  json["variance"] = {{"fixed", g.explained.fixed}, {"random", nlohmann::ordered_json::array()}};
  for (std::size_t t = 0; t < g.terms.size(); ++t)
    json["variance"]["random"].push_back({{"term", g.terms[t]}, {"variance", g.explained.random[t]}});
  json["variance"]["residual"] = g.explained.residual;
  json["singular"] = g.singular;
  json["converged"] = g.converged;
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string glance_csv(const Glance& g) {
  std::string names, values;
  for (const auto& [name, value] : row_of(g)) {
    names += (names.empty() ? "" : ",") + name;
    values += (values.empty() ? "" : ",") + csv_number(value);
  }
  return names + "\n" + values + "\n";
}

}  // namespace batchlmm
