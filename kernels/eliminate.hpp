/// @file
/// Elimination of the random effects, stage by stage (Bates, Maechler, Bolker and Walker 2015, section 3; in orthogonal
/// form).
///
/// A stage takes the cross-products  Gamma = [Gamma_cc, .; Gamma_1c, Gamma_11]  (c: outer columns, 1: own columns) by
/// the inverse covariance of all stages before, and leaves
///     Gamma_cc - Gamma_1c' K Gamma_1c,   K = T (I + Gamma_11 T)^{-1},   log|I + Gamma_11 T|.
/// With H = K Gamma_1c, U = (I - Gamma_11 K) Gamma_1c, W = I - K Gamma_11, B = Gamma_11 - Gamma_11 K Gamma_11 its
/// derivative by an entry of T (direction E) is -U'E U, and by Gamma (direction D) is J'D J with J = [I; -H].
/// derivatives.hpp uses what is kept here.
#pragma once

#include "kernels/elementary.hpp"
#include "kernels/workspace.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Logarithm of a product of many factors: multiplied up, the logarithm taken now and then, before it can overflow.
template <class V>
struct LogProduct {
  V product = V(1.0), sum = V(0.0);
  int count = 0;
  BATCHLMM_INLINE void multiply(const V& x) {
    product = product * x;
    if (++count == 12) flush();
  }
  BATCHLMM_INLINE void flush() {
    sum = sum + logarithm(product);
    product = V(1.0);
    count = 0;
  }
};

/// T of the streamed factor from its terms' lambdas: block diagonal, K x K.
template <class V, class A>
BATCHLMM_INLINE void streamed_t(const Shape& s, const Workspace<A>& w) {
  const int K = s.own[0];
  for (int i = 0; i < K * K; ++i) w.t[i] = V(0.0);
  for (int b = 0; b < s.terms; ++b) {
    const TermShape& term = s.term[b];
    if (term.stage != 0) continue;
    const A lambda = w.lambda + term.lambda;
    for (int i = 0; i < term.k; ++i)
      for (int j = 0; j <= i; ++j) {
        V t = V(0.0);
        for (int c = 0; c < term.k; ++c) t = fma(lambda[i * term.k + c], lambda[j * term.k + c], t);
        w.t[(term.column + i) * K + term.column + j] = t;
        w.t[(term.column + j) * K + term.column + i] = t;
      }
  }
}

/// Starts a node of stage t >= 1: its own rows of g from E and the response, its own rows of the derivatives at zero.
template <class V, class A, class Y, class C>
BATCHLMM_INLINE void start_node(const Shape& s, const Design<C>& design, const Y& response, const Workspace<A>& w,
                                int stage, int node, bool derivatives) {
  const int own = s.own[stage], outer = s.outer[stage];
  int offset = s.nodes[0] * s.own[0];
  for (int t = 1; t < stage; ++t) offset += s.nodes[t] * s.own[t];
  const Y y = response + (offset + node * own);
  const C* e = design.own_e[stage] + static_cast<std::size_t>(node) * own_e_size(own, outer);
  for (int i = 0; i < own; ++i) {
    const A row = w.g + triangle(outer + i, 0);
    row[0] = y[i];
    for (int c = 1; c <= outer + i; ++c) row[c] = V(*e++);
  }
  if (!derivatives) return;
  const int low = lower_parameters(s, stage);
  const int begin = triangle_size(outer), end = triangle_size(outer + own);
  for (int a = 0; a < low; ++a) {
    const A dg = w.dg + dg_offset(s, a);
    for (int i = begin; i < end; ++i) dg[i] = V(0.0);
  }
}

/// Streams level j of stage 0 into g and its derivatives.
/// @tparam LK  K where known at compile time, else 0
template <int LK, class V, class A, class Y, class C>
BATCHLMM_INLINE void eliminate_streamed(const Shape& s, const Design<C>& design, const Y& response,
                                        const Workspace<A>& w, int j, LogProduct<V>& log_determinant, MaskOf<V>& ok,
                                        bool derivatives) {
  const int K = LK > 0 ? LK : s.own[0], N = s.columns();
  const C* c = design.streamed_c + static_cast<std::size_t>(j) * K * K;
  const C* r = design.streamed_r + static_cast<std::size_t>(j) * K * (N - 1);
  const Y y = response + j * K;
  const A f = w.f, u = w.streamed_u + static_cast<std::size_t>(j) * K * N,
          b = w.streamed_b + static_cast<std::size_t>(j) * K * K;
  if constexpr (LK == 1) {
    // One column: M = 1 + C^2 T is a scalar, and f and u differ by a factor.
    const V cj = V(c[0]);
    const V m = fma(cj * cj, w.t[0], V(1.0));
    ok = ok && (m > V(0.0));
    log_determinant.multiply(m);
    const V inverse = V(1.0) / square_root(m), to_u = cj * inverse;
    b[0] = to_u * to_u;
    f[0] = y[0] * inverse;
    for (int i = 1; i < N; ++i) f[i] = inverse * V(r[i - 1]);
    for (int i = 0; i < N; ++i) u[i] = f[i] * to_u;
  } else {
    // M = I + C'TC = LL'; F = L^{-1}[R | y]; Y = L^{-1}C'; B = Y'Y = Z_j'V_j^{-1}Z_j; U = Y'F = Z_j'V_j^{-1}[.].
    const A tc = w.small, m = w.small + K * K, yl = w.small + 2 * K * K, inverse = w.small + 3 * K * K;
    for (int a = 0; a < K; ++a)
      for (int q = 0; q < K; ++q) {
        V t = V(0.0);
        for (int e = q; e < K; ++e) t = fma(w.t[a * K + e], V(c[e * K + q]), t);
        tc[a * K + q] = t;
      }
    for (int a = 0; a < K; ++a)
      for (int q = 0; q <= a; ++q) {
        V t = V(a == q ? 1.0 : 0.0);
        for (int e = a; e < K; ++e) t = fma(tc[e * K + q], V(c[e * K + a]), t);
        m[a * K + q] = t;
      }
    for (int a = 0; a < K; ++a) {
      for (int q = 0; q < a; ++q) {
        V t = m[a * K + q];
        for (int e = 0; e < q; ++e) t = fnma(V(m[a * K + e]), V(m[q * K + e]), t);
        m[a * K + q] = t * inverse[q];
      }
      V t = m[a * K + a];
      for (int e = 0; e < a; ++e) t = fnma(V(m[a * K + e]), V(m[a * K + e]), t);
      ok = ok && (t > V(0.0));
      log_determinant.multiply(t);
      inverse[a] = V(1.0) / square_root(t);
    }
    for (int a = 0; a < K; ++a) {
      const V ia = inverse[a];
      {
        V t = y[a];
        for (int e = 0; e < a; ++e) t = fnma(V(m[a * K + e]), V(f[e * N]), t);
        f[a * N] = t * ia;
      }
      for (int i = 1; i < N; ++i) {
        V t = V(r[a * (N - 1) + i - 1]);
        for (int e = 0; e < a; ++e) t = fnma(V(m[a * K + e]), V(f[e * N + i]), t);
        f[a * N + i] = t * ia;
      }
      // C' is upper triangular: row a of L^{-1}C' is full in general, its column q starts from C'(a, q) = C(q, a).
      for (int q = 0; q < K; ++q) {
        V t = V(q >= a ? V(c[q * K + a]) : V(0.0));
        for (int e = 0; e < a; ++e) t = fnma(V(m[a * K + e]), V(yl[e * K + q]), t);
        yl[a * K + q] = t * ia;
      }
    }
    for (int a = 0; a < K; ++a) {
      for (int q = 0; q <= a; ++q) {
        V t = V(0.0);
        for (int e = 0; e < K; ++e) t = fma(yl[e * K + a], yl[e * K + q], t);
        b[a * K + q] = t;
        b[q * K + a] = t;
      }
      for (int i = 0; i < N; ++i) {
        V t = V(0.0);
        for (int e = 0; e < K; ++e) t = fma(yl[e * K + a], f[e * N + i], t);
        u[a * N + i] = t;
      }
    }
  }
  for (int i = 0; i < N; ++i) {
    const A row = w.g + triangle(i, 0);
    if constexpr (LK == 1) {
      const V fi = f[i];
      for (int q = 0; q <= i; ++q) row[q] = fma(fi, f[q], row[q]);
    } else {
      for (int q = 0; q <= i; ++q) {
        V t = row[q];
        for (int a = 0; a < K; ++a) t = fma(f[a * N + i], f[a * N + q], t);
        row[q] = t;
      }
    }
  }
  if (!derivatives) return;
  int offset = 0;
  for (int b0 = 0; b0 < s.terms; ++b0) {
    const TermShape& term = s.term[b0];
    if (term.stage != 0) continue;
    for (int p = 0; p < term.k; ++p)
      for (int q = 0; q <= p; ++q, offset += triangle_size(N)) {
        const A up = u + (term.column + p) * N, uq = u + (term.column + q) * N;
        const A dg = w.dg + offset;
        if (p == q) {
          for (int i = 0; i < N; ++i) {
            const V t = -up[i];
            const A row = dg + triangle(i, 0);
            for (int e = 0; e <= i; ++e) row[e] = fma(t, up[e], row[e]);
          }
        } else {
          for (int i = 0; i < N; ++i) {
            const V t = -up[i], z = -uq[i];
            const A row = dg + triangle(i, 0);
            for (int e = 0; e <= i; ++e) row[e] = fma(t, uq[e], fma(z, up[e], row[e]));
          }
        }
      }
  }
}

/// The kept arrays of one node.
template <class A>
struct Node {
  A h, u, b, w, k, x;
  BATCHLMM_INLINE Node(const A& base, int own, int outer) {
    h = base;
    u = h + own * outer;
    b = u + own * outer;
    w = b + own * own;
    k = w + own * own;
    x = k + own * own;
  }
};

/// Sum over the pairs of directions of tr(P E_a Q E_b), with E_a = e_i e_j' + e_j e_i' (or e_i e_i') at rows o1 and E_b
/// likewise from (k, l) at o2.
template <class V, class A>
BATCHLMM_INLINE V trace_of_four(const A& P, const A& Q, int n, int o1, int i, int j, int o2, int k, int l) {
  V t = P[(o2 + l) * n + o1 + i] * Q[(o1 + j) * n + o2 + k];
  if (i != j) t = fma(P[(o2 + l) * n + o1 + j], Q[(o1 + i) * n + o2 + k], t);
  if (k != l) {
    t = fma(P[(o2 + k) * n + o1 + i], Q[(o1 + j) * n + o2 + l], t);
    if (i != j) t = fma(P[(o2 + k) * n + o1 + j], Q[(o1 + i) * n + o2 + l], t);
  }
  return t;
}
/// x'E y for E = e_i e_j' + e_j e_i' (or e_i e_i') at rows o.
template <class V, class A, class B>
BATCHLMM_INLINE V bilinear(const A& x, const B& y, int o, int i, int j) {
  V t = x[o + i] * y[o + j];
  if (i != j) t = fma(x[o + j], y[o + i], t);
  return t;
}

/// Calls visit(term index, offset of a level's columns) for every level of every term of a stage.
template <class F>
BATCHLMM_INLINE void for_each_block(const Shape& s, int stage, F&& visit) {
  for (int b = 0; b < s.terms; ++b)
    if (s.term[b].stage == stage)
      for (int l = 0; l < s.term[b].levels; ++l) visit(b, s.term[b].column + l * s.term[b].k);
}

/// Eliminates one node of stage t >= 1 from g, and (derivatives) from the derivatives of g; adds the second derivatives
/// of its log-determinant.
template <class V, class A>
BATCHLMM_FUNCTION inline void eliminate_node(const Shape& s, const Workspace<A>& w, int stage, int index,
                                             LogProduct<V>& log_determinant, MaskOf<V>& ok, bool derivatives) {
  const int n = s.own[stage], c = s.outer[stage];
  Node<A> node(w.node[stage] + static_cast<std::size_t>(index) * node_size(s, stage), n, c);
  const A x = w.scratch, p1 = x + n * n, l = p1 + n * n, tmp = l + n * n, pc = tmp + n * n, inverse = pc + n * c;
  const A g = w.g;
  const auto own = [&](int i, int j) { return packed(c + i, c + j); };
  const auto cross = [&](int i, int o) { return triangle(c + i, o); };

  // S = I + Lambda' Gamma_11 Lambda = LL'
  for_each_block(s, stage, [&](int b, int o) {
    const int k = s.term[b].k;
    const A lambda = w.lambda + s.term[b].lambda;
    for (int i = 0; i < n; ++i)
      for (int q = 0; q < k; ++q) {
        V t = V(0.0);
        for (int e = 0; e < k; ++e) t = fma(g[own(i, o + e)], lambda[e * k + q], t);
        tmp[i * n + o + q] = t;
      }
  });
  for_each_block(s, stage, [&](int b, int o) {
    const int k = s.term[b].k;
    const A lambda = w.lambda + s.term[b].lambda;
    for (int q = 0; q < k; ++q)
      for (int j = 0; j <= o + q; ++j) {
        V t = V(o + q == j ? 1.0 : 0.0);
        for (int e = 0; e < k; ++e) t = fma(lambda[e * k + q], tmp[(o + e) * n + j], t);
        l[(o + q) * n + j] = t;
      }
  });
  for (int i = 0; i < n; ++i) {
    const A li = l + i * n;
    for (int j = 0; j < i; ++j) {
      const A lj = l + j * n;
      V t = li[j];
      for (int e = 0; e < j; ++e) t = fnma(V(li[e]), V(lj[e]), t);
      li[j] = t * inverse[j];
    }
    V t = li[i];
    for (int e = 0; e < i; ++e) t = fnma(V(li[e]), V(li[e]), t);
    ok = ok && (t > V(0.0));
    log_determinant.multiply(t);
    inverse[i] = V(1.0) / square_root(t);
  }
  // X = L^{-1} Lambda', so that K = X'X; P = X Gamma
  for (int i = 0; i < n * n; ++i) x[i] = V(0.0);
  for_each_block(s, stage, [&](int b, int o) {
    const int k = s.term[b].k;
    const A lambda = w.lambda + s.term[b].lambda;
    for (int q = 0; q < k; ++q)
      for (int i = o; i < n; ++i) {
        V t = i < o + k ? V(lambda[q * k + i - o]) : V(0.0);
        for (int e = o; e < i; ++e) t = fnma(V(l[i * n + e]), V(x[e * n + o + q]), t);
        x[i * n + o + q] = t * inverse[i];
      }
  });
  for_each_block(s, stage, [&](int b, int o) {
    const int k = s.term[b].k, end = o + k;  // row i of X ends with the columns of its own level
    for (int i = o; i < end; ++i) {
      for (int j = 0; j < c; ++j) {
        V t = V(0.0);
        for (int e = 0; e < end; ++e) t = fma(x[i * n + e], g[cross(e, j)], t);
        pc[i * c + j] = t;
      }
      if (derivatives)
        for (int j = 0; j < n; ++j) {
          V t = V(0.0);
          for (int e = 0; e < end; ++e) t = fma(x[i * n + e], g[own(e, j)], t);
          p1[i * n + j] = t;
        }
    }
  });
  if (derivatives) {
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) {
        V k = V(0.0), wij = V(i == j ? 1.0 : 0.0);
        for (int e = 0; e < n; ++e) {
          k = fma(x[e * n + i], x[e * n + j], k);
          wij = fnma(V(x[e * n + i]), V(p1[e * n + j]), wij);
        }
        node.k[i * n + j] = k;
        node.w[i * n + j] = wij;
      }
      for (int j = 0; j <= i; ++j) {
        V b = g[own(i, j)];
        for (int e = 0; e < n; ++e) b = fnma(V(p1[e * n + i]), V(p1[e * n + j]), b);
        node.b[i * n + j] = b;
        node.b[j * n + i] = b;
      }
      for (int j = 0; j < c; ++j) {
        V h = V(0.0), u = g[cross(i, j)];
        for (int e = 0; e < n; ++e) {
          h = fma(x[e * n + i], pc[e * c + j], h);
          u = fnma(V(p1[e * n + i]), V(pc[e * c + j]), u);
        }
        node.h[i * c + j] = h;
        node.u[i * c + j] = u;
      }
    }
  }
  for (int i = 0; i < c; ++i)
    for (int j = 0; j <= i; ++j) {
      V t = g[triangle(i, j)];
      for (int e = 0; e < n; ++e) t = fnma(V(pc[e * c + i]), V(pc[e * c + j]), t);
      g[triangle(i, j)] = t;
    }
  if (!derivatives) return;

  // Derivatives by the parameters of the stages before: the change of g comes through Gamma.
  const int low = lower_parameters(s, stage);
  const A y = w.scratch, z = inverse + n;  // x is no longer needed; z: K dGamma_11, one n x n block a parameter
  int offset = 0;
  for (int a = 0; a < low; ++a) {
    const A dg = w.dg + offset;
    offset += triangle_size(s.outer[s.term[s.parameter_term[a]].stage]);
    const A xa = node.x + a * n * c;
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < c; ++j) {
        V t = dg[cross(i, j)];
        for (int e = 0; e < n; ++e) t = fnma(V(dg[own(i, e)]), V(node.h[e * c + j]), t);
        xa[i * c + j] = t;
      }
      for (int j = 0; j < n; ++j) {
        V t = V(0.0), v = V(0.0);
        for (int e = 0; e < n; ++e) {
          t = fma(node.k[i * n + e], dg[own(e, j)], t);
          v = fma(dg[own(i, e)], node.w[e * n + j], v);
        }
        z[(a * n + i) * n + j] = t;
        y[i * n + j] = v;
      }
    }
    for (int i = 0; i < c; ++i)
      for (int j = 0; j <= i; ++j) {
        V t = dg[triangle(i, j)];
        for (int e = 0; e < n; ++e) {
          t = fnma(V(node.h[e * c + i]), V(dg[cross(e, j)]), t);
          t = fnma(V(xa[e * c + i]), V(node.h[e * c + j]), t);
        }
        dg[triangle(i, j)] = t;
      }
    for (int b = 0; b <= a; ++b) {
      V t = w.hessian[triangle(a, b)];
      for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) t = fnma(V(z[(a * n + i) * n + j]), V(z[(b * n + j) * n + i]), t);
      w.hessian[triangle(a, b)] = t;
    }
    for_each_block(s, stage, [&](int b, int o) {
      const TermShape& term = s.term[b];
      for (int i = 0; i < term.k; ++i)
        for (int j = 0; j <= i; ++j) {
          V t = V(0.0);
          for (int e = 0; e < n; ++e) {
            t = fma(node.w[e * n + o + i], y[e * n + o + j], t);
            if (i != j) t = fma(node.w[e * n + o + j], y[e * n + o + i], t);
          }
          const int h = triangle(term.parameter + triangle(i, j), a);
          w.hessian[h] = w.hessian[h] + t;
        }
    });
  }
  // By its own parameters: -U'E U, and -tr(B E_a B E_b).
  for_each_block(s, stage, [&](int b, int o) {
    const TermShape& term = s.term[b];
    for (int p = 0; p < term.k; ++p)
      for (int q = 0; q <= p; ++q) {
        const int a = term.parameter + triangle(p, q);
        const A dg = w.dg + dg_offset(s, a);
        const A up = node.u + (o + p) * c, uq = node.u + (o + q) * c;
        for (int i = 0; i < c; ++i)
          for (int j = 0; j <= i; ++j) {
            V t = fnma(V(up[i]), V(uq[j]), V(dg[triangle(i, j)]));
            if (p != q) t = fnma(V(uq[i]), V(up[j]), t);
            dg[triangle(i, j)] = t;
          }
      }
    for_each_block(s, stage, [&](int b2, int o2) {
      const TermShape& other = s.term[b2];
      for (int p = 0; p < term.k; ++p)
        for (int q = 0; q <= p; ++q)
          for (int i = 0; i < other.k; ++i)
            for (int j = 0; j <= i; ++j) {
              const int a = term.parameter + triangle(p, q), a2 = other.parameter + triangle(i, j);
              if (a2 > a) continue;
              const V t = trace_of_four<V>(node.b, node.b, n, o, p, q, o2, i, j);
              w.hessian[triangle(a, a2)] = w.hessian[triangle(a, a2)] - t;
            }
    });
  });
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
