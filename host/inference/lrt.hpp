/// @file
/// Likelihood-ratio test of two nested models, with its parametric bootstrap.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "host/batch/backend.hpp"
#include "host/batch/replicates.hpp"
#include "host/batch/tiers.hpp"
#include "host/inference/fit.hpp"

namespace batchlmm {

struct BootstrapOptions {
  std::uint64_t replicates = 0;
  std::uint64_t first = 0;  ///< index of the first replicate (shards)
  std::uint64_t seed = 1;
  BackendChoice backend = BackendChoice::automatic;
  int threads = 0;           ///< 0: all cores
  std::optional<Tier> tier;  ///< none: the cheapest that takes the models
  std::string out;           ///< every replicate to this file (.parquet, .csv, .arrow); empty: none is kept
  std::function<void(std::uint64_t done, std::uint64_t total)>
      progress;  ///< called now and then, from one thread at a time; may be empty
  Warn warn;     ///< called before long work starts; may be empty
};

struct BootstrapTest {
  std::uint64_t replicates = 0, used = 0, extreme = 0;
  std::uint64_t asked = 0;           ///< replicates that were asked for
  std::string stopped;               ///< why there are fewer (a lost device); empty: there are not
  double p = 0;                      ///< (1 + extreme) / (1 + used)
  std::array<double, 2> interval{};  ///< 95 % Monte-Carlo (Clopper-Pearson) interval of the p-value
  double mean_statistic = 0;
  double share_zero = 0;  ///< share of used replicates with statistic 0
  std::array<std::uint64_t, status_count>
      status{};  ///< counts by Status; a replicate's status is the worse of its two fits'
  std::uint64_t singular_null = 0, singular_full = 0;
  Tier tier = Tier::streaming;
  std::string backend;  ///< "cpu" or "cuda"
  int threads = 1;
  double seconds = 0, replicates_per_second = 0;
  std::uint64_t seed = 0;
};

struct LikelihoodRatioTest {
  Fit null, full;  ///< both by ML
  double statistic = 0;
  int df = 0;
  double p_chisq = 0;
  std::optional<BootstrapTest> bootstrap;
};

/// A device that is lost on the way leaves the test on the replicates finished before, all of them in the file too.
/// @throws ModelError when the models are not nested, have different responses or rows; BackendUnavailable;
/// OutputError; DeviceError
LikelihoodRatioTest likelihood_ratio_test(std::shared_ptr<const ModelMatrices> null,
                                          std::shared_ptr<const ModelMatrices> full, const BootstrapOptions& options);

}  // namespace batchlmm
