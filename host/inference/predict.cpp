#include "host/inference/predict.hpp"

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <limits>
#include <optional>

#include "batchlmm/error.hpp"
#include "host/model/memory.hpp"
#include "kernels/normal.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// The streams of the large tier's responses (large_engine.cpp).
constexpr std::uint32_t error_stream = 2, first_effect_stream = 16;

ChosenModes modes_of(const ModelMatrices& model, bool chosen) {
  ChosenModes modes;
  for (const RandomTerm& term : model.random) modes.emplace_back(term.names.size(), chosen);
  return modes;
}

bool any(const std::vector<bool>& chosen) { return std::find(chosen.begin(), chosen.end(), true) != chosen.end(); }
bool all(const std::vector<bool>& chosen) { return std::find(chosen.begin(), chosen.end(), false) == chosen.end(); }

/// @throws ModelError naming them
void check_new_levels(const RandomTerm& term, const NewTerm& rows) {
  if (rows.new_levels.empty()) return;
  std::string names;
  for (std::size_t i = 0; i < rows.new_levels.size() && i < 5; ++i)
    names += (i > 0 ? ", '" : "'") + rows.new_levels[i] + "'";
  if (rows.new_levels.size() > 5) names += ", ...";
  throw ModelError("'" + term.group + "' has levels that the fit does not know: " + names +
                   "; where they are allowed (--allow-new-levels) their modes are 0");
}

MatrixXd covariance_of(const Fit& fit, std::size_t term) {
  const MatrixXd& lambda = fit.random[term].lambda;
  return fit.sigma * fit.sigma * lambda * lambda.transpose();
}

}  // namespace

ChosenModes all_modes(const ModelMatrices& model) { return modes_of(model, true); }
ChosenModes no_modes(const ModelMatrices& model) { return modes_of(model, false); }

std::vector<TermUse> needed_terms(const ModelMatrices& model, const PredictOptions& options) {
  std::vector<TermUse> use;
  for (std::size_t t = 0; t < model.random.size(); ++t)
    use.push_back(any(options.modes[t])                                ? TermUse::levels
                  : options.interval == PredictionInterval::prediction ? TermUse::columns
                                                                       : TermUse::none);
  return use;
}

Predictions predict(const Fit& fit, const NewRows& rows, const PredictOptions& options) {
  const std::vector<RandomTerm>& random = fit.model->random;
  const bool future = options.interval == PredictionInterval::prediction;
  const bool errors = options.standard_errors || options.interval != PredictionInterval::none;
  bool conditional = false;
  std::vector<MatrixXd> covariance;
  for (std::size_t t = 0; t < random.size(); ++t) {
    covariance.push_back(covariance_of(fit, t));
    if (!any(options.modes[t])) continue;
    conditional = true;
    if (!options.allow_new_levels) check_new_levels(random[t], rows.terms[t]);
    if (future && !all(options.modes[t]))
      throw ModelError("a prediction interval needs whole random-effects terms, found a part of (" + random[t].text +
                       ")");
  }
  std::optional<JointCovariance> joint;
  if (errors && conditional) joint.emplace(fit);

  const double missing = std::numeric_limits<double>::quiet_NaN();
  Predictions out;
  out.fit.assign(rows.table_rows, missing);
  if (options.standard_errors) out.se.assign(rows.table_rows, missing);
  if (options.interval != PredictionInterval::none) {
    if (!(options.level > 0 && options.level < 1)) throw InputError("the level of an interval lies between 0 and 1");
    out.low = out.high = out.fit;
  }
  const double quantile = boost::math::quantile(boost::math::normal(), 0.5 + 0.5 * options.level);
  std::vector<RowEffect> effects;
  for (std::size_t i = 0; i < rows.rows.size(); ++i) {
    const auto row = static_cast<Index>(i);
    const VectorXd x = rows.X.row(row).transpose();
    // Variances of new levels, and of what only a new response has.
    double value = rows.offset[row] + x.dot(fit.beta), of_new_levels = 0, of_response = fit.sigma * fit.sigma;
    effects.clear();
    for (std::size_t t = 0; t < random.size(); ++t) {
      const NewTerm& term = rows.terms[t];
      if (!any(options.modes[t])) {
        if (future) of_response += term.z.row(row) * covariance[t] * term.z.row(row).transpose();
        continue;
      }
      VectorXd z = term.z.row(row).transpose();
      for (std::size_t c = 0; c < options.modes[t].size(); ++c)
        if (!options.modes[t][c]) z[static_cast<Index>(c)] = 0;
      if (term.level[i] >= static_cast<std::int32_t>(random[t].levels.size())) {
        of_new_levels += z.dot(covariance[t] * z);
        continue;
      }
      value += z.dot(fit.modes[t].row(term.level[i]));
      effects.push_back({static_cast<int>(t), term.level[i], std::move(z)});
    }
    const std::size_t at = rows.rows[i];
    out.fit[at] = value;
    if (!errors) continue;
    const double variance = (joint ? joint->variance(x, effects) : x.dot(fit.vcov * x)) + of_new_levels;
    if (options.standard_errors) out.se[at] = std::sqrt(variance);
    if (options.interval == PredictionInterval::none) continue;
    const double half = quantile * std::sqrt(variance + (future ? of_response : 0));
    out.low[at] = value - half;
    out.high[at] = value + half;
  }
  return out;
}

MatrixXd simulate(const Fit& fit, const NewRows& rows, const SimulateOptions& options, std::uint64_t count) {
  const std::vector<RandomTerm>& random = fit.model->random;
  const auto n = static_cast<Index>(rows.rows.size());
  require_memory(8.0 * static_cast<double>(n) * static_cast<double>(count) * 2,
                 std::to_string(count) + " responses of " + std::to_string(n) + " rows");
  if (options.use_modes && !options.allow_new_levels)
    for (std::size_t t = 0; t < random.size(); ++t) check_new_levels(random[t], rows.terms[t]);
  MatrixXd y(n, static_cast<Index>(count));
  const VectorXd mean = rows.offset + rows.X * fit.beta;
  for (std::uint64_t r = 0; r < count; ++r) {
    auto column = y.col(static_cast<Index>(r));
    kernels::Normals<double> errors(options.seed, options.first + r, error_stream);
    for (Index i = 0; i < n; ++i) column[i] = mean[i] + fit.sigma * errors.next();
    for (std::size_t t = 0; t < random.size(); ++t) {
      const NewTerm& term = rows.terms[t];
      const Index k = fit.random[t].lambda.rows(), known = fit.modes[t].rows(),
                  levels = known + static_cast<Index>(term.new_levels.size());
      MatrixXd effects = MatrixXd::Zero(levels, k);
      if (options.use_modes) {
        effects.topRows(known) = fit.modes[t];
      } else {
        kernels::Normals<double> normals(options.seed, options.first + r,
                                         first_effect_stream + static_cast<std::uint32_t>(t));
        VectorXd u(k);
        for (Index l = 0; l < levels; ++l) {
          for (Index c = 0; c < k; ++c) u[c] = normals.next();
          effects.row(l) = (fit.sigma * fit.random[t].lambda * u).transpose();
        }
      }
      for (Index i = 0; i < n; ++i)
        column[i] += term.z.row(i).dot(effects.row(term.level[static_cast<std::size_t>(i)]));
    }
  }
  return y;
}

}  // namespace batchlmm
