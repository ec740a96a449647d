/// @file
/// Derivatives of the criterion on strata (strata.hpp) by the optimizer's own coordinates, without those by the entries
/// of T in between. A coordinate at row r and column c of a term's pivoted factor changes T along
///     E = e_r u_c' + u_c e_r'
/// so that with Q = C'V^{-1}C and any symmetric W, all by the pivoted rows of T,
///     tr(Q E W E') = Q_rr' (U'WU)_cc' + (U'QU)_cc' W_rr' + (QU)_rc' (WU)_r'c + (QU)_r'c (WU)_rc'
/// is four products a pair of coordinates, from matrices of the size of C's columns.
#pragma once

#include "kernels/newton.hpp"
#include "kernels/product_tiles.hpp"
#include "kernels/strata.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// What the optimizer holds of a record in place of derivatives by the entries of T.
template <class A>
struct StrataPoint {
  A lambda;
  const StrataModel* model = nullptr;
  A record;
  StrataWorkspace<A> x;
  A r2;              ///< one entry, by the caller after the evaluation
  A beta, x_factor;  ///< not from a record
};

/// Directions in which derivatives are taken, by the rows of T as they are pivoted.
template <class A>
struct StrataDirections {
  A u;      ///< per term k x k lower triangular, at the term's place among the lambdas
  A pivot;  ///< per term k x k one-hot: row r stands for row i of T where pivot(r, i) = 1
};

/// L^{-1} D L^{-T} over a packed symmetric D. @param z  scratch: n x n
template <class V, class A, class B>
BATCHLMM_INLINE void solve_both_sides(int n, const A& l, const A& inverse, const B& D, const A& z) {
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

/// The columns of one block: its C with each term's columns in pivoted order, and which of them are whose.
/// @tparam KB, KT  columns, and the columns of every group, where known at compile time, else 0
template <int KB, int KT, class S>
struct BlockGroups {
  const S& s;
  const StrataBlock& b;
  BATCHLMM_INLINE int columns() const { return KB > 0 ? KB : b.columns; }
  BATCHLMM_INLINE int groups() const { return KT > 0 ? KB / KT : b.groups; }
  BATCHLMM_INLINE auto term(int g) const { return s.term[b.group_term[g]]; }
  BATCHLMM_INLINE int offset(int g) const { return KT > 0 ? g * KT : b.group_column[g]; }
  BATCHLMM_INLINE int size(int g) const { return KT > 0 ? KT : int(s.term[b.group_term[g]].k); }
};

/// ry = R y (d x K) for a symmetric R given by `element(i, j)`.
template <class V, class A, class E>
BATCHLMM_INLINE void multiply_block(int d, int K, const E& element, const A& y, const A& ry) {
  product<V>(
      d, K, d, [&](int i, int e) { return V(element(i, e)); }, [&](int e, int q) { return V(y[e * K + q]); },
      [&](int i, int q, const V& t) { ry[i * K + q] = t; });
}
/// out = y'z (K x K) where it is symmetric.
template <class V, class A>
BATCHLMM_INLINE void symmetric_form(int d, int K, const A& y, const A& z, const A& out) {
  symmetric_product<V>(
      K, d, [&](int p, int e) { return V(y[e * K + p]); }, [&](int e, int q) { return V(z[e * K + q]); },
      [&](int p, int q, const V& t) {
        out[p * K + q] = t;
        out[q * K + p] = t;
      });
}
/// Takes the groups' own blocks of y'z from a linear form.
template <class V, class G, class A>
BATCHLMM_INLINE void subtract_linear(const G& groups, int d, const A& y, const A& z, const A& form) {
  const int K = groups.columns();
  for (int g = 0; g < groups.groups(); ++g) {
    const int o = groups.offset(g), a = groups.term(g).parameter;
    symmetric_product<V>(
        groups.size(g), d, [&](int i, int e) { return V(y[e * K + o + i]); },
        [&](int e, int j) { return V(z[e * K + o + j]); },
        [&](int i, int j, const V& t) { form[a + triangle(i, j)] = form[a + triangle(i, j)] - t; });
  }
}

/// The same of (y z' + z y') / 2, y and z of C's columns' length.
template <class V, class G, class A>
BATCHLMM_INLINE void subtract_outer(const G& groups, const A& y, int step_y, const A& z, int step_z, const A& form) {
  for (int g = 0; g < groups.groups(); ++g) {
    const int o = groups.offset(g), a = groups.term(g).parameter;
    for (int i = 0; i < groups.size(g); ++i)
      for (int j = 0; j <= i; ++j) {
        const V t = fma(y[(o + i) * step_y], z[(o + j) * step_z], y[(o + j) * step_y] * z[(o + i) * step_z]);
        form[a + triangle(i, j)] = fma(t, V(-0.5), V(form[a + triangle(i, j)]));
      }
  }
}

/// A U and U'A U of a symmetric K x K matrix A.
template <class V, class G, class A>
BATCHLMM_INLINE void both_sides(const G& groups, const A& u, const A& a, const A& au, const A& uau) {
  const int K = groups.columns();
  for (int g = 0; g < groups.groups(); ++g) {
    const int o = groups.offset(g), k = groups.size(g);
    const A ug = u + groups.term(g).lambda;
    for (int c = 0; c < k; ++c) {
      int i = 0;
      const auto left = [&](int row, int e) { return V(a[row * K + o + e]); };
      const auto right = [&](int e, int column) { return V(ug[e * k + column]); };
      const auto out = [&](int row, int column, const V& t) { au[row * K + o + column] = t; };
      for (; i + 4 <= K; i += 4) product_tile<4, 1, V>(i, c, c, k, left, right, out);
      for (; i < K; ++i) product_tile<1, 1, V>(i, c, c, k, left, right, out);
    }
  }
  for (int g = 0; g < groups.groups(); ++g) {
    const int o = groups.offset(g), k = groups.size(g);
    const A ug = u + groups.term(g).lambda;
    for (int c = 0; c < k; ++c) {
      const int last = o + c + 1;  // of the lower triangle's row
      const auto left = [&](int column, int e) { return V(ug[e * k + column]); };
      const auto right = [&](int e, int q) { return V(au[(o + e) * K + q]); };
      const auto out = [&](int column, int q, const V& t) {
        uau[(o + column) * K + q] = t;
        uau[q * K + o + column] = t;
      };
      int q = 0;
      for (; q + 4 <= last; q += 4) product_tile<1, 4, V>(c, q, c, k, left, right, out);
      for (; q < last; ++q) product_tile<1, 1, V>(c, q, c, k, left, right, out);
    }
  }
}

/// A symmetric matrix by columns of C, with what the traces take of it.
template <class A>
struct TraceForm {
  A a, au, uau;
};

/// Adds tr(Q E W E') to the Hessian and tr(Q E R E') to the information, for all pairs of coordinates.
template <class V, class G, class A>
BATCHLMM_INLINE void add_traces(const G& groups, const TraceForm<A>& q, const TraceForm<A>& w, const TraceForm<A>& r,
                                bool with_w, bool with_r, const A& hessian, const A& information) {
  const int K = groups.columns();
  for (int g = 0; g < groups.groups(); ++g)
    for (int g2 = 0; g2 < groups.groups(); ++g2) {
      const int a0 = groups.term(g).parameter, a20 = groups.term(g2).parameter, o = groups.offset(g),
                o2 = groups.offset(g2), k = groups.size(g), k2 = groups.size(g2);
      if (a20 > a0) continue;
      const bool same = a0 == a20;
      for (int i = 0; i < k; ++i)
        for (int c = 0; c <= i; ++c) {
          const int row = triangle(a0 + triangle(i, c), a20);
          for (int i2 = 0; i2 < (same ? i + 1 : k2); ++i2) {
            const int rr = (o + i) * K + o2 + i2, rc = (o2 + i2) * K + o + c, last = same && i2 == i ? c : i2;
            const auto add = [&](const TraceForm<A>& p, const A& to) {
              const V q_rr = q.a[rr], p_rr = p.a[rr], q_rc = q.au[rc], p_rc = p.au[rc];
              for (int c2 = 0; c2 <= last; ++c2) {
                const int cc = (o + c) * K + o2 + c2, cr = (o + i) * K + o2 + c2, at = row + triangle(i2, c2);
                V t = fma(q_rr, V(p.uau[cc]), V(to[at]));
                t = fma(p_rr, V(q.uau[cc]), t);
                t = fma(p_rc, V(q.au[cr]), t);
                to[at] = fma(q_rc, V(p.au[cr]), t);
              }
            };
            if (with_w) add(w, hessian);
            if (with_r) add(r, information);
          }
        }
    }
}

/// A symmetric matrix by the entries of T into the same by the directions: 2 (M U)_rc.
/// @param out  out(coordinate, value)
template <class V, class S, class A, class Out>
BATCHLMM_INLINE void along_directions(const S& s, const A& u, const A& form, const Out& out) {
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k, a = term.parameter;
    const A ub = u + term.lambda;
    for (int r = 0; r < k; ++r)
      for (int c = 0; c <= r; ++c) {
        V t = V(0.0);
        for (int e = c; e < k; ++e) t = fma(V(form[a + packed(r, e)]), V(ub[e * k + c]), t);
        out(a + triangle(r, c), t + t);
      }
  }
}

/// What one block adds to the linear forms, the Hessian's traces and the information's.
/// @tparam D, KB, KT  d, K and the columns of every group where known at compile time, else 0
template <int D, int KB, int KT, class V, class S, class Y, class A>
BATCHLMM_INLINE void add_block_derivatives(const S& s, const StrataModel& m, const StrataBlock& b, const Y& record,
                                           const StrataWorkspace<A>& x, const StrataDirections<A>& by,
                                           const V& n_over_r2, const A& hessian, const A& information) {
  const BlockGroups<KB, KT, S> groups{s, b};
  const int d = D > 0 ? D : b.d, K = groups.columns(), nc = m.coupled, nd = determinant_columns(m),
            size1 = triangle_size(nd), size2 = triangle_size(nc), parameters = s.parameters;
  const double *constants = m.reml ? b.a : b.a1, *columns = m.reml ? b.e : b.e1;
  const int indicated = columns == nullptr ? 0 : m.reml ? b.copies : b.indicated;
  const bool packed_forms = b.s >= 0 || b.y >= 0, packed_phis = nd > 0 && constants != nullptr,
             with_phi = packed_phis || (nd > 0 && indicated > 0), with_r = packed_forms || b.copies > 0;
  const A vi = x.inverse + b.inverse, dr = x.linear, gv = dr + parameters, df = gv + nc * parameters,
          gradient = df + size1 * parameters;
  const A c = x.small, y = c + d * K, ry = y + d * K, packed_r = ry + d * K, packed_phi = packed_r + triangle_size(d);
  A next = packed_phi + triangle_size(d);
  const auto take = [&] {
    const A a = next;
    next = next + K * K;
    return a;
  };
  const auto take_form = [&] {
    const A a = take(), au = take();
    return TraceForm<A>{a, au, take()};
  };
  const TraceForm<A> q = take_form(), w = take_form(), r = take_form();
  const A residual = next, by_columns = residual + (d + K), by_phi = by_columns + K * (nc > nd ? nc : nd);

  for (int g = 0; g < groups.groups(); ++g) {
    const int o = groups.offset(g), k = groups.size(g);
    const A pivot = by.pivot + groups.term(g).lambda;
    if (k == 1) {
      for (int i = 0; i < d; ++i) c[i * K + o] = V(b.c[i * K + o]);
    } else {
      product<V>(
          k, d, k, [&](int p, int e) { return V(pivot[p * k + e]); },
          [&](int e, int i) { return V(b.c[i * K + o + e]); }, [&](int p, int i, const V& t) { c[i * K + o + p] = t; });
    }
  }
  multiply_block<V>(
      d, K, [&](int i, int e) { return vi[i * d + e]; }, c, y);
  symmetric_form<V>(d, K, c, y, q.a);

  // w = y - A beta; R = S - beta'y - beta'w.
  if (packed_forms) {
    for (int ij = 0; ij < triangle_size(d); ++ij) {
      V t = b.s >= 0 ? V(record[b.s + ij]) : V(0.0);
      const double* a = b.y < 0 ? nullptr : b.a + static_cast<std::size_t>(ij) * size2;
      for (int v = 0; b.y >= 0 && v < nc; ++v) {
        const V own = record[b.y + ij * nc + v];
        V left = own;
        for (int e = 0; e < nc; ++e) left = fnma(V(a[packed(v, e)]), V(x.beta[e]), left);
        x.w[ij * nc + v] = left;
        t = fnma(V(x.beta[v]), left + own, t);
      }
      packed_r[ij] = t;
    }
    multiply_block<V>(
        d, K, [&](int i, int e) { return packed_r[packed(i, e)]; }, y, ry);
    symmetric_form<V>(d, K, y, ry, r.a);
  }
  for (int i = 0; !packed_forms && with_r && i < K * K; ++i) r.a[i] = V(0.0);
  for (int copy = 0; copy < b.copies; ++copy) {
    // p = y'(z - E beta)
    const double* e = b.e == nullptr ? nullptr : b.e + static_cast<std::size_t>(copy) * d * nc;
    const A p = residual + d;
    for (int i = 0; i < d; ++i) {
      V t = record[b.z + copy * d + i];
      for (int v = 0; e != nullptr && v < nc; ++v) t = fnma(V(e[i * nc + v]), V(x.beta[v]), t);
      residual[i] = t;
    }
    product<V>(
        K, 1, d, [&](int i, int at) { return V(y[at * K + i]); }, [&](int at, int) { return V(residual[at]); },
        [&](int i, int, const V& t) { p[i] = t; });
    for (int i = 0; i < K; ++i)
      for (int j = 0; j <= i; ++j) {
        const V t = fma(p[i], p[j], V(r.a[i * K + j]));
        r.a[i * K + j] = t;
        r.a[j * K + i] = t;
      }
    if (e == nullptr) continue;
    product<V>(
        K, nc, d, [&](int i, int at) { return V(y[at * K + i]); }, [&](int at, int v) { return V(e[at * nc + v]); },
        [&](int i, int v, const V& t) { by_columns[i * nc + v] = t; });
    for (int v = 0; v < nc; ++v) subtract_outer<V>(groups, by_columns + v, nc, p, 1, gv + v * parameters);
  }
  for (int i = 0; !packed_phis && with_phi && i < K * K; ++i) w.a[i] = V(0.0);
  if (packed_phis) {
    for (int ij = 0; ij < triangle_size(d); ++ij) {
      V t = V(0.0);
      const double* a = constants + static_cast<std::size_t>(ij) * size1;
      for (int v = 0; v < nd; ++v)
        for (int e = 0; e <= v; ++e)
          t = fma(V(v == e ? a[triangle(v, e)] : 2 * a[triangle(v, e)]), V(x.phi[triangle(v, e)]), t);
      packed_phi[ij] = t;
    }
    multiply_block<V>(
        d, K, [&](int i, int e) { return packed_phi[packed(i, e)]; }, y, ry);
    symmetric_form<V>(d, K, y, ry, w.a);
  }
  for (int v = 0; b.y >= 0 && v < nc; ++v) {
    multiply_block<V>(
        d, K, [&](int i, int e) { return x.w[packed(i, e) * nc + v]; }, y, ry);
    subtract_linear<V>(groups, d, y, ry, gv + v * parameters);
  }
  for (int v = 0; packed_phis && v < size1; ++v) {
    multiply_block<V>(
        d, K, [&](int i, int e) { return constants[packed(i, e) * size1 + v]; }, y, ry);
    subtract_linear<V>(groups, d, y, ry, df + v * parameters);
  }
  for (int copy = 0; with_phi && copy < indicated; ++copy) {
    const double* e = columns + static_cast<std::size_t>(copy) * d * nd;
    product<V>(
        K, nd, d, [&](int i, int at) { return V(y[at * K + i]); }, [&](int at, int v) { return V(e[at * nd + v]); },
        [&](int i, int v, const V& t) { by_columns[i * nd + v] = t; });
    for (int v = 0; v < nd; ++v)
      for (int v2 = 0; v2 <= v; ++v2)
        subtract_outer<V>(groups, by_columns + v, nd, by_columns + v2, nd, df + triangle(v, v2) * parameters);
    product<V>(
        K, nd, nd, [&](int i, int at) { return V(by_columns[i * nd + at]); },
        [&](int at, int v) { return V(x.phi[packed(at, v)]); },
        [&](int i, int v, const V& t) { by_phi[i * nd + v] = t; });
    symmetric_product<V>(
        K, nd, [&](int i, int at) { return V(by_phi[i * nd + at]); },
        [&](int at, int j) { return V(by_columns[j * nd + at]); },
        [&](int i, int j, const V& sum) {
          const V t = w.a[i * K + j] + sum;
          w.a[i * K + j] = t;
          w.a[j * K + i] = t;
        });
  }
  const V mu = V(b.multiplicity);
  for (int g = 0; g < groups.groups(); ++g) {
    const int a = groups.term(g).parameter, o = groups.offset(g);
    for (int i = 0; i < groups.size(g); ++i)
      for (int j = 0; j <= i; ++j) {
        const int at = (o + i) * K + o + j, ij = a + triangle(i, j);
        V t = fma(mu, V(q.a[at]), V(gradient[ij]));
        if (with_phi) t = t - w.a[at];
        if (with_r) {
          t = fnma(n_over_r2, V(r.a[at]), t);
          dr[ij] = dr[ij] - r.a[at];
        }
        gradient[ij] = t;
      }
  }
  // log|V|'s own traces and those of log|F|, in one form.
  const bool with_w = with_phi || b.multiplicity != 0;
  for (int i = 0; with_w && i < K * K; ++i)
    w.a[i] = with_phi ? fnma(mu, V(q.a[i]), w.a[i] + w.a[i]) : V(-b.multiplicity) * q.a[i];
  both_sides<V>(groups, x.u, q.a, q.au, q.uau);
  if (with_w) both_sides<V>(groups, x.u, w.a, w.au, w.uau);
  if (with_r) both_sides<V>(groups, x.u, r.a, r.au, r.uau);
  add_traces<V>(groups, q, w, r, with_w, with_r, hessian, information);
}

/// The same of a block with d = 1, V = 1 + sum over groups of c'T c.
template <class V, class S, class Y, class A>
BATCHLMM_INLINE void add_entry_derivatives(const S& s, const StrataModel& m, const StrataBlock& b, const Y& record,
                                           const StrataWorkspace<A>& x, const StrataDirections<A>& by,
                                           const V& n_over_r2, const A& hessian, const A& information) {
  const int nc = m.coupled, nd = determinant_columns(m), size1 = triangle_size(nd), parameters = s.parameters;
  const double* constants = m.reml ? b.a : b.a1;
  const bool with_phi = nd > 0 && constants != nullptr, with_r = b.s >= 0 || b.y >= 0;
  const V inverse = x.inverse[b.inverse], inverse2 = inverse * inverse, mu = V(b.multiplicity);
  V r = b.s >= 0 ? V(record[b.s]) : V(0.0);
  for (int v = 0; b.y >= 0 && v < nc; ++v) {
    const V own = record[b.y + v];
    V left = own;
    for (int e = 0; e < nc; ++e) left = fnma(V(b.a[packed(v, e)]), V(x.beta[e]), left);
    x.w[v] = left;
    r = fnma(V(x.beta[v]), left + own, r);
  }
  V phi = V(0.0);
  for (int v = 0; with_phi && v < nd; ++v)
    for (int e = 0; e <= v; ++e)
      phi = fma(V(v == e ? constants[triangle(v, e)] : 2 * constants[triangle(v, e)]), V(x.phi[triangle(v, e)]), phi);
  const V ri2 = r * inverse2;
  V g = fnma(n_over_r2, ri2, mu * inverse), h = -mu * inverse2;
  if (with_phi) {
    g = fnma(phi, inverse2, g);
    h = fma(phi + phi, inverse2 * inverse, h);
  }
  const V q = ri2 * inverse;
  const A dv = x.one_entry;
  // At forms + i step: what dV = dvi by parameter i adds to the linear forms, in their order.
  const auto add_linear = [&](const V& dvi, const A& forms, int step) {
    const V less = -dvi * inverse2;
    forms[0] = fnma(dvi, ri2, V(forms[0]));
    for (int v = 1; b.y >= 0 && v <= nc; ++v) forms[v * step] = fma(less, V(x.w[v - 1]), V(forms[v * step]));
    for (int v = 0; with_phi && v < size1; ++v)
      forms[(1 + nc + v) * step] = fma(less, V(constants[v]), V(forms[(1 + nc + v) * step]));
    forms[(1 + nc + size1) * step] = fma(dvi, g, V(forms[(1 + nc + size1) * step]));
  };
  if (s.parameters == s.terms) {
    // Scalar terms: by the directions at once.
    for (int at = 0; at < b.generators; ++at) {
      const int i = b.parameter[at];
      const V dvi = V(b.generator[at]) * (x.u[i] + x.u[i]);
      add_linear(dvi, x.by_linear + i * strata_linear_forms(m), 1);
      dv[i] = dvi;
      const V hi = h * dvi, qi = q * dvi;
      for (int at2 = 0; at2 <= at; ++at2) {
        const int j = b.parameter[at2], ij = triangle(i, j);
        hessian[ij] = fma(hi, V(dv[j]), V(hessian[ij]));
        information[ij] = fma(qi, V(dv[j]), V(information[ij]));
      }
    }
    return;
  }
  // dV by the entries of each term's T: the outer product of its columns in pivoted order, its groups' together.
  const A c = x.small;
  bool acts[max_terms] = {};
  for (int i = 0; i < parameters; ++i) dv[i] = V(0.0);
  for (int at = 0; at < b.groups; ++at) {
    const auto& term = s.term[b.group_term[at]];
    const int k = term.k, o = b.group_column[at], a = term.parameter;
    const A pivot = by.pivot + term.lambda;
    acts[b.group_term[at]] = true;
    for (int i = 0; i < k; ++i) {
      V t = V(b.c[o]);
      if (k > 1) {
        t = V(0.0);
        for (int e = 0; e < k; ++e) t = fma(V(pivot[i * k + e]), V(b.c[o + e]), t);
      }
      c[i] = t;
    }
    for (int i = 0; i < k; ++i)
      for (int j = 0; j <= i; ++j) dv[a + triangle(i, j)] = fma(V(c[i]), V(c[j]), V(dv[a + triangle(i, j)]));
  }
  for (int t = 0; t < s.terms; ++t) {
    if (!acts[t]) continue;
    for (int i = s.term[t].parameter; i < s.term[t].parameter + triangle_size(s.term[t].k); ++i) {
      add_linear(V(dv[i]), x.linear + i, parameters);
    }
  }
  // By the directions, in place: row r of a term needs the entries of rows that have not been written.
  for (int t = 0; t < s.terms; ++t) {
    if (!acts[t]) continue;
    const auto& term = s.term[t];
    const int k = term.k, a = term.parameter, last = a + triangle_size(k);
    const A u = x.u + term.lambda, whole = x.small;
    for (int i = 0; i < triangle_size(k); ++i) whole[i] = dv[a + i];
    for (int i = 0; i < k; ++i)
      for (int j = 0; j <= i; ++j) {
        V sum = V(0.0);
        for (int e = j; e < k; ++e) sum = fma(V(whole[packed(i, e)]), V(u[e * k + j]), sum);
        dv[a + triangle(i, j)] = sum + sum;
      }
    for (int i = a; i < last; ++i) {
      const V hi = h * dv[i], qi = q * dv[i];
      for (int t2 = 0; t2 <= t; ++t2) {
        if (!acts[t2]) continue;
        const int a2 = s.term[t2].parameter, end = t2 == t ? i + 1 : a2 + triangle_size(s.term[t2].k);
        for (int j = a2; j < end; ++j) {
          const int at = triangle(i, j);
          hessian[at] = fma(hi, V(dv[j]), V(hessian[at]));
          if (with_r) information[at] = fma(qi, V(dv[j]), V(information[at]));
        }
      }
    }
  }
}

/// Derivatives of the criterion in the directions x.u, at the point that was evaluated into x.
/// @param r2        penalized residual sum of squares there
/// @param gradient  s.parameters
/// @param hessian, information  packed
template <class V, class S, class Y, class A>
BATCHLMM_FUNCTION inline void strata_derivatives(const S& s, const StrataModel& m, const Y& record,
                                                 const StrataWorkspace<A>& x, const StrataDirections<A>& by,
                                                 const V& r2, const A& gradient, const A& hessian,
                                                 const A& information) {
  const int nc = m.coupled, nd = determinant_columns(m), size1 = triangle_size(nd), parameters = s.parameters,
            forms = strata_linear_forms(m);
  const bool separate = !m.reml && nd > 0;
  bool by_entries = s.parameters != s.terms;  // linear forms by the entries of T
  for (int at = 0; at < m.blocks; ++at) by_entries = by_entries || m.block[at].d > 1;
  for (int i = 0; i < forms * parameters; ++i) x.by_linear[i] = V(0.0);
  for (int i = 0; by_entries && i < forms * parameters; ++i) x.linear[i] = V(0.0);
  for (int i = 0; i < triangle_size(parameters); ++i) {
    hessian[i] = V(0.0);
    information[i] = V(0.0);
  }
  const A l = separate ? x.f1 : x.f2, inverse = separate ? x.f1_inverse : x.f2_inverse;
  // Phi = F^{-1}, column by column.
  for (int j = 0; j < nd; ++j) {
    for (int i = 0; i < nd; ++i) x.ab[i] = V(i == j ? 1.0 : 0.0);
    solve_lower<V>(nd, l, inverse, x.ab);
    solve_upper<V>(nd, l, inverse, x.ab);
    for (int i = j; i < nd; ++i) x.phi[triangle(i, j)] = x.ab[i];
  }
  const V n_over_r2 = V(m.degrees) / r2;
  for (int at = 0; at < m.blocks; ++at) {
    const StrataBlock& b = m.block[at];
    if (b.d == 1) {
      add_entry_derivatives<V>(s, m, b, record, x, by, n_over_r2, hessian, information);
      continue;
    }
    const int k = b.groups > 0 ? int(s.term[b.group_term[0]].k) : 0,
              last = b.groups > 0 ? int(s.term[b.group_term[b.groups - 1]].k) : 0;
    if (b.d == 2 && b.columns == 2 && b.groups == 1)
      add_block_derivatives<2, 2, 2, V>(s, m, b, record, x, by, n_over_r2, hessian, information);
    else if (b.d == 2 && b.columns == 4 && b.groups == 2 && k == 2 && last == 2)
      add_block_derivatives<2, 4, 2, V>(s, m, b, record, x, by, n_over_r2, hessian, information);
    else
      add_block_derivatives<0, 0, 0, V>(s, m, b, record, x, by, n_over_r2, hessian, information);
  }
  for (int f = 0; by_entries && f < forms; ++f)
    along_directions<V>(s, x.u, x.linear + f * parameters,
                        [&](int i, const V& t) { x.by_linear[i * forms + f] = x.by_linear[i * forms + f] + t; });
  // Solved against the factors once: g'F^{-1}g = |L^{-1}g|^2, tr(Phi dF Phi dF') = <L^{-1}dF L^{-T}, L^{-1}dF'L^{-T}>.
  for (int a = 0; a < parameters; ++a) {
    const A row = x.by_linear + a * forms;
    gradient[a] = row[forms - 1];
    if (nc > 0) solve_lower<V>(nc, x.f2, x.f2_inverse, row + 1);
    if (nd > 0) solve_both_sides<V>(nd, l, inverse, row + (1 + nc), x.solved);
  }
  const V n_over_r4 = n_over_r2 / r2;
  for (int a = 0; a < parameters; ++a) {
    const A row = x.by_linear + a * forms, scaled = x.scaled;
    scaled[0] = n_over_r4 * row[0];
    for (int v = 0; v < nc; ++v) scaled[1 + v] = row[1 + v];
    for (int i = 0; i < nd; ++i)
      for (int j = 0; j <= i; ++j) {
        const V t = row[1 + nc + triangle(i, j)];
        scaled[1 + nc + triangle(i, j)] = i == j ? t : t + t;
      }
    for (int a2 = 0; a2 <= a; ++a2) {
      const A row2 = x.by_linear + a2 * forms;
      const int at = triangle(a, a2);
      V q = information[at], h = hessian[at];
      for (int v = 1; v <= nc; ++v) q = fnma(V(scaled[v]), V(row2[v]), q);
      for (int v = 1 + nc; v < 1 + nc + size1; ++v) h = fnma(V(scaled[v]), V(row2[v]), h);
      const V ss = scaled[0] * row2[0];
      hessian[at] = fma(n_over_r2 + n_over_r2, q, h - ss);
      information[at] = fma(n_over_r2, q, -ss);
    }
  }
}

/// newton_trip's by_coordinates: gradient, exact Hessian and average information at n.next.
template <class V, class S, class A, class X>
BATCHLMM_INLINE void by_coordinates(const S& s, const StrataPoint<A>& w, const NewtonScratch<X>& n) {
  tangents<V>(s, n.next, w.x.u);
  // One accessor for both: arrays of the trip may lie elsewhere than the point's.
  const StrataDirections<X> by{w.x.u, n.next.pivot};
  strata_derivatives<V>(s, *w.model, w.record, w.x, by, V(w.r2[0]), n.x_gradient, n.x_hessian, n.x_information);
  add_curvature<V>(s, w.x.linear + (strata_linear_forms(*w.model) - 1) * s.parameters, n, true, true);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
