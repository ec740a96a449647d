/// @file
/// What a bootstrap leaves: one record a replicate, in the user's units, and the counts over all of them.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "host/batch/hypotheses.hpp"

namespace batchlmm {

/// How a replicate ended; every replicate has exactly one.
enum class Status : std::uint8_t { converged, boundary, iteration_limit, not_positive_definite, non_finite };
inline constexpr int status_count = 5;
/// @return "converged", "boundary", "iteration_limit", "not_positive_definite", "non_finite"
const char* status_name(Status status);
/// A replicate that counts: its optimum is certified, inside or on the boundary.
constexpr bool is_used(Status status) { return status == Status::converged || status == Status::boundary; }

/// A statistic this close to 0 is 0: the two optima are the same point up to rounding (kernels/statistic.hpp).
inline constexpr double zero_statistic = 1e-8;

/// Consecutive replicates. Spans have one entry a replicate; parameters one row a replicate, in the kernels'
/// coordinates at sigma = 1.
struct ReplicateBlock {
  std::uint64_t first = 0;
  std::span<const Status> status;     ///< the worse of the two fits'
  std::span<const double> statistic;  ///< deviance_null - deviance_full, 0 where |.| <= zero_statistic
  std::span<const double> deviance_null, deviance_full;  ///< shifted to the generating sigma
  std::span<const double> lambda_null, lambda_full;      ///< replicates x shape.lambdas
  std::span<const double> beta_null, beta_full;          ///< replicates x p; empty unless parameters were asked for
  std::span<const double> r2_null, r2_full;
  /// replicates x p (p + 1) / 2, lower triangles row by row: L with LL' = X'V^{-1}X, so that the covariance of beta is
  /// r2 / N (LL')^{-1}
  std::span<const double> x_factor_null, x_factor_full;
  std::span<const HypothesisTest>
      tests;  ///< replicates x hypotheses, in the response's units; empty where none were asked
};

/// Counts over replicates, the same bits however the work was divided.
struct ReplicateSummary {
  std::uint64_t replicates = 0, used = 0, extreme = 0, zero = 0;
  std::array<std::uint64_t, status_count> status{};
  std::uint64_t singular_null = 0, singular_full = 0;
  double sum_statistic = 0;  ///< over the used; the sum is exact (kernels/statistic.hpp) before it is rounded
  double sum_squares = 0;    ///< of the used replicates' statistics, likewise
  std::uint64_t evaluations_null = 0, evaluations_full = 0;
  bool rule_met = false;  ///< the stopping rule ended the run: the last replicate is the first that met it
  std::string stopped;    ///< why the run ended before its last replicate; empty: it did not
};

}  // namespace batchlmm
