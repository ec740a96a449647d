/// @file
/// A replicate's way: draw -> null fit -> full fit from the null's optimum -> record. Shared by the CPU's tiles and the
/// GPU's threads, which bring the memory.
#pragma once

#include <limits>

#include "kernels/newton.hpp"
#include "kernels/sampler.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// A term is singular where its smallest pivot is below this (on the scale of sigma, columns of mean square 1): lme4's
/// tolerance on theta.
inline constexpr double singular_tolerance = 1e-4;

/// Which terms of lane l's optimum are singular: bit b for term b. `newton.small` is scratch.
template <class V, class S, class A>
BATCHLMM_INLINE MaskOf<V> singular_term(const S& s, const Newton<V, A>& n, int b) {
  return n.next.l[s.term[b].lambda + s.term[b].k * s.term[b].k - 1] < V(singular_tolerance);
}

/// Starting point of the full fit from the null's optimum; a null whose variances stay at 0 fills no column. Columns of
/// a full term that the null does not fill start a little inside the cone where the term has several columns (the
/// gradient vanishes at a corner of rank k - 2), at 0 where it is scalar.
template <class Out, class In>
BATCHLMM_INLINE void full_start(const BootstrapJob& job, const In& null_lambda, const Out& full_lambda) {
  const Shape &full = *job.full, &null = *job.null;
  for (int b = 0; b < full.terms; ++b) {
    const int k = full.term[b].k;
    const double inside = k > 1 ? square_root(0.01 / full.term[b].scale) : 0.0;
    for (int i = 0; i < k; ++i)
      for (int c = 0; c < k; ++c) full_lambda[full.term[b].lambda + i * k + c] = i == c ? inside : 0.0;
  }
  if (job.null_options.stay) return;
  const double* map = job.embed_map;
  for (int b = 0; b < null.terms; ++b) {
    const TermShape &from = null.term[b], &to = full.term[job.embed_term[b]];
    const auto in = null_lambda + from.lambda;
    const auto out = full_lambda + (to.lambda + job.embed_column[b]);
    for (int i = 0; i < to.k; ++i)
      for (int c = 0; c < from.k; ++c) {
        double t = 0;
        for (int e = 0; e < from.k; ++e) t = fma(map[i * from.k + e], double(in[e * from.k + c]), t);
        out[i * to.k + c] = t;
      }
    map += to.k * from.k;
  }
}

/// Writes item i's result where there is nothing to fit.
template <class S>
BATCHLMM_INLINE void record_failure(const S& s, FitStatus status, std::uint64_t i, const FitResults& r) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  r.status[i] = status;
  r.deviance[i] = nan;
  for (int q = 0; q < s.lambdas; ++q) r.lambda[i * s.lambdas + q] = nan;
  if (r.boundary != nullptr) r.boundary[i] = 0;
  if (r.several != nullptr) r.several[i] = 0;
  if (r.evaluations != nullptr) r.evaluations[i] = 0;
  if (r.r2 != nullptr) r.r2[i] = nan;
  if (r.beta != nullptr)
    for (int q = 0; q < s.p; ++q) r.beta[i * s.p + q] = nan;
  if (r.x_factor != nullptr)
    for (int q = 0; q < triangle_size(s.p); ++q) r.x_factor[i * triangle_size(s.p) + q] = nan;
}

/// Writes lane l's optimum as item i's result. `newton.next` holds the coordinates of newton.best_lambda.
template <class V, class S, class A>
BATCHLMM_INLINE void record_optimum(const S& s, const Newton<V, A>& n, int l, std::uint64_t i, const FitResults& r) {
  if (!(lane(n.best, l) < 1e300)) {
    // No starting point could be evaluated: what stands in the lane is the item's before.
    record_failure(s, fit_not_positive_definite, i, r);
    if (r.evaluations != nullptr) r.evaluations[i] = static_cast<std::uint16_t>(lane(n.total_evaluations, l));
    return;
  }
  std::uint32_t boundary = 0;
  for (int b = 0; b < s.terms; ++b)
    if (lane(singular_term<V>(s, n, b), l)) boundary |= 1u << b;
  FitStatus status = boundary != 0 ? fit_boundary : fit_converged;
  if (!lane(n.best_certified, l)) status = fit_iteration_limit;
  r.status[i] = status;
  r.deviance[i] = lane(n.best, l);
  for (int q = 0; q < s.lambdas; ++q) r.lambda[i * s.lambdas + q] = lane(n.best_lambda[q], l);
  if (r.boundary != nullptr) r.boundary[i] = boundary;
  if (r.several != nullptr) r.several[i] = several_minima(n, l) ? 1 : 0;
  if (r.evaluations != nullptr) r.evaluations[i] = static_cast<std::uint16_t>(lane(n.total_evaluations, l));
}

/// Whether the null fits have to tell where they found several minima.
BATCHLMM_INLINE bool tells_minima(const BootstrapJob& job) {
  return job.null_options.starts > 1 && job.full_options.lone_starts > 0;
}

/// Starting points of item i's full fit.
BATCHLMM_INLINE int full_runs(const FitResults& null, std::uint64_t i, const NewtonOptions& options) {
  return null.several != nullptr && null.several[i] == 0 ? options.lone_starts : options.starts;
}

/// What one trip of fit_trips leaves.
template <class V>
struct Trip {
  V r2;            ///< penalized residual sum of squares at the point that was evaluated
  MaskOf<V> done;  ///< lanes whose optimum is found
};

/// Fits item after item on all lanes of V, one trip of all lanes at a time; a finished lane takes the next item. All
/// members of a team call, on one lane: `take`, `load` and `trip` give all of them the same.
/// @param s       a Shape, Terms or TeamShape
/// @param w       w.lambda; w.beta and w.x_factor where the results of these names are wanted
/// @param trip    trip(running): the criterion and its derivatives at w.lambda, and newton_trip; a Trip<V>
/// @param take    take(item): the next item, false where there is none left
/// @param load    load(item, lane): puts the item's response vector (and design) into the lane; false when the
/// response is not finite
/// @param start   start(item, lane, lambda): the first starting point into the lane, which a team's first member writes
/// @param runs    runs(item): starting points to try
/// @param limit   limit(item): a value that the optimum cannot exceed (else it is tried again from starts[0]); +inf
/// where there is none
template <class V, class S, class W, class A, class OneTrip, class Take, class Load, class Start, class Runs,
          class Limit>
BATCHLMM_FUNCTION inline void fit_trips(const S& s, const W& w, Newton<V, A>& n, const OneTrip& trip, Take&& take,
                                        const Load& load, const Start& start, const Runs& runs, const Limit& limit,
                                        const double* starts, bool parameters, const FitResults& results) {
  constexpr int width = Lanes<V>::width;
  const auto team = team_of(s);
  const bool first = is_first(team);  // writes for all, and knows where the fit is
  std::uint64_t item[width] = {};
  bool occupied[width] = {}, finishing[width] = {}, retried[width] = {};
  int alive = 0;
  MaskOf<V> running = V(1.0) <= V(0.0);
  while (true) {
    for (int l = 0; l < width; ++l) {
      std::uint64_t i;
      while (!occupied[l] && take(i)) {
        if (!load(i, l)) {
          if (first) record_failure(s, fit_non_finite, i, results);
          continue;
        }
        start(i, l, w.lambda);
        begin_lane(n, l, runs(i));
        item[l] = i;
        occupied[l] = true;
        finishing[l] = retried[l] = false;
        set_lane(running, l, true);
        ++alive;
      }
    }
    if (alive == 0) return;
    team.sync();
    const Trip<V> e = trip(running);
    for (int l = 0; l < width; ++l)
      if (occupied[l] && finishing[l]) {
        if (first && results.beta != nullptr)
          for (int i = 0; i < s.p; ++i) results.beta[item[l] * s.p + i] = lane(w.beta[i], l);
        if (first && results.r2 != nullptr) results.r2[item[l]] = lane(e.r2, l);
        if (first && results.x_factor != nullptr) {
          const int size = triangle_size(s.p);
          for (int i = 0; i < size; ++i) results.x_factor[item[l] * size + i] = lane(w.x_factor[i], l);
        }
        occupied[l] = false;
        --alive;
      }
    const auto done = e.done;
    if (!any(done)) continue;
    if (first) to_coordinates<V>(s, n.best_lambda, n.next, n.small);
    for (int l = 0; l < width; ++l) {
      if (!lane(done, l)) continue;
      const std::uint64_t i = item[l];
      const double best = team.from_first(lane(n.best, l));
      if (!retried[l] && best > limit(i) + 1e-9) {
        // A worse optimum than a point that is known: once more, from the shared starting point.
        retried[l] = true;
        for (int q = 0; first && q < s.lambdas; ++q) set_lane(w.lambda[q], l, starts[q]);
        set_lane(n.fresh, l, true);
        set_lane(n.evaluations, l, 0.0);
        continue;
      }
      set_lane(running, l, false);
      if (first) record_optimum(s, n, l, i, results);
      if (parameters && best < 1e300) {
        finishing[l] = true;
        for (int q = 0; first && q < s.lambdas; ++q) set_lane(w.lambda[q], l, lane(n.best_lambda[q], l));
      } else {
        occupied[l] = false;
        --alive;
      }
    }
  }
}

/// The same with an evaluation of the kernel text and newton_trip as the trip.
/// @param w         what `evaluate` leaves too: w.gradient, w.hessian, w.information (by the entries of T)
/// @param evaluate  evaluate(): the criterion and its derivatives at w.lambda, an Evaluation<V>
template <class V, class S, class W, class A, class Evaluate, class Take, class Load, class Start, class Runs,
          class Limit>
BATCHLMM_FUNCTION inline void fit_lanes(const S& s, const W& w, Newton<V, A>& n, const Evaluate& evaluate, Take&& take,
                                        const Load& load, const Start& start, const Runs& runs, const Limit& limit,
                                        const double* starts, const NewtonOptions& options, bool parameters,
                                        const FitResults& results) {
  const auto trip = [&](const MaskOf<V>& running) BATCHLMM_INLINE_LAMBDA {
    const Evaluation<V> e = evaluate();
    return Trip<V>{e.r2, newton_trip<V>(s, w, n, e, running, options, starts)};
  };
  fit_trips<V>(s, w, n, trip, take, load, start, runs, limit, starts, parameters, results);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
