/// @file
/// The criterion of a balanced or pattern-repeated design from its strata (tier 1): cost does not depend on the number
/// of rows, subjects or items.
///
/// Every covariance V(T) of the model is block diagonal in one orthonormal basis of the rows' space: d_s x d_s blocks
/// V_s = I + sum over terms of C T C', each with m_s equal copies, and I on what is outside the range of Z. Fixed
/// effects that lie in single copies are projected off there, which leaves a smaller block for those copies. What
/// remains is, with S_b the cross-products of the response's coordinates in block b and N its degrees of freedom,
///     log|V| = sum_b mu_b log|V_b|,   r^2 = rss + sum_b tr(V_b^{-1} S_b)
/// Coupled columns (indicators of missing rows, and fixed effects that spread over several copies) keep a small
/// generalized least squares problem: with y_b their cross-products with the response and A_b among themselves
///     F = C + sum_b <V_b^{-1}, A_b>,   f = c + sum_b <V_b^{-1}, y_b>,   r^2 <- r^2 - f'F^{-1}f
/// and log|F| (over the indicators for ML, with the fixed effects taken off first for REML) joins the determinant: a
/// row that was not observed is a row with an effect of its own, log|V_observed| = log|V| + log|E'V^{-1}E|.
#pragma once

#include "kernels/eliminate.hpp"
#include "kernels/evaluation.hpp"
#include "kernels/product_tiles.hpp"

namespace batchlmm::kernels {

/// Equal copies of one block.
struct StrataBlock {
  int d = 1;
  double multiplicity = 0;            ///< mu: copies that count in log|V|
  int columns = 0;                    ///< K: columns of C, over all groups
  int groups = 0;                     ///< V_b = I + sum over groups g of C_g T_g C_g'
  const double* c = nullptr;          ///< d x K, row-major
  const int* group_term = nullptr;    ///< groups: the term whose T it is
  const int* group_column = nullptr;  ///< groups: first column in C
  int generators = 0;                 ///< d = 1: V_b = 1 + sum of generator[e] T_{parameter[e]}
  const int* parameter = nullptr;     ///< generators
  const double* generator = nullptr;  ///< generators; off-diagonal entries of T count both places
  int s = -1;                         ///< place of S_b in the record (packed d), or -1
  int y = -1;                  ///< place of y_b in the record (packed d x coupled), or -1 where nothing is coupled
  const double* a = nullptr;   ///< packed d x packed coupled: A_b
  const double* a1 = nullptr;  ///< packed d x packed indicators: the same without the fixed effects taken off (ML)
  int inverse = 0;             ///< place of V_b^{-1} (d x d) in the workspace
  // Where few copies are not drawn as one Wishart matrix and d is not small, they stay vectors: S_b is then the Wishart
  // matrix alone, and y_b, A_b are not made.
  int copies = 0;              ///< copies by themselves
  int z = -1;                  ///< place of their coordinates in the record (copies x d)
  const double* e = nullptr;   ///< copies x d x coupled: coordinates of the coupled columns; null: none
  int indicated = 0;           ///< ML: copies that the indicators reach
  const double* e1 = nullptr;  ///< indicated x d x indicators
};

/// One model on its strata. A replicate's record is [per block: S | y or the copies' coordinates | c (coupled) | rss].
struct StrataModel {
  int blocks = 0;
  const StrataBlock* block = nullptr;
  int coupled = 0;             ///< columns of F
  int indicators = 0;          ///< ML: columns of the determinant's F, without the fixed effects taken off
  const double* c2 = nullptr;  ///< packed coupled: C of F
  const double* c1 = nullptr;  ///< packed indicators: C of the determinant's F (ML)
  int c = 0;                   ///< place of c in the record
  int record = 0;              ///< length; rss is the last entry
  bool reml = false;
  double degrees = 0;   ///< N = n (ML) or n - p (REML), n the observed rows
  double constant = 0;  ///< added to the criterion
  // A starting point from the record's moments (moment_start); none where moments is 0.
  int moments = 0;                        ///< entries of the record that it takes
  const int* moment_entry = nullptr;      ///< moments: place of an entry of S, or -1
  const int* moment_copies = nullptr;     ///< moments: copies whose coordinates are to be added to S
  const int* moment_factors = nullptr;    ///< moments x 3: places of the first copy's two coordinates, and d
  const double* moment_map = nullptr;     ///< parameters x moments: T = moment_map S / s^2 + moment_offset
  const double* moment_offset = nullptr;  ///< parameters
  double moment_degrees = 0;              ///< s^2 = rss / moment_degrees
  int inverses = 0;                       ///< sum of d^2
  int largest_d = 1, largest_columns = 1;
};

inline namespace BATCHLMM_ISA {

template <class A>
struct StrataWorkspace {
  A t;                       ///< parameters
  A inverse;                 ///< V_b^{-1} of all blocks
  A f2, f1;                  ///< packed: Cholesky factors of F and of the determinant's F, and then
  A f2_inverse, f1_inverse;  ///< the reciprocals of their diagonals
  A f, beta;                 ///< coupled
  A small;                   ///< of one block
  // Of the derivatives (strata_derivatives.hpp).
  A u;          ///< lambdas: the directions
  A phi;        ///< packed: inverse of the determinant's F
  A w, ab;      ///< coupled columns of one block (packed d x coupled); one column
  A linear;     ///< strata_linear_forms() x parameters: symmetric matrices by the entries of T
  A by_linear;  ///< parameters x strata_linear_forms(): the same by the directions
  A solved;     ///< square of the determinant's F
  A one_entry;  ///< parameters: of a block with d = 1
  A scaled;     ///< strata_linear_forms()
};

/// Columns of the F whose determinant counts.
BATCHLMM_INLINE int determinant_columns(const StrataModel& m) { return m.reml ? m.coupled : m.indicators; }
/// Linear functions of dV: r^2's part, f - F beta (coupled), the determinant's F (packed), and the criterion itself.
BATCHLMM_INLINE int strata_linear_forms(const StrataModel& m) {
  return 1 + m.coupled + triangle_size(determinant_columns(m)) + 1;
}

template <class S, class A>
BATCHLMM_FUNCTION inline StrataWorkspace<A> make_strata_workspace(const S& s, const StrataModel& m, Arena<A>& arena) {
  StrataWorkspace<A> x;
  const int nc = m.coupled, nd = determinant_columns(m), d = m.largest_d, k = m.largest_columns;
  x.t = arena.take(s.parameters);
  x.inverse = arena.take(m.inverses);
  x.f2 = arena.take(triangle_size(nc));
  x.f1 = arena.take(triangle_size(nd));
  x.f2_inverse = arena.take(nc);
  x.f1_inverse = arena.take(nd);
  x.f = arena.take(nc);
  x.beta = arena.take(nc);
  x.u = arena.take(s.lambdas);
  x.phi = arena.take(triangle_size(nd));
  x.w = arena.take(static_cast<std::size_t>(triangle_size(d)) * nc);
  x.ab = arena.take(nc > nd ? nc : nd);
  x.linear = arena.take(static_cast<std::size_t>(s.parameters) * strata_linear_forms(m));
  x.by_linear = arena.take(static_cast<std::size_t>(s.parameters) * strata_linear_forms(m));
  x.solved = arena.take(static_cast<std::size_t>(nd) * nd);
  x.one_entry = arena.take(s.parameters);
  x.scaled = arena.take(strata_linear_forms(m));
  x.small = arena.take(static_cast<std::size_t>(2) * d * d + 3 * d * k + 9 * k * k + d +
                       static_cast<std::size_t>(d + k) * (2 * (nc + nd) + 1));
  return x;
}

/// Cholesky factor of a packed n x n matrix in place, the reciprocals of its diagonal, and its log-determinant.
template <class V, class A>
BATCHLMM_INLINE V factor_packed(int n, const A& l, const A& inverse, MaskOf<V>& ok) {
  LogProduct<V> product;
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < i; ++j) {
      V t = l[triangle(i, j)];
      for (int e = 0; e < j; ++e) t = fnma(V(l[triangle(i, e)]), V(l[triangle(j, e)]), t);
      l[triangle(i, j)] = t * inverse[j];
    }
    V t = l[triangle(i, i)];
    for (int e = 0; e < i; ++e) t = fnma(V(l[triangle(i, e)]), V(l[triangle(i, e)]), t);
    ok = ok && (t > V(0.0));
    product.multiply(t);
    inverse[i] = V(1.0) / square_root(t);
  }
  product.flush();
  return product.sum;
}
/// Solves L x = b in place (L's diagonal by its reciprocals).
template <class V, class A, class B>
BATCHLMM_INLINE void solve_lower(int n, const A& l, const A& inverse, const B& b) {
  for (int i = 0; i < n; ++i) {
    V t = b[i];
    for (int e = 0; e < i; ++e) t = fnma(V(l[triangle(i, e)]), V(b[e]), t);
    b[i] = t * inverse[i];
  }
}
/// Solves L'x = b in place.
template <class V, class A, class B>
BATCHLMM_INLINE void solve_upper(int n, const A& l, const A& inverse, const B& b) {
  for (int i = n - 1; i >= 0; --i) {
    V t = b[i];
    for (int e = i + 1; e < n; ++e) t = fnma(V(l[triangle(e, i)]), V(b[e]), t);
    b[i] = t * inverse[i];
  }
}

/// A starting point: T by weighted least squares from V_b = S_b / (mu_b s^2), its terms made positive semidefinite. In
/// saturated balanced designs it is the optimum itself.
/// @param fallback  lambda of terms with k > 2 in lanes whose T is not positive definite
/// @param lambda    s.lambdas entries
/// @param t         scratch: s.parameters
template <class V, class S, class Y, class A>
BATCHLMM_FUNCTION inline void moment_start(const S& s, const StrataModel& m, const Y& record, const double* fallback,
                                           const A& lambda, const A& t) {
  const V per_sigma2 = V(m.moment_degrees) / record[m.record - 1];
  for (int a = 0; a < s.parameters; ++a) t[a] = V(0.0);
  for (int i = 0; i < m.moments; ++i) {
    V moment = m.moment_entry[i] >= 0 ? V(record[m.moment_entry[i]]) : V(0.0);
    const int* factors = m.moment_factors + 3 * i;
    for (int c = 0; c < m.moment_copies[i]; ++c)
      moment = fma(record[factors[0] + c * factors[2]], record[factors[1] + c * factors[2]], moment);
    for (int a = 0; a < s.parameters; ++a) t[a] = fma(V(m.moment_map[a * m.moments + i]), moment, V(t[a]));
  }
  for (int a = 0; a < s.parameters; ++a) t[a] = fma(t[a], per_sigma2, V(m.moment_offset[a]));
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k;
    const A l = lambda + term.lambda, x = t + term.parameter;
    if (k == 1) {
      l[0] = square_root(maximum(V(x[0]), V(0.0)));
    } else if (k == 2) {
      // The nearest positive semidefinite matrix: negative eigenvalues at 0; a little inside the cone where both are.
      const V mean = V(0.5) * (x[0] + x[2]), half = V(0.5) * (x[0] - x[2]);
      const V root = square_root(fma(half, half, x[1] * x[1]));
      const V larger = mean + root, smaller = mean - root;
      const V lift = maximum(-smaller, V(0.0)), inside = V(0.01 / s.scale(b));
      // T + lift (I - projector on the larger one's direction) = T + lift (larger I - T) / (larger - smaller)
      const V share = lift / maximum(root + root, V(1e-300));
      V t00 = fma(share, larger - x[0], V(x[0])), t10 = fnma(share, V(x[1]), V(x[1])),
        t11 = fma(share, larger - x[2], V(x[2]));
      const auto none = !(larger > inside);
      t00 = select(none, inside, t00);
      t10 = select(none, V(0.0), t10);
      t11 = select(none, inside, t11);
      const V root0 = square_root(maximum(t00, V(1e-300))), l10 = t10 / root0;
      l[0] = root0;
      l[1] = V(0.0);
      l[2] = l10;
      l[3] = square_root(maximum(fnma(l10, l10, t11), V(0.0)));
    } else {
      MaskOf<V> definite = V(0.0) <= V(0.0);
      for (int i = 0; i < k; ++i) {
        for (int j = 0; j < i; ++j) {
          V sum = x[triangle(i, j)];
          for (int e = 0; e < j; ++e) sum = fnma(V(l[i * k + e]), V(l[j * k + e]), sum);
          l[i * k + j] = sum / l[j * k + j];
        }
        V sum = x[triangle(i, i)];
        for (int e = 0; e < i; ++e) sum = fnma(V(l[i * k + e]), V(l[i * k + e]), sum);
        definite = definite && (sum > V(1e-3 / s.scale(b)));
        l[i * k + i] = square_root(maximum(sum, V(1e-3 / s.scale(b))));
        for (int j = i + 1; j < k; ++j) l[i * k + j] = V(0.0);
      }
      for (int i = 0; i < k * k; ++i) l[i] = select(definite, V(l[i]), V(fallback[term.lambda + i]));
    }
  }
}

/// V_b^{-1} of a block with d > 1 into `inverse` (d x d), its log-determinant times mu.
/// @tparam D, KT  d and the columns of every group where known at compile time, else 0
template <int D, int KT, class V, class S, class W, class A>
BATCHLMM_INLINE V invert_block(const S& s, const StrataBlock& b, const W& w, const A& inverse, const A& small,
                               MaskOf<V>& ok) {
  const int d = D > 0 ? D : b.d, K = b.columns;
  const A l = small, ct = small + d * d, reciprocal = ct + d * K;
  // C lambda, column by column of each group: V = I + (C lambda)(C lambda)'.
  for (int g = 0; g < b.groups; ++g) {
    const auto& term = s.term[b.group_term[g]];
    const int k = KT > 0 ? KT : term.k, o = KT > 0 ? g * KT : b.group_column[g];
    const auto lambda = w.lambda + term.lambda;
    for (int i = 0; i < d; ++i)
      for (int q = 0; q < k; ++q) {
        V t = V(0.0);
        for (int e = 0; e < k; ++e) t = fma(V(b.c[i * K + o + e]), V(lambda[e * k + q]), t);
        ct[i * K + o + q] = t;
      }
  }
  for (int i = 0; i < d; ++i)
    for (int j = 0; j <= i; ++j) {
      V t = V(i == j ? 1.0 : 0.0);
      for (int e = 0; e < K; ++e) t = fma(ct[i * K + e], ct[j * K + e], t);
      l[i * d + j] = t;
    }
  if (d == 2) {
    // det = 1 + tr + det of the rest would lose nothing here: V's eigenvalues are at least 1.
    const V v00 = l[0], v10 = l[2], v11 = l[3];
    const V det = fnma(v10, v10, v00 * v11);
    ok = ok && (det > V(0.0));
    const V r = V(1.0) / det;
    inverse[0] = v11 * r;
    inverse[1] = inverse[2] = -v10 * r;
    inverse[3] = v00 * r;
    return b.multiplicity != 0 ? V(b.multiplicity) * logarithm(select(det > V(0.0), det, V(1.0))) : V(0.0);
  }
  LogProduct<V> product;
  for (int i = 0; i < d; ++i) {
    for (int j = 0; j < i; ++j) {
      V t = l[i * d + j];
      for (int e = 0; e < j; ++e) t = fnma(V(l[i * d + e]), V(l[j * d + e]), t);
      l[i * d + j] = t * reciprocal[j];
    }
    V t = l[i * d + i];
    for (int e = 0; e < i; ++e) t = fnma(V(l[i * d + e]), V(l[i * d + e]), t);
    ok = ok && (t > V(0.0));
    product.multiply(t);
    reciprocal[i] = V(1.0) / square_root(t);
  }
  product.flush();
  // L^{-1} over L, then L^{-T}L^{-1}.
  for (int j = 0; j < d; ++j) {
    l[j * d + j] = reciprocal[j];
    for (int i = j + 1; i < d; ++i) {
      V t = V(0.0);
      for (int e = j; e < i; ++e) t = fnma(V(l[i * d + e]), V(l[e * d + j]), t);
      l[i * d + j] = t * reciprocal[i];
    }
  }
  for (int i = 0; i < d; ++i)
    for (int j = 0; j <= i; ++j) {
      V t = V(0.0);
      for (int e = i; e < d; ++e) t = fma(l[e * d + i], l[e * d + j], t);
      inverse[i * d + j] = t;
      inverse[j * d + i] = t;
    }
  return V(b.multiplicity) * product.sum;
}

/// f += e'We (packed n) for constant columns e (d x n). @param small  scratch: d x n
template <class V, class A, class W>
BATCHLMM_INLINE void add_weighted(int n, int d, const double* e, const W& weighted, const A& small, const A& f) {
  product<V>(
      d, n, d, weighted, [&](int i, int u) { return V(e[i * n + u]); },
      [&](int i, int u, const V& t) { small[i * n + u] = t; });
  symmetric_product<V>(
      n, d, [&](int u, int i) { return V(e[i * n + u]); }, [&](int i, int u) { return V(small[i * n + u]); },
      [&](int u, int v, const V& t) { f[triangle(u, v)] = f[triangle(u, v)] + t; });
}

/// Evaluates the criterion of a record at w.lambda.
/// @param s       a Shape or its term structure
/// @param record  m.record entries
/// @param x       what the derivatives there start from
template <class V, class S, class Y, class W, class A>
BATCHLMM_FUNCTION inline Evaluation<V> evaluate_strata(const S& s, const StrataModel& m, const Y& record, const W& w,
                                                       const StrataWorkspace<A>& x) {
  const int nc = m.coupled, nd = determinant_columns(m), size2 = triangle_size(nc), size1 = triangle_size(nd);
  const bool separate = !m.reml && nd > 0;  // the determinant's F is another one
  Evaluation<V> result;
  result.ok = V(0.0) <= V(0.0);
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const auto lambda = w.lambda + term.lambda;
    for (int i = 0; i < term.k; ++i)
      for (int j = 0; j <= i; ++j) {
        V t = V(0.0);
        for (int c = 0; c < term.k; ++c) t = fma(lambda[i * term.k + c], lambda[j * term.k + c], t);
        x.t[term.parameter + triangle(i, j)] = t;
      }
  }
  for (int i = 0; i < size2; ++i) x.f2[i] = V(m.c2[i]);
  for (int i = 0; i < nc; ++i) x.f[i] = record[m.c + i];
  for (int i = 0; separate && i < size1; ++i) x.f1[i] = V(m.c1[i]);
  V log_determinant = V(0.0), r2 = record[m.record - 1];

  for (int at = 0; at < m.blocks; ++at) {
    const StrataBlock& b = m.block[at];
    const A vi = x.inverse + b.inverse;
    const int d = b.d;
    if (d == 1) {
      V v = V(1.0);
      for (int e = 0; e < b.generators; ++e) v = fma(V(b.generator[e]), V(x.t[b.parameter[e]]), v);
      result.ok = result.ok && (v > V(0.0));
      vi[0] = V(1.0) / v;
      if (b.multiplicity != 0) log_determinant = fma(logarithm(v), V(b.multiplicity), log_determinant);
    } else {
      const bool twos = d == 2 && b.columns == 2 * b.groups && b.groups > 0 && s.term[b.group_term[0]].k == 2 &&
                        s.term[b.group_term[b.groups - 1]].k == 2 && b.groups <= 2;
      log_determinant = log_determinant + (twos ? invert_block<2, 2, V>(s, b, w, vi, x.small, result.ok)
                                                : invert_block<0, 0, V>(s, b, w, vi, x.small, result.ok));
    }
    for (int i = 0; i < d; ++i)
      for (int j = 0; j <= i; ++j) {
        const int ij = triangle(i, j);
        const V v = i == j ? V(vi[i * d + j]) : vi[i * d + j] + vi[i * d + j];
        if (b.s >= 0) r2 = fma(v, V(record[b.s + ij]), r2);
        if (b.y >= 0) {
          for (int u = 0; u < nc; ++u) x.f[u] = fma(v, V(record[b.y + ij * nc + u]), V(x.f[u]));
          for (int u = 0; u < size2; ++u) x.f2[u] = fma(v, V(b.a[ij * size2 + u]), V(x.f2[u]));
        }
        if (separate && b.a1 != nullptr)
          for (int u = 0; u < size1; ++u) x.f1[u] = fma(v, V(b.a1[ij * size1 + u]), V(x.f1[u]));
      }
    const auto weighted = [&](int i, int e) { return V(vi[i * d + e]); };
    for (int c = 0; c < b.copies; ++c) {
      const auto z = record + (b.z + c * d);
      const double* e = b.e == nullptr ? nullptr : b.e + static_cast<std::size_t>(c) * d * nc;
      product<V>(
          d, 1, d, weighted, [&](int i, int) { return V(z[i]); }, [&](int i, int, const V& t) { x.small[i] = t; });
      for (int i = 0; i < d; ++i) r2 = fma(z[i], x.small[i], r2);
      for (int u = 0; e != nullptr && u < nc; ++u)
        for (int i = 0; i < d; ++i) x.f[u] = fma(V(e[i * nc + u]), V(x.small[i]), V(x.f[u]));
      if (e != nullptr) add_weighted<V>(nc, d, e, weighted, x.small, x.f2);
    }
    for (int c = 0; separate && c < b.indicated; ++c)
      add_weighted<V>(nd, d, b.e1 + static_cast<std::size_t>(c) * d * nd, weighted, x.small, x.f1);
  }
  if (nc > 0) {
    const V log_f = factor_packed<V>(nc, x.f2, x.f2_inverse, result.ok);
    for (int i = 0; i < nc; ++i) x.beta[i] = x.f[i];
    solve_lower<V>(nc, x.f2, x.f2_inverse, x.beta);
    for (int i = 0; i < nc; ++i) r2 = fnma(V(x.beta[i]), V(x.beta[i]), r2);
    solve_upper<V>(nc, x.f2, x.f2_inverse, x.beta);
    if (m.reml) log_determinant = log_determinant + log_f;
    if (separate) log_determinant = log_determinant + factor_packed<V>(nd, x.f1, x.f1_inverse, result.ok);
  }
  result.r2 = r2;
  result.ok = result.ok && (r2 > V(0.0));
  const V degrees = V(m.degrees);
  V deviance = fma(logarithm(select(r2 > V(0.0), r2, V(1.0))), degrees, log_determinant) + V(m.constant);
  result.ok = result.ok && (absolute(deviance) < V(1e300));
  result.deviance = select(result.ok, deviance, V(1e300));
  return result;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
