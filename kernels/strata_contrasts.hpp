/// @file
/// Fixed effects, their information and contrasts' forms (contrast_forms.hpp) on strata (strata.hpp). Records have the
/// fixed effects projected off as far as they go; here each stratum keeps all of them: with [E X] the indicator columns
/// of rows that were not observed and X, A_b the cross-products of their coordinates over the copies of stratum b,
///     F = A_0 + sum_b <V_b^{-1}, A_b>
/// is the information of both, and a contrast of X has the same weights on the observed rows as by X alone, 0 on the
/// others: all forms are those of [E X].
#pragma once

#include "kernels/contrast_forms.hpp"
#include "kernels/strata_derivatives.hpp"

namespace batchlmm::kernels {

/// One stratum: `block` has d, columns and groups or generators as a StrataModel's, and as its multiplicity all copies;
/// `inverse` is its place in StrataFixed::inverses.
struct FixedStratum {
  StrataBlock block;
  int touched = 0;            ///< copies that [E X] reaches
  int coordinates = 0;        ///< place of their coordinates in a draw (touched x d)
  const double* x = nullptr;  ///< touched x d x columns: coordinates of [E X]
  const double* a = nullptr;  ///< packed d x packed columns: A_b
};

/// All fixed effects of one model on its strata.
struct StrataFixed {
  int strata = 0;
  const FixedStratum* stratum = nullptr;
  int indicators = 0, columns = 0;     ///< E's; E's and X's
  int residual = 0;                    ///< residual coordinates of a draw
  int residual_coordinates = 0;        ///< their place
  const double* residual_x = nullptr;  ///< residual x columns
  const double* a0 = nullptr;          ///< packed columns
  double degrees = 0;                  ///< N = n (ML) or n - p (REML), n the observed rows
  int inverses = 0;                    ///< sum of d^2
  int largest_d = 1, largest_columns = 1;
};

inline namespace BATCHLMM_ISA {

template <class A>
struct StrataContrasts {
  A lambda;
  A inverse;    ///< V_b^{-1} of all strata
  A f;          ///< packed columns: F's Cholesky factor, and then
  A f_inverse;  ///< the reciprocals of its diagonal
  A beta;       ///< columns
  A phi;        ///< packed columns: F^{-1}; Kenward-Roger
  A df;         ///< m x packed columns: dF
  A h;          ///< m x rows x columns: L^{-1}dF phi_l; Kenward-Roger
  A weights;    ///< packed d: of a pair of contrasts
  A solved;     ///< columns x columns
  A small;
};

template <class S, class A>
BATCHLMM_FUNCTION inline StrataContrasts<A> make_strata_contrasts(const S& s, const StrataFixed& m,
                                                                  const TestPlan& plan, Arena<A>& arena) {
  const std::size_t n = m.columns, nn = triangle_size(m.columns), d = m.largest_d, k = m.largest_columns;
  StrataContrasts<A> x;
  x.lambda = arena.take(s.lambdas);
  x.inverse = arena.take(m.inverses);
  x.f = arena.take(nn);
  x.f_inverse = arena.take(n);
  x.beta = arena.take(n);
  x.phi = arena.take(nn);
  x.df = arena.take(s.parameters * nn);
  x.h = arena.take(static_cast<std::size_t>(s.parameters) * plan.rows * n);
  x.weights = arena.take(d * (d + 1) / 2);
  x.solved = arena.take(n * n);
  x.small = arena.take(2 * d * d + 4 * d * k + 4 * k * k + 2 * d);
  return x;
}

/// The inverse of every V_b at x.lambda, F and its factor, and the generalized least squares estimates of [E X].
/// @param t            m: entries of T
/// @param coordinates  of a draw (strata_sampler.hpp), residual ones last
template <class V, class S, class Y, class A>
BATCHLMM_FUNCTION inline void strata_fixed_effects(const S& s, const StrataFixed& m, const A& t, const Y& coordinates,
                                                   const StrataContrasts<A>& x, MaskOf<V>& ok) {
  const int n = m.columns, nn = triangle_size(n);
  for (int i = 0; i < nn; ++i) x.f[i] = V(m.a0[i]);
  for (int i = 0; i < n; ++i) {
    V sum = V(0.0);
    for (int r = 0; r < m.residual; ++r)
      sum = fma(V(m.residual_x[r * n + i]), V(coordinates[m.residual_coordinates + r]), sum);
    x.beta[i] = sum;
  }
  for (int at = 0; at < m.strata; ++at) {
    const FixedStratum& stratum = m.stratum[at];
    const StrataBlock& b = stratum.block;
    const int d = b.d;
    const A vi = x.inverse + b.inverse;
    if (d == 1) {
      V v = V(1.0);
      for (int e = 0; e < b.generators; ++e) v = fma(V(b.generator[e]), V(t[b.parameter[e]]), v);
      ok = ok && (v > V(0.0));
      vi[0] = V(1.0) / v;
    } else {
      (void)invert_block<0, 0, V>(s, b, x, vi, x.small, ok);
    }
    if (stratum.touched == 0) continue;
    for (int i = 0; i < d; ++i)
      for (int j = 0; j <= i; ++j) {
        const V v = i == j ? V(vi[i * d + j]) : vi[i * d + j] + vi[i * d + j];
        const double* a = stratum.a + static_cast<std::size_t>(triangle(i, j)) * nn;
        for (int u = 0; u < nn; ++u) x.f[u] = fma(v, V(a[u]), V(x.f[u]));
      }
    for (int c = 0; c < stratum.touched; ++c) {
      const double* e = stratum.x + static_cast<std::size_t>(c) * d * n;
      for (int i = 0; i < d; ++i) {
        V z = V(0.0);
        for (int j = 0; j < d; ++j) z = fma(vi[i * d + j], V(coordinates[stratum.coordinates + c * d + j]), z);
        for (int u = 0; u < n; ++u) x.beta[u] = fma(V(e[i * n + u]), z, V(x.beta[u]));
      }
    }
  }
  (void)factor_packed<V>(n, x.f, x.f_inverse, ok);
  for (int i = 0; i < n; ++i) {
    // The factor's diagonal itself is used by those who take X's part of it.
    x.f[triangle(i, i)] = V(1.0) / x.f_inverse[i];
  }
  solve_lower<V>(n, x.f, x.f_inverse, x.beta);
  solve_upper<V>(n, x.f, x.f_inverse, x.beta);
}

/// to = y'B y (K x K, symmetric) for a packed symmetric B. @param by  scratch: d x K
template <class V, class A, class B>
BATCHLMM_INLINE void congruence_form(int d, int K, const A& y, const B& element, const A& by, const A& to) {
  multiply_block<V>(d, K, element, y, by);
  symmetric_form<V>(d, K, y, by, to);
}

/// add(a, v): what a symmetric K x K matrix by C's columns has of each parameter, <E_a, M>: both places off the
/// diagonal.
template <class V, class S, class A, class Add>
BATCHLMM_INLINE void by_parameters(const S& s, const StrataBlock& b, const A& form, const Add& add) {
  const int K = b.columns;
  for (int g = 0; g < b.groups; ++g) {
    const auto& term = s.term[b.group_term[g]];
    const int o = b.group_column[g];
    for (int i = 0; i < term.k; ++i)
      for (int j = 0; j <= i; ++j) {
        const V v = form[(o + i) * K + o + j];
        add(term.parameter + triangle(i, j), i == j ? v : v + v);
      }
  }
}

/// add(a, a2, v), a2 <= a: the symmetric part of tr(P E_a Q E_a2), summed over the groups of both terms.
template <class V, class S, class A, class Add>
BATCHLMM_INLINE void by_parameter_pairs(const S& s, const StrataBlock& b, const A& P, const A& Q, const Add& add) {
  const int K = b.columns;
  for (int g = 0; g < b.groups; ++g)
    for (int g2 = 0; g2 < b.groups; ++g2) {
      const auto &term = s.term[b.group_term[g]], &other = s.term[b.group_term[g2]];
      if (other.parameter > term.parameter) continue;
      const int o = b.group_column[g], o2 = b.group_column[g2];
      for (int i = 0; i < term.k; ++i)
        for (int j = 0; j <= i; ++j)
          for (int k = 0; k < other.k; ++k)
            for (int l = 0; l <= k; ++l) {
              const int a = term.parameter + triangle(i, j), a2 = other.parameter + triangle(k, l);
              if (a2 > a) continue;
              const V t = trace_of_four<V>(P, Q, K, o, i, j, o2, k, l) + trace_of_four<V>(Q, P, K, o, i, j, o2, k, l);
              add(a, a2, V(0.5) * t);
            }
    }
}

/// What one stratum gives to dF, D, K and the traces.
template <class V, class S, class A>
BATCHLMM_INLINE void add_stratum_forms(const S& s, const StrataFixed& m, const FixedStratum& stratum,
                                       const TestPlan& plan, const StrataContrasts<A>& x, const ContrastForms<A>& f) {
  const StrataBlock& b = stratum.block;
  const int d = b.d, K = b.columns, n = m.columns, nn = triangle_size(n), size = triangle_size(d);
  const A vi = x.inverse + b.inverse;
  if (d > 1 && K == 0) return;
  const V mu = V(b.multiplicity);
  if (d == 1) {
    if (b.generators == 0) return;
    const V v = vi[0], v2 = v * v, v3 = v2 * v;
    V traces = mu * v2;
    if (stratum.touched > 0 && plan.kenward_roger) {
      V t = V(0.0);
      for (int u = 0; u < n; ++u)
        for (int e = 0; e <= u; ++e) {
          const double a = stratum.a[triangle(u, e)];
          t = fma(V(u == e ? a : 2 * a), V(x.phi[triangle(u, e)]), t);
        }
      traces = fnma(V(2.0) * t, v3, traces);
    }
    for (int e = 0; e < b.generators; ++e) {
      const int a = b.parameter[e];
      const double ga = b.generator[e];
      if (plan.kenward_roger) {
        f.trace[a] = fma(mu * v, V(ga), V(f.trace[a]));
        for (int e2 = 0; e2 < b.generators; ++e2) {
          const int a2 = b.parameter[e2], at = triangle(a, a2);
          if (a2 <= a) f.info[at] = fma(traces, V(ga * b.generator[e2]), V(f.info[at]));
        }
      }
      if (stratum.touched == 0) continue;
      const V less = -(v2 * V(ga));
      for (int u = 0; u < nn; ++u) x.df[a * nn + u] = fma(less, V(stratum.a[u]), V(x.df[a * nn + u]));
    }
    if (stratum.touched == 0) return;
    for_each_contrast_pair(plan, [&](int pair, int row, int row2) {
      const A k = f.phi_l + row * n, l = f.phi_l + row2 * n;
      V t = V(0.0);
      for (int u = 0; u < n; ++u) {
        V z = V(0.0);
        for (int e = 0; e < n; ++e) z = fma(V(stratum.a[packed(u, e)]), V(l[e]), z);
        t = fma(k[u], z, t);
      }
      const V by_d = v2 * t, by_k = v3 * t;
      for (int e = 0; e < b.generators; ++e) {
        const int a = b.parameter[e];
        const V ga = V(b.generator[e]);
        f.d[a * plan.pairs + pair] = fma(by_d, ga, V(f.d[a * plan.pairs + pair]));
        for (int e2 = 0; plan.kenward_roger && e2 < b.generators; ++e2) {
          const int a2 = b.parameter[e2], at = triangle(a, a2) * plan.pairs + pair;
          if (a2 <= a) f.k[at] = fma(by_k, ga * V(b.generator[e2]), V(f.k[at]));
        }
      }
    });
    return;
  }
  // y = V^{-1}C, Q = C'V^{-1}C.
  const A c = x.small, y = c + d * K, by = y + d * K, q = by + d * K, form = q + K * K;
  for (int i = 0; i < d * K; ++i) c[i] = V(b.c[i]);
  multiply_block<V>(
      d, K, [&](int i, int e) { return vi[i * d + e]; }, c, y);
  symmetric_form<V>(d, K, c, y, q);
  if (plan.kenward_roger) {
    by_parameters<V>(s, b, q, [&](int a, const V& v) { f.trace[a] = fma(mu, v, V(f.trace[a])); });
    for (int i = 0; i < K * K; ++i) form[i] = mu * q[i];
    if (stratum.touched > 0) {
      for (int ij = 0; ij < size; ++ij) {
        V t = V(0.0);
        const double* a = stratum.a + static_cast<std::size_t>(ij) * nn;
        for (int u = 0; u < n; ++u)
          for (int e = 0; e <= u; ++e)
            t = fma(V(u == e ? a[triangle(u, e)] : 2 * a[triangle(u, e)]), V(x.phi[triangle(u, e)]), t);
        x.weights[ij] = t;
      }
      const A phi_form = form + K * K;
      congruence_form<V>(
          d, K, y, [&](int i, int e) { return x.weights[packed(i, e)]; }, by, phi_form);
      for (int i = 0; i < K * K; ++i) form[i] = fnma(V(2.0), V(phi_form[i]), V(form[i]));
    }
    by_parameter_pairs<V>(s, b, form, q, [&](int a, int a2, const V& v) {
      const int at = triangle(a, a2);
      f.info[at] = f.info[at] + v;
    });
  }
  if (stratum.touched == 0) return;
  for (int u = 0; u < nn; ++u) {
    congruence_form<V>(
        d, K, y, [&](int i, int e) { return V(stratum.a[static_cast<std::size_t>(packed(i, e)) * nn + u]); }, by, form);
    by_parameters<V>(s, b, form, [&](int a, const V& v) { x.df[a * nn + u] = x.df[a * nn + u] - v; });
  }
  for_each_contrast_pair(plan, [&](int pair, int row, int row2) {
    const A k = f.phi_l + row * n, l = f.phi_l + row2 * n;
    for (int ij = 0; ij < size; ++ij) {
      const double* a = stratum.a + static_cast<std::size_t>(ij) * nn;
      V t = V(0.0);
      for (int u = 0; u < n; ++u) {
        V z = V(0.0);
        for (int e = 0; e < n; ++e) z = fma(V(a[packed(u, e)]), V(l[e]), z);
        t = fma(k[u], z, t);
      }
      x.weights[ij] = t;
    }
    congruence_form<V>(
        d, K, y, [&](int i, int e) { return x.weights[packed(i, e)]; }, by, form);
    by_parameters<V>(s, b, form,
                     [&](int a, const V& v) { f.d[a * plan.pairs + pair] = f.d[a * plan.pairs + pair] + v; });
    if (plan.kenward_roger)
      by_parameter_pairs<V>(s, b, form, q, [&](int a, int a2, const V& v) {
        const int at = triangle(a, a2) * plan.pairs + pair;
        f.k[at] = f.k[at] + v;
      });
  });
}

/// Estimates and forms, after strata_fixed_effects.
template <class V, class S, class A>
BATCHLMM_FUNCTION inline void strata_contrasts(const S& s, const StrataFixed& m, const TestPlan& plan,
                                               const StrataContrasts<A>& x, const ContrastForms<A>& f) {
  const int n = m.columns, nn = triangle_size(n), parameters = s.parameters, p = plan.p, k = m.indicators;
  for (int row = 0; row < plan.rows; ++row) {
    const A phi = f.phi_l + row * n, contrast = f.l + row * p;
    V estimate = f.value[row];
    for (int i = 0; i < k; ++i) phi[i] = V(0.0);
    for (int i = 0; i < p; ++i) {
      phi[k + i] = contrast[i];
      estimate = fma(contrast[i], x.beta[k + i], estimate);
    }
    f.estimate[row] = estimate;
    solve_lower<V>(n, x.f, x.f_inverse, phi);
    solve_upper<V>(n, x.f, x.f_inverse, phi);
  }
  for_each_contrast_pair(plan, [&](int pair, int row, int row2) {
    V t = V(0.0);
    for (int i = 0; i < p; ++i) t = fma(f.l[row * p + i], f.phi_l[row2 * n + k + i], t);
    f.s[pair] = t;
  });
  const auto clear = [](const A& array, int size) {
    for (int i = 0; i < size; ++i) array[i] = V(0.0);
  };
  clear(f.d, parameters * plan.pairs);
  clear(x.df, parameters * nn);
  if (plan.kenward_roger) {
    clear(f.k, triangle_size(parameters) * plan.pairs);
    clear(f.info, triangle_size(parameters));
    clear(f.trace, parameters);
    for (int j = 0; j < n; ++j) {
      for (int i = 0; i < n; ++i) x.solved[i] = V(i == j ? 1.0 : 0.0);
      solve_lower<V>(n, x.f, x.f_inverse, x.solved);
      solve_upper<V>(n, x.f, x.f_inverse, x.solved);
      for (int i = j; i < n; ++i) x.phi[triangle(i, j)] = x.solved[i];
    }
  }
  for (int at = 0; at < m.strata; ++at) add_stratum_forms<V>(s, m, m.stratum[at], plan, x, f);
  if (!plan.kenward_roger) return;
  for (int a = 0; a < parameters; ++a)
    for (int row = 0; row < plan.rows; ++row) {
      const A phi = f.phi_l + row * n, h = x.h + (a * plan.rows + row) * n;
      for (int i = 0; i < n; ++i) {
        V t = V(0.0);
        for (int e = 0; e < n; ++e) t = fma(x.df[a * nn + packed(i, e)], phi[e], t);
        h[i] = t;
      }
      solve_lower<V>(n, x.f, x.f_inverse, h);
    }
  for_each_contrast_pair(plan, [&](int pair, int row, int row2) {
    for (int a = 0; a < parameters; ++a)
      for (int b = 0; b <= a; ++b) {
        const A ha = x.h + (a * plan.rows + row) * n, hb = x.h + (b * plan.rows + row2) * n,
                ha2 = x.h + (a * plan.rows + row2) * n, hb2 = x.h + (b * plan.rows + row) * n;
        V t = V(0.0);
        for (int i = 0; i < n; ++i) t = fma(ha[i], hb[i], t);
        if (row != row2) {
          for (int i = 0; i < n; ++i) t = fma(ha2[i], hb2[i], t);
          t = V(0.5) * t;
        }
        const int at = triangle(a, b) * plan.pairs + pair;
        f.k[at] = f.k[at] - t;
      }
  });
  // What X takes from the traces: tr(Phi dF), <L^{-1}dF L^{-T}, L^{-1}dF'L^{-T}>.
  for (int a = 0; a < parameters; ++a) {
    const A df = x.df + a * nn;
    solve_both_sides<V>(n, x.f, x.f_inverse, df, x.solved);
    for (int i = 0; i < n; ++i) f.trace[a] = f.trace[a] + df[triangle(i, i)];
    for (int b = 0; b <= a; ++b) {
      const A other = x.df + b * nn;
      V t = f.info[triangle(a, b)];
      for (int i = 0; i < n; ++i)
        for (int e = 0; e <= i; ++e) {
          const V z = df[triangle(i, e)] * other[triangle(i, e)];
          t = t + (i == e ? z : z + z);
        }
      f.info[triangle(a, b)] = t;
    }
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
