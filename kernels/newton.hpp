/// @file
/// Newton's method on the boundary: one iteration for a tile of lanes that may all be at different places.
///
/// A lane is at a base point (Coordinates) with a direction; each trip evaluates the proposal, and where it is accepted
/// makes it the base and solves for the next direction. The Hessian is exact where it is positive definite on the free
/// coordinates, else the average information. A lane is done when the exact step predicts a decrease below `finish`, or
/// one whose error is below `value_error` by the third derivative that the step before showed: the step is taken, and
/// the deviance there is the predicted one. That the Hessian is positive definite
/// there, with the multipliers of the bounds non-negative, is the certificate of the optimum: in coordinates of T the
/// curvature along a null direction of T is the gradient matrix G, so it says G >= 0 and G T = 0.
#pragma once

#include "kernels/bounded_step.hpp"
#include "kernels/covariance.hpp"
#include "kernels/evaluation.hpp"
#include "kernels/jobs.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Arrays of one iteration, and of nothing else.
template <class A>
struct NewtonScratch {
  Coordinates<A> next;  ///< of the point that was evaluated
  A x_gradient, x_hessian, x_information, jacobian, factor, bounded, rhs, step, fixed_step, small;
};

template <class V, class A>
struct Newton : NewtonScratch<A> {
  // The base point and the way from it.
  Coordinates<A> base;
  A direction;    ///< m
  A best_lambda;  ///< the best optimum of the starts so far
  V f, slope, predicted, t, best, evaluations, total_evaluations, start, bumps;
  V runs;           ///< starting points to try
  V worst;          ///< largest deviance that a run ended at
  MaskOf<V> fresh;  ///< the proposal is a starting point: accepted whatever its value
  MaskOf<V> certified, best_certified;
};

/// @param s      a Shape or Terms
/// @param arena  an Arena or TeamArena
template <class S, template <class> class Block, class A>
BATCHLMM_INLINE NewtonScratch<A> make_newton_scratch(const S& s, Block<A>& arena) {
  NewtonScratch<A> n;
  const int m = s.parameters;
  int jacobian = 0, largest = 1;
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k, mb = triangle_size(k);
    jacobian += mb * mb;
    if (k * k > largest) largest = k * k;
    if (mb > largest) largest = mb;
  }
  n.next = {arena.take(s.lambdas), arena.take(s.lambdas), arena.take(s.terms)};
  n.x_gradient = arena.take(m);
  n.x_hessian = arena.take(triangle_size(m));
  n.x_information = arena.take(triangle_size(m));
  n.jacobian = arena.take(jacobian);
  n.factor = arena.take(triangle_size(m) + m);
  n.bounded = arena.take(triangle_size(s.terms) + 2 * s.terms);
  n.rhs = arena.take(m);
  n.step = arena.take(m);
  n.fixed_step = arena.take(s.terms);
  n.small = arena.take(static_cast<std::size_t>(m) * largest + largest);
  return n;
}
/// Elements of NewtonScratch's arrays for sizes known at compile time; an upper bound.
template <class S>
constexpr int newton_scratch_size() {
  const int m = S::parameters;
  return 2 * S::lambdas + 4 * S::terms + triangle_size(S::terms) + 4 * m + 3 * triangle_size(m) + m * m +
         (m + 1) * S::lambdas;
}

template <class V, class S, template <class> class Block, class A>
BATCHLMM_FUNCTION inline Newton<V, A> make_newton(const S& s, Block<A>& arena) {
  Newton<V, A> n;
  static_cast<NewtonScratch<A>&>(n) = make_newton_scratch(s, arena);
  n.base = {arena.take(s.lambdas), arena.take(s.lambdas), arena.take(s.terms)};
  n.direction = arena.take(s.parameters);
  n.best_lambda = arena.take(s.lambdas);
  n.f = n.slope = n.predicted = n.best = n.evaluations = n.total_evaluations = n.start = n.bumps = V(0.0);
  n.t = n.runs = V(1.0);
  n.worst = V(-1e300);
  n.fresh = V(0.0) <= V(0.0);
  n.certified = n.best_certified = V(1.0) <= V(0.0);
  return n;
}

/// Starts lane l anew; its w.lambda holds the starting point.
/// @param runs  starting points to try, this one included
template <class V, class A>
BATCHLMM_INLINE void begin_lane(Newton<V, A>& n, int l, int runs) {
  set_lane(n.runs, l, static_cast<double>(runs));
  set_lane(n.worst, l, -1e300);
  set_lane(n.fresh, l, true);
  set_lane(n.certified, l, false);
  set_lane(n.best_certified, l, false);
  set_lane(n.best, l, 1e300);
  set_lane(n.evaluations, l, 0.0);
  set_lane(n.total_evaluations, l, 0.0);
  set_lane(n.start, l, 0.0);
  set_lane(n.bumps, l, 0.0);
}

/// d(l^2)/dw of term b's last diagonal.
template <class V, class S, class A>
BATCHLMM_INLINE V bounded_rate(const S& s, const Coordinates<A>& x, int b) {
  const V last = x.l[s.term[b].lambda + s.term[b].k * s.term[b].k - 1];
  return RatioCoordinate<V>(last * last * V(s.scale(b)), s.scale(b)).rate;
}

/// Directions of T by the entries of l and the terms' w: the one at (r, c) changes T, its rows pivoted, along e_r u_c'
/// + u_c e_r'.
/// @param[out] u  per term k x k, at the term's place among the lambdas
template <class V, class S, class A, class X>
BATCHLMM_INLINE void tangents(const S& s, const Coordinates<A>& x, const X& u) {
  for (int i = 0; i < s.lambdas; ++i) u[i] = x.l[i];
  for (int b = 0; b < s.terms; ++b)
    u[s.term[b].lambda + s.term[b].k * s.term[b].k - 1] = V(0.5) * bounded_rate<V>(s, x, b);
}

/// The average information by the coordinates where a by_coordinates of the caller's own (found by the type of w) left
/// it out.
template <class V, class S, class W, class A>
BATCHLMM_INLINE void complete_information(const S& /*s*/, const W& /*w*/, const NewtonScratch<A>& /*n*/) {}

/// The terms' Jacobians one after the other in n.jacobian (entries of T x coordinates), and the gradient by the
/// coordinates.
/// @param[out] offsets  of each term's Jacobian
template <class V, class S, class W, class A>
BATCHLMM_INLINE void gradient_by_coordinates(const S& s, const W& w, const NewtonScratch<A>& n,
                                             int (&offsets)[max_terms]) {
  int offset = 0;
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k, mb = triangle_size(k), a0 = term.parameter;
    const A l = n.next.l + term.lambda, pivot = n.next.pivot + term.lambda, jac = n.jacobian + offset;
    offsets[b] = offset;
    offset += mb * mb;
    const V w_rate = bounded_rate<V>(s, n.next, b);
    if (k == 1) {
      jac[0] = w_rate;
      n.x_gradient[a0] = w_rate * w.gradient[a0];
      continue;
    }
    // T = sum over columns c of lambda_c lambda_c', lambda = P'l: column c of lambda in T's rows is `small`.
    const A column = n.small;
    for (int c = 0; c < k; ++c) {
      for (int i = 0; i < k; ++i) {
        V t = V(0.0);
        for (int r = c; r < k; ++r) t = fma(pivot[r * k + i], l[r * k + c], t);
        column[i] = t;
      }
      for (int r = c; r < k; ++r) {
        const int x = triangle(r, c);
        for (int i = 0; i < k; ++i)
          for (int j = 0; j <= i; ++j) {
            V t;
            if (r == k - 1 && c == k - 1)
              t = pivot[r * k + i] * pivot[r * k + j] * w_rate;
            else
              t = fma(pivot[r * k + i], column[j], pivot[r * k + j] * column[i]);
            jac[triangle(i, j) * mb + x] = t;
          }
      }
    }
    for (int x = 0; x < mb; ++x) {
      V t = V(0.0);
      for (int e = 0; e < mb; ++e) t = fma(jac[e * mb + x], w.gradient[a0 + e], t);
      n.x_gradient[a0 + x] = t;
    }
  }
}

/// The gradient by T as symmetric matrices, rows pivoted as the factors' are, packed a term.
template <class V, class S, class W, class A, class Out>
BATCHLMM_INLINE void pivoted_gradient(const S& s, const W& w, const NewtonScratch<A>& n, const Out& pivoted) {
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k, a0 = term.parameter;
    const A pivot = n.next.pivot + term.lambda;
    if (k == 1) pivoted[a0] = w.gradient[a0];
    for (int r = 0; k > 1 && r < k; ++r)
      for (int r2 = 0; r2 <= r; ++r2) {
        V t = V(0.0);
        for (int i = 0; i < k; ++i)
          for (int j = 0; j < k; ++j) {
            const V g = w.gradient[a0 + packed(i, j)] * V(i == j ? 1.0 : 0.5);
            t = fma(pivot[r * k + i] * pivot[r2 * k + j], g, t);
          }
        pivoted[a0 + triangle(r, r2)] = t;
      }
  }
}

/// Adds the curvature of the map to J'HJ: 2 G between the entries of one column, and the gradient times d2rho/dw2 over
/// drho/dw for w. The average information takes what of it is surely positive.
/// @param pivoted               pivoted_gradient
/// @param hessian, information  of n that take part
template <class V, class S, class A, class X>
BATCHLMM_INLINE void add_curvature(const S& s, const X& pivoted, const NewtonScratch<A>& n, bool hessian,
                                   bool information) {
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k, a0 = term.parameter;
    for (int c = 0; c < k; ++c)
      for (int r = c; r < k; ++r)
        for (int r2 = c; r2 <= r; ++r2) {
          if (c == k - 1) continue;
          const int at = triangle(a0 + triangle(r, c), a0 + triangle(r2, c));
          const V g = pivoted[a0 + triangle(r, r2)];
          if (hessian) n.x_hessian[at] = fma(g, V(2.0), n.x_hessian[at]);
          if (information && r == r2) n.x_information[at] = fma(maximum(g, V(0.0)), V(2.0), n.x_information[at]);
        }
    const int z = bounded_coordinate(term), at = triangle(z, z);
    const V bend = V(1.25) / fma(V(-0.25), V(n.next.w[b]), V(1.0)) * n.x_gradient[z];
    if (hessian) n.x_hessian[at] = n.x_hessian[at] + bend;
    if (information) n.x_information[at] = n.x_information[at] + maximum(bend, V(0.0));
  }
}

/// Gradient, exact Hessian and average information by the coordinates, at n.next.
/// @param w  derivatives by the entries of T: w.gradient, w.hessian, w.information
template <class V, class S, class W, class A>
BATCHLMM_INLINE void by_coordinates(const S& s, const W& w, const NewtonScratch<A>& n) {
  const auto team = team_of(s);
  int offsets[max_terms];
  if (is_first(team)) gradient_by_coordinates<V>(s, w, n, offsets);
  if constexpr (!decltype(team_of(s))::alone) {
    for (int b = 0, offset = 0; b < s.terms; ++b) {
      offsets[b] = offset;
      offset += triangle_size(s.term[b].k) * triangle_size(s.term[b].k);
    }
    team.sync();
  }
  for (int b = 0; b < s.terms; ++b)
    for (int b2 = 0; b2 <= b; ++b2) {
      const int a = s.term[b].parameter, a2 = s.term[b2].parameter, mb = triangle_size(s.term[b].k),
                mb2 = triangle_size(s.term[b2].k);
      const A j1 = n.jacobian + offsets[b], j2 = n.jacobian + offsets[b2], tmp = n.small;
      for (int which = 0; which < 2; ++which) {
        const auto from = which == 0 ? w.hessian : w.information;
        const A to = which == 0 ? n.x_hessian : n.x_information;
        Deal<decltype(team_of(s))> deal(team);
        for (int i = 0; i < mb; ++i)
          for (int x = deal.first(mb2); x < mb2; x += team.size()) {
            V t = V(0.0);
            for (int e = 0; e < mb2; ++e) t = fma(from[packed(a + i, a2 + e)], j2[e * mb2 + x], t);
            tmp[i * mb2 + x] = t;
          }
        team.sync();
        for (int x = 0; x < mb; ++x)
          for (int x2 = deal.first(mb2); x2 < mb2; x2 += team.size()) {
            if (b == b2 && x2 > x) break;
            V t = V(0.0);
            for (int e = 0; e < mb; ++e) t = fma(j1[e * mb + x], tmp[e * mb2 + x2], t);
            to[triangle(a + x, a2 + x2)] = t;
          }
        team.sync();
      }
    }
  if (is_first(team)) {
    pivoted_gradient<V>(s, w, n, n.rhs);
    add_curvature<V>(s, n.rhs, n, true, true);
  }
  team.sync();
}

/// One matrix of derivatives by the entries of l and w, taken to the coordinates of the columns' charts: K'HK, K the
/// derivative of a column's entries by its coordinates.
/// @param h  packed m
template <class V, class S, class A>
BATCHLMM_INLINE void matrix_by_charts(const S& s, const NewtonScratch<A>& n, const A& h) {
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k, a0 = s.term[b].parameter;
    const A l = n.next.l + s.term[b].lambda, beta = n.small;
    for (int c = 0; c + 1 < k; ++c) {
      const ColumnChart<V> chart(V(l[c * k + c]), s.scale(b));
      if (!any(chart.regression)) continue;
      const int d = a0 + triangle(c, c);
      for (int r = c + 1; r < k; ++r) beta[r] = l[r * k + c] / chart.diagonal;
      // Rows of this column first, while the matrix is still by the entries on both sides: (d, d) takes them all.
      V own = h[packed(d, d)];
      for (int r = c + 1; r < k; ++r) {
        const int at = a0 + triangle(r, c);
        V t = h[packed(d, at)];
        own = fma(beta[r], t, own);
        for (int q = c + 1; q < k; ++q) t = fma(beta[q], V(h[packed(at, a0 + triangle(q, c))]), t);
        own = fma(beta[r], t, own);
        h[packed(d, at)] = select(chart.regression, t * chart.rate * chart.diagonal, V(h[packed(d, at)]));
      }
      h[packed(d, d)] = select(chart.regression, own * chart.rate * chart.rate, V(h[packed(d, d)]));
      for (int r = c + 1; r < k; ++r)
        for (int q = c + 1; q <= r; ++q) {
          const int at = packed(a0 + triangle(r, c), a0 + triangle(q, c));
          h[at] = h[at] * (chart.diagonal * chart.diagonal);
        }
      // All other rows.
      const auto other = [&](int i) {
        V t = h[packed(i, d)];
        for (int r = c + 1; r < k; ++r) {
          const int at = packed(i, a0 + triangle(r, c));
          t = fma(beta[r], V(h[at]), t);
          h[at] = h[at] * chart.diagonal;
        }
        h[packed(i, d)] = select(chart.regression, t * chart.rate, V(h[packed(i, d)]));
      };
      for (int i = 0; i < a0; ++i) other(i);
      for (int q = 0; q < k; ++q)
        for (int r = q; r < k; ++r)
          if (q != c) other(a0 + triangle(r, q));
      for (int i = a0 + triangle_size(k); i < s.parameters; ++i) other(i);
    }
  }
}

/// The gradient and the exact Hessian by the coordinates of the columns' charts, from those by the entries of l and w.
template <class V, class S, class A>
BATCHLMM_INLINE void by_charts(const S& s, const NewtonScratch<A>& n) {
  matrix_by_charts<V>(s, n, n.x_hessian);
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k, a0 = s.term[b].parameter;
    const A l = n.next.l + s.term[b].lambda;
    for (int c = 0; c + 1 < k; ++c) {
      const ColumnChart<V> chart(V(l[c * k + c]), s.scale(b));
      if (!any(chart.regression)) continue;
      const int d = a0 + triangle(c, c);
      V along = n.x_gradient[d];
      for (int r = c + 1; r < k; ++r) {
        const int i = a0 + triangle(r, c), at = packed(d, i);
        along = fma(l[r * k + c] / chart.diagonal, V(n.x_gradient[i]), along);
        n.x_hessian[at] =
            select(chart.regression, fma(chart.rate, V(n.x_gradient[i]), V(n.x_hessian[at])), V(n.x_hessian[at]));
        n.x_gradient[i] = n.x_gradient[i] * chart.diagonal;
      }
      const int at = packed(d, d);
      n.x_hessian[at] = select(chart.regression, fma(chart.second, along, V(n.x_hessian[at])), V(n.x_hessian[at]));
      n.x_gradient[d] = select(chart.regression, along * chart.rate, V(n.x_gradient[d]));
    }
  }
}

/// The part of a step that is taken: w stops where the variance would grow without bound, beta at 2, and an entry of l
/// at twice the factor's size and what one unit of information makes.
template <class V, class S, class A>
BATCHLMM_INLINE V fraction_of_step(const S& s, const NewtonScratch<A>& n) {
  V fraction = V(1.0);
  const auto stop_at = [&](const V& size, const V& bound) {
    fraction = minimum(fraction, select(size > bound, bound / maximum(size, V(1e-300)), V(1.0)));
  };
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k, a0 = s.term[b].parameter;
    const A l = n.next.l + s.term[b].lambda;
    V size = V(2.0 / square_root(s.scale(b)));
    for (int i = 0; k > 1 && i < k; ++i) size = maximum(size, V(2.0) * absolute(V(l[i * k + i])));
    for (int c = 0; c + 1 < k; ++c) {
      const ColumnChart<V> chart(V(l[c * k + c]), s.scale(b));
      const V step = n.step[a0 + triangle(c, c)];
      stop_at(select(chart.regression, step, absolute(step)),
              select(chart.regression, chart.u * V(4.0 * (1.0 - least_u_shrinkage)), size));
      for (int r = c + 1; r < k; ++r)
        stop_at(absolute(V(n.step[a0 + triangle(r, c)])), select(chart.regression, V(2.0), size));
    }
    stop_at(V(n.step[a0 + triangle_size(k) - 1]),
            fma(V(-0.25), V(n.next.w[b]), V(1.0)) * V(4.0 * (1.0 - least_u_shrinkage)));
  }
  return fraction;
}

/// Whether lane l's runs ended at different deviances.
template <class V, class A>
BATCHLMM_INLINE bool several_minima(const Newton<V, A>& n, int l) {
  return lane(n.worst, l) > lane(n.best, l) + 1e-6;
}

/// A later run whose next step leads to the best optimum of those before is not followed to its end (with
/// options.value_error only): the decrease that the step predicts is below `near`, it misses the best deviance by less
/// than `deviance` times that, and the entries of T by less than `place` times the largest one (or what one unit of
/// information makes).
struct SameOptimum {
  double near, deviance;
  static constexpr double place = 0.05;
  /// Where minima are rare (lone_starts) two so near to each other are not met; where they are common they were: one
  /// of 3,000 replicates of a crossed design with most rows in one level.
  BATCHLMM_INLINE explicit SameOptimum(const NewtonOptions& options)
      : near(options.value_error <= 0  ? 0
             : options.lone_starts > 0 ? 0.5
                                       : 1e-2),
        deviance(options.lone_starts > 0 ? 0.1 : 3e-3) {}
};

/// Whether the factors in `lambda` and the best ones give the same T.
template <class V, class S, class L, class A>
BATCHLMM_INLINE MaskOf<V> near_best(const S& s, const L& lambda, const Newton<V, A>& n) {
  MaskOf<V> near = V(0.0) <= V(0.0);
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k;
    const auto entry = [&](const auto& factor, int i, int j) {
      V t = V(0.0);
      for (int e = 0; e < k; ++e)
        t = fma(factor[s.term[b].lambda + i * k + e], V(factor[s.term[b].lambda + j * k + e]), t);
      return t;
    };
    V largest = V(1.0 / s.scale(b)), difference = V(0.0);
    for (int i = 0; i < k; ++i)
      for (int j = 0; j <= i; ++j) {
        const V best = entry(n.best_lambda, i, j);
        if (i == j) largest = maximum(largest, best);
        difference = maximum(difference, absolute(entry(lambda, i, j) - best));
      }
    near = near && (difference < V(SameOptimum::place) * largest);
  }
  return near;
}

/// How much larger than along the last step the third derivative may be in other directions.
inline constexpr double other_directions = 10;

/// The coordinates of w.lambda, and the derivatives by them: the next base, used where it is accepted. All members of a
/// team call.
/// @param w, x  as in newton_trip
template <class V, class S, class W, class X>
BATCHLMM_INLINE void to_next(const S& s, const W& w, const NewtonScratch<X>& x) {
  const auto team = team_of(s);
  if (is_first(team)) to_coordinates<V>(s, w.lambda, x.next, x.small);
  team.sync();
  by_coordinates<V>(s, w, x);
}

/// One iteration after the evaluation `e` of w.lambda and to_next: accepts or rejects, and leaves the next proposal in
/// w.lambda. A team's first member alone calls.
///
/// @param s       a Shape or Terms
/// @param w       w.lambda, and the derivatives there by the entries of T: w.gradient, w.hessian, w.information
/// @param x       scratch
/// @param alive   lanes that hold a fit
/// @param starts  options.starts x s.lambdas starting points shared by all lanes; a lane's own first one was put into
/// w.lambda by the caller
/// @return lanes that are done: their optimum is in n.best_lambda, its deviance in n.best
template <class V, class S, class W, class A, class X, class Starts>
BATCHLMM_INLINE MaskOf<V> newton_step(const S& s, const W& w, Newton<V, A>& n, const NewtonScratch<X>& x,
                                      const Evaluation<V>& e, const MaskOf<V>& alive, const NewtonOptions& options,
                                      const Starts& starts) {
  const int m = s.parameters;
  n.evaluations = n.evaluations + V(1.0);
  n.total_evaluations = n.total_evaluations + V(1.0);
  if (options.stay) {
    const auto here = alive && e.ok;
    n.best = select(here, e.deviance, n.best);
    n.best_certified = here || n.best_certified;
    for (int i = 0; i < s.lambdas; ++i) n.best_lambda[i] = select(here, V(w.lambda[i]), V(n.best_lambda[i]));
    return alive;
  }

  const V noise = V(1e-12) * (absolute(n.f) + V(1.0));
  const auto accepted = n.fresh || (e.ok && (e.deviance <= fma(V(1e-4) * n.t, n.slope, n.f) + noise));
  const auto whole_step = accepted && !n.fresh && n.certified && (n.t >= V(1.0));  // an exact Newton step
  const V predicted_before = n.predicted;
  const auto broken = n.fresh && !e.ok;  // a starting point that cannot be evaluated
  n.fresh = n.fresh && !(V(0.0) <= V(0.0));

  by_charts<V>(s, x);
  bool information = false;
  const auto need_information = [&] {
    if (information) return;
    information = true;
    complete_information<V>(s, w, x);
    matrix_by_charts<V>(s, x, x.x_information);
  };
  MaskOf<V> inside;
  const auto exact = bounded_step<V>(s, x, x.x_hessian, inside);
  if (any(alive && accepted && !exact)) {
    need_information();
    const X keep = x.small;
    for (int i = 0; i < m; ++i) keep[i] = x.step[i];
    MaskOf<V> unused;
    bounded_step<V>(s, x, x.x_information, unused);
    for (int i = 0; i < m; ++i) x.step[i] = select(exact, V(keep[i]), V(x.step[i]));
  }
  V slope = V(0.0);
  for (int i = 0; i < m; ++i) slope = fma(x.x_gradient[i], x.step[i], slope);
  // No descent: the scaled gradient, kept inside the bounds.
  const auto uphill = !(slope < V(0.0));
  if (any(uphill)) {
    need_information();
    V other = V(0.0);
    for (int i = 0; i < m; ++i) {
      V d = -x.x_gradient[i] /
            (absolute(V(x.x_hessian[triangle(i, i)])) + absolute(V(x.x_information[triangle(i, i)])) + V(1e-12));
      for (int b = 0; b < s.terms; ++b)
        if (i == bounded_coordinate(s.term[b])) d = maximum(d, -x.next.w[b]);
      x.step[i] = select(uphill, d, V(x.step[i]));
      other = fma(x.x_gradient[i], d, other);
    }
    slope = select(uphill, other, slope);
  }
  const V fraction = fraction_of_step<V>(s, x);
  const V predicted = V(-0.5) * slope;

  // Accepted lanes move their base.
  for (int i = 0; i < s.lambdas; ++i) {
    n.base.l[i] = select(accepted, V(x.next.l[i]), V(n.base.l[i]));
    n.base.pivot[i] = select(accepted, V(x.next.pivot[i]), V(n.base.pivot[i]));
  }
  for (int b = 0; b < s.terms; ++b) n.base.w[b] = select(accepted, V(x.next.w[b]), V(n.base.w[b]));
  for (int i = 0; i < m; ++i) n.direction[i] = select(accepted, V(x.step[i]), V(n.direction[i]));
  // Rejected lanes shorten their step by quadratic interpolation.
  const V drop = n.slope * n.t, rise = e.deviance - n.f;
  const V shorter = n.t * minimum(maximum(V(-0.5) * drop / maximum(rise - drop, V(1e-300)), V(0.1)), V(0.5));
  n.f = select(accepted, e.deviance, n.f);
  n.slope = select(accepted, slope, n.slope);
  n.predicted = select(accepted, predicted, n.predicted);
  n.t = select(accepted, fraction, shorter);
  n.certified = (accepted && exact && inside) || (!accepted && n.certified);

  // Ends. Rounding can reject the last, tiny step: the base is then as good.
  // After a whole exact step s the gradient is D3[s, s] / 2, D3 the third derivative, so that in the norm of the
  // Hessian |D3| is about 2 sqrt(2 p) / (2 p_before) for predicted decreases p; the next step's value errs by D3 / 6 (2
  // p)^{3/2}.
  const V decrement = V(2.0) * maximum(n.predicted, V(0.0)), root = square_root(decrement);
  const V third = V(other_directions) * root / maximum(predicted_before, V(1e-300));
  // A direction in which the Hessian is nearly flat hides from that: there the step itself is long, and the third
  // derivative by a coordinate is about its second.
  V cubes = V(0.0);
  for (int i = 0; i < m; ++i) {
    const V size = absolute(V(x.step[i]));
    cubes = fma(size * size, size * absolute(V(x.x_hessian[triangle(i, i)])), cubes);
  }
  const auto precise = whole_step && (fraction >= V(1.0)) && (predicted_before < V(1.0)) &&
                       (third * decrement * root < V(6.0 * options.value_error)) &&
                       (cubes < V(60.0 * options.value_error));
  const auto small_step = n.certified && ((n.predicted < V(options.finish)) || precise);
  const auto finished = small_step && accepted;
  const auto stopped = !accepted && small_step;
  const auto flat = accepted && !exact && (n.predicted < V(1e-10));  // a stationary point that is no certified minimum
  const auto exhausted = (n.evaluations >= V(double(options.max_evaluations))) || (!accepted && (n.t < V(1e-9)));
  const auto ended = finished || stopped || flat || exhausted || broken;
  n.t = select(stopped, V(0.0), n.t);
  from_coordinates<V>(s, n.base, n.direction, select(alive && ended && !finished, V(0.0), n.t), w.lambda);
  const SameOptimum limits(options);
  auto same = accepted && n.certified && n.best_certified && (n.t >= V(1.0)) && (n.predicted < V(limits.near)) &&
              (absolute(n.f - n.predicted - n.best) < V(limits.deviance) * n.predicted);
  if (any(same)) same = same && near_best<V>(s, w.lambda, n);
  const auto run_done = alive && (ended || same);
  if (!any(run_done)) return run_done;

  // This run's optimum, if it is the best so far.
  const V value = select(finished, n.f - n.predicted, n.f);
  const auto better = run_done && !broken && !same && (value < n.best);
  n.worst = select(run_done && !broken && !same, maximum(n.worst, value), n.worst);
  const auto certified = finished || stopped;
  for (int i = 0; i < s.lambdas; ++i) n.best_lambda[i] = select(better, V(w.lambda[i]), V(n.best_lambda[i]));
  const auto improved = better && (value < n.best - V(1e-9));
  n.best = select(better, value, n.best);
  n.best_certified = (better && certified) || (!better && n.best_certified);

  // Another run: from the next starting point; or, from a stationary point that is no minimum, from a little inside the
  // cone.
  n.start = select(run_done, n.start + V(1.0), n.start);
  const auto more_starts = run_done && (n.start < n.runs);
  const auto bump = run_done && !more_starts && improved && flat && (n.bumps < V(3.0));
  for (int c = 1; c < options.starts; ++c) {
    const auto here = more_starts && (n.start > V(c - 0.5)) && (n.start < V(c + 0.5));
    if (!any(here)) continue;
    for (int i = 0; i < s.lambdas; ++i) w.lambda[i] = select(here, V(starts[c * s.lambdas + i]), V(w.lambda[i]));
  }
  if (any(bump)) {
    n.bumps = select(bump, n.bumps + V(1.0), n.bumps);
    for (int b = 0; b < s.terms; ++b) {
      const auto& term = s.term[b];
      const V inside = V(square_root(0.1 / s.scale(b)));
      for (int i = 0; i < term.k; ++i)
        for (int c = 0; c < term.k; ++c) {
          const int at = term.lambda + i * term.k + c;
          // l's diagonal is raised to `inside` where it is less; lambda = P'l.
          const V diagonal = n.base.l[term.lambda + c * term.k + c];
          const V raise = maximum(inside - diagonal, V(0.0)) * n.base.pivot[term.lambda + c * term.k + i];
          w.lambda[at] = select(bump, w.lambda[at] + raise, V(w.lambda[at]));
        }
    }
  }
  const auto again = more_starts || bump;
  n.fresh = n.fresh || again;
  n.evaluations = select(again, V(0.0), n.evaluations);
  return run_done && !again;
}

/// to_next and newton_step: one iteration after the evaluation `e` of w.lambda.
template <class V, class S, class W, class A, class X, class Starts>
BATCHLMM_INLINE MaskOf<V> newton_trip(const S& s, const W& w, Newton<V, A>& n, const NewtonScratch<X>& x,
                                      const Evaluation<V>& e, const MaskOf<V>& alive, const NewtonOptions& options,
                                      const Starts& starts) {
  to_next<V>(s, w, x);
  return newton_step<V>(s, w, n, x, e, alive, options, starts);
}

/// The same with scratch of its own: on the stack where the sizes are known at compile time, so that it lives in
/// registers, else n's.
template <class V, class S, class W, class A, class Starts>
BATCHLMM_INLINE MaskOf<V> newton_trip(const S& s, const W& w, Newton<V, A>& n, const Evaluation<V>& e,
                                      const MaskOf<V>& alive, const NewtonOptions& options, const Starts& starts) {
  if constexpr (S::fixed) {
    V memory[newton_scratch_size<S>()];
    Arena<V*> arena{memory};
    return newton_trip<V>(s, w, n, make_newton_scratch(s, arena), e, alive, options, starts);
  } else {
    return newton_trip<V>(s, w, n, static_cast<const NewtonScratch<A>&>(n), e, alive, options, starts);
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
