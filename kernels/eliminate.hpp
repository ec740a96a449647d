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

/// put(r, c, start(r, c) + sum over e in [begin, end) of a(e, r) b(e, c)) for rows r0 <= r < r1: four rows at a time
/// share what they load. a - in place of the + with `negative`. Sums run in the order of e.
template <bool negative, class V, class Start, class FA, class FB, class Put>
BATCHLMM_INLINE void sum_products(int r0, int r1, int c, int begin, int end, const Start& start, const FA& a,
                                  const FB& b, const Put& put) {
  const auto add = [](const V& x, const V& y, const V& z) { return negative ? fnma(x, y, z) : fma(x, y, z); };
  int r = r0;
  for (; r + 4 <= r1; r += 4) {
    V t0 = start(r, c), t1 = start(r + 1, c), t2 = start(r + 2, c), t3 = start(r + 3, c);
    for (int e = begin; e < end; ++e) {
      const V x = b(e, c);
      t0 = add(a(e, r), x, t0);
      t1 = add(a(e, r + 1), x, t1);
      t2 = add(a(e, r + 2), x, t2);
      t3 = add(a(e, r + 3), x, t3);
    }
    put(r, c, t0);
    put(r + 1, c, t1);
    put(r + 2, c, t2);
    put(r + 3, c, t3);
  }
  if (r + 2 <= r1) {
    V t0 = start(r, c), t1 = start(r + 1, c);
    for (int e = begin; e < end; ++e) {
      const V x = b(e, c);
      t0 = add(a(e, r), x, t0);
      t1 = add(a(e, r + 1), x, t1);
    }
    put(r, c, t0);
    put(r + 1, c, t1);
    r += 2;
  }
  if (r < r1) {
    V t0 = start(r, c);
    for (int e = begin; e < end; ++e) t0 = add(a(e, r), b(e, c), t0);
    put(r, c, t0);
  }
}

/// T = lambda lambda' of every term, and of the streamed factor: block diagonal, K x K.
template <class V, class S, class A>
BATCHLMM_INLINE void make_t(const S& s, const Workspace<A>& w) {
  const int K = s.own[0];
  for (int i = 0; i < K * K; ++i) w.t[i] = V(0.0);
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k;
    const A lambda = w.lambda + term.lambda, out = w.term_t + term.lambda;
    for (int i = 0; i < k; ++i)
      for (int j = 0; j <= i; ++j) {
        V t = V(0.0);
        for (int c = 0; c < k; ++c) t = fma(lambda[i * k + c], lambda[j * k + c], t);
        out[i * k + j] = t;
        out[j * k + i] = t;
        if (term.stage != 0) continue;
        w.t[(term.column + i) * K + term.column + j] = t;
        w.t[(term.column + j) * K + term.column + i] = t;
      }
  }
}

/// Starts a node of stage t >= 1: its own rows of g from E and the response, its own rows of the derivatives at zero.
template <class V, class S, class A, class Y, class C>
BATCHLMM_INLINE void start_node(const S& s, const Design<C>& design, const Y& response, const Workspace<A>& w,
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

/// Factors level j of stage 0.
/// @tparam LK  K where known at compile time, else 0
/// @param f    F, K x columns
template <int LK, class V, class S, class A, class Y, class C>
BATCHLMM_INLINE void factor_streamed(const S& s, const Design<C>& design, const Y& response, const Workspace<A>& w,
                                     int j, const A& f, LogProduct<V>& log_determinant, MaskOf<V>& ok) {
  const int K = LK > 0 ? LK : s.own[0], N = s.columns();
  const C* c = design.streamed_c + static_cast<std::size_t>(j) * K * K;
  const C* r = design.streamed_r + static_cast<std::size_t>(j) * K * (N - 1);
  const Y y = response + j * K;
  const A u = w.streamed_u + static_cast<std::size_t>(j) * K * N,
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
}

/// Adds (a minus with `negative`) x'x, `rows` rows of n columns, to a packed triangle.
template <bool negative, class V, class A>
BATCHLMM_INLINE void add_square(const A& to, const A& x, int rows, int n) {
  for (int c = 0; c < n; ++c)
    sum_products<negative, V>(
        c, n, c, 0, rows, [&](int r, int q) { return V(to[triangle(r, q)]); },
        [&](int e, int r) -> const V& { return x[e * n + r]; }, [&](int e, int q) -> const V& { return x[e * n + q]; },
        [&](int r, int q, const V& t) { to[triangle(r, q)] = t; });
}

/// Streams `levels` levels of stage 0, from `first` on, into g and its derivatives.
/// @tparam LK  K where known at compile time, else 0
template <int LK, class V, class S, class A, class Y, class C>
BATCHLMM_INLINE void eliminate_streamed(const S& s, const Design<C>& design, const Y& response, const Workspace<A>& w,
                                        int first, int levels, LogProduct<V>& log_determinant, MaskOf<V>& ok,
                                        bool derivatives) {
  const int K = LK > 0 ? LK : s.own[0], N = s.columns();
  for (int j = 0; j < levels; ++j)
    factor_streamed<LK, V>(s, design, response, w, first + j, w.f + j * K * N, log_determinant, ok);
  add_square<false, V>(w.g, w.f, levels * K, N);
  if (!derivatives) return;
  const A u = w.streamed_u + static_cast<std::size_t>(first) * K * N;
  if constexpr (LK == 1) {
    add_square<true, V>(w.dg, u, levels, N);
    return;
  }
  int offset = 0;
  for (int b0 = 0; b0 < s.terms; ++b0) {
    const auto& term = s.term[b0];
    if (term.stage != 0) continue;
    for (int p = 0; p < term.k; ++p)
      for (int q = 0; q <= p; ++q, offset += triangle_size(N)) {
        const A up = u + (term.column + p) * N, uq = u + (term.column + q) * N, dg = w.dg + offset;
        const int stride = K * N;
        for (int c = 0; c < N; ++c) {
          const auto start = [&](int r, int i) { return V(dg[triangle(r, i)]); };
          const auto put = [&](int r, int i, const V& t) { dg[triangle(r, i)] = t; };
          sum_products<true, V>(
              c, N, c, 0, levels, start, [&](int e, int r) -> const V& { return up[e * stride + r]; },
              [&](int e, int i) -> const V& { return uq[e * stride + i]; }, put);
          if (p != q)
            sum_products<true, V>(
                c, N, c, 0, levels, start, [&](int e, int r) -> const V& { return uq[e * stride + r]; },
                [&](int e, int i) -> const V& { return up[e * stride + i]; }, put);
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

/// `stage` where there are several after the streamed one; known at compile time where there is one.
template <class S>
BATCHLMM_INLINE int only_stage(const S&, int stage) {
  if constexpr (S::fixed) return S::stages == 1 ? 1 : stage;
  return stage;
}

/// Calls visit(term index, offset of a level's columns) for every level of every term of a stage.
template <class S, class F>
BATCHLMM_INLINE void for_each_block(const S& s, int stage, F&& visit) {
  for (int b = 0; b < s.terms; ++b)
    if (s.term[b].stage == stage)
      for (int l = 0; l < s.term[b].levels; ++l) visit(b, s.term[b].column + l * s.term[b].k);
}

/// Eliminates one node of stage t >= 1 from g, and (derivatives) from the derivatives of g; adds the second derivatives
/// of its log-determinant.
template <class V, class S, class A>
BATCHLMM_FUNCTION inline void eliminate_node(const S& s, const Workspace<A>& w, int any_stage, int index,
                                             LogProduct<V>& log_determinant, MaskOf<V>& ok, bool derivatives) {
  const int stage = only_stage(s, any_stage), n = s.own[stage], c = s.outer[stage];
  Node<A> node(w.node[stage] + static_cast<std::size_t>(index) * node_size(s, stage), n, c);
  const A x = w.scratch, p1 = x + n * n, l = p1 + n * n, tmp = l + n * n, pc = tmp + n * n, inverse = pc + n * c,
          square = inverse + n;  // Gamma_11 in full: sums run along its rows
  const A g = w.g;
  const auto own = [&](int i, int j) { return packed(c + i, c + j); };
  const auto cross = [&](int i, int o) { return triangle(c + i, o); };

  for (int i = 0; i < n; ++i)
    for (int j = 0; j <= i; ++j) square[i * n + j] = square[j * n + i] = g[own(i, j)];
  // S = I + Lambda' Gamma_11 Lambda = LL'
  for_each_block(s, stage, [&](int b, int o) {
    const int k = s.term[b].k;
    const A lambda = w.lambda + s.term[b].lambda;
    for (int i = 0; i < n; ++i)
      for (int q = 0; q < k; ++q) {
        V t = V(0.0);
        for (int e = 0; e < k; ++e) t = fma(square[i * n + o + e], lambda[e * k + q], t);
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
  // Column by column, so that four rows are in flight.
  for (int j = 0; j < n; ++j) {
    V t = l[j * n + j];
    for (int e = 0; e < j; ++e) t = fnma(V(l[j * n + e]), V(l[j * n + e]), t);
    ok = ok && (t > V(0.0));
    log_determinant.multiply(t);
    const V inv = V(1.0) / square_root(t);
    inverse[j] = inv;
    sum_products<true, V>(
        j + 1, n, j, 0, j, [&](int r, int q) { return V(l[r * n + q]); },
        [&](int e, int r) -> const V& { return l[r * n + e]; }, [&](int e, int q) -> const V& { return l[q * n + e]; },
        [&](int r, int q, const V& value) { l[r * n + q] = value * inv; });
  }
  // X = L^{-1} Lambda', so that K = X'X; P = X Gamma
  for (int i = 0; i < n * n; ++i) x[i] = V(0.0);
  for_each_block(s, stage, [&](int b, int o) {
    const int k = s.term[b].k;
    const A lambda = w.lambda + s.term[b].lambda;
    for (int i = o; i < n; ++i)
      for (int q = 0; q < k; ++q) {
        V t = i < o + k ? V(lambda[q * k + i - o]) : V(0.0);
        for (int e = o; e < i; ++e) t = fnma(V(l[i * n + e]), V(x[e * n + o + q]), t);
        x[i * n + o + q] = t * inverse[i];
      }
  });
  const auto zero = [](int, int) { return V(0.0); };
  for_each_block(s, stage, [&](int b, int o) {
    const int end = o + s.term[b].k;  // row i of X ends with the columns of its own level
    for (int i = o; i < end; ++i) {
      const auto row = [&](int e, int) -> const V& { return x[i * n + e]; };
      sum_products<false, V>(
          0, c, 0, 0, end, zero, [&](int e, int r) -> const V& { return g[cross(e, r)]; }, row,
          [&](int r, int, const V& t) { pc[i * c + r] = t; });
      if (derivatives)
        sum_products<false, V>(
            0, n, 0, 0, end, zero, [&](int e, int r) -> const V& { return square[e * n + r]; }, row,
            [&](int r, int, const V& t) { p1[i * n + r] = t; });
    }
  });
  if (derivatives) {
    // W = I - X'P, B = Gamma_11 - P'P, U = Gamma_1c - P'P_c; K = T W', H = T U.
    for_each_block(s, stage, [&](int b, int o) {
      for (int i = o; i < o + s.term[b].k; ++i)
        sum_products<true, V>(
            0, n, i, o, n, [](int r, int q) { return V(r == q ? 1.0 : 0.0); },
            [&](int e, int r) -> const V& { return p1[e * n + r]; },
            [&](int e, int q) -> const V& { return x[e * n + q]; },
            [&](int r, int q, const V& t) { node.w[q * n + r] = t; });
    });
    for (int j = 0; j < n; ++j)
      sum_products<true, V>(
          j, n, j, 0, n, [&](int r, int q) { return V(g[own(r, q)]); },
          [&](int e, int r) -> const V& { return p1[e * n + r]; },
          [&](int e, int q) -> const V& { return p1[e * n + q]; },
          [&](int r, int q, const V& t) {
            node.b[r * n + q] = t;
            node.b[q * n + r] = t;
          });
    for (int j = 0; j < c; ++j)
      sum_products<true, V>(
          0, n, j, 0, n, [&](int r, int q) { return V(g[cross(r, q)]); },
          [&](int e, int r) -> const V& { return p1[e * n + r]; },
          [&](int e, int q) -> const V& { return pc[e * c + q]; },
          [&](int r, int q, const V& t) { node.u[r * c + q] = t; });
    for_each_block(s, stage, [&](int b, int o) {
      const int k = s.term[b].k;
      const A t = w.term_t + s.term[b].lambda;
      for (int i = 0; i < k; ++i) {
        for (int j = 0; j <= o + i; ++j) {
          V value = V(0.0);
          for (int q = 0; q < k; ++q) value = fma(t[i * k + q], node.w[j * n + o + q], value);
          node.k[(o + i) * n + j] = value;
          node.k[j * n + o + i] = value;
        }
        for (int j = 0; j < c; ++j) {
          V value = V(0.0);
          for (int q = 0; q < k; ++q) value = fma(t[i * k + q], node.u[(o + q) * c + j], value);
          node.h[(o + i) * c + j] = value;
        }
      }
    });
  }
  for (int j = 0; j < c; ++j)
    sum_products<true, V>(
        j, c, j, 0, n, [&](int r, int q) { return V(g[triangle(r, q)]); },
        [&](int e, int r) -> const V& { return pc[e * c + r]; },
        [&](int e, int q) -> const V& { return pc[e * c + q]; },
        [&](int r, int q, const V& t) { g[triangle(r, q)] = t; });
  if (!derivatives) return;

  // Derivatives by the parameters of the stages before: the change of g comes through Gamma.
  const int low = lower_parameters(s, stage);
  // What is no longer needed makes room. z: K dGamma_11 = T (dGamma_11 W)', n x n a parameter.
  const A y = w.scratch, d = square, z = square + n * n;
  int offset = 0;
  for (int a = 0; a < low; ++a) {
    const A dg = w.dg + offset;
    offset += triangle_size(s.outer[s.term[s.parameter_term[a]].stage]);
    const A xa = node.x + a * n * c;
    for (int i = 0; i < n; ++i)
      for (int j = 0; j <= i; ++j) d[i * n + j] = d[j * n + i] = dg[own(i, j)];
    for (int j = 0; j < c; ++j)
      sum_products<true, V>(
          0, n, j, 0, n, [&](int r, int q) { return V(dg[cross(r, q)]); },
          [&](int e, int r) -> const V& { return d[e * n + r]; },
          [&](int e, int q) -> const V& { return node.h[e * c + q]; },
          [&](int r, int q, const V& t) { xa[r * c + q] = t; });
    for (int j = 0; j < n; ++j)
      sum_products<false, V>(
          0, n, j, 0, n, zero, [&](int e, int r) -> const V& { return d[e * n + r]; },
          [&](int e, int q) -> const V& { return node.w[e * n + q]; },
          [&](int r, int q, const V& t) { y[r * n + q] = t; });
    for_each_block(s, stage, [&](int b, int o) {
      const int k = s.term[b].k;
      const A t = w.term_t + s.term[b].lambda;
      for (int i = 0; i < k; ++i)
        for (int j = 0; j < n; ++j) {
          V value = V(0.0);
          for (int q = 0; q < k; ++q) value = fma(t[i * k + q], y[j * n + o + q], value);
          z[(a * n + o + i) * n + j] = value;
        }
    });
    for (int j = 0; j < c; ++j) {
      const auto start = [&](int r, int q) { return V(dg[triangle(r, q)]); };
      const auto put = [&](int r, int q, const V& t) { dg[triangle(r, q)] = t; };
      sum_products<true, V>(
          j, c, j, 0, n, start, [&](int e, int r) -> const V& { return node.h[e * c + r]; },
          [&](int e, int q) -> const V& { return dg[cross(e, q)]; }, put);
      sum_products<true, V>(
          j, c, j, 0, n, start, [&](int e, int r) -> const V& { return xa[e * c + r]; },
          [&](int e, int q) -> const V& { return node.h[e * c + q]; }, put);
    }
    for (int b = 0; b <= a; ++b) {
      V t = w.hessian[triangle(a, b)];
      for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) t = fnma(V(z[(a * n + i) * n + j]), V(z[(b * n + j) * n + i]), t);
      w.hessian[triangle(a, b)] = t;
    }
    for_each_block(s, stage, [&](int b, int o) {
      const auto& term = s.term[b];
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
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    if (term.stage != stage) continue;
    const int k = term.k, levels = term.levels, stride = k * c;
    const A u = node.u + term.column * c;
    for (int p = 0; p < k; ++p)
      for (int q = 0; q <= p; ++q) {
        const A dg = w.dg + dg_offset(s, term.parameter + triangle(p, q));
        const auto start = [&](int r, int i) { return V(dg[triangle(r, i)]); };
        const auto put = [&](int r, int i, const V& t) { dg[triangle(r, i)] = t; };
        const auto up = [&](int e, int i) -> const V& { return u[e * stride + p * c + i]; };
        const auto uq = [&](int e, int i) -> const V& { return u[e * stride + q * c + i]; };
        for (int j = 0; j < c; ++j) {
          sum_products<true, V>(j, c, j, 0, levels, start, up, uq, put);
          if (p != q) sum_products<true, V>(j, c, j, 0, levels, start, uq, up, put);
        }
      }
  }
  for_each_block(s, stage, [&](int b, int o) {
    const auto& term = s.term[b];
    for_each_block(s, stage, [&](int b2, int o2) {
      const auto& other = s.term[b2];
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
