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
};

/// One model on its strata. A replicate's record is [S of each block | y of each block | c (coupled) | rss].
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
  const int* moment_entry = nullptr;      ///< moments: their places
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
  A phi;                     ///< packed: inverse of the determinant's F
  A f, beta;                 ///< coupled
  A w, ab;                   ///< coupled
  A gv;                      ///< parameters x coupled: derivative of f - F beta
  A df;                      ///< parameters x packed (determinant's F): its derivative
  A solved;                  ///< square of the determinant's F
  A dr;                      ///< parameters
  A small;                   ///< of one block
};

/// Columns of the F whose determinant counts.
BATCHLMM_INLINE int determinant_columns(const StrataModel& m) { return m.reml ? m.coupled : m.indicators; }

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
  x.phi = arena.take(triangle_size(nd));
  x.f = arena.take(nc);
  x.beta = arena.take(nc);
  x.w = arena.take(static_cast<std::size_t>(triangle_size(d)) * nc);
  x.ab = arena.take(nc > nd ? nc : nd);
  x.gv = arena.take(static_cast<std::size_t>(s.parameters) * nc);
  x.df = arena.take(static_cast<std::size_t>(s.parameters) * triangle_size(nd));
  x.solved = arena.take(static_cast<std::size_t>(nd) * nd);
  x.dr = arena.take(s.parameters);
  x.small = arena.take(static_cast<std::size_t>(3) * d * d + 2 * d * k + 4 * k * k + d);
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
  for (int a = 0; a < s.parameters; ++a) {
    V sum = V(0.0);
    for (int i = 0; i < m.moments; ++i)
      sum = fma(V(m.moment_map[a * m.moments + i]), V(record[m.moment_entry[i]]), sum);
    t[a] = fma(sum, per_sigma2, V(m.moment_offset[a]));
  }
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

/// L^{-1} D L^{-T} over a packed symmetric D. @param z  scratch: n x n
template <class V, class A>
BATCHLMM_INLINE void solve_both_sides(int n, const A& l, const A& inverse, const A& D, const A& z) {
  for (int j = 0; j < n; ++j)
    for (int i = 0; i < n; ++i) {
      V t = D[packed(i, j)];
      for (int e = 0; e < i; ++e) t = fnma(V(l[triangle(i, e)]), V(z[e * n + j]), t);
      z[i * n + j] = t * inverse[i];
    }
  for (int i = 0; i < n; ++i)
    for (int j = 0; j <= i; ++j) {
      V t = z[i * n + j];
      for (int e = 0; e < j; ++e) t = fnma(V(l[triangle(j, e)]), V(z[i * n + e]), t);
      t = t * inverse[j];
      z[i * n + j] = t;
      D[triangle(i, j)] = t;
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

/// out = Y'R Y (K x K, symmetric) for a symmetric R given packed by `element(i, j)`, i >= j.
template <class V, class A, class E>
BATCHLMM_INLINE void congruence(int d, int K, const A& y, const E& element, const A& ry, const A& out) {
  for (int i = 0; i < d; ++i)
    for (int q = 0; q < K; ++q) {
      V t = V(0.0);
      for (int e = 0; e < d; ++e) t = fma(V(e <= i ? element(i, e) : element(e, i)), V(y[e * K + q]), t);
      ry[i * K + q] = t;
    }
  for (int p = 0; p < K; ++p)
    for (int q = 0; q <= p; ++q) {
      V t = V(0.0);
      for (int e = 0; e < d; ++e) t = fma(y[e * K + p], ry[e * K + q], t);
      out[p * K + q] = t;
      out[q * K + p] = t;
    }
}

/// What one block's R (of r^2) and Phi (of log|F|) add to the derivatives.
/// @tparam D, KB, KT  d, K and the columns of every group where known at compile time, else 0
/// @param r, phi      packed d
template <int D, int KB, int KT, class V, class S, class W, class A, class R, class P>
BATCHLMM_INLINE void add_block_derivatives(const S& s, const StrataModel& m, const StrataBlock& b, const W& w,
                                           const StrataWorkspace<A>& x, const R& r, const P& phi, const V& n_over_r2) {
  const int d = D > 0 ? D : b.d, K = KB > 0 ? KB : b.columns, groups = KT > 0 ? KB / KT : b.groups, nc = m.coupled,
            nd = determinant_columns(m);
  const A vi = x.inverse + b.inverse;
  const A y = x.small, ry = y + d * K, q = ry + d * K, rq = q + K * K, pq = rq + K * K, other = pq + K * K;
  const bool with_phi = nd > 0 && (b.a != nullptr || b.a1 != nullptr), with_r = b.s >= 0 || b.y >= 0;
  for (int i = 0; i < d; ++i)
    for (int e = 0; e < K; ++e) {
      V t = V(0.0);
      for (int j = 0; j < d; ++j) t = fma(V(b.c[j * K + e]), V(vi[i * d + j]), t);
      y[i * K + e] = t;
    }
  for (int p = 0; p < K; ++p)
    for (int e = 0; e <= p; ++e) {
      V t = V(0.0);
      for (int i = 0; i < d; ++i) t = fma(V(b.c[i * K + p]), V(y[i * K + e]), t);
      q[p * K + e] = t;
      q[e * K + p] = t;
    }
  if (with_r) congruence<V>(d, K, y, r, ry, rq);
  if (with_phi) congruence<V>(d, K, y, phi, ry, pq);
  const V mu = V(b.multiplicity);
  for (int g = 0; g < groups; ++g) {
    const auto& term = s.term[b.group_term[g]];
    const int o = KT > 0 ? g * KT : b.group_column[g], tk = KT > 0 ? KT : term.k;
    for (int i = 0; i < tk; ++i)
      for (int j = 0; j <= i; ++j) {
        const int a = term.parameter + triangle(i, j), at = (o + i) * K + o + j;
        V t = mu * q[at];
        if (with_phi) t = t - pq[at];
        if (with_r) {
          t = fnma(n_over_r2, V(rq[at]), t);
          x.dr[a] = i == j ? x.dr[a] - rq[at] : fma(rq[at], V(-2.0), V(x.dr[a]));
        }
        w.gradient[a] = i == j ? w.gradient[a] + t : fma(t, V(2.0), V(w.gradient[a]));
      }
    for (int g2 = 0; g2 < groups; ++g2) {
      const auto& term2 = s.term[b.group_term[g2]];
      if (term2.parameter > term.parameter) continue;
      const int o2 = KT > 0 ? g2 * KT : b.group_column[g2], tk2 = KT > 0 ? KT : term2.k;
      for (int i = 0; i < tk; ++i)
        for (int j = 0; j <= i; ++j)
          for (int k = 0; k < tk2; ++k)
            for (int l = 0; l <= k; ++l) {
              const int a = term.parameter + triangle(i, j), a2 = term2.parameter + triangle(k, l);
              if (a2 > a) continue;
              const int at = triangle(a, a2);
              V h = w.hessian[at];
              if (b.multiplicity != 0) h = fnma(mu, trace_of_four<V>(q, q, K, o, i, j, o2, k, l), h);
              if (with_phi)
                h = h + (trace_of_four<V>(q, pq, K, o, i, j, o2, k, l) + trace_of_four<V>(pq, q, K, o, i, j, o2, k, l));
              w.hessian[at] = h;
              if (with_r)
                w.information[at] =
                    fma(trace_of_four<V>(q, rq, K, o, i, j, o2, k, l) + trace_of_four<V>(rq, q, K, o, i, j, o2, k, l),
                        V(0.5), V(w.information[at]));
            }
    }
  }
  if (b.y >= 0) {
    for (int u = 0; u < nc; ++u) {
      congruence<V>(
          d, K, y, [&](int i, int j) { return V(x.w[triangle(i, j) * nc + u]); }, ry, other);
      for (int g = 0; g < groups; ++g) {
        const auto& term = s.term[b.group_term[g]];
        const int o = KT > 0 ? g * KT : b.group_column[g], tk = KT > 0 ? KT : term.k;
        for (int i = 0; i < tk; ++i)
          for (int j = 0; j <= i; ++j) {
            const int a = term.parameter + triangle(i, j);
            const V t = other[(o + i) * K + o + j];
            x.gv[a * nc + u] = x.gv[a * nc + u] - (i == j ? t : t + t);
          }
      }
    }
  }
  if (with_phi) {
    const double* constants = m.reml ? b.a : b.a1;
    const int size = triangle_size(nd);
    for (int u = 0; constants != nullptr && u < size; ++u) {
      congruence<V>(
          d, K, y, [&](int i, int j) { return V(constants[triangle(i, j) * size + u]); }, ry, other);
      for (int g = 0; g < groups; ++g) {
        const auto& term = s.term[b.group_term[g]];
        const int o = KT > 0 ? g * KT : b.group_column[g], tk = KT > 0 ? KT : term.k;
        for (int i = 0; i < tk; ++i)
          for (int j = 0; j <= i; ++j) {
            const int a = term.parameter + triangle(i, j);
            const V t = other[(o + i) * K + o + j];
            x.df[a * size + u] = x.df[a * size + u] - (i == j ? t : t + t);
          }
      }
    }
  }
}

/// Evaluates the criterion of a record at w.lambda. With `derivatives`, leaves gradient, hessian and information by the
/// entries of T in w (off-diagonal entries count both places).
/// @param s       a Shape or its term structure
/// @param record  m.record entries
template <class V, class S, class Y, class W, class A>
BATCHLMM_FUNCTION inline Evaluation<V> evaluate_strata(const S& s, const StrataModel& m, const Y& record, const W& w,
                                                       const StrataWorkspace<A>& x, bool derivatives) {
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
  if (!derivatives) return result;

  const int parameters = s.parameters;
  for (int a = 0; a < parameters; ++a) {
    w.gradient[a] = V(0.0);
    x.dr[a] = V(0.0);
  }
  for (int a = 0; a < triangle_size(parameters); ++a) {
    w.hessian[a] = V(0.0);
    w.information[a] = V(0.0);
  }
  for (int i = 0; i < parameters * nc; ++i) x.gv[i] = V(0.0);
  for (int i = 0; i < parameters * size1; ++i) x.df[i] = V(0.0);
  if (nd > 0) {
    // Phi = F^{-1}, column by column.
    const A l = separate ? x.f1 : x.f2, inverse = separate ? x.f1_inverse : x.f2_inverse;
    for (int j = 0; j < nd; ++j) {
      for (int i = 0; i < nd; ++i) x.ab[i] = V(i == j ? 1.0 : 0.0);
      solve_lower<V>(nd, l, inverse, x.ab);
      solve_upper<V>(nd, l, inverse, x.ab);
      for (int i = j; i < nd; ++i) x.phi[triangle(i, j)] = x.ab[i];
    }
  }
  const V n_over_r2 = degrees / r2;
  for (int at = 0; at < m.blocks; ++at) {
    const StrataBlock& b = m.block[at];
    const int d = b.d;
    const double* constants = m.reml ? b.a : b.a1;
    const bool with_phi = nd > 0 && constants != nullptr;
    // w = y - A beta; R = S - beta'y - beta'w.
    const auto adjoint = [&](int ij) {
      V r = b.s >= 0 ? V(record[b.s + ij]) : V(0.0);
      if (b.y < 0) return r;
      const double* a = b.a + static_cast<std::size_t>(ij) * size2;
      for (int u = 0; u < nc; ++u) {
        V t = record[b.y + ij * nc + u];
        for (int e = 0; e < nc; ++e) t = fnma(V(a[packed(u, e)]), V(x.beta[e]), t);
        x.w[ij * nc + u] = t;
        r = fnma(V(x.beta[u]), V(t + record[b.y + ij * nc + u]), r);
      }
      return r;
    };
    const auto contracted = [&](int ij) {
      V t = V(0.0);
      const double* a = constants + static_cast<std::size_t>(ij) * size1;
      for (int u = 0; u < nd; ++u)
        for (int e = 0; e <= u; ++e)
          t = fma(V(u == e ? a[triangle(u, e)] : 2 * a[triangle(u, e)]), V(x.phi[triangle(u, e)]), t);
      return t;
    };
    if (d == 1) {
      const V inverse = x.inverse[b.inverse], inverse2 = inverse * inverse;
      const V r = adjoint(0), phi = with_phi ? contracted(0) : V(0.0);
      const V mu = V(b.multiplicity);
      const V ri2 = r * inverse2, q = ri2 * inverse;
      V g = fnma(n_over_r2, ri2, mu * inverse), h = -mu * inverse2;
      if (with_phi) {
        g = fnma(phi, inverse2, g);
        h = fma(phi + phi, inverse2 * inverse, h);
      }
      for (int e = 0; e < b.generators; ++e) {
        const int a = b.parameter[e];
        const V ga = V(b.generator[e]);
        w.gradient[a] = fma(ga, g, V(w.gradient[a]));
        x.dr[a] = fnma(ga, ri2, V(x.dr[a]));
        for (int e2 = 0; e2 <= e; ++e2) {
          const int i = triangle(a, b.parameter[e2]);
          const V gg = V(b.generator[e] * b.generator[e2]);
          w.hessian[i] = fma(gg, h, V(w.hessian[i]));
          w.information[i] = fma(gg, q, V(w.information[i]));
        }
        if (b.y >= 0)
          for (int u = 0; u < nc; ++u) x.gv[a * nc + u] = fnma(ga * inverse2, V(x.w[u]), V(x.gv[a * nc + u]));
        if (with_phi)
          for (int u = 0; u < size1; ++u)
            x.df[a * size1 + u] = fnma(ga * inverse2, V(constants[u]), V(x.df[a * size1 + u]));
      }
      continue;
    }
    // R and Phi stand behind what add_block_derivatives uses of `small`.
    const A packed_r = x.small + (2 * d * b.columns + 4 * b.columns * b.columns),
            packed_phi = packed_r + triangle_size(d);
    for (int ij = 0; ij < triangle_size(d); ++ij) {
      packed_r[ij] = adjoint(ij);
      if (with_phi) packed_phi[ij] = contracted(ij);
    }
    const auto r_entry = [&](int i, int j) { return V(packed_r[triangle(i, j)]); };
    const auto phi_entry = [&](int i, int j) { return V(packed_phi[triangle(i, j)]); };
    const int k = b.groups > 0 ? s.term[b.group_term[0]].k : 0,
              last = b.groups > 0 ? s.term[b.group_term[b.groups - 1]].k : 0;
    if (d == 2 && b.columns == 2 && b.groups == 1)
      add_block_derivatives<2, 2, 2, V>(s, m, b, w, x, r_entry, phi_entry, n_over_r2);
    else if (d == 2 && b.columns == 4 && b.groups == 2 && k == 2 && last == 2)
      add_block_derivatives<2, 4, 2, V>(s, m, b, w, x, r_entry, phi_entry, n_over_r2);
    else
      add_block_derivatives<0, 0, 0, V>(s, m, b, w, x, r_entry, phi_entry, n_over_r2);
  }
  const V n_over_r4 = n_over_r2 / r2;
  // Solved against the factors once: g'F^{-1}g = |L^{-1}g|^2, tr(Phi dF Phi dF') = <L^{-1}dF L^{-T}, L^{-1}dF'L^{-T}>.
  const A l = separate ? x.f1 : x.f2, inverse = separate ? x.f1_inverse : x.f2_inverse;
  for (int a = 0; a < parameters; ++a) {
    if (nc > 0) solve_lower<V>(nc, x.f2, x.f2_inverse, x.gv + a * nc);
    if (nd > 0) solve_both_sides<V>(nd, l, inverse, x.df + a * size1, x.solved);
  }
  for (int a = 0; a < parameters; ++a)
    for (int a2 = 0; a2 <= a; ++a2) {
      const int at = triangle(a, a2);
      V q = w.information[at], h = w.hessian[at];
      for (int u = 0; u < nc; ++u) q = fnma(V(x.gv[a * nc + u]), V(x.gv[a2 * nc + u]), q);
      for (int i = 0; i < nd; ++i)
        for (int j = 0; j <= i; ++j) {
          const V z = x.df[a * size1 + triangle(i, j)] * x.df[a2 * size1 + triangle(i, j)];
          h = h - (i == j ? z : z + z);
        }
      const V ss = n_over_r4 * x.dr[a] * x.dr[a2];
      w.hessian[at] = fma(n_over_r2 + n_over_r2, q, h - ss);
      w.information[at] = fma(n_over_r2, q, -ss);
    }
  return result;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
