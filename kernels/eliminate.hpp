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

/// put(r, c, start(r, c) + sum over e in [begin, end) of a(e, r) b(e, c)) for rows r0 <= r < r1, every `step`-th: four
/// rows at a time share what they load. a - in place of the + with `negative`. Sums run in the order of e.
template <bool negative, class V, class Start, class FA, class FB, class Put>
BATCHLMM_INLINE void sum_products(int r0, int r1, int c, int begin, int end, const Start& start, const FA& a,
                                  const FB& b, const Put& put, int step = 1) {
  const auto add = [](const V& x, const V& y, const V& z) { return negative ? fnma(x, y, z) : fma(x, y, z); };
  int r = r0;
  for (; r + 3 * step < r1; r += 4 * step) {
    const int q1 = r + step, q2 = r + 2 * step, q3 = r + 3 * step;
    V t0 = start(r, c), t1 = start(q1, c), t2 = start(q2, c), t3 = start(q3, c);
    for (int e = begin; e < end; ++e) {
      const V x = b(e, c);
      t0 = add(a(e, r), x, t0);
      t1 = add(a(e, q1), x, t1);
      t2 = add(a(e, q2), x, t2);
      t3 = add(a(e, q3), x, t3);
    }
    put(r, c, t0);
    put(q1, c, t1);
    put(q2, c, t2);
    put(q3, c, t3);
  }
  if (r + step < r1) {
    V t0 = start(r, c), t1 = start(r + step, c);
    for (int e = begin; e < end; ++e) {
      const V x = b(e, c);
      t0 = add(a(e, r), x, t0);
      t1 = add(a(e, r + step), x, t1);
    }
    put(r, c, t0);
    put(r + step, c, t1);
    r += 2 * step;
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
  const auto team = team_of(s);
  for (int i = first_mine(team, 0); i < K * K; i += team.size()) w.t[i] = V(0.0);
  team.sync();
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k;
    const A lambda = w.lambda + term.lambda, out = w.term_t + term.lambda;
    for (int i = 0; i < k; ++i)
      for (int j = 0; j <= i; ++j) {
        if (!is_mine(team, triangle(i, j))) continue;
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
  const C* e = design.own_e[stage] + static_cast<std::size_t>(node) * own_e_size(own, outer) - 1;
  const auto team = team_of(s);
  for (int i = 0; i < own; ++i) {
    const A row = w.g + triangle(outer + i, 0);
    if (is_mine(team, 0)) row[0] = y[i];
    for (int c = first_mine(team, 1); c <= outer + i; c += team.size()) row[c] = V(e[c]);
    e += outer + i;
  }
  if (!derivatives) return;
  const int low = lower_parameters(s, stage);
  const int begin = triangle_size(outer), end = triangle_size(outer + own);
  for (int a = 0; a < low; ++a) {
    const A dg = w.dg + dg_offset(s, a);
    for (int i = first_mine(team, begin); i < end; i += team.size()) dg[i] = V(0.0);
  }
  team.sync();
}

/// What factor_level leaves of a streamed level, K x K each: the first is its own scratch. With one column: the pivot
/// and 1 / L.
template <class A>
struct StreamedLevel {
  A tc, m, yl, inverse;
  BATCHLMM_INLINE StreamedLevel(const A& at, int K)
      : tc(at), m(at + K * K), yl(at + 2 * K * K), inverse(at + 3 * K * K) {}
};

/// M = I + C'TC = LL' of level j of stage 0; Y = L^{-1}C'; B = Y'Y = Z_j'V_j^{-1}Z_j.
/// @param pivot  pivot(a, t): pivot a is t
template <class V, class S, class A, class C, class Pivot>
BATCHLMM_INLINE void factor_level(const S& s, const Design<C>& design, const Workspace<A>& w, int j,
                                  const StreamedLevel<A>& level, const Pivot& pivot) {
  const int K = s.own[0];
  const C* c = design.streamed_c + static_cast<std::size_t>(j) * K * K;
  const A b = w.streamed_b + static_cast<std::size_t>(j) * K * K;
  const A tc = level.tc, m = level.m, yl = level.yl, inverse = level.inverse;
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
    pivot(a, t);
    inverse[a] = V(1.0) / square_root(t);
  }
  for (int a = 0; a < K; ++a) {
    const V ia = inverse[a];
    // C' is upper triangular: row a of L^{-1}C' is full in general, its column q starts from C'(a, q) = C(q, a).
    for (int q = 0; q < K; ++q) {
      V t = V(q >= a ? V(c[q * K + a]) : V(0.0));
      for (int e = 0; e < a; ++e) t = fnma(V(m[a * K + e]), V(yl[e * K + q]), t);
      yl[a * K + q] = t * ia;
    }
  }
  for (int a = 0; a < K; ++a)
    for (int q = 0; q <= a; ++q) {
      V t = V(0.0);
      for (int e = 0; e < K; ++e) t = fma(yl[e * K + a], yl[e * K + q], t);
      b[a * K + q] = t;
      b[q * K + a] = t;
    }
}

/// F = L^{-1}[R | y] and U = Y'F = Z_j'V_j^{-1}[.] of level j.
/// @param f  F, K x columns
template <class V, class S, class A, class Y, class C>
BATCHLMM_INLINE void project_level(const S& s, const Design<C>& design, const Y& response, const Workspace<A>& w, int j,
                                   const StreamedLevel<A>& level, const A& f) {
  const int K = s.own[0], N = s.columns();
  const C* r = design.streamed_r + static_cast<std::size_t>(j) * K * (N - 1);
  const Y y = response + j * K;
  const A u = w.streamed_u + static_cast<std::size_t>(j) * K * N;
  const A m = level.m, yl = level.yl;
  const auto team = team_of(s);
  for (int a = 0; a < K; ++a) {
    const V ia = level.inverse[a];
    if (is_mine(team, 0)) {
      V t = y[a];
      for (int e = 0; e < a; ++e) t = fnma(V(m[a * K + e]), V(f[e * N]), t);
      f[a * N] = t * ia;
    }
    for (int i = first_mine(team, 1); i < N; i += team.size()) {
      V t = V(r[a * (N - 1) + i - 1]);
      for (int e = 0; e < a; ++e) t = fnma(V(m[a * K + e]), V(f[e * N + i]), t);
      f[a * N + i] = t * ia;
    }
  }
  for (int a = 0; a < K; ++a)
    for (int i = first_mine(team, 0); i < N; i += team.size()) {
      V t = V(0.0);
      for (int e = 0; e < K; ++e) t = fma(yl[e * K + a], f[e * N + i], t);
      u[a * N + i] = t;
    }
}

/// The same where the streamed factor has one column: M = 1 + C^2 T is a scalar, and f and u differ by a factor.
/// @param inverse  1 / sqrt(M)
template <class V, class S, class A, class Y, class C>
BATCHLMM_INLINE void project_one_column(const S& s, const Design<C>& design, const Y& response, const Workspace<A>& w,
                                        int j, const V& inverse, const A& f) {
  const int N = s.columns();
  const C* r = design.streamed_r + static_cast<std::size_t>(j) * (N - 1);
  const A u = w.streamed_u + static_cast<std::size_t>(j) * N;
  const auto team = team_of(s);
  const V to_u = V(design.streamed_c[j]) * inverse;
  if (is_mine(team, 0)) {
    w.streamed_b[j] = to_u * to_u;
    f[0] = response[j] * inverse;
  }
  for (int i = first_mine(team, 1); i < N; i += team.size()) f[i] = inverse * V(r[i - 1]);
  for (int i = first_mine(team, 0); i < N; i += team.size()) u[i] = f[i] * to_u;
}

/// Factors `levels` levels of stage 0 from `first` on; their F in w.f.
/// @tparam LK  K where known at compile time, else 0
template <int LK, class V, class S, class A, class Y, class C>
BATCHLMM_INLINE void factor_streamed(const S& s, const Design<C>& design, const Y& response, const Workspace<A>& w,
                                     int first, int levels, LogProduct<V>& log_determinant, MaskOf<V>& ok) {
  const int K = LK > 0 ? LK : s.own[0], N = s.columns();
  const auto team = team_of(s);
  const auto count = [&](const V& pivot) {
    ok = ok && (pivot > V(0.0));
    log_determinant.multiply(pivot);
  };
  const auto one_column_pivot = [&](int j) {
    const V cj = V(design.streamed_c[first + j]);
    return fma(cj * cj, w.t[0], V(1.0));
  };
  if constexpr (decltype(team_of(s))::alone) {
    for (int j = 0; j < levels; ++j) {
      const A f = w.f + j * K * N;
      if constexpr (LK == 1) {
        const V m = one_column_pivot(j);
        count(m);
        project_one_column<V>(s, design, response, w, first + j, V(1.0) / square_root(m), f);
      } else {
        const StreamedLevel<A> level(w.small, K);
        factor_level<V>(s, design, w, first + j, level, [&](int, const V& t) { count(t); });
        project_level<V>(s, design, response, w, first + j, level, f);
      }
    }
  } else {
    // A member a level, and then all members level by level.
    const auto level = [&](int j) { return StreamedLevel<A>(w.small + j * 4 * K * K, K); };
    for (int j = first_mine(team, 0); j < levels; j += team.size()) {
      const StreamedLevel<A> l = level(j);
      if constexpr (LK == 1) {
        l.m[0] = one_column_pivot(j);
        l.inverse[0] = V(1.0) / square_root(V(l.m[0]));
      } else {
        // Row 0 of tc is of no use any more: the pivots find room there.
        factor_level<V>(s, design, w, first + j, l, [&](int a, const V& t) { l.tc[a] = t; });
      }
    }
    team.sync();
    for (int j = 0; j < levels; ++j) {
      const StreamedLevel<A> l = level(j);
      const A f = w.f + j * K * N;
      if constexpr (LK == 1) {
        count(V(l.m[0]));
        project_one_column<V>(s, design, response, w, first + j, V(l.inverse[0]), f);
      } else {
        for (int a = 0; a < K; ++a) count(V(l.tc[a]));
        project_level<V>(s, design, response, w, first + j, l, f);
      }
    }
    team.sync();
  }
}

/// Adds (a minus with `negative`) x'x, `rows` rows of n columns, to a packed triangle.
template <bool negative, class V, class Team, class A>
BATCHLMM_INLINE void add_square(const Team& team, const A& to, const A& x, int rows, int n) {
  for_each_tile(team, n, true, [&](int r0, int r1, int c) BATCHLMM_INLINE_LAMBDA {
    sum_products<negative, V>(
        r0, r1, c, 0, rows, [&](int r, int q) { return V(to[triangle(r, q)]); },
        [&](int e, int r) -> const V& { return x[e * n + r]; }, [&](int e, int q) -> const V& { return x[e * n + q]; },
        [&](int r, int q, const V& t) { to[triangle(r, q)] = t; });
  });
}

/// Streams `levels` levels of stage 0, from `first` on, into g and its derivatives.
/// @tparam LK  K where known at compile time, else 0
template <int LK, class V, class S, class A, class Y, class C>
BATCHLMM_INLINE void eliminate_streamed(const S& s, const Design<C>& design, const Y& response, const Workspace<A>& w,
                                        int first, int levels, LogProduct<V>& log_determinant, MaskOf<V>& ok,
                                        bool derivatives) {
  const int K = LK > 0 ? LK : s.own[0], N = s.columns();
  const auto team = team_of(s);
  factor_streamed<LK, V>(s, design, response, w, first, levels, log_determinant, ok);
  add_square<false, V>(team, w.g, w.f, levels * K, N);
  if (derivatives) {
    const A u = w.streamed_u + static_cast<std::size_t>(first) * K * N;
    if constexpr (LK == 1) {
      add_square<true, V>(team, w.dg, u, levels, N);
    } else {
      int offset = 0;
      for (int b0 = 0; b0 < s.terms; ++b0) {
        const auto& term = s.term[b0];
        if (term.stage != 0) continue;
        for (int p = 0; p < term.k; ++p)
          for (int q = 0; q <= p; ++q, offset += triangle_size(N)) {
            const A up = u + (term.column + p) * N, uq = u + (term.column + q) * N, dg = w.dg + offset;
            const int stride = K * N;
            for_each_tile(team, N, true, [&](int r0, int r1, int c) BATCHLMM_INLINE_LAMBDA {
              const auto start = [&](int r, int i) { return V(dg[triangle(r, i)]); };
              const auto put = [&](int r, int i, const V& t) { dg[triangle(r, i)] = t; };
              sum_products<true, V>(
                  r0, r1, c, 0, levels, start, [&](int e, int r) -> const V& { return up[e * stride + r]; },
                  [&](int e, int i) -> const V& { return uq[e * stride + i]; }, put);
              if (p != q)
                sum_products<true, V>(
                    r0, r1, c, 0, levels, start, [&](int e, int r) -> const V& { return uq[e * stride + r]; },
                    [&](int e, int i) -> const V& { return up[e * stride + i]; }, put);
            });
          }
      }
    }
  }
  team.sync();
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

/// add(information, hessian, o, i, j, o2, k, l) for every pair of levels of a stage's terms, at columns o and o2, and
/// every pair of entries (i, j) and (k, l) of their T's, the second parameter no later than the first: information and
/// hessian are the sums that belong to the two parameters.
template <class V, class S, class A, class F>
BATCHLMM_INLINE void for_each_pair(const S& s, const Workspace<A>& w, int stage, const F& add) {
  const auto team = team_of(s);
  if constexpr (decltype(team_of(s))::alone) {
    for_each_block(s, stage, [&](int b, int o) {
      const auto& term = s.term[b];
      for_each_block(s, stage, [&](int b2, int o2) {
        const auto& other = s.term[b2];
        if (other.parameter > term.parameter) return;
        for (int i = 0; i < term.k; ++i)
          for (int j = 0; j <= i; ++j)
            for (int k = 0; k < other.k; ++k)
              for (int l = 0; l <= k; ++l) {
                const int a = term.parameter + triangle(i, j), a2 = other.parameter + triangle(k, l);
                if (a2 > a) continue;
                const int at = triangle(a, a2);
                add(w.information[at], w.hessian[at], o, i, j, o2, k, l);
              }
      });
    });
  } else {
    // A member a pair of parameters; its levels in the order above.
    Deal<decltype(team_of(s))> deal(team);
    for (int b = 0; b < s.terms; ++b)
      for (int b2 = 0; b2 <= b; ++b2) {
        const auto &term = s.term[b], &other = s.term[b2];
        if (term.stage != stage || other.stage != stage) continue;
        const int entries = triangle_size(term.k), others = triangle_size(other.k);
        for (int x = 0; x < entries; ++x) {
          const int a = term.parameter + x, count = b == b2 ? x + 1 : others;
          for (int x2 = deal.first(count); x2 < count; x2 += team.size()) {
            const int a2 = other.parameter + x2, at = triangle(a, a2);
            V information = w.information[at], hessian = w.hessian[at];
            for (int n = 0; n < term.levels; ++n)
              for (int n2 = 0; n2 < other.levels; ++n2)
                add(information, hessian, term.column + n * term.k, s.parameter_row[a], s.parameter_column[a],
                    other.column + n2 * other.k, s.parameter_row[a2], s.parameter_column[a2]);
            w.information[at] = information;
            w.hessian[at] = hessian;
          }
        }
      }
  }
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

  const auto team = team_of(s);
  Deal<decltype(team_of(s))> deal(team);
  for (int i = first_mine(team, 0); i < n * n; i += team.size()) x[i] = V(0.0);
  for (int i = 0; i < n; ++i)
    for (int j = first_mine(team, 0); j <= i; j += team.size()) square[i * n + j] = square[j * n + i] = g[own(i, j)];
  team.sync();
  // S = I + Lambda' Gamma_11 Lambda = LL'
  for_each_block(s, stage, [&](int b, int o) {
    const int k = s.term[b].k, first = first_mine(team, o) - o;
    if (first >= k) return;
    const A lambda = w.lambda + s.term[b].lambda;
    for (int i = 0; i < n; ++i)
      for (int q = first; q < k; q += team.size()) {
        V t = V(0.0);
        for (int e = 0; e < k; ++e) t = fma(square[i * n + o + e], lambda[e * k + q], t);
        tmp[i * n + o + q] = t;
      }
  });
  team.sync();
  for_each_block(s, stage, [&](int b, int o) {
    const int k = s.term[b].k;
    const A lambda = w.lambda + s.term[b].lambda;
    for (int q = 0; q < k; ++q)
      for (int j = deal.first(o + q + 1); j <= o + q; j += team.size()) {
        V t = V(o + q == j ? 1.0 : 0.0);
        for (int e = 0; e < k; ++e) t = fma(lambda[e * k + q], tmp[(o + e) * n + j], t);
        l[(o + q) * n + j] = t;
      }
  });
  team.sync();
  // Column by column, so that four rows are in flight.
  for (int j = 0; j < n; ++j) {
    V t = l[j * n + j];
    for (int e = 0; e < j; ++e) t = fnma(V(l[j * n + e]), V(l[j * n + e]), t);
    ok = ok && (t > V(0.0));
    log_determinant.multiply(t);
    const V inv = V(1.0) / square_root(t);
    if (is_mine(team, j)) inverse[j] = inv;
    sum_products<true, V>(
        first_mine(team, j + 1), n, j, 0, j, [&](int r, int q) { return V(l[r * n + q]); },
        [&](int e, int r) -> const V& { return l[r * n + e]; }, [&](int e, int q) -> const V& { return l[q * n + e]; },
        [&](int r, int q, const V& value) { l[r * n + q] = value * inv; }, team.size());
    team.sync();
  }
  // X = L^{-1} Lambda', so that K = X'X; P = X Gamma
  for_each_block(s, stage, [&](int b, int o) {
    const int k = s.term[b].k, first = first_mine(team, o) - o;
    if (first >= k) return;
    const A lambda = w.lambda + s.term[b].lambda;
    for (int i = o; i < n; ++i)
      for (int q = first; q < k; q += team.size()) {
        V t = i < o + k ? V(lambda[q * k + i - o]) : V(0.0);
        for (int e = o; e < i; ++e) t = fnma(V(l[i * n + e]), V(x[e * n + o + q]), t);
        x[i * n + o + q] = t * inverse[i];
      }
  });
  team.sync();
  const auto zero = [](int, int) { return V(0.0); };
  for_each_block(s, stage, [&](int b, int o) {
    const int end = o + s.term[b].k;  // row i of X ends with the columns of its own level
    for (int i = o; i < end; ++i) {
      const auto row = [&](int e, int) -> const V& { return x[i * n + e]; };
      sum_products<false, V>(
          deal.first(c), c, 0, 0, end, zero, [&](int e, int r) -> const V& { return g[cross(e, r)]; }, row,
          [&](int r, int, const V& t) { pc[i * c + r] = t; }, team.size());
      if (derivatives)
        sum_products<false, V>(
            deal.first(n), n, 0, 0, end, zero, [&](int e, int r) -> const V& { return square[e * n + r]; }, row,
            [&](int r, int, const V& t) { p1[i * n + r] = t; }, team.size());
    }
  });
  team.sync();
  if (derivatives) {
    // W = I - X'P, B = Gamma_11 - P'P, U = Gamma_1c - P'P_c; K = T W', H = T U.
    for_each_block(s, stage, [&](int b, int o) {
      for (int i = o; i < o + s.term[b].k; ++i)
        sum_products<true, V>(
            deal.first(n), n, i, o, n, [](int r, int q) { return V(r == q ? 1.0 : 0.0); },
            [&](int e, int r) -> const V& { return p1[e * n + r]; },
            [&](int e, int q) -> const V& { return x[e * n + q]; },
            [&](int r, int q, const V& t) { node.w[q * n + r] = t; }, team.size());
    });
    for_each_tile(team, n, true, [&](int r0, int r1, int j) BATCHLMM_INLINE_LAMBDA {
      sum_products<true, V>(
          r0, r1, j, 0, n, [&](int r, int q) { return V(g[own(r, q)]); },
          [&](int e, int r) -> const V& { return p1[e * n + r]; },
          [&](int e, int q) -> const V& { return p1[e * n + q]; },
          [&](int r, int q, const V& t) {
            node.b[r * n + q] = t;
            node.b[q * n + r] = t;
          });
    });
    for (int j = 0; j < c; ++j)
      sum_products<true, V>(
          deal.first(n), n, j, 0, n, [&](int r, int q) { return V(g[cross(r, q)]); },
          [&](int e, int r) -> const V& { return p1[e * n + r]; },
          [&](int e, int q) -> const V& { return pc[e * c + q]; },
          [&](int r, int q, const V& t) { node.u[r * c + q] = t; }, team.size());
    team.sync();
    for_each_block(s, stage, [&](int b, int o) {
      const int k = s.term[b].k;
      const A t = w.term_t + s.term[b].lambda;
      for (int i = 0; i < k; ++i) {
        for (int j = deal.first(o + i + 1); j <= o + i; j += team.size()) {
          V value = V(0.0);
          for (int q = 0; q < k; ++q) value = fma(t[i * k + q], node.w[j * n + o + q], value);
          node.k[(o + i) * n + j] = value;
          node.k[j * n + o + i] = value;
        }
        for (int j = deal.first(c); j < c; j += team.size()) {
          V value = V(0.0);
          for (int q = 0; q < k; ++q) value = fma(t[i * k + q], node.u[(o + q) * c + j], value);
          node.h[(o + i) * c + j] = value;
        }
      }
    });
  }
  for (int j = 0; j < c; ++j)
    sum_products<true, V>(
        j + deal.first(c - j), c, j, 0, n, [&](int r, int q) { return V(g[triangle(r, q)]); },
        [&](int e, int r) -> const V& { return pc[e * c + r]; },
        [&](int e, int q) -> const V& { return pc[e * c + q]; },
        [&](int r, int q, const V& t) { g[triangle(r, q)] = t; }, team.size());
  team.sync();
  if (!derivatives) return;

  // Derivatives by the parameters of the stages before: the change of g comes through Gamma.
  const int low = lower_parameters(s, stage);
  // What is no longer needed makes room. z: K dGamma_11 = T (dGamma_11 W)', n x n a parameter.
  const A y = w.scratch, d = square, z = square + n * n;
  // tr(K dGamma_11a K dGamma_11b) for the parameters b up to a.
  const auto add_traces = [&](int a) BATCHLMM_INLINE_LAMBDA {
    for (int b = deal.first(a + 1); b <= a; b += team.size()) {
      V t = w.hessian[triangle(a, b)];
      for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) t = fnma(V(z[(a * n + i) * n + j]), V(z[(b * n + j) * n + i]), t);
      w.hessian[triangle(a, b)] = t;
    }
  };
  // tr(W E dGamma_11 W), E from (i, j) of the node's own term at column o.
  const auto own_trace = [&](int o, int i, int j) BATCHLMM_INLINE_LAMBDA {
    V t = V(0.0);
    for (int e = 0; e < n; ++e) {
      t = fma(node.w[e * n + o + i], y[e * n + o + j], t);
      if (i != j) t = fma(node.w[e * n + o + j], y[e * n + o + i], t);
    }
    return t;
  };
  int offset = 0;
  for (int a = 0; a < low; ++a) {
    const A dg = w.dg + offset;
    offset += triangle_size(s.outer[s.term[s.parameter_term[a]].stage]);
    const A xa = node.x + a * n * c;
    for (int i = 0; i < n; ++i)
      for (int j = first_mine(team, 0); j <= i; j += team.size()) d[i * n + j] = d[j * n + i] = dg[own(i, j)];
    team.sync();
    for (int j = 0; j < c; ++j)
      sum_products<true, V>(
          deal.first(n), n, j, 0, n, [&](int r, int q) { return V(dg[cross(r, q)]); },
          [&](int e, int r) -> const V& { return d[e * n + r]; },
          [&](int e, int q) -> const V& { return node.h[e * c + q]; },
          [&](int r, int q, const V& t) { xa[r * c + q] = t; }, team.size());
    for_each_tile(team, n, false, [&](int r0, int r1, int j) BATCHLMM_INLINE_LAMBDA {
      sum_products<false, V>(
          r0, r1, j, 0, n, zero, [&](int e, int r) -> const V& { return d[e * n + r]; },
          [&](int e, int q) -> const V& { return node.w[e * n + q]; },
          [&](int r, int q, const V& t) { y[r * n + q] = t; });
    });
    team.sync();
    for_each_block(s, stage, [&](int b, int o) {
      const int k = s.term[b].k;
      const A t = w.term_t + s.term[b].lambda;
      for (int i = 0; i < k; ++i)
        for (int j = deal.first(n); j < n; j += team.size()) {
          V value = V(0.0);
          for (int q = 0; q < k; ++q) value = fma(t[i * k + q], y[j * n + o + q], value);
          z[(a * n + o + i) * n + j] = value;
        }
    });
    for (int j = 0; j < c; ++j) {
      const auto start = [&](int r, int q) { return V(dg[triangle(r, q)]); };
      const auto put = [&](int r, int q, const V& t) { dg[triangle(r, q)] = t; };
      const int first = j + deal.first(c - j);
      sum_products<true, V>(
          first, c, j, 0, n, start, [&](int e, int r) -> const V& { return node.h[e * c + r]; },
          [&](int e, int q) -> const V& { return dg[cross(e, q)]; }, put, team.size());
      sum_products<true, V>(
          first, c, j, 0, n, start, [&](int e, int r) -> const V& { return xa[e * c + r]; },
          [&](int e, int q) -> const V& { return node.h[e * c + q]; }, put, team.size());
    }
    if constexpr (decltype(team_of(s))::alone) {
      add_traces(a);
      for_each_block(s, stage, [&](int b, int o) {
        const auto& term = s.term[b];
        for (int i = 0; i < term.k; ++i)
          for (int j = 0; j <= i; ++j) {
            const V t = own_trace(o, i, j);
            const int h = triangle(term.parameter + triangle(i, j), a);
            w.hessian[h] = w.hessian[h] + t;
          }
      });
    } else {
      // The traces in any order, to their places in an n x n array; a member adds up those of a parameter.
      const A traces = tmp;
      for_each_block(s, stage, [&](int b, int o) {
        for (int i = 0; i < s.term[b].k; ++i)
          for (int j = deal.first(i + 1); j <= i; j += team.size()) traces[(o + i) * n + j] = own_trace(o, i, j);
      });
      team.sync();
      for (int b = 0; b < s.terms; ++b) {
        const auto& term = s.term[b];
        if (term.stage != stage) continue;
        for (int i = 0; i < term.k; ++i)
          for (int j = deal.first(i + 1); j <= i; j += team.size()) {
            const int h = triangle(term.parameter + triangle(i, j), a);
            V t = w.hessian[h];
            for (int l = 0; l < term.levels; ++l) t = t + traces[(term.column + l * term.k + i) * n + j];
            w.hessian[h] = t;
          }
      }
    }
  }
  if constexpr (!decltype(team_of(s))::alone)
    for (int a = 0; a < low; ++a) add_traces(a);
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
          const int first = j + deal.first(c - j);
          sum_products<true, V>(first, c, j, 0, levels, start, up, uq, put, team.size());
          if (p != q) sum_products<true, V>(first, c, j, 0, levels, start, uq, up, put, team.size());
        }
      }
  }
  for_each_pair<V>(s, w, stage, [&](auto&&, auto&& hessian, int o, int i, int j, int o2, int k, int l) {
    hessian = hessian - trace_of_four<V>(node.b, node.b, n, o, i, j, o2, k, l);
  });
  team.sync();
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
