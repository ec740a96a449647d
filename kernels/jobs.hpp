/// @file
/// What the host hands to the kernels of any backend, as plain structures.
#pragma once

#include <cstdint>

#include "kernels/sampler.hpp"
#include "kernels/shape.hpp"

namespace batchlmm::kernels {

/// How Newton's method is to go about a fit.
struct NewtonOptions {
  double finish = 1e-7;      ///< take the step and stop when it predicts less than this decrease of the deviance
  int max_evaluations = 80;  ///< a starting point
  int starts = 1;            ///< starting points tried in turn; the best optimum wins
  /// The step is also the last one where the error of the deviance that it predicts is surely below this.
  double value_error = 0;
  /// Not 0: lower minima than the first run's are rare, and this many starting points are enough for a full fit whose
  /// null had one minimum only.
  int lone_starts = 0;
  /// Nothing is fitted: the starting point is the optimum. So a model without random effects is one whose variances
  /// stay at 0.
  bool stay = false;
};

/// How a fit ended. Values are those of batchlmm::Status.
enum FitStatus : std::uint8_t {
  fit_converged = 0,
  fit_boundary = 1,
  fit_iteration_limit = 2,
  fit_not_positive_definite = 3,
  fit_non_finite = 4
};

/// Results of many fits of one shape; arrays over the items, any may be null but the first three.
struct FitResults {
  std::uint8_t* status = nullptr;  ///< FitStatus
  double* deviance = nullptr;
  double* lambda = nullptr;           ///< items x shape.lambdas
  std::uint32_t* boundary = nullptr;  ///< bit b: the kernels' term b is singular
  std::uint16_t* evaluations = nullptr;
  double* beta = nullptr;           ///< items x p, in X's gauge
  double* r2 = nullptr;             ///< penalized residual sum of squares
  std::uint8_t* several = nullptr;  ///< 1 where runs from different starting points ended at different minima
  /// items x p (p + 1) / 2, packed rows: L, LL' = X'V^{-1}X at sigma = 1, in X's gauge. Its diagonal is positive.
  double* x_factor = nullptr;
};

/// Many fits of one shape: one design, or one design an item.
struct FitJob {
  const Shape* shape = nullptr;
  const Design<double>* design = nullptr;  ///< one, or `designs` of them
  const int* design_of = nullptr;          ///< items: index of the item's design; null when all share the first
  std::uint64_t items = 0;
  const double* response = nullptr;     ///< items x shape.response
  const double* first_start = nullptr;  ///< the first starting point: items x shape.lambdas, or one for all
  bool one_start = true;                ///< first_start holds one for all
  const double* starts = nullptr;       ///< options.starts x shape.lambdas, for the second and later runs
  NewtonOptions options;
  bool parameters = false;  ///< beta, r2 and x_factor are wanted: one more evaluation a fit
  FitResults results;
};

struct SharedStart;
struct TracedTrip;

/// A parametric-bootstrap likelihood-ratio test on a range of replicates.
struct BootstrapJob {
  const Shape* null = nullptr;
  const Shape* full = nullptr;
  Design<double> null_design, full_design;
  Sampler sampler;
  const double* null_starts = nullptr;       ///< null_options.starts x null->lambdas; the first is the generating value
  const double* full_starts = nullptr;       ///< full_options.starts x full->lambdas; used after the null's optimum
  const SharedStart* null_shared = nullptr;  ///< null fits start a scoring step from its point, if not null
  /// Where the null's terms stand in the full model: term b of the null fills the columns column[b] .. of the full's
  /// term term[b], as map * lambda.
  const double* embed_map = nullptr;  ///< per null term k_full x k_null, row-major, one after the other
  const int* embed_term = nullptr;    ///< null->terms
  const int* embed_column = nullptr;  ///< null->terms
  NewtonOptions null_options, full_options;
  bool parameters = false;
  std::uint64_t seed = 0;
  /// The fits' trips as code for these models, for devices; null where the kernel text serves.
  const TracedTrip *null_trip = nullptr, *full_trip = nullptr;
};

/// One chunk of replicates first .. first + count - 1; arrays over the chunk.
struct BootstrapChunk {
  std::uint64_t first = 0, count = 0;
  FitResults null, full;  ///< no full fit where full.status is null
};

/// Longest chunk whose scratch stays near `bytes`; chunks never change a replicate's bits.
inline std::uint64_t chunk_length(const BootstrapJob& job, double bytes) {
  const double one = 8.0 * (job.null->response + job.full->response + 2.0 * job.full->lambdas + 4);
  const double n = bytes / one;
  return n < 64 ? 64 : n > 4096 ? 4096 : static_cast<std::uint64_t>(n);
}

}  // namespace batchlmm::kernels
