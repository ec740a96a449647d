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

#include "kernels/interpolant_job.hpp"
#include "kernels/lanes.hpp"
#include "kernels/workspace.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Rows of a packed matrix that are multiplied at a time: as many accumulators as the registers hold.
template <class V>
inline constexpr int rows_at_once = Lanes<V>::width >= 16 ? packed_rows : packed_rows / 2;

/// Where a packed matrix stands, with what V's loads want to know of its alignment.
template <class V>
struct TableEntries {
  static BATCHLMM_INLINE const double* aligned(const double* entries) { return entries; }
};

/// out = matrix * in. Each row is summed from its first column on, however many rows are taken together.
/// @param out  padded(rows) entries
template <class V, class In, class Out>
BATCHLMM_INLINE void multiply(const double* matrix, int rows, int columns, const In& in, const Out& out) {
  constexpr int at_once = rows_at_once<V>;
  for (int block = 0; block < rows; block += packed_rows) {
    for (int part = 0; part < packed_rows; part += at_once) {
      const double* m = matrix + part;
      V sum[at_once];
      for (int r = 0; r < at_once; ++r) sum[r] = V(0.0);
      for (int e = 0; e < columns; ++e, m += packed_rows) {
        const double* const entry = TableEntries<V>::aligned(m);
        const V x = in[e];
        for (int r = 0; r < at_once; ++r) sum[r] = fma(V(entry[r]), x, sum[r]);
      }
      for (int r = 0; r < at_once; ++r) out[block + part + r] = sum[r];
    }
    matrix += static_cast<std::size_t>(columns) * packed_rows;
  }
}
BATCHLMM_INLINE constexpr std::size_t packed_size(int rows, int columns) {
  return static_cast<std::size_t>(padded(rows)) * columns;
}

/// Grid of the last level's values: `rows` x (K + 1), of which rows but the last (where there are several) and columns
/// but the last are nodes.
struct InterpolantGrid {
  int rows, node_rows, nodes, stride;
  BATCHLMM_INLINE explicit InterpolantGrid(const Interpolant& t)
      : rows(t.level[t.levels - 1].parents),
        node_rows(t.levels > 1 ? rows - 1 : 1),
        nodes(t.level[t.levels - 1].nodes),
        stride(nodes + 1) {}
  [[nodiscard]] BATCHLMM_INLINE std::size_t size() const { return static_cast<std::size_t>(rows) * stride; }
};

/// What of a response vector a fit needs, tabulated.
template <class A>
struct InterpolantTable {
  A root;  ///< r^2 with no random effects, then X_t'P y: 1 + tested
  // Of the levels before the last:
  A value[max_interpolated];       ///< r^2 of the smaller model: parents x (K + 1)
  A projection[max_interpolated];  ///< X_t'P y: parents x (K + 1) x tested
  A phi[2];                        ///< smaller, larger model, on the last level's grid
};
template <class A>
BATCHLMM_FUNCTION inline InterpolantTable<A> make_interpolant_table(const Interpolant& t, Arena<A>& arena) {
  InterpolantTable<A> table;
  table.root = arena.take(1 + t.tested);
  for (int l = 0; l < max_interpolated; ++l) {
    const std::size_t values =
        l + 1 < t.levels ? static_cast<std::size_t>(t.level[l].parents) * (t.level[l].nodes + 1) : 0;
    table.value[l] = arena.take(values);
    table.projection[l] = arena.take(values * t.tested);
  }
  const std::size_t points = InterpolantGrid(t).size();
  table.phi[0] = arena.take(points);
  table.phi[1] = arena.take(t.tested > 0 ? points : 0);
  return table;
}

/// Scratch memory of a tabulation.
template <class A>
struct TabulateScratch {
  A vector;             ///< rotated response
  A square;             ///< its squares
  A product;            ///< padded (K + 1)
  A value, projection;  ///< as the table's: the last level's at one of its parents
};
template <class A>
BATCHLMM_FUNCTION inline TabulateScratch<A> make_tabulate_scratch(const Interpolant& t, Arena<A>& arena) {
  int rows = t.x_rows + t.tested, abscissae = 0;
  for (int l = 0; l < t.levels; ++l) {
    if (t.level[l].columns > rows) rows = t.level[l].columns;
    if (t.level[l].nodes + 1 > abscissae) abscissae = t.level[l].nodes + 1;
  }
  TabulateScratch<A> scratch;
  scratch.vector = arena.take(padded(rows));
  scratch.square = arena.take(padded(rows));
  scratch.product = arena.take(padded(abscissae));
  const std::size_t last = t.level[t.levels - 1].nodes + 1;
  scratch.value = arena.take(last);
  scratch.projection = arena.take(last * t.tested);
  return scratch;
}

/// Tabulates what there is without random effects.
template <class V, class R, class A>
BATCHLMM_INLINE void tabulate_root(const Interpolant& t, const R& response, const TabulateScratch<A>& s,
                                   const InterpolantTable<A>& table) {
  const int entries = t.response - 1;
  multiply<V>(t.root, t.x_rows + t.tested, entries, response, s.vector);
  V root = response[entries];
  for (int i = 0; i < t.streamed; ++i) {
    const V y = response[i];
    root = fma(y, y, root);
  }
  for (int i = 0; i < t.x_rows; ++i) {
    const V x = s.vector[i];
    root = fnma(x, x, root);
  }
  table.root[0] = root;
  for (int c = 0; c < t.tested; ++c) table.root[1 + c] = s.vector[t.x_rows + c];
}

/// Tabulates level l at its abscissae where the levels before are at their grid point `parent`; needs what level l - 1
/// (level 0: tabulate_root) left in the table.
template <class V, class R, class A>
BATCHLMM_INLINE void tabulate_parent(const Interpolant& t, int l, int parent, const R& response,
                                     const TabulateScratch<A>& s, const InterpolantTable<A>& table) {
  const InterpolantLevel& level = t.level[l];
  const int entries = t.response - 1, abscissae = level.nodes + 1, columns = level.columns;
  const std::size_t shrink = packed_size(abscissae, columns), first = static_cast<std::size_t>(parent) * abscissae;
  const int above = l == 0 ? 0 : level.parent[parent];

  multiply<V>(level.rotation + parent * packed_size(columns, entries), columns, entries, response, s.vector);
  for (int i = 0; i < columns; ++i) {
    const V v = s.vector[i];
    s.square[i] = v * v;
  }
  multiply<V>(level.shrink + parent * shrink, abscissae, columns, s.square, s.product);
  const V start = l == 0 ? table.root[0] : table.value[l - 1][above];
  const bool last = l + 1 == t.levels;
  const A value = last ? s.value : table.value[l] + first;
  for (int a = 0; a < abscissae; ++a) value[a] = start - V(s.product[a]);
  const A projection = last ? s.projection : table.projection[l] + first * t.tested;
  for (int c = 0; c < t.tested; ++c) {
    multiply<V>(level.tested + (static_cast<std::size_t>(parent) * t.tested + c) * shrink, abscissae, columns, s.vector,
                s.product);
    const V from = l == 0 ? table.root[1 + c] : table.projection[l - 1][static_cast<std::size_t>(above) * t.tested + c];
    for (int a = 0; a < abscissae; ++a) projection[a * t.tested + c] = from - V(s.product[a]);
  }
  if (!last) return;

  const double* factor = t.tested_root + first * triangle_size(t.tested);
  for (int a = 0; a < abscissae; ++a) {
    const V determinant = V(t.determinant[first + a]), smaller = value[a];
    table.phi[0][first + a] = smaller * determinant;
    if (t.tested == 0) continue;
    V explained = V(0.0);
    for (int c = 0; c < t.tested; ++c) {
      V b = V(0.0);
      for (int e = 0; e <= c; ++e) b = fma(V(*factor++), V(projection[a * t.tested + e]), b);
      explained = fma(b, b, explained);
    }
    table.phi[1][first + a] = (smaller - explained) * determinant;
  }
}

/// Tabulates phi of a response vector on the grid, the points held out included.
template <class V, class R, class A>
BATCHLMM_FUNCTION inline void tabulate(const Interpolant& t, const R& response, const TabulateScratch<A>& s,
                                       const InterpolantTable<A>& table) {
  tabulate_root<V>(t, response, s, table);
  for (int l = 0; l < t.levels; ++l)
    for (int parent = 0; parent < t.level[l].parents; ++parent) tabulate_parent<V>(t, l, parent, response, s, table);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
