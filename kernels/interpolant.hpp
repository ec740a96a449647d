/// @file
/// Shared factorization: at equal variance ratios everything but the quadratic form r^2 = y'P(rho) y is common to all
/// replicates, so that it is tabulated once, and a replicate is fitted on an interpolant of its own criterion.
///
/// Terms are eliminated one after the other: given the ratios of the terms before (a parent), P_parent gives
/// Z'P_parent Z = U diag(l) U', and
///     y'P y = y'P_parent y - sum_i rho l_i / (1 + rho l_i) v_i^2,   v = diag(l)^{-1/2} U'Z'P_parent y
/// exactly, at every node rho of the term; v is one shared rotation of the response vector. Interpolated is
///     phi = r^2 (|V| / V_0)^{1/N},   V_0 = prod_b (1 + c_b rho_b)^{own_b} (1 + sum_b a_b rho_b)^common
/// (REML: |V| |X'V^{-1}X| for |V|; a_2 may depend on rho_1), so that the deviance is N log phi + log V_0. V_0 is |V|
/// itself in balanced crossed and nested designs, and holds what of |V| is singular as rho grows in the others.
///
/// A variance ratio's coordinate is x = c rho / (1 + c rho) or x = log1p(c rho), on [0, upper]. The singularities of
/// r^2 in rho are at -1 / l: the first coordinate takes them far away where all l are like c (designs near to balanced
/// ones), the second with c = max l to the lines Im x = +-pi whatever they are. Polynomials on Chebyshev points
/// converge geometrically (Trefethen 2013, Approximation Theory and Approximation Practice, chapter 8); the host takes
/// the coordinate with the shorter series.
///
/// Each term has one abscissa more than nodes, held out of the interpolation: there the interpolant is compared with
/// the exact value, for every replicate.
#pragma once

#include <limits>

#include "kernels/elementary.hpp"
#include "kernels/interpolant_job.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// out = matrix * in. @param out  padded(rows) entries
template <class V>
BATCHLMM_INLINE void multiply(const double* matrix, int rows, int columns, const V* in, V* out) {
  // As many accumulators as the registers hold.
  constexpr int at_once = Lanes<V>::width >= 16 ? packed_rows : packed_rows / 2;
  for (int block = 0; block < rows; block += packed_rows) {
    for (int part = 0; part < packed_rows; part += at_once) {
      const double* m = matrix + part;
      V sum[at_once];
      for (int r = 0; r < at_once; ++r) sum[r] = V(0.0);
      for (int e = 0; e < columns; ++e, m += packed_rows) {
        const V x = in[e];
        for (int r = 0; r < at_once; ++r) sum[r] = fma(V(m[r]), x, sum[r]);
      }
      for (int r = 0; r < at_once; ++r) out[block + part + r] = sum[r];
    }
    matrix += static_cast<std::size_t>(columns) * packed_rows;
  }
}
inline std::size_t packed_size(int rows, int columns) { return static_cast<std::size_t>(padded(rows)) * columns; }

/// Grid of the last level's values: `rows` x (K + 1), of which rows but the last (where there are several) and columns
/// but the last are nodes.
struct InterpolantGrid {
  int rows, node_rows, nodes, stride;
  explicit InterpolantGrid(const Interpolant& t)
      : rows(t.level[t.levels - 1].parents),
        node_rows(t.levels > 1 ? rows - 1 : 1),
        nodes(t.level[t.levels - 1].nodes),
        stride(nodes + 1) {}
};

/// Scratch memory of one tile.
template <class V>
struct InterpolantMemory {
  V* vector = nullptr;                   ///< rotated response
  V* square = nullptr;                   ///< its squares
  V* product = nullptr;                  ///< padded (K + 1)
  V* value[max_interpolated] = {};       ///< r^2 of the smaller model: parents x (K + 1)
  V* projection[max_interpolated] = {};  ///< X_t'P y: parents x (K + 1) x tested
  V* phi[2] = {};                        ///< smaller, larger model
  V* filtered[3] = {};                   ///< as phi
  V* basis[max_interpolated] = {};       ///< 3 x nodes: Lagrange's basis and its derivatives
  V* partial[2] = {};                    ///< contractions over the last levels
};

/// Hands out the arrays of `memory`; with a null base it only counts.
template <class V>
std::size_t lay_out(const Interpolant& t, V* base, InterpolantMemory<V>& memory) {
  std::size_t used = 0;
  const auto take = [&](std::size_t n) {
    V* at = base == nullptr ? nullptr : base + used;
    used += n;
    return at;
  };
  int rows = t.x_rows + t.tested, abscissae = 0;
  std::size_t combinations = 1, outer = 1;  // of the nodes of the levels before the last, and of the first
  for (int l = 0; l < t.levels; ++l) {
    const InterpolantLevel& level = t.level[l];
    if (level.columns > rows) rows = level.columns;
    if (level.nodes + 1 > abscissae) abscissae = level.nodes + 1;
    memory.basis[l] = take(3 * static_cast<std::size_t>(level.nodes));
    if (l + 1 < t.levels) combinations *= level.nodes;
    if (l == 0) outer = level.nodes;
    const std::size_t values = static_cast<std::size_t>(level.parents) * (level.nodes + 1);
    memory.value[l] = take(values);
    memory.projection[l] = take(values * t.tested);
  }
  memory.vector = take(padded(rows));
  memory.square = take(padded(rows));
  memory.product = take(padded(abscissae));
  const InterpolantGrid grid(t);
  const std::size_t values = static_cast<std::size_t>(grid.rows) * grid.stride;
  memory.phi[0] = take(values);
  memory.phi[1] = take(t.tested > 0 ? values : 0);
  for (V*& filtered : memory.filtered) filtered = take(values);
  memory.partial[0] = take(3 * combinations);
  memory.partial[1] = take(t.levels > 2 ? 6 * outer : 0);
  return used;
}

/// Tabulates phi of a response vector on the grid, the points held out included.
template <class V>
inline void tabulate(const Interpolant& t, const V* response, const InterpolantMemory<V>& w) {
  const int entries = t.response - 1;
  multiply<V>(t.root, t.x_rows + t.tested, entries, response, w.vector);
  V root = response[entries];
  for (int i = 0; i < t.streamed; ++i) root = fma(response[i], response[i], root);
  for (int i = 0; i < t.x_rows; ++i) root = fnma(w.vector[i], w.vector[i], root);
  V root_projection[32];
  const V* above = root_projection;
  for (int c = 0; c < t.tested; ++c) root_projection[c] = w.vector[t.x_rows + c];

  for (int l = 0; l < t.levels; ++l) {
    const InterpolantLevel& level = t.level[l];
    const int abscissae = level.nodes + 1, columns = level.columns;
    const std::size_t rotation = packed_size(columns, entries), shrink = packed_size(abscissae, columns);
    for (int g = 0; g < level.parents; ++g) {
      multiply<V>(level.rotation + g * rotation, columns, entries, response, w.vector);
      for (int i = 0; i < columns; ++i) w.square[i] = w.vector[i] * w.vector[i];
      multiply<V>(level.shrink + g * shrink, abscissae, columns, w.square, w.product);
      const V parent = l == 0 ? root : w.value[l - 1][level.parent[g]];
      V* value = w.value[l] + static_cast<std::size_t>(g) * abscissae;
      for (int a = 0; a < abscissae; ++a) value[a] = parent - w.product[a];
      if (t.tested == 0) continue;
      if (l > 0) above = w.projection[l - 1] + static_cast<std::size_t>(level.parent[g]) * t.tested;
      V* projection = w.projection[l] + static_cast<std::size_t>(g) * abscissae * t.tested;
      for (int c = 0; c < t.tested; ++c) {
        multiply<V>(level.tested + (static_cast<std::size_t>(g) * t.tested + c) * shrink, abscissae, columns, w.vector,
                    w.product);
        for (int a = 0; a < abscissae; ++a) projection[a * t.tested + c] = above[c] - w.product[a];
      }
    }
  }

  const InterpolantGrid grid(t);
  const int points = grid.rows * grid.stride;
  const V *value = w.value[t.levels - 1], *projection = w.projection[t.levels - 1];
  const double* factor = t.tested_root;
  for (int i = 0; i < points; ++i) {
    const V determinant = V(t.determinant[i]);
    w.phi[0][i] = value[i] * determinant;
    if (t.tested == 0) continue;
    V explained = V(0.0);
    for (int c = 0; c < t.tested; ++c) {
      V b = V(0.0);
      for (int e = 0; e <= c; ++e) b = fma(V(*factor++), projection[i * t.tested + e], b);
      explained = fma(b, b, explained);
    }
    w.phi[1][i] = (value[i] - explained) * determinant;
  }
}

/// Largest difference, anywhere on the grid, between phi at what is held out and the interpolant there.
template <class V>
inline V held_out_error(const Interpolant& t, const V* phi) {
  const InterpolantGrid grid(t);
  const InterpolantLevel& last = t.level[t.levels - 1];
  V worst = V(0.0);
  // Not maximum(): a NaN must stay.
  const auto count = [&](const V& difference) {
    worst = select(absolute(difference) <= worst, worst, absolute(difference));
  };
  for (int g = 0; g < grid.rows; ++g) {
    const V* row = phi + static_cast<std::size_t>(g) * grid.stride;
    V sum = V(0.0);
    for (int a = 0; a < grid.nodes; ++a) sum = fma(V(last.held_out[a]), row[a], sum);
    count(sum - row[grid.nodes]);
  }
  if (t.levels == 1) return worst;
  const V* exact = phi + static_cast<std::size_t>(grid.node_rows) * grid.stride;
  for (int a = 0; a < grid.nodes; ++a) {
    V sum = V(0.0);
    for (int g = 0; g < grid.node_rows; ++g)
      sum = fma(V(t.held_out_row[g]), phi[static_cast<std::size_t>(g) * grid.stride + a], sum);
    count(sum - exact[a]);
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
template <class V>
inline GridMinima<V> grid_minima(const Interpolant& t, const V* phi, V* value, V* scratch, V* filtered) {
  const InterpolantGrid grid(t);
  const auto at = [&](int g, int a) { return static_cast<std::size_t>(g) * grid.stride + a; };
  V *from = scratch, *to = filtered;
  // One pass a level, the last level first; the last pass is to write to `filtered`.
  if (t.levels % 2 == 1) {
    from = filtered;
    to = scratch;
  }
  for (int g = 0; g < grid.node_rows; ++g) {
    for (int a = 0; a < grid.nodes; ++a) value[at(g, a)] = phi[at(g, a)] * V(t.leading[g * grid.nodes + a]);
    for (int a = 0; a < grid.nodes; ++a) {
      V low = value[at(g, a)];
      if (a > 0) low = minimum(low, value[at(g, a - 1)]);
      if (a + 1 < grid.nodes) low = minimum(low, value[at(g, a + 1)]);
      from[at(g, a)] = low;
    }
  }
  int step = 1;
  for (int l = t.levels - 2; l >= 0; --l) {
    const int n = t.level[l].nodes;
    for (int g = 0; g < grid.node_rows; ++g) {
      const int place = g / step % n;
      for (int a = 0; a < grid.nodes; ++a) {
        V low = from[at(g, a)];
        if (place > 0) low = minimum(low, from[at(g - step, a)]);
        if (place + 1 < n) low = minimum(low, from[at(g + step, a)]);
        to[at(g, a)] = low;
      }
    }
    V* const other = from;
    from = to;
    to = other;
    step *= n;
  }
  GridMinima<V> m{V(0.0), V(std::numeric_limits<double>::infinity()), V(0.0)};
  for (int g = 0; g < grid.node_rows; ++g)
    for (int a = 0; a < grid.nodes; ++a) {
      const V here = value[at(g, a)];
      m.count = m.count + select(here <= from[at(g, a)], V(1.0), V(0.0));
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
template <class V>
BATCHLMM_INLINE void lagrange_basis(const InterpolantLevel& level, const V& u, V* basis) {
  const int n = level.nodes;
  V *zeroth = basis, *first = basis + n, *second = basis + 2 * n;
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

template <int Rows, class V>
BATCHLMM_INLINE void contract_rows(const V* values, int stride, int n, const V* basis, V* out) {
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
template <class V>
BATCHLMM_INLINE void contract_outer(const V* from, int n, const V* basis, V* sum) {
  for (int k = 0; k < 6; ++k) sum[k] = V(0.0);
  for (int a = 0; a < n; ++a, from += 3) {
    const V b0 = basis[a], b1 = basis[n + a], b2 = basis[2 * n + a];
    for (int k = 0; k < 3; ++k) sum[k] = fma(from[k], b0, sum[k]);
    for (int k = 0; k < 2; ++k) sum[3 + k] = fma(from[k], b1, sum[3 + k]);
    sum[5] = fma(from[0], b2, sum[5]);
  }
}

/// phi by u.
template <class V>
inline InterpolantValue<V> interpolate_phi(const Interpolant& t, const V* phi, const V* u,
                                           const InterpolantMemory<V>& w) {
  constexpr int block = Lanes<V>::width >= 16 ? 4 : 2;
  const InterpolantGrid grid(t);
  for (int l = 0; l < t.levels; ++l) lagrange_basis<V>(t.level[l], u[l], w.basis[l]);
  const V* basis = w.basis[t.levels - 1];
  V* rows = w.partial[0];
  int g = 0;
  for (; g + block <= grid.node_rows; g += block)
    contract_rows<block>(phi + static_cast<std::size_t>(g) * grid.stride, grid.stride, grid.nodes, basis, rows + 3 * g);
  for (; g < grid.node_rows; ++g)
    contract_rows<1>(phi + static_cast<std::size_t>(g) * grid.stride, grid.stride, grid.nodes, basis, rows + 3 * g);
  InterpolantValue<V> v;
  if (t.levels == 1) {
    v.value = rows[0];
    v.gradient[0] = rows[1];
    v.hessian[0] = rows[2];
    return v;
  }
  if (t.levels == 2) {
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
    V* m = w.partial[1] + static_cast<std::size_t>(6) * a;
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
template <class V>
inline InterpolantValue<V> leading_part(const Interpolant& t, const V* u, const V* first_basis) {
  InterpolantValue<V> v;
  v.value = V(0.0);
  // c rho and its derivatives by u.
  V product[max_interpolated], rate[max_interpolated], curvature[max_interpolated];
  for (int l = 0; l < t.levels; ++l) {
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
  const int constant = t.common_rate == nullptr ? t.levels : 1;
  for (int l = 0; l < constant; ++l) {
    const V a = V(t.level[l].common_rate / t.level[l].scale);
    sum = fma(a, product[l], sum);  // NOLINT(clang-analyzer-core.CallAndMessage): every level was written above
    by[l] = a * rate[l];
    by_twice[l] = a * curvature[l];
  }
  if (t.common_rate != nullptr) {
    const int n = t.level[0].nodes;
    V a = V(0.0), a1 = V(0.0), a2 = V(0.0);
    for (int e = 0; e < n; ++e) {
      const V value = V(t.common_rate[e]);
      a = fma(value, first_basis[e], a);
      a1 = fma(value, first_basis[n + e], a1);
      a2 = fma(value, first_basis[2 * n + e], a2);
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
  for (int l = 0; l < t.levels; ++l) {
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
  V value;            ///< N log phi + log V_0
  V phi;              ///< at the last evaluation
  V evaluations;      ///< added to
  MaskOf<V> reached;  ///< a certified minimum inside the box or at u = 0
};

/// The Newton step within [0, 4]^levels by an active set; pivots that are not positive are replaced.
/// @param[out] inside  lanes where no bound was newly hit
/// @return lanes where the Hessian was positive definite on the free coordinates
template <class V>
BATCHLMM_INLINE MaskOf<V> interpolant_step(int levels, const V* u, const V* gradient, const V* hessian, V* step,
                                           MaskOf<V>& inside) {
  const auto all = V(0.0) <= V(0.0);
  MaskOf<V> fixed[max_interpolated], definite = all;
  V fixed_step[max_interpolated];
  for (int i = 0; i < levels; ++i) {
    fixed[i] = ((u[i] <= V(0.0)) && (gradient[i] >= V(0.0))) || ((u[i] >= V(4.0)) && (gradient[i] <= V(0.0)));
    fixed_step[i] = V(0.0);
  }
  inside = all;
  for (int pass = 0; pass <= levels; ++pass) {
    V l[max_interpolated * (max_interpolated + 1) / 2], d[max_interpolated], rhs[max_interpolated];
    for (int i = 0; i < levels; ++i) {
      V r = -gradient[i];
      for (int j = 0; j < levels; ++j)
        if (j != i) r = fnma(select(fixed[j], hessian[packed(i, j)], V(0.0)), fixed_step[j], r);
      rhs[i] = select(fixed[i], fixed_step[i], r);
      for (int j = 0; j <= i; ++j)
        l[triangle(i, j)] = select(fixed[i] || fixed[j], V(i == j ? 1.0 : 0.0), hessian[triangle(i, j)]);
    }
    definite = all;
    for (int j = 0; j < levels; ++j) {
      const V scale = absolute(l[triangle(j, j)]) + V(1e-300);
      V pivot = l[triangle(j, j)];
      for (int e = 0; e < j; ++e) pivot = fnma(l[triangle(j, e)] * l[triangle(j, e)], d[e], pivot);
      definite = definite && (pivot > V(0.0));
      d[j] = maximum(absolute(pivot), V(1e-8) * scale);
      for (int i = j + 1; i < levels; ++i) {
        V x = l[triangle(i, j)];
        for (int e = 0; e < j; ++e) x = fnma(l[triangle(i, e)] * l[triangle(j, e)], d[e], x);
        l[triangle(i, j)] = x / d[j];
      }
    }
    for (int i = 0; i < levels; ++i) {
      V x = rhs[i];
      for (int e = 0; e < i; ++e) x = fnma(l[triangle(i, e)], step[e], x);
      step[i] = x;
    }
    for (int i = 0; i < levels; ++i) step[i] = step[i] / d[i];
    for (int i = levels - 1; i >= 0; --i)
      for (int e = i + 1; e < levels; ++e) step[i] = fnma(l[triangle(e, i)], step[e], step[i]);
    MaskOf<V> hit = !all;
    for (int i = 0; i < levels; ++i) {
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
template <class V>
inline void minimize(const Interpolant& t, const V* phi, const MaskOf<V>& active, double finish,
                     const InterpolantMemory<V>& w, InterpolantOptimum<V>& best) {
  constexpr int most_evaluations = 30;
  const int levels = t.levels;
  const auto none = V(1.0) <= V(0.0);
  V base[max_interpolated], direction[max_interpolated], u[max_interpolated];
  for (int i = 0; i < levels; ++i) {
    u[i] = best.u[i];
    base[i] = u[i];
    direction[i] = V(0.0);
  }
  V f = V(0.0), slope = V(0.0), predicted = V(0.0), fraction = V(1.0);
  MaskOf<V> running = active, fresh = active, certified = none;
  for (int trip = 0; trip < most_evaluations && any(running); ++trip) {
    const InterpolantValue<V> e = interpolate_phi<V>(t, phi, u, w), leading = leading_part<V>(t, u, w.basis[0]);
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
    for (int i = 0; i < levels; ++i) gradient[i] = fma(scaled, e.gradient[i], leading.gradient[i]);
    for (int i = 0; i < levels; ++i)
      for (int j = 0; j <= i; ++j)
        hessian[triangle(i, j)] = fma(scaled, fnma(e.gradient[i] * rate, e.gradient[j], e.hessian[triangle(i, j)]),
                                      leading.hessian[triangle(i, j)]);
    MaskOf<V> inside;
    const auto definite = interpolant_step<V>(levels, u, gradient, hessian, step, inside);
    V next_slope = V(0.0);
    for (int i = 0; i < levels; ++i) next_slope = fma(gradient[i], step[i], next_slope);
    const auto uphill = !(next_slope < V(0.0));
    if (any(running && uphill)) {
      V other = V(0.0);
      for (int i = 0; i < levels; ++i) {
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
    for (int i = 0; i < levels; ++i) {
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
    for (int i = 0; i < levels; ++i) {
      u[i] = minimum(maximum(fma(fraction, direction[i], base[i]), V(0.0)), V(4.0));
      interior = interior && (u[i] < V(4.0 - 1e-9));
    }
    const auto done = finished || stopped || failed;
    if (any(done)) {
      for (int i = 0; i < levels; ++i) best.u[i] = select(done, u[i], best.u[i]);
      best.value = select(done, select(finished, f - predicted, f), best.value);
      best.reached = (done && interior) || (!done && best.reached);
      running = running && !done;
    }
  }
  best.reached = best.reached && !running;
}

/// A second optimum of the same lane: the lower one stays, and a run that ended without one voids the lane.
template <class V>
BATCHLMM_INLINE void keep_lower(int levels, const MaskOf<V>& active, const InterpolantOptimum<V>& other,
                                InterpolantOptimum<V>& best) {
  const auto lower = active && (other.value < best.value);
  for (int i = 0; i < levels; ++i) best.u[i] = select(lower, other.u[i], best.u[i]);
  best.value = select(lower, other.value, best.value);
  best.phi = select(lower, other.phi, best.phi);
  best.evaluations = select(active, other.evaluations, best.evaluations);
  best.reached = best.reached && (!active || other.reached);
}

/// Puts node `place` of the grid into lane l of u.
template <class V>
BATCHLMM_INLINE void start_at_node(const Interpolant& t, int place, int l, V* u) {
  const InterpolantGrid grid(t);
  set_lane(u[t.levels - 1], l, t.level[t.levels - 1].node[place % grid.stride]);
  int row = place / grid.stride;
  for (int i = t.levels - 2; i >= 0; --i) {
    set_lane(u[i], l, t.level[i].node[row % t.level[i].nodes]);
    row /= t.level[i].nodes;
  }
}

/// Fits a tile on one model's phi: from the grid's minimum, or from `start` where it is the better one, and from every
/// other minimum of the grid where there are several.
/// @param start  an optimum of a model inside this one, with the same terms; null: none
/// @return optima; `reached` is false where the interpolant does not serve
template <class V>
inline InterpolantOptimum<V> fit_interpolant(const Interpolant& t, int model, double finish,
                                             const InterpolantMemory<V>& w, const InterpolantOptimum<V>* start) {
  constexpr int width = Lanes<V>::width;
  constexpr int most_minima = 8;
  const V* phi = w.phi[model];
  const InterpolantGrid grid(t);
  const V error = held_out_error<V>(t, phi);
  const GridMinima<V> minima = grid_minima<V>(t, phi, w.filtered[0], w.filtered[1], w.filtered[2]);
  InterpolantOptimum<V> best;
  best.evaluations = V(0.0);
  best.value = V(0.0);
  best.phi = V(0.0);
  const auto all = V(0.0) <= V(0.0);
  best.reached = !all;
  for (int i = 0; i < max_interpolated; ++i) best.u[i] = V(0.0);
  if (start != nullptr) {
    for (int i = 0; i < t.levels; ++i) best.u[i] = start->u[i];
  } else {
    for (int l = 0; l < width; ++l) start_at_node<V>(t, static_cast<int>(lane(minima.place, l)), l, best.u);
  }
  minimize<V>(t, phi, all, finish, w, best);
  const V lowest = V(t.degrees) * logarithm(select(minima.lowest > V(0.0), minima.lowest, V(1.0)));
  auto again = minima.count > V(1.0);
  if (start != nullptr) again = again || !(best.value <= lowest + V(1e-9));
  if (any(again)) {
    // Rare: lane by lane, all minima of the grid.
    int place[width][most_minima] = {}, found[width] = {}, most = 0;
    for (int l = 0; l < width; ++l) {
      if (!lane(again, l)) continue;
      for (int g = 0; g < grid.node_rows; ++g)
        for (int a = 0; a < grid.nodes; ++a) {
          const int at = g * grid.stride + a;
          if (!(lane(w.filtered[0][at], l) <= lane(w.filtered[2][at], l))) continue;
          if (found[l] < most_minima) place[l][found[l]] = at;
          ++found[l];
        }
      if (found[l] > most) most = found[l];
    }
    if (most > most_minima) most = most_minima;
    for (int run = 0; run < most; ++run) {
      InterpolantOptimum<V> other = best;
      auto active = !all;
      for (int l = 0; l < width; ++l) {
        if (run >= found[l]) continue;
        set_lane(active, l, true);
        start_at_node<V>(t, place[l][run], l, other.u);
      }
      other.reached = !all;
      minimize<V>(t, phi, active, finish, w, other);
      keep_lower<V>(t.levels, active, other, best);
    }
    for (int l = 0; l < width; ++l)
      if (found[l] > most_minima) set_lane(best.reached, l, false);
  }
  best.reached =
      best.reached && (best.value <= lowest + V(1e-9)) && (error * V(t.degrees) <= V(t.tolerance) * best.phi);
  return best;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
