/// @file
/// Approximations of a statistic's law by the moments of its bootstrap replicates, as pbkrtest's `summary(PBmodcomp)`
/// has them (Halekoh & Højsgaard 2014, J. Stat. Softw. 59(9), section 4.2).
#pragma once

#include <cstdint>
#include <limits>

namespace batchlmm {

/// NaN where a law does not exist. All used replicates count, those with statistic 0 too (pbkrtest leaves them out);
/// where many are 0, as in tests of a variance, none of these laws is a good one.
struct ReplicateLaws {
  static constexpr double none = std::numeric_limits<double>::quiet_NaN();
  double mean = none, variance = none;  ///< of the replicates' statistics; the variance with n - 1

  double gamma_shape = none, gamma_scale = none;  ///< mean^2 / variance, variance / mean
  double p_gamma = none;

  double bartlett_statistic = none;  ///< df * statistic / mean, referred to the chi-square with df
  double p_bartlett = none;

  /// E = mean / df is the mean of an F law with denominator 2E / (E - 1). There is none where E <= 1: an F law's mean
  /// is above 1.
  double f_statistic = none;  ///< statistic / df
  double f_ddf = none;
  double p_f = none;
};

/// @param n                 replicates
/// @param sum, sum_squares  of their statistics and of the squares
/// @param df                degrees of freedom of the test, >= 1
/// @param statistic         the observed one
ReplicateLaws replicate_laws(std::uint64_t n, double sum, double sum_squares, int df, double statistic);

}  // namespace batchlmm
