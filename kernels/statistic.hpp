/// @file
/// What a replicate's two fits say together: its status, its statistic, and what they add to the counts. All counts are
/// integers, the sums of the statistics and of their squares too, so that they are the same however the work was
/// divided, on every backend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/jobs.hpp"
#include "kernels/lanes.hpp"

namespace batchlmm::kernels {

/// A statistic this close to 0 is 0: the two optima are the same point up to rounding.
inline constexpr double zero_statistic = 1e-8;
inline constexpr int fit_status_count = 5;

/// Sum of numbers that are not negative, each rounded to a multiple of 2^-60: exact, so that the order of the summands
/// does not matter. Numbers above 2^40 count as 2^40, sums are right below 2^68.
struct ExactSum {
  std::uint64_t high = 0, low = 0;  ///< high * 2^4 + low * 2^-60
};

/// Counts over replicates.
struct StatisticCounts {
  std::uint64_t replicates = 0, used = 0, extreme = 0, zero = 0;
  std::uint64_t status[fit_status_count] = {};
  std::uint64_t singular_null = 0, singular_full = 0;
  std::uint64_t evaluations_null = 0, evaluations_full = 0;
  ExactSum sum;          ///< of the used replicates' statistics
  ExactSum sum_squares;  ///< of their squares, each rounded to a double first
};

/// The status is the worse of the two fits'.
struct ReplicateOutcome {
  std::uint8_t status = fit_converged;
  double statistic = 0;  ///< deviance_null - deviance_full; 0 where there is no full fit
};

inline namespace BATCHLMM_ISA {

BATCHLMM_FUNCTION inline void add(ExactSum& to, const ExactSum& more) {
  const std::uint64_t low = to.low + more.low;
  to.high += more.high + (low < to.low ? 1 : 0);
  to.low = low;
}
/// @param x  not negative, not NaN
BATCHLMM_FUNCTION inline ExactSum exact(double x) {
  constexpr double most = 1099511627776.0, two_60 = 1152921504606846976.0, two_4 = 16.0;
  if (x > most) x = most;
  // Scaling by powers of 2 is exact, and so are the differences.
  ExactSum e;
  e.high = static_cast<std::uint64_t>(x / two_4);
  const double left = (x - static_cast<double>(e.high) * two_4) * two_60;
  e.low = static_cast<std::uint64_t>(left);
  if (left - static_cast<double>(e.low) >= 0.5) ++e.low;
  return e;
}
inline double value(const ExactSum& e) {
  return static_cast<double>(e.high) * 16.0 + static_cast<double>(e.low) / 1152921504606846976.0;
}

/// @param full  no results (status null) where one model is refitted
BATCHLMM_FUNCTION inline ReplicateOutcome outcome(const FitResults& null, const FitResults& full, std::uint64_t i) {
  ReplicateOutcome r;
  r.status = null.status[i];
  if (full.status == nullptr) return r;
  if (full.status[i] > r.status) r.status = full.status[i];
  r.statistic = null.deviance[i] - full.deviance[i];
  if (absolute(r.statistic) <= zero_statistic) r.statistic = 0;
  // The full model holds the null: a lower optimum of the null says that the full's is not the optimum.
  if (r.statistic < 0 && r.status <= fit_boundary) r.status = fit_iteration_limit;
  return r;
}

/// Adds replicate i, whose outcome is r. The results have boundary and evaluations.
/// @param observed  the statistic that a replicate is compared with
BATCHLMM_FUNCTION inline void add_replicate(StatisticCounts& to, const FitResults& null, const FitResults& full,
                                            std::uint64_t i, const ReplicateOutcome& r, double observed) {
  const bool refit = full.status == nullptr;
  ++to.replicates;
  ++to.status[r.status];
  to.singular_null += null.boundary[i] != 0 ? 1 : 0;
  to.evaluations_null += null.evaluations[i];
  if (!refit) {
    to.singular_full += full.boundary[i] != 0 ? 1 : 0;
    to.evaluations_full += full.evaluations[i];
  }
  if (r.status > fit_boundary) return;
  ++to.used;
  if (refit) return;
  to.extreme += r.statistic >= observed ? 1 : 0;
  to.zero += r.statistic == 0 ? 1 : 0;
  add(to.sum, exact(r.statistic));
  add(to.sum_squares, exact(r.statistic * r.statistic));
}

BATCHLMM_FUNCTION inline void add(StatisticCounts& to, const StatisticCounts& more) {
  to.replicates += more.replicates;
  to.used += more.used;
  to.extreme += more.extreme;
  to.zero += more.zero;
  for (int s = 0; s < fit_status_count; ++s) to.status[s] += more.status[s];
  to.singular_null += more.singular_null;
  to.singular_full += more.singular_full;
  to.evaluations_null += more.evaluations_null;
  to.evaluations_full += more.evaluations_full;
  add(to.sum, more.sum);
  add(to.sum_squares, more.sum_squares);
}

}  // namespace BATCHLMM_ISA

/// Counts over replicates whose results are on the device. All pointers but `counts` are the device's.
struct StatisticArguments {
  static constexpr const char* kernel = "the reduction of the statistics";
  FitResults null, full;  ///< with status, deviance, boundary and evaluations
  std::uint64_t items = 0;
  const std::uint8_t* left_out = nullptr;  ///< items where it is not 0 are not counted; null: all are
  double observed = 0;
  std::byte* scratch = nullptr;       ///< statistic_scratch_bytes
  StatisticCounts* counts = nullptr;  ///< the host's: the items are added
};
inline constexpr std::size_t statistic_scratch_bytes = std::size_t{4} << 20;

/// What values of replicates, such as a bootstrap's statistics, are like.
struct Distribution {
  std::uint64_t used = 0;                ///< values whose replicate is used (converged or on the boundary)
  std::uint64_t at_least = 0;            ///< of these, not below the observed one
  std::vector<double> quantiles;         ///< R's type 7; empty where nothing is used
  std::vector<std::uint64_t> histogram;  ///< used values in the bins [e0, e1), ... [e(k-1), ek], the last one closed
};
/// A Distribution of values on the device. All pointers but the last two are the device's.
struct DistributionArguments {
  static constexpr const char* kernel = "the distribution of the values";
  const double* values = nullptr;
  const std::uint8_t* status = nullptr;
  std::uint64_t n = 0;
  double observed = 0;
  double* used_values = nullptr;          ///< n: the used ones, sorted afterwards
  const double* probabilities = nullptr;  ///< quantile_count
  double* quantiles = nullptr;            ///< quantile_count; not written where nothing is used
  std::uint64_t quantile_count = 0;
  const double* edges = nullptr;       ///< bins + 1
  std::uint64_t* histogram = nullptr;  ///< bins
  std::uint64_t bins = 0;
  std::byte* scratch = nullptr;
  std::size_t scratch_bytes = 0;
  std::uint64_t *used = nullptr, *at_least = nullptr;  ///< the host's
};

}  // namespace batchlmm::kernels
