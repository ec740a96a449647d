/// @file
/// Exact gradient and Hessian of the profiled deviance by the entries of T, and the average information (Gilmour,
/// Thompson and Cullis 1995).
///
/// Elimination (eliminate.hpp) carries the first derivatives of g upwards. Here the adjoints come back down: Phi, of
/// the log-determinants, and v, for r^2 = v'Gamma v. With c = Z'Py the gradient of a term is the sum over its levels of
///     G = B - U Phi U' - (N / r^2) c c'.
/// The second derivative of a chain of eliminations is the sum over the stages of each one's own second derivative,
/// contracted with its adjoint; with the symmetric indefinite form A = [Gamma_11, I; I, -T] that is -2 r_a'A^{-1}r_b
/// for Gamma and -tr(A^{-1}dA_a A^{-1}dA_b) for the log-determinant.
#pragma once

#include "kernels/eliminate.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Eliminates X from what is left of g: beta, r^2 and (REML) log|X'V^{-1}X|.
/// @param w  w.g; w.x_factor, w.x_inverse and w.beta are filled
template <class V, class S, class W>
BATCHLMM_FUNCTION inline V eliminate_x_alone(const S& s, const W& w, V& log_determinant, MaskOf<V>& ok) {
  const int p = s.p;
  const auto l = w.x_factor, beta = w.beta;
  LogProduct<V> product;
  V r2 = w.g[0];
  for (int i = 0; i < p; ++i) {
    for (int j = 0; j < i; ++j) {
      V t = w.g[triangle(1 + i, 1 + j)];
      for (int e = 0; e < j; ++e) t = fnma(V(l[triangle(i, e)]), V(l[triangle(j, e)]), t);
      l[triangle(i, j)] = t * w.x_inverse[j];
    }
    V t = w.g[triangle(1 + i, 1 + i)], z = w.g[triangle(1 + i, 0)];
    for (int e = 0; e < i; ++e) {
      t = fnma(V(l[triangle(i, e)]), V(l[triangle(i, e)]), t);
      z = fnma(V(l[triangle(i, e)]), V(beta[e]), z);
    }
    ok = ok && (t > V(0.0));
    if (s.reml) product.multiply(t);
    const V inverse = V(1.0) / square_root(t);
    l[triangle(i, i)] = t * inverse;
    w.x_inverse[i] = inverse;
    beta[i] = z * inverse;
    r2 = fnma(V(beta[i]), V(beta[i]), r2);
  }
  for (int i = p - 1; i >= 0; --i) {
    V t = beta[i];
    for (int e = i + 1; e < p; ++e) t = fnma(V(l[triangle(e, i)]), V(beta[e]), t);
    beta[i] = t * w.x_inverse[i];
  }
  if (s.reml) product.flush();
  log_determinant = product.sum;
  return r2;
}

/// The same by a team.
template <class V, class S, class W>
BATCHLMM_FUNCTION inline V eliminate_x(const S& s, const W& w, V& log_determinant, MaskOf<V>& ok) {
  const auto team = team_of(s);
  if constexpr (!decltype(team_of(s))::alone) {
    // X has few columns: the first member does it alone.
    V r2 = V(0.0);
    if (is_first(team)) r2 = eliminate_x_alone<V>(s, w, log_determinant, ok);
    team.sync();
    log_determinant = team.from_first(log_determinant);
    ok = team.from_first(ok);
    return team.from_first(r2);
  } else {
    return eliminate_x_alone<V>(s, w, log_determinant, ok);
  }
}

/// Second derivatives from X's elimination, and the adjoints that it hands down.
template <class V, class S, class A>
BATCHLMM_FUNCTION inline void descend_x(const S& s, const Workspace<A>& w) {
  const int p = s.p, m = s.parameters;
  const auto team = team_of(s);
  const A l = w.x_factor, beta = w.beta;
  const A kx = w.scratch, z = w.scratch + m * p;
  const auto add_pairs = [&](int a) BATCHLMM_INLINE_LAMBDA {
    const A ka = kx + a * p;
    for (int b = 0; b <= a; ++b) {
      if (!is_mine(team, triangle(a, b))) continue;
      const A kb = kx + b * p;
      V q = w.information[triangle(a, b)];
      for (int i = 0; i < p; ++i) q = fnma(V(ka[i]), V(kb[i]), q);
      w.information[triangle(a, b)] = q;
      if (s.reml) {
        V h = w.hessian[triangle(a, b)];
        for (int i = 0; i < p * p; ++i) h = fnma(V(z[a * p * p + i]), V(z[b * p * p + i]), h);
        w.hessian[triangle(a, b)] = h;
      }
    }
  };
  int offset = 0;
  for (int a = 0; a < m; ++a) {
    const A dg = w.dg + offset;
    offset += triangle_size(s.outer[s.term[s.parameter_term[a]].stage]);
    if (!is_mine(team, a)) continue;
    const A ka = kx + a * p;
    V dr = dg[0];
    for (int i = 0; i < p; ++i) {
      V t = dg[triangle(1 + i, 0)];
      dr = fnma(t, V(beta[i]), dr);
      for (int e = 0; e < p; ++e) t = fnma(V(dg[packed(1 + i, 1 + e)]), V(beta[e]), t);
      dr = fnma(t, V(beta[i]), dr);
      for (int e = 0; e < i; ++e) t = fnma(V(l[triangle(i, e)]), V(ka[e]), t);
      ka[i] = t * w.x_inverse[i];
    }
    w.dr[a] = dr;
    if (s.reml) {
      // Z = L^{-1} dGamma_xx L^{-T}, symmetric
      const A za = z + a * p * p;
      for (int j = 0; j < p; ++j)
        for (int i = 0; i < p; ++i) {
          V t = dg[packed(1 + i, 1 + j)];
          for (int e = 0; e < i; ++e) t = fnma(V(l[triangle(i, e)]), V(za[e * p + j]), t);
          za[i * p + j] = t * w.x_inverse[i];
        }
      for (int i = 0; i < p; ++i)
        for (int j = 0; j < p; ++j) {
          V t = za[i * p + j];
          for (int e = 0; e < j; ++e) t = fnma(V(l[triangle(j, e)]), V(za[i * p + e]), t);
          za[i * p + j] = t * w.x_inverse[j];
        }
    }
    if constexpr (decltype(team_of(s))::alone) add_pairs(a);
  }
  if constexpr (!decltype(team_of(s))::alone) {
    team.sync();
    for (int a = 0; a < m; ++a) add_pairs(a);
  }
  if (is_mine(team, 0)) w.v[0] = V(1.0);
  for (int i = first_mine(team, 0); i < p; i += team.size()) w.v[1 + i] = -beta[i];
  for (int i = first_mine(team, 0); i < triangle_size(1 + p); i += team.size()) w.phi[i] = V(0.0);
  team.sync();
  if (!s.reml) return;
  // (X'V^{-1}X)^{-1}, a column a member.
  for (int j = first_mine(team, 0); j < p; j += team.size()) {
    const A column = w.scratch + (decltype(team_of(s))::alone ? 0 : j * p);
    for (int i = j; i < p; ++i) {
      V t = V(i == j ? 1.0 : 0.0);
      for (int e = j; e < i; ++e) t = fnma(V(l[triangle(i, e)]), V(column[e]), t);
      column[i] = t * w.x_inverse[i];
    }
    for (int i = p - 1; i >= j; --i) {
      V t = column[i];
      for (int e = i + 1; e < p; ++e) t = fnma(V(l[triangle(e, i)]), V(column[e]), t);
      column[i] = t * w.x_inverse[i];
      w.phi[triangle(1 + i, 1 + j)] = column[i];
    }
  }
  team.sync();
}

/// First column on which Phi is not identically zero: y's never is in it, X's only for REML.
template <class S>
BATCHLMM_INLINE int first_phi(const S& s) {
  return s.reml ? 1 : 1 + s.p;
}

/// Adds level by level to the gradient of a term, and to the second derivatives between the terms of one stage.
/// B, D (where `with_phi`) and c belong to one node: n x n, n x n and n.
template <class V, class S, class A>
BATCHLMM_INLINE void add_own(const S& s, const Workspace<A>& w, int stage, int n, const A& B, const A& D, const A& c,
                             const V& n_over_r2, bool with_phi, bool with_bb) {
  const auto team = team_of(s);
  const auto add_gradient = [&](int b, int o) BATCHLMM_INLINE_LAMBDA {
    const auto& term = s.term[b];
    for (int i = 0; i < term.k; ++i)
      for (int j = 0; j <= i; ++j) {
        const int a = term.parameter + triangle(i, j), at = (o + i) * n + o + j;
        if (!is_mine(team, a)) continue;
        V t = fnma(n_over_r2 * c[o + i], V(c[o + j]), V(B[at]));
        if (with_phi) t = t - D[at];
        w.gradient[a] = i == j ? w.gradient[a] + t : fma(t, V(2.0), V(w.gradient[a]));
      }
  };
  for_each_block(s, stage, add_gradient);
  for_each_pair<V>(s, w, stage, [&](auto&& information, auto&& hessian, int o, int i, int j, int o2, int k, int l) {
    // q: c'E_a B E_b c
    V q = c[o + i] * B[(o + j) * n + o2 + k] * c[o2 + l];
    if (i != j) q = fma(c[o + j] * B[(o + i) * n + o2 + k], V(c[o2 + l]), q);
    if (k != l) {
      q = fma(c[o + i] * B[(o + j) * n + o2 + l], V(c[o2 + k]), q);
      if (i != j) q = fma(c[o + j] * B[(o + i) * n + o2 + l], V(c[o2 + k]), q);
    }
    information = information + q;
    if (with_bb) hessian = hessian - trace_of_four<V>(B, B, n, o, i, j, o2, k, l);
    if (with_phi)
      hessian = hessian + (trace_of_four<V>(D, B, n, o, i, j, o2, k, l) + trace_of_four<V>(B, D, n, o, i, j, o2, k, l));
  });
}

/// Descends through one node of stage t >= 1: gradient and second derivatives of its terms, then its own rows of Phi
/// and v.
template <class V, class S, class A>
BATCHLMM_FUNCTION inline void descend_node(const S& s, const Workspace<A>& w, int any_stage, int index, const A& modes,
                                           const V& n_over_r2) {
  const int stage = only_stage(s, any_stage), n = s.own[stage], c = s.outer[stage], low = lower_parameters(s, stage),
            first = first_phi(s);
  const bool with_phi = c > first;
  const Node<A> node(w.node[stage] + static_cast<std::size_t>(index) * node_size(s, stage), n, c);
  const A d = w.scratch, t1 = d + n * n, r = t1 + n * c, xphi = r + n * c, kx = xphi + low * n * c,
          xv = kx + low * n * c, kxv = xv + low * n;
  const A phi = w.phi, v = w.v;
  const auto team = team_of(s);
  Deal<decltype(team_of(s))> deal(team);
  for (int i = first_mine(team, 0); i < n; i += team.size()) {
    V t = V(0.0);
    for (int e = 0; e < c; ++e) t = fma(node.u[i * c + e], v[e], t);
    modes[i] = t;
  }
  if (with_phi) {
    for (int i = 0; i < n; ++i)
      for (int e = first + deal.first(c - first); e < c; e += team.size()) {
        V t = V(0.0);
        for (int q = first; q < c; ++q) t = fma(node.u[i * c + q], phi[packed(q, e)], t);
        t1[i * c + e] = t;
      }
    team.sync();
    for (int i = 0; i < n; ++i)
      for (int j = deal.first(n); j < n; j += team.size()) {
        V t = V(0.0);
        for (int e = first; e < c; ++e) t = fma(t1[i * c + e], node.u[j * c + e], t);
        d[i * n + j] = t;
      }
  }
  team.sync();
  add_own<V>(s, w, stage, n, node.b, d, modes, n_over_r2, with_phi, false);

  for (int a = 0; a < low; ++a) {
    const A xa = node.x + a * n * c, xva = xv + a * n, kxva = kxv + a * n;
    for (int i = first_mine(team, 0); i < n; i += team.size()) {
      V t = V(0.0);
      for (int e = 0; e < c; ++e) t = fma(xa[i * c + e], v[e], t);
      xva[i] = t;
    }
    team.sync();
    // K X_a v = T W' X_a v
    const A wx = kxv + low * n;
    sum_products<false, V>(
        first_mine(team, 0), n, 0, 0, n, [](int, int) { return V(0.0); },
        [&](int e, int r) -> const V& { return node.w[e * n + r]; }, [&](int e, int) -> const V& { return xva[e]; },
        [&](int r, int, const V& t) { wx[r] = t; }, team.size());
    team.sync();
    for_each_block(s, stage, [&](int b, int o) {
      const int k = s.term[b].k;
      const A t = w.term_t + s.term[b].lambda;
      for (int i = first_mine(team, o) - o; i < k; i += team.size()) {
        V value = V(0.0);
        for (int q = 0; q < k; ++q) value = fma(t[i * k + q], wx[o + q], value);
        kxva[o + i] = value;
      }
    });
    if (with_phi)
      for (int i = 0; i < n; ++i)
        for (int e = first + deal.first(c - first); e < c; e += team.size()) {
          V t = V(0.0), z = V(0.0);
          for (int q = first; q < c; ++q) t = fma(xa[i * c + q], phi[packed(q, e)], t);
          for (int q = 0; q < n; ++q) z = fma(node.k[i * n + q], xa[q * c + e], z);
          xphi[(a * n + i) * c + e] = t;
          kx[(a * n + i) * c + e] = z;
        }
    team.sync();
    for (int b = deal.first(a + 1); b <= a; b += team.size()) {
      const int at = triangle(a, b);
      V q = w.information[at];
      for (int i = 0; i < n; ++i) q = fnma(V(xv[b * n + i]), V(kxva[i]), q);
      w.information[at] = q;
      if (with_phi) {
        V t = V(0.0);
        for (int i = 0; i < n; ++i)
          for (int e = first; e < c; ++e) t = fma(kx[(a * n + i) * c + e], xphi[(b * n + i) * c + e], t);
        w.hessian[at] = fma(t, V(-2.0), V(w.hessian[at]));
      }
    }
    // With the node's own parameters: -(X_a v)'W E_b c, and -2 tr(Phi X_a'W E_b U).
    if (with_phi)
      for (int i = 0; i < n; ++i)
        for (int e = first + deal.first(c - first); e < c; e += team.size()) {
          V t = V(0.0);
          for (int q = 0; q < n; ++q) t = fma(node.w[q * n + i], xphi[(a * n + q) * c + e], t);
          r[i * c + e] = t;
        }
    if (with_phi) team.sync();
    for_each_block(s, stage, [&](int b, int o) {
      const auto& term = s.term[b];
      for (int i = 0; i < term.k; ++i)
        for (int j = 0; j <= i; ++j) {
          const int at = triangle(term.parameter + triangle(i, j), a);
          if (!is_mine(team, term.parameter + triangle(i, j))) continue;
          w.information[at] = w.information[at] - bilinear<V>(wx, modes, o, i, j);
          if (with_phi) {
            V t = V(0.0);
            for (int e = first; e < c; ++e) {
              t = fma(node.u[(o + i) * c + e], r[(o + j) * c + e], t);
              if (i != j) t = fma(node.u[(o + j) * c + e], r[(o + i) * c + e], t);
            }
            w.hessian[at] = fma(t, V(-2.0), V(w.hessian[at]));
          }
        }
    });
  }
  team.sync();
  // Hand down: Phi on [outer; own] = J Phi J' + blockdiag(0, K), v = J v.
  if (with_phi)
    for (int i = 0; i < n; ++i)
      for (int e = deal.first(c); e < c; e += team.size()) {
        V t = V(0.0);
        if (e >= first)
          for (int q = first; q < c; ++q) t = fnma(V(node.h[i * c + q]), V(phi[packed(q, e)]), t);
        phi[triangle(c + i, e)] = t;
      }
  else
    for (int i = 0; i < n; ++i)
      for (int e = deal.first(c); e < c; e += team.size()) phi[triangle(c + i, e)] = V(0.0);
  if (with_phi) team.sync();
  for (int i = 0; i < n; ++i) {
    for (int j = deal.first(i + 1); j <= i; j += team.size()) {
      V t = node.k[i * n + j];
      if (with_phi)
        for (int e = first; e < c; ++e) t = fnma(V(node.h[j * c + e]), V(phi[triangle(c + i, e)]), t);
      phi[triangle(c + i, c + j)] = t;
    }
    if (!is_mine(team, i)) continue;
    V t = V(0.0);
    for (int e = 0; e < c; ++e) t = fnma(V(node.h[i * c + e]), V(v[e]), t);
    v[c + i] = t;
  }
  team.sync();
}

/// Gradient and second derivatives of the streamed factor's terms from its levels begin .. end - 1, at most
/// levels_together() of them, the last one first.
template <int LK, class V, class S, class A>
BATCHLMM_INLINE void descend_streamed(const S& s, const Workspace<A>& w, int begin, int end, const V& n_over_r2) {
  const int K = LK > 0 ? LK : s.own[0], N = s.columns(), first = first_phi(s), levels = end - begin;
  const bool with_phi = N > first;
  const auto team = team_of(s);
  Deal<decltype(team_of(s))> deal(team);
  const A us = w.streamed_u + static_cast<std::size_t>(begin) * K * N,
          bs = w.streamed_b + static_cast<std::size_t>(begin) * K * K;
  const A cs = w.modes + begin * K, ds = w.scratch, t1s = ds + levels * K * K;
  for (int i = deal.first(levels * K); i < levels * K; i += team.size()) {
    V t = V(0.0);
    for (int e = 0; e < N; ++e) t = fma(us[i * N + e], w.v[e], t);
    cs[i] = t;
  }
  if constexpr (LK == 1) {
    // u'Phi u over the lower triangle, off-diagonal entries twice
    const auto row_sum = [&](const A& u, int i) BATCHLMM_INLINE_LAMBDA {
      const A row = w.phi + triangle(i, 0);
      V t = V(0.0);
      for (int e = first; e < i; ++e) t = fma(row[e], u[e], t);
      return t;
    };
    const auto add_row = [&](const A& u, int i, const V& t, V& dj)
                             BATCHLMM_INLINE_LAMBDA { dj = fma(u[i], fma(w.phi[triangle(i, i)], u[i], t + t), dj); };
    if constexpr (!decltype(team_of(s))::alone) {
      if (with_phi) {
        for (int j = 0; j < levels; ++j)
          for (int i = first + deal.first(N - first); i < N; i += team.size()) t1s[j * N + i] = row_sum(us + j * N, i);
        team.sync();
        for (int j = first_mine(team, 0); j < levels; j += team.size()) {
          V dj = V(0.0);
          for (int i = first; i < N; ++i) add_row(us + j * N, i, V(t1s[j * N + i]), dj);
          ds[j] = dj;
        }
      }
      team.sync();
    }
    for (int j = levels - 1; j >= 0; --j) {
      V dj = V(0.0);
      if (with_phi) {
        if constexpr (decltype(team_of(s))::alone)
          for (int i = first; i < N; ++i) add_row(us + j * N, i, row_sum(us + j * N, i), dj);
        else
          dj = ds[j];
      }
      const V bj = bs[j], cj = cs[j];
      if (is_mine(team, 0)) w.gradient[0] = w.gradient[0] + fnma(n_over_r2 * cj, cj, bj - dj);
      if (is_mine(team, 1)) w.information[0] = fma(cj * bj, cj, V(w.information[0]));
      if (is_mine(team, 2)) w.hessian[0] = fma(bj, fma(dj, V(2.0), -bj), V(w.hessian[0]));
    }
  } else {
    if (with_phi) {
      for (int i = 0; i < levels * K; ++i)
        for (int e = first + deal.first(N - first); e < N; e += team.size()) {
          V t = V(0.0);
          for (int q = first; q < N; ++q) t = fma(us[i * N + q], w.phi[packed(q, e)], t);
          t1s[i * N + e] = t;
        }
      team.sync();
      for (int j = 0; j < levels; ++j) {
        const A u = us + j * K * N, t1 = t1s + j * K * N, d = ds + j * K * K;
        for (int i = 0; i < K; ++i)
          for (int q = deal.first(K); q < K; q += team.size()) {
            V t = V(0.0);
            for (int e = first; e < N; ++e) t = fma(t1[i * N + e], u[q * N + e], t);
            d[i * K + q] = t;
          }
      }
    }
    team.sync();
    for (int j = levels - 1; j >= 0; --j)
      add_own<V>(s, w, 0, K, bs + j * K * K, ds + j * K * K, cs + j * K, n_over_r2, with_phi, true);
  }
  team.sync();
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
