/// @file
/// The bootstrap of one fit: replicates of its data, refitted, and what they say about its parameters.
#pragma once

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/batch/backend.hpp"
#include "host/batch/replicates.hpp"
#include "host/batch/tiers.hpp"
#include "host/inference/bootstrap_intervals.hpp"
#include "host/inference/bootstrap_quantities.hpp"
#include "host/inference/fit.hpp"
#include "host/inference/resample.hpp"

namespace batchlmm {

struct FitBootstrapOptions {
  BootstrapType type = BootstrapType::parametric;
  ResampleOptions resample;
  std::uint64_t replicates = 1000;
  std::uint64_t first = 0;  ///< index of the first replicate (shards)
  std::uint64_t seed = 1;
  double level = 0.95;  ///< of the intervals, on (0, 1)
  std::vector<IntervalKind> intervals = {IntervalKind::percentile};
  bool theta = false;                    ///< report theta, too
  std::vector<std::string> contrasts;    ///< as BootstrapQuantities takes them
  std::vector<std::string> expressions;  ///< likewise
  BackendChoice backend = BackendChoice::automatic;
  int threads = 0;           ///< 0: all cores
  std::optional<Tier> tier;  ///< of the parametric bootstrap; none: the cheapest that takes the model
  /// Every replicate, as it was fitted, to this file (.parquet, .csv, .arrow); empty: none is kept.
  std::string out;
  std::function<void(std::uint64_t done, std::uint64_t total)>
      progress;  ///< called now and then, from one thread at a time; may be empty
  Warn warn;     ///< called before long work starts; may be empty
};

/// One quantity's replicates, summed up.
struct BootstrappedQuantity {
  Quantity quantity;
  double estimate = 0;
  double bias = 0;                       ///< mean of the replicates minus the estimate
  double std_error = 0;                  ///< standard deviation of the replicates
  std::size_t used = 0;                  ///< replicates in which it is finite
  double acceleration = Interval::none;  ///< of BCa; NaN where it was not asked for
  std::vector<Interval> intervals;       ///< as FitBootstrapOptions::intervals
};

struct FitBootstrap {
  Fit fit;
  FitBootstrapOptions options;
  std::vector<BootstrappedQuantity> quantities;
  Eigen::MatrixXd covariance;  ///< of the quantities, over replicates in which all of them are finite
  std::size_t jointly_finite = 0;
  Eigen::MatrixXd replicates;  ///< used replicates x quantities, in order
  std::uint64_t replicates_run = 0, used = 0;
  std::string stopped;  ///< why there are fewer replicates than asked for (a lost device); empty: there are not
  std::array<std::uint64_t, status_count> status{};  ///< counts by Status
  std::uint64_t singular = 0;                        ///< used replicates with a singular term
  std::vector<std::uint64_t> singular_by_term;       ///< by random-effects term
  std::string resampled;                             ///< factors whose levels are drawn or share a weight; empty: none
  std::optional<Tier> tier;
  std::string backend;  ///< "cpu" or "cuda"
  int threads = 1;
  double seconds = 0, replicates_per_second = 0;
};

/// @throws ModelError, InputError: what cannot be bootstrapped so (resample.hpp), read (bootstrap_quantities.hpp), or
/// has too few replicates for the level; an expression that is not finite at the estimates; BackendUnavailable;
/// OutputError; DeviceError
FitBootstrap bootstrap_fit(std::shared_ptr<const ModelMatrices> model, Method method,
                           const FitBootstrapOptions& options);
/// The same from an assembled model.
FitBootstrap bootstrap_fit(const Model& model, const FitBootstrapOptions& options);

}  // namespace batchlmm
