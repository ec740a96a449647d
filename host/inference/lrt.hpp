/// @file
/// Likelihood-ratio tests of nested models, with their parametric bootstrap.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/batch/backend.hpp"
#include "host/batch/replicates.hpp"
#include "host/batch/stopping_rule.hpp"
#include "host/batch/tiers.hpp"
#include "host/inference/fit.hpp"
#include "host/inference/reference_law.hpp"
#include "host/inference/replicate_laws.hpp"
#include "host/inference/statistic_histogram.hpp"

namespace batchlmm {

struct BootstrapOptions {
  std::uint64_t replicates = 0;
  std::uint64_t first = 0;  ///< index of the first replicate (shards)
  std::uint64_t seed = 1;
  /// REML: the test of variance components on the restricted likelihood; both models then have the same fixed effects.
  Method method = Method::ml;
  StoppingRule stop;  ///< ends a bootstrap before `replicates`
  BackendChoice backend = BackendChoice::automatic;
  int threads = 0;           ///< 0: all cores
  std::optional<Tier> tier;  ///< none: the cheapest that takes the models
  std::string out;           ///< every replicate to this file (.parquet, .csv, .arrow); empty: none is kept
  int bins = 0;              ///< of a histogram of the statistics; 0: none is made
  std::function<void(std::uint64_t done, std::uint64_t total)>
      progress;  ///< called now and then, from one thread at a time; may be empty
  Warn warn;     ///< called before long work starts; may be empty
};

struct BootstrapTest {
  std::uint64_t replicates = 0, used = 0, extreme = 0;
  std::uint64_t asked = 0;  ///< replicates that were asked for
  std::string stopped;      ///< why there are fewer (a lost device); empty: there are not, or a rule ended it
  StoppingRule rule;
  bool rule_met = false;  ///< the rule ended it
  /// (1 + extreme) / (1 + used); where the count of extreme replicates ended the run extreme / used (Besag & Clifford
  /// 1991).
  double p = 0;
  /// 95 % Monte-Carlo interval of the p-value: Clopper & Pearson's; where the count of extreme replicates ended the run
  /// that of the negative binomial law.
  std::array<double, 2> interval{};
  double mean_statistic = 0;
  double share_zero = 0;  ///< share of used replicates with statistic 0
  ReplicateLaws laws;
  StatisticHistogram histogram;  ///< where the options ask for bins
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
  Fit null, full;  ///< both by the method of the options
  double statistic = 0;
  int df = 0;
  double p_chisq = 0;
  ReferenceLaw law;
  double p_law = 0;  ///< by `law`
  std::optional<BootstrapTest> bootstrap;
};

/// A device that is lost on the way leaves the test on the replicates finished before, all of them in the file too.
/// @param null  may have no random effects (ModelOptions::without_random_effects)
/// @throws ModelError when the models are not nested, have different responses or rows, or by REML different fixed
/// effects; BackendUnavailable; OutputError; DeviceError
LikelihoodRatioTest likelihood_ratio_test(std::shared_ptr<const ModelMatrices> null,
                                          std::shared_ptr<const ModelMatrices> full, const BootstrapOptions& options);

/// Each model of a chain against the one before; every model is fitted once. A test is, to the bit, the one that
/// `likelihood_ratio_test` makes of the two models.
/// @param models  two or more, each nested in the next
std::vector<LikelihoodRatioTest> likelihood_ratio_chain(const std::vector<std::shared_ptr<const ModelMatrices>>& models,
                                                        const BootstrapOptions& options);

/// Each of several smaller models against the same larger one, which is fitted once.
std::vector<LikelihoodRatioTest> likelihood_ratio_tests(const std::vector<std::shared_ptr<const ModelMatrices>>& nulls,
                                                        const std::shared_ptr<const ModelMatrices>& full,
                                                        const BootstrapOptions& options);

/// 95 % interval for a share where draws went on until the x-th success, which was the n-th draw: as Clopper and
/// Pearson's (clopper_pearson.hpp), by the negative binomial law.
std::array<double, 2> inverse_share_interval(std::uint64_t x, std::uint64_t n);

}  // namespace batchlmm
