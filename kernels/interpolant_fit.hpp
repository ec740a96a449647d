/// @file
/// A replicate's fit on the interpolants of its criterion (interpolant.hpp): Newton's method from the lowest node of
/// the grid, checked against the exact values that are held out.
///
/// The number of levels L is a template parameter: what belongs to a level stays in registers.
#pragma once

#include <limits>
#include <type_traits>

#include "kernels/elementary.hpp"
#include "kernels/interpolant.hpp"
#include "kernels/replicate.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Calls f(levels), levels an integral constant.
template <class F>
BATCHLMM_INLINE auto with_levels(int levels, const F& f) {
  if (levels == 1) return f(std::integral_constant<int, 1>{});
  if (levels == 2) return f(std::integral_constant<int, 2>{});
  return f(std::integral_constant<int, 3>{});
}

/// Scratch memory of a fit.
template <class A>
struct InterpolantScratch {
  A filtered[3];              ///< as phi
  A basis[max_interpolated];  ///< 3 x nodes: Lagrange's basis and its derivatives
  A partial;                  ///< contractions over the last level, 3 for each combination of the others' nodes
};
template <class A>
BATCHLMM_FUNCTION inline InterpolantScratch<A> make_interpolant_scratch(const Interpolant& t, Arena<A>& arena) {
  InterpolantScratch<A> scratch;
  std::size_t combinations = 1;  // of the nodes of the levels before the last
  for (int l = 0; l < max_interpolated; ++l) {
    scratch.basis[l] = arena.take(l < t.levels ? 3 * static_cast<std::size_t>(t.level[l].nodes) : 0);
    if (l + 1 < t.levels) combinations *= t.level[l].nodes;
  }
  const std::size_t points = InterpolantGrid(t).size();
  for (A& filtered : scratch.filtered) filtered = arena.take(points);
  scratch.partial = arena.take(3 * combinations);
  return scratch;
}

/// Largest difference, anywhere on the grid, between phi at what is held out and the interpolant there.
template <int L, class V, class A>
BATCHLMM_INLINE V held_out_error(const Interpolant& t, const A& phi) {
  const InterpolantGrid grid(t);
  const InterpolantLevel& last = t.level[L - 1];
  V worst = V(0.0);
  // Not maximum(): a NaN must stay.
  const auto count = [&](const V& difference) {
    worst = select(absolute(difference) <= worst, worst, absolute(difference));
  };
  for (int g = 0; g < grid.rows; ++g) {
    const A row = phi + static_cast<std::size_t>(g) * grid.stride;
    V sum = V(0.0);
    for (int a = 0; a < grid.nodes; ++a) sum = fma(V(last.held_out[a]), V(row[a]), sum);
    count(sum - V(row[grid.nodes]));
  }
  if constexpr (L == 1) return worst;
  const A exact = phi + static_cast<std::size_t>(grid.node_rows) * grid.stride;
  for (int a = 0; a < grid.nodes; ++a) {
    V sum = V(0.0);
    for (int g = 0; g < grid.node_rows; ++g)
      sum = fma(V(t.held_out_row[g]), V(phi[static_cast<std::size_t>(g) * grid.stride + a]), sum);
    count(sum - V(exact[a]));
  }
  return worst;
}

/// The grid's minima of r^2 |V|^{1/N}, of which the deviance is N times the logarithm: nodes that are not above any
/// neighbour, diagonal ones included.
template <class V>
struct GridMinima {
  V count;          ///< how many
  V lowest, place;  ///< the lowest value and its node, row * stride + column
};

/// @param[out] value     r^2 |V|^{1/N}
/// @param[out] filtered  the minimum of it over each node's neighbourhood
template <int L, class V, class A>
BATCHLMM_INLINE GridMinima<V> grid_minima(const Interpolant& t, const A& phi, const A& value, const A& scratch,
                                          const A& filtered) {
  const InterpolantGrid grid(t);
  const auto at = [&](int g, int a) { return static_cast<std::size_t>(g) * grid.stride + a; };
  // One pass a level, the last level first; the last pass is to write to `filtered`.
  A from = L % 2 == 1 ? filtered : scratch, to = L % 2 == 1 ? scratch : filtered;
  for (int g = 0; g < grid.node_rows; ++g) {
    for (int a = 0; a < grid.nodes; ++a) value[at(g, a)] = V(phi[at(g, a)]) * V(t.leading[g * grid.nodes + a]);
    for (int a = 0; a < grid.nodes; ++a) {
      V low = value[at(g, a)];
      if (a > 0) low = minimum(low, V(value[at(g, a - 1)]));
      if (a + 1 < grid.nodes) low = minimum(low, V(value[at(g, a + 1)]));
      from[at(g, a)] = low;
    }
  }
  int step = 1;
  for (int l = L - 2; l >= 0; --l) {
    const int n = t.level[l].nodes;
    for (int g = 0; g < grid.node_rows; ++g) {
      const int place = g / step % n;
      for (int a = 0; a < grid.nodes; ++a) {
        V low = from[at(g, a)];
        if (place > 0) low = minimum(low, V(from[at(g - step, a)]));
        if (place + 1 < n) low = minimum(low, V(from[at(g + step, a)]));
        to[at(g, a)] = low;
      }
    }
    const A other = from;
    from = to;
    to = other;
    step *= n;
  }
  GridMinima<V> m{V(0.0), V(std::numeric_limits<double>::infinity()), V(0.0)};
  for (int g = 0; g < grid.node_rows; ++g)
    for (int a = 0; a < grid.nodes; ++a) {
      const V here = value[at(g, a)];
      m.count = m.count + select(here <= V(from[at(g, a)]), V(1.0), V(0.0));
      const auto lower = here < m.lowest;
      m.lowest = select(lower, here, m.lowest);
      m.place = select(lower, V(double(at(g, a))), m.place);
    }
  return m;
}

/// A function of the levels' coordinates with its gradient and packed Hessian.
template <class V>
struct InterpolantValue {
  V value, gradient[max_interpolated], hessian[max_interpolated * (max_interpolated + 1) / 2];
};

/// Lagrange's basis and its first two derivatives at u, by products from both sides.
template <class V, class A>
BATCHLMM_INLINE void lagrange_basis(const InterpolantLevel& level, const V& u, const A& basis) {
  const int n = level.nodes;
  const A zeroth = basis, first = basis + n, second = basis + 2 * n;
  V p = V(1.0), p1 = V(0.0), p2 = V(0.0);  // the product of the distances on the left, and its derivatives
  for (int a = 0; a < n; ++a) {
    zeroth[a] = p;
    first[a] = p1;
    second[a] = p2;
    const V d = u - V(level.node[a]);
    p2 = fma(p2, d, p1 + p1);
    p1 = fma(p1, d, p);
    p = p * d;
  }
  V s = V(1.0), s1 = V(0.0), s2 = V(0.0);
  for (int a = n - 1; a >= 0; --a) {
    const V w = V(level.weight[a]), left = zeroth[a], left1 = first[a], left2 = second[a];
    zeroth[a] = w * (left * s);
    first[a] = w * fma(left1, s, left * s1);
    second[a] = w * fma(left2, s, fma(left1 + left1, s1, left * s2));
    const V d = u - V(level.node[a]);
    s2 = fma(s2, d, s1 + s1);
    s1 = fma(s1, d, s);
    s = s * d;
  }
}

template <int Rows, class V, class A>
BATCHLMM_INLINE void contract_rows(const A& values, int stride, int n, const A& basis, const A& out) {
  V sum[Rows][3];
  for (int r = 0; r < Rows; ++r)
    for (int k = 0; k < 3; ++k) sum[r][k] = V(0.0);
  for (int a = 0; a < n; ++a) {
    const V b0 = basis[a], b1 = basis[n + a], b2 = basis[2 * n + a];
    for (int r = 0; r < Rows; ++r) {
      const V x = values[r * stride + a];
      sum[r][0] = fma(x, b0, sum[r][0]);
      sum[r][1] = fma(x, b1, sum[r][1]);
      sum[r][2] = fma(x, b2, sum[r][2]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int k = 0; k < 3; ++k) out[3 * r + k] = sum[r][k];
}

/// @param from  n x [ value | inner | inner inner ]
/// @param sum   [ value | inner | inner inner | outer | outer inner | outer outer ]
template <class V, class A>
BATCHLMM_INLINE void contract_outer(const A& from, int n, const A& basis, V* sum) {
  for (int k = 0; k < 6; ++k) sum[k] = V(0.0);
  for (int a = 0; a < n; ++a) {
    const V b0 = basis[a], b1 = basis[n + a], b2 = basis[2 * n + a];
    const V x[3] = {from[3 * a], from[3 * a + 1], from[3 * a + 2]};
    for (int k = 0; k < 3; ++k) sum[k] = fma(x[k], b0, sum[k]);
    for (int k = 0; k < 2; ++k) sum[3 + k] = fma(x[k], b1, sum[3 + k]);
    sum[5] = fma(x[0], b2, sum[5]);
  }
}

/// phi by u. Leaves the levels' bases in `w`.
template <int L, class V, class A>
BATCHLMM_INLINE InterpolantValue<V> interpolate_phi(const Interpolant& t, const A& phi, const V* u,
                                                    const InterpolantScratch<A>& w) {
  // Rows that share the loads of the basis.
  constexpr int block = Lanes<V>::width >= 16 || Lanes<V>::width == 1 ? 4 : 2;
  const InterpolantGrid grid(t);
  lagrange_basis<V>(t.level[0], u[0], w.basis[0]);
  if constexpr (L > 1) lagrange_basis<V>(t.level[1], u[1], w.basis[1]);
  if constexpr (L > 2) lagrange_basis<V>(t.level[2], u[2], w.basis[2]);
  const A basis = w.basis[L - 1], rows = w.partial;
  int g = 0;
  for (; g + block <= grid.node_rows; g += block)
    contract_rows<block, V>(phi + static_cast<std::size_t>(g) * grid.stride, grid.stride, grid.nodes, basis,
                            rows + 3 * g);
  for (; g < grid.node_rows; ++g)
    contract_rows<1, V>(phi + static_cast<std::size_t>(g) * grid.stride, grid.stride, grid.nodes, basis, rows + 3 * g);
  InterpolantValue<V> v;
  if constexpr (L == 1) {
    v.value = rows[0];
    v.gradient[0] = rows[1];
    v.hessian[0] = rows[2];
    return v;
  }
  if constexpr (L == 2) {
    V s[6];
    contract_outer<V>(rows, t.level[0].nodes, w.basis[0], s);
    v.value = s[0];
    v.gradient[0] = s[3];
    v.gradient[1] = s[1];
    v.hessian[triangle(0, 0)] = s[5];
    v.hessian[triangle(1, 0)] = s[4];
    v.hessian[triangle(1, 1)] = s[2];
    return v;
  }
  const int n = t.level[0].nodes;
  V s[10];
  for (int k = 0; k < 10; ++k) s[k] = V(0.0);
  for (int a = 0; a < n; ++a) {
    V m[6];
    contract_outer<V>(rows + static_cast<std::size_t>(3) * a * t.level[1].nodes, t.level[1].nodes, w.basis[1], m);
    const V b0 = w.basis[0][a], b1 = w.basis[0][n + a], b2 = w.basis[0][2 * n + a];
    for (int k = 0; k < 6; ++k) s[k] = fma(m[k], b0, s[k]);
    s[6] = fma(m[0], b1, s[6]);
    s[7] = fma(m[1], b1, s[7]);
    s[8] = fma(m[3], b1, s[8]);
    s[9] = fma(m[0], b2, s[9]);
  }
  v.value = s[0];
  v.gradient[0] = s[6];
  v.gradient[1] = s[3];
  v.gradient[2] = s[1];
  v.hessian[triangle(0, 0)] = s[9];
  v.hessian[triangle(1, 0)] = s[8];
  v.hessian[triangle(1, 1)] = s[5];
  v.hessian[triangle(2, 0)] = s[7];
  v.hessian[triangle(2, 1)] = s[4];
  v.hessian[triangle(2, 2)] = s[2];
  return v;
}

/// log V_0 by u.
/// @param first_basis  Lagrange's basis of the first level at u[0]
template <int L, class V, class A>
BATCHLMM_INLINE InterpolantValue<V> leading_part(const Interpolant& t, const V* u, const A& first_basis) {
  InterpolantValue<V> v;
  v.value = V(0.0);
  // c rho and its derivatives by u.
  V product[max_interpolated], rate[max_interpolated], curvature[max_interpolated];
  for (int l = 0; l < L; ++l) {
    const InterpolantLevel& level = t.level[l];
    const double by_u = 0.25 * level.upper;
    const V x = u[l] * V(by_u);
    V& h = v.hessian[triangle(l, l)];
    for (int e = 0; e < l; ++e) v.hessian[triangle(l, e)] = V(0.0);
    if (level.logarithmic) {
      const V e = exponential(x);
      product[l] = e - V(1.0);
      rate[l] = e * V(by_u);
      curvature[l] = rate[l] * V(by_u);
      v.value = fma(V(level.own), x, v.value);
      v.gradient[l] = V(level.own * by_u);
      h = V(0.0);
    } else {
      const V left = V(1.0) - x, inverse = V(1.0) / left, step = inverse * V(by_u);
      product[l] = x * inverse;
      rate[l] = inverse * step;
      curvature[l] = (rate[l] + rate[l]) * step;
      v.value = fnma(V(level.own), logarithm(left), v.value);
      v.gradient[l] = V(level.own) * step;
      h = v.gradient[l] * step;
    }
  }
  if (t.common == 0) return v;

  // sum = 1 + sum_l a_l rho_l
  V sum = V(1.0), by[max_interpolated], by_twice[max_interpolated], mixed = V(0.0);
  for (int l = 0; l < L; ++l) {
    if (l > 0 && t.common_rate != nullptr) break;
    const V a = V(t.level[l].common_rate / t.level[l].scale);
    sum = fma(a, product[l], sum);  // NOLINT(clang-analyzer-core.CallAndMessage): every level was written above
    by[l] = a * rate[l];
    by_twice[l] = a * curvature[l];
  }
  if (L == 2 && t.common_rate != nullptr) {
    const int n = t.level[0].nodes;
    V a = V(0.0), a1 = V(0.0), a2 = V(0.0);
    for (int e = 0; e < n; ++e) {
      const V value = V(t.common_rate[e]);
      a = fma(value, V(first_basis[e]), a);
      a1 = fma(value, V(first_basis[n + e]), a1);
      a2 = fma(value, V(first_basis[2 * n + e]), a2);
    }
    const V unit = V(1.0 / t.level[1].scale);
    const V rho = product[1] * unit, rho1 = rate[1] * unit;
    sum = fma(a, rho, sum);
    by[0] = fma(a1, rho, by[0]);
    by_twice[0] = fma(a2, rho, by_twice[0]);
    by[1] = a * rho1;
    by_twice[1] = a * (curvature[1] * unit);
    mixed = a1 * rho1;
  }
  const V inverse = V(1.0) / sum, common = V(t.common) * inverse;
  v.value = fma(V(t.common), logarithm(sum), v.value);
  for (int l = 0; l < L; ++l) {
    v.gradient[l] = fma(common, by[l], v.gradient[l]);
    const V scaled = by[l] * inverse;
    for (int e = 0; e < l; ++e) v.hessian[triangle(l, e)] = common * fnma(scaled, by[e], mixed);
    V& h = v.hessian[triangle(l, l)];
    h = fma(common, fnma(scaled, by[l], by_twice[l]), h);
  }
  return v;
}

/// One optimum a lane.
template <class V>
struct InterpolantOptimum {
  V u[max_interpolated];
  V ratio[max_interpolated];  ///< variance ratios, once all is done
  V value;                    ///< N log phi + log V_0
  V phi;                      ///< at the last evaluation
  V evaluations;              ///< added to
  MaskOf<V> reached;          ///< a certified minimum inside the box or at u = 0
};

/// The Newton step within [0, 4]^levels by an active set; pivots that are not positive are replaced.
/// @param[out] inside  lanes where no bound was newly hit
/// @return lanes where the Hessian was positive definite on the free coordinates
template <int L, class V>
BATCHLMM_INLINE MaskOf<V> interpolant_step(const V* u, const V* gradient, const V* hessian, V* step,
                                           MaskOf<V>& inside) {
  const auto all = V(0.0) <= V(0.0);
  MaskOf<V> fixed[max_interpolated], definite = all;
  V fixed_step[max_interpolated];
  for (int i = 0; i < L; ++i) {
    fixed[i] = ((u[i] <= V(0.0)) && (gradient[i] >= V(0.0))) || ((u[i] >= V(4.0)) && (gradient[i] <= V(0.0)));
    fixed_step[i] = V(0.0);
  }
  inside = all;
  for (int pass = 0; pass <= L; ++pass) {
    V l[max_interpolated * (max_interpolated + 1) / 2], d[max_interpolated], rhs[max_interpolated];
    for (int i = 0; i < L; ++i) {
      V r = -gradient[i];
      for (int j = 0; j < L; ++j)
        if (j != i) r = fnma(select(fixed[j], hessian[packed(i, j)], V(0.0)), fixed_step[j], r);
      rhs[i] = select(fixed[i], fixed_step[i], r);
      for (int j = 0; j <= i; ++j)
        l[triangle(i, j)] = select(fixed[i] || fixed[j], V(i == j ? 1.0 : 0.0), hessian[triangle(i, j)]);
    }
    definite = all;
    for (int j = 0; j < L; ++j) {
      const V scale = absolute(l[triangle(j, j)]) + V(1e-300);
      V pivot = l[triangle(j, j)];
      for (int e = 0; e < j; ++e) pivot = fnma(l[triangle(j, e)] * l[triangle(j, e)], d[e], pivot);
      definite = definite && (pivot > V(0.0));
      d[j] = maximum(absolute(pivot), V(1e-8) * scale);
      for (int i = j + 1; i < L; ++i) {
        V x = l[triangle(i, j)];
        for (int e = 0; e < j; ++e) x = fnma(l[triangle(i, e)] * l[triangle(j, e)], d[e], x);
        l[triangle(i, j)] = x / d[j];
      }
    }
    for (int i = 0; i < L; ++i) {
      V x = rhs[i];
      for (int e = 0; e < i; ++e) x = fnma(l[triangle(i, e)], step[e], x);
      step[i] = x;
    }
    for (int i = 0; i < L; ++i) step[i] = step[i] / d[i];
    for (int i = L - 1; i >= 0; --i)
      for (int e = i + 1; e < L; ++e) step[i] = fnma(l[triangle(e, i)], step[e], step[i]);
    MaskOf<V> hit = !all;
    for (int i = 0; i < L; ++i) {
      const V next = u[i] + step[i];
      const auto below = !fixed[i] && (next < V(0.0)), above = !fixed[i] && (next > V(4.0));
      // A bound hit by a coordinate that is already as good as there is no news.
      inside = inside && !(below && (u[i] > V(1e-10))) && !(above && (u[i] < V(4.0 - 1e-10)));
      fixed_step[i] = select(below, -u[i], select(above, V(4.0) - u[i], fixed_step[i]));
      fixed[i] = fixed[i] || below || above;
      hit = hit || below || above;
    }
    if (!any(hit)) break;
  }
  return definite;
}

/// Newton's method on the interpolant from best.u, by the rules of newton.hpp.
/// @param active  lanes to do; the others stay as they are
template <int L, class V, class A>
BATCHLMM_INLINE void minimize(const Interpolant& t, const A& phi, const MaskOf<V>& active, double finish,
                              const InterpolantScratch<A>& w, InterpolantOptimum<V>& best) {
  constexpr int most_evaluations = 30;
  const auto none = V(1.0) <= V(0.0);
  V base[max_interpolated], direction[max_interpolated], u[max_interpolated];
  for (int i = 0; i < L; ++i) {
    u[i] = best.u[i];
    base[i] = u[i];
    direction[i] = V(0.0);
  }
  V f = V(0.0), slope = V(0.0), predicted = V(0.0), fraction = V(1.0);
  MaskOf<V> running = active, fresh = active, certified = none;
  for (int trip = 0; trip < most_evaluations && any(running); ++trip) {
    const InterpolantValue<V> e = interpolate_phi<L, V>(t, phi, u, w), leading = leading_part<L, V>(t, u, w.basis[0]);
    best.evaluations = best.evaluations + select(running, V(1.0), V(0.0));
    const auto positive = e.value > V(0.0);
    const V safe = select(positive, e.value, V(1.0));
    const V value = fma(V(t.degrees), logarithm(safe), leading.value);
    const V noise = V(1e-12) * (absolute(f) + V(1.0));
    const auto accepted = running && positive && (fresh || (value <= fma(V(1e-4) * fraction, slope, f) + noise));
    const auto broken = fresh && !positive;
    fresh = none;

    V gradient[max_interpolated], hessian[max_interpolated * (max_interpolated + 1) / 2], step[max_interpolated];
    const V rate = V(1.0) / safe, scaled = V(t.degrees) * rate;
    for (int i = 0; i < L; ++i) gradient[i] = fma(scaled, e.gradient[i], leading.gradient[i]);
    for (int i = 0; i < L; ++i)
      for (int j = 0; j <= i; ++j)
        hessian[triangle(i, j)] = fma(scaled, fnma(e.gradient[i] * rate, e.gradient[j], e.hessian[triangle(i, j)]),
                                      leading.hessian[triangle(i, j)]);
    MaskOf<V> inside;
    const auto definite = interpolant_step<L, V>(u, gradient, hessian, step, inside);
    V next_slope = V(0.0);
    for (int i = 0; i < L; ++i) next_slope = fma(gradient[i], step[i], next_slope);
    const auto uphill = !(next_slope < V(0.0));
    if (any(running && uphill)) {
      V other = V(0.0);
      for (int i = 0; i < L; ++i) {
        V d = -gradient[i] / (absolute(hessian[triangle(i, i)]) + V(1e-12));
        d = minimum(maximum(d, -u[i]), V(4.0) - u[i]);
        step[i] = select(uphill, d, step[i]);
        other = fma(gradient[i], d, other);
      }
      next_slope = select(uphill, other, next_slope);
    }
    // Rejected lanes shorten their step by quadratic interpolation.
    const V drop = slope * fraction, rise = value - f;
    const V shorter = fraction * minimum(maximum(V(-0.5) * drop / maximum(rise - drop, V(1e-300)), V(0.1)), V(0.5));
    for (int i = 0; i < L; ++i) {
      base[i] = select(accepted, u[i], base[i]);
      direction[i] = select(accepted, step[i], direction[i]);
    }
    best.phi = select(accepted, safe, best.phi);
    f = select(accepted, value, f);
    slope = select(accepted, next_slope, slope);
    predicted = select(accepted, V(-0.5) * next_slope, predicted);
    fraction = select(accepted, V(1.0), shorter);
    certified = (accepted && definite && inside) || (!accepted && certified);

    const auto small_step = certified && (predicted < V(finish));
    const auto finished = running && small_step && accepted, stopped = running && small_step && !accepted;
    const auto failed = running && (broken || (!accepted && (fraction < V(1e-9))));
    fraction = select(stopped, V(0.0), fraction);
    MaskOf<V> interior = finished || stopped;
    for (int i = 0; i < L; ++i) {
      u[i] = minimum(maximum(fma(fraction, direction[i], base[i]), V(0.0)), V(4.0));
      interior = interior && (u[i] < V(4.0 - 1e-9));
    }
    const auto done = finished || stopped || failed;
    if (any(done)) {
      for (int i = 0; i < L; ++i) best.u[i] = select(done, u[i], best.u[i]);
      best.value = select(done, select(finished, f - predicted, f), best.value);
      best.reached = (done && interior) || (!done && best.reached);
      running = running && !done;
    }
  }
  best.reached = best.reached && !running;
}

/// Puts node `place` of the grid into lane l of u.
template <int L, class V>
BATCHLMM_INLINE void start_at_node(const Interpolant& t, int place, int l, V* u) {
  const InterpolantGrid grid(t);
  set_lane(u[L - 1], l, t.level[L - 1].node[place % grid.stride]);
  int row = place / grid.stride;
  for (int i = L - 2; i >= 0; --i) {
    set_lane(u[i], l, t.level[i].node[row % t.level[i].nodes]);
    row /= t.level[i].nodes;
  }
}

/// Variance ratio of a level by its coordinate.
template <class V>
BATCHLMM_INLINE V variance_ratio(const InterpolantLevel& level, const V& u) {
  const V x = u * V(0.25 * level.upper), inverse = V(1.0 / level.scale);
  const V ratio = level.logarithmic ? exponential(x) - V(1.0) : x / (V(1.0) - x);
  return maximum(ratio * inverse, V(0.0));
}

/// Fits a tile on one model's phi: from the grid's minimum, or from `start` where it is the better one, and from every
/// other minimum of the grid where there are several.
/// @param start  L coordinates: an optimum of a model inside this one, with the same terms; null: none
/// @return optima; `reached` is false where the interpolant does not serve
template <int L, class V, class A>
BATCHLMM_FUNCTION inline InterpolantOptimum<V> fit_interpolant(const Interpolant& t, const A& phi, double finish,
                                                               const InterpolantScratch<A>& w, const V* start) {
  constexpr int width = Lanes<V>::width;
  constexpr int most_minima = 8;
  const InterpolantGrid grid(t);
  const V error = held_out_error<L, V>(t, phi);
  const GridMinima<V> minima = grid_minima<L, V>(t, phi, w.filtered[0], w.filtered[1], w.filtered[2]);
  const V lowest = V(t.degrees) * logarithm(select(minima.lowest > V(0.0), minima.lowest, V(1.0)));
  const auto all = V(0.0) <= V(0.0);
  InterpolantOptimum<V> best, run;
  run.evaluations = V(0.0);
  run.value = V(0.0);
  run.phi = V(0.0);
  for (int i = 0; i < max_interpolated; ++i) run.u[i] = V(0.0);
  if (start != nullptr) {
    for (int i = 0; i < L; ++i) run.u[i] = start[i];
  } else {
    for (int l = 0; l < width; ++l) start_at_node<L, V>(t, static_cast<int>(lane(minima.place, l)), l, run.u);
  }
  // Rare: a second and further runs, lane by lane from all minima of the grid.
  int place[width][most_minima] = {}, found[width] = {}, runs = 0;
  auto active = all;
  for (int r = 0;; ++r) {
    run.reached = !all;
    minimize<L, V>(t, phi, active, finish, w, run);
    if (r == 0) {
      best = run;
      auto again = minima.count > V(1.0);
      if (start != nullptr) again = again || !(best.value <= lowest + V(1e-9));
      if (!any(again)) break;
      for (int l = 0; l < width; ++l) {
        if (!lane(again, l)) continue;
        for (int g = 0; g < grid.node_rows; ++g)
          for (int a = 0; a < grid.nodes; ++a) {
            const int at = g * grid.stride + a;
            if (!(lane(V(w.filtered[0][at]), l) <= lane(V(w.filtered[2][at]), l))) continue;
            if (found[l] < most_minima) place[l][found[l]] = at;
            ++found[l];
          }
        if (found[l] > runs) runs = found[l];
      }
      if (runs > most_minima) runs = most_minima;
    } else {
      // The lower optimum stays, and a run that ended without one voids the lane.
      const auto lower = active && (run.value < best.value);
      for (int i = 0; i < L; ++i) best.u[i] = select(lower, run.u[i], best.u[i]);
      best.value = select(lower, run.value, best.value);
      best.phi = select(lower, run.phi, best.phi);
      best.evaluations = select(active, run.evaluations, best.evaluations);
      best.reached = best.reached && (!active || run.reached);
    }
    if (r == runs) break;
    run = best;
    active = !all;
    for (int l = 0; l < width; ++l) {
      if (r >= found[l]) continue;
      set_lane(active, l, true);
      start_at_node<L, V>(t, place[l][r], l, run.u);
    }
  }
  for (int l = 0; l < width; ++l)
    if (found[l] > most_minima) set_lane(best.reached, l, false);
  best.reached =
      best.reached && (best.value <= lowest + V(1e-9)) && (error * V(t.degrees) <= V(t.tolerance) * best.phi);
  for (int i = 0; i < L; ++i) best.ratio[i] = variance_ratio(t.level[i], best.u[i]);
  return best;
}

/// Writes lane l's optimum as item i's result.
/// @return false where it does not serve
template <class V>
BATCHLMM_INLINE bool record_interpolant(const Shape& s, const Interpolant& t, const InterpolantOptimum<V>& optimum,
                                        int l, std::uint64_t i, const FitResults& r) {
  std::uint32_t boundary = 0;
  for (int level = 0; level < max_interpolated; ++level) {
    if (level >= t.levels) break;
    const int b = t.level[level].term;
    const double lambda = square_root(lane(optimum.ratio[level], l));
    r.lambda[i * s.lambdas + s.term[b].lambda] = lambda;
    if (lambda < singular_tolerance) boundary |= 1u << b;
  }
  const double deviance = lane(optimum.value, l) + t.constant;
  r.status[i] = boundary != 0 ? fit_boundary : fit_converged;
  r.deviance[i] = deviance;
  if (r.boundary != nullptr) r.boundary[i] = boundary;
  if (r.evaluations != nullptr) r.evaluations[i] = static_cast<std::uint16_t>(lane(optimum.evaluations, l));
  return lane(optimum.reached, l) && absolute(deviance) <= std::numeric_limits<double>::max();
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
