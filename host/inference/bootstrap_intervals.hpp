/// @file
/// Confidence intervals from a bootstrap's replicates of one quantity, each end with its Monte-Carlo standard error.
///
/// Quantiles are those of R's boot::boot.ci: the (B + 1) p-th of the B replicates in order, between two of them by
/// interpolation on the scale of normal quantiles (Davison and Hinkley 1997, Bootstrap Methods and their Application,
/// section 5.2.1).
#pragma once

#include <limits>
#include <string>
#include <vector>

namespace batchlmm {

enum class IntervalKind { percentile, basic, normal, studentized, bca, shortest };
/// @return "percentile", "basic", "normal", "studentized", "bca", "shortest"
const char* interval_kind_name(IntervalKind kind);
/// @return the kind of this name; boot.ci's "perc", "norm" and "stud" are known, too
/// @throws InputError for any other name
IntervalKind interval_kind_of_name(const std::string& name);

struct Interval {
  static constexpr double none = std::numeric_limits<double>::quiet_NaN();
  double low = none, high = none;
  double low_error = none, high_error = none;  ///< Monte-Carlo standard errors of the ends
  std::string missing;                         ///< why there is none; empty: there is one
};

/// Replicates of one quantity, in order.
class ReplicateSample {
public:
  /// @param values  those that are not finite are left out
  explicit ReplicateSample(std::vector<double> values);

  [[nodiscard]] const std::vector<double>& sorted() const { return sorted_; }
  [[nodiscard]] std::size_t size() const { return sorted_.size(); }
  [[nodiscard]] double mean() const { return mean_; }
  [[nodiscard]] double variance() const { return variance_; }  ///< divisor B - 1; NaN for one replicate
  [[nodiscard]] double skewness() const { return skewness_; }
  [[nodiscard]] double kurtosis() const { return kurtosis_; }  ///< 3 for a normal
  /// Whether (B + 1) p lies within 1 .. B.
  [[nodiscard]] bool reaches(double p) const;
  /// @param p  on (0, 1); beyond the replicates it is the least or the largest
  [[nodiscard]] double quantile(double p) const;
  /// d quantile / dp, from the spacing of the order statistics one standard error of their rank to each side (Woodruff
  /// 1952, J. Am. Stat. Assoc. 47).
  [[nodiscard]] double quantile_slope(double p) const;
  /// Monte-Carlo standard error of `quantile`: sqrt(p (1 - p) / B) times its slope.
  [[nodiscard]] double quantile_error(double p) const;
  /// Share of replicates below `value`, those equal to it by half.
  [[nodiscard]] double share_below(double value) const;

private:
  std::vector<double> sorted_;
  double mean_, variance_, skewness_, kurtosis_;
};

/// Replicates from which both ends of an interval have a rank: 2 / (1 - level) - 1.
std::size_t fewest_replicates(double level);

/// Quantiles of the replicates.
Interval percentile_interval(const ReplicateSample& sample, double level);
/// Twice the estimate minus the quantiles.
Interval basic_interval(const ReplicateSample& sample, double estimate, double level);
/// Estimate minus bias plus and minus normal quantiles of the replicates' standard deviation.
Interval normal_interval(const ReplicateSample& sample, double estimate, double level);
/// @param studentized  replicates of (replicate - estimate) / replicate's standard error
/// @param se           standard error of the estimate
Interval studentized_interval(const ReplicateSample& studentized, double estimate, double se, double level);
/// Bias-corrected and accelerated (Efron 1987, J. Am. Stat. Assoc. 82): percentiles at Phi(z0 + (z0 + z) / (1 - a (z0 +
/// z))), z0 from the share of replicates below the estimate.
/// @param acceleration  a (acceleration.hpp)
Interval bca_interval(const ReplicateSample& sample, double estimate, double acceleration, double level);
/// The shortest that holds ceil(B level) replicates (MixedModels.jl's shortestcovint). Its Monte-Carlo errors are the
/// standard deviations over 20 parts of the replicates, brought to their number by its cube root, the rate at which
/// such an interval's ends converge (Grübel 1988, Ann. Stat. 16).
/// @param values  in the order of the replicates, from which the parts are taken
Interval shortest_interval(const ReplicateSample& sample, const std::vector<double>& values, double level);

}  // namespace batchlmm
