/// @file
/// Predictions of a fitted model for rows of its own or of other data, and responses simulated from it: lme4's
/// `predict` and `simulate`.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <string>
#include <vector>

#include "host/inference/joint_covariance.hpp"
#include "host/model/new_data.hpp"

namespace batchlmm {

/// Which coefficients of which terms a prediction is conditional on: per term of ModelMatrices::random, per column.
using ChosenModes = std::vector<std::vector<bool>>;

ChosenModes all_modes(const ModelMatrices& model);
ChosenModes no_modes(const ModelMatrices& model);

enum class PredictionInterval { none, confidence, prediction };

struct PredictOptions {
  ChosenModes modes;              ///< lme4's re.form
  bool allow_new_levels = false;  ///< of grouping factors; their modes are 0
  bool standard_errors = true;
  PredictionInterval interval = PredictionInterval::none;
  double level = 0.95;
};

/// Entries for each row of the table; NaN where the row misses a value that is needed.
struct Predictions {
  std::vector<double> fit;
  std::vector<double> se;         ///< empty where not asked for
  std::vector<double> low, high;  ///< likewise
};

/// What NewData::rows must bring for these options.
std::vector<TermUse> needed_terms(const ModelMatrices& model, const PredictOptions& options);

/// X beta + offset, plus Z b for the chosen modes.
///
/// Standard errors are conditional on the covariance parameters: of X beta^ + Z b^ as a prediction of X beta + Z b, by
/// the joint covariance of both, so of X beta^ alone where no mode is chosen. The mode of a new level is 0 and has the
/// term's own variance. A prediction interval is that of a new response: it adds sigma^2 and the variance of the terms
/// that are not chosen, whose levels are then taken as new ones. Intervals have normal quantiles.
/// @throws ModelError  for new levels that are not allowed; for a prediction interval with a part of a term
Predictions predict(const Fit& fit, const NewRows& rows, const PredictOptions& options);

struct SimulateOptions {
  bool use_modes = false;         ///< keep the fit's modes (lme4's use.u) in place of drawing random effects
  bool allow_new_levels = false;  ///< with use_modes: modes of 0
  std::uint64_t seed = 1;
  std::uint64_t first = 0;  ///< first replicate
};

/// New responses, rows of `rows` x `count`. A replicate depends on the fit, the rows, the seed and its index alone.
/// @throws ModelError  for new levels that are not allowed, and where there is no memory for so many
Eigen::MatrixXd simulate(const Fit& fit, const NewRows& rows, const SimulateOptions& options, std::uint64_t count);

}  // namespace batchlmm
