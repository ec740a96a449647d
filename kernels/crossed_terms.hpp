/// @file
/// The profiled deviance (ML) or REML criterion of two crossed terms of few columns, with its derivatives: what
/// eliminate.hpp and derivatives.hpp compute, from Q = Z'WZ itself.
///
/// With V_1 the covariance of the streamed factor's term alone, B_j = Z_1j'V_1^{-1}Z_1j, U = Z_1'V_1^{-1}[Z_2 | y | X]
/// and Gamma = [Z_2 | y | X]'V_1^{-1}[Z_2 | y | X] start Q. The levels of the other factor enter V one after the other:
/// with G the columns of Q that belong to level l, Q_ll its diagonal block, and
///     I + lambda'Q_ll lambda = LL',   X = L^{-1}lambda',   P = GX',
/// Q becomes Q - PP', and its columns of level l become G (I + T Q_ll)^{-1}. No entry is updated in place: each is its
/// start less one sum of products of rows of P, over the levels that came after the start was made. So y and X lose
/// sums of squares alone, and what is Q at the end is not stored: its blocks are summed up in registers, and go
/// straight into the traces tr(Q E_a Q E_b) and the forms (E_a c)'Q(E_b c), c = Z'Py, of the Hessian: symmetric rank
/// updates over pairs of blocks. With REML, Z'PZ takes the place of Q: L_x^{-1}X'WZ is more columns of
/// P.
#pragma once

#include "kernels/deviance.hpp"

namespace batchlmm::kernels {

/// Whether a shape has two crossed terms of K1 (streamed) and K2 columns, and fewer levels streamed than make pairs of
/// them dearer than what the general elimination does.
template <int K1, int K2>
BATCHLMM_INLINE bool is_crossed_terms(const Shape& s) {
  return s.stages == 1 && s.terms == 2 && s.nodes[1] == 1 && s.term[0].stage == 0 && s.term[0].k == K1 &&
         s.own[0] == K1 && s.term[1].stage == 1 && s.term[1].k == K2 && s.own[1] == K2 * s.term[1].levels &&
         s.nodes[0] <= 2 * s.own[1];
}

/// The sizes of such a shape.
template <int K1, int K2>
struct CrossedTermsSizes : Terms<K1, K2> {
  int levels, dense;  ///< levels of the streamed and of the other factor
  bool reml;
  double degrees, constant;
  int response;
  BATCHLMM_INLINE explicit CrossedTermsSizes(const Shape& s)
      : Terms<K1, K2>{{s.scale(0), s.scale(1)}, s.p},
        levels(s.nodes[0]),
        dense(s.term[1].levels),
        reml(s.reml),
        degrees(s.degrees),
        constant(s.constant),
        response(s.response) {}
};

inline namespace BATCHLMM_ISA {

/// Rows are [Z_1 | Z_2 | y | X].
template <class A>
struct CrossedTermsWorkspace {
  // In: lambda. Out: derivatives by T, and beta.
  A lambda, gradient, hessian, information, beta;
  A b;      ///< streamed levels x packed K1: B_j
  A dense;  ///< rows x columns of Z_2: of each entry, what the sums of products start from. Of Z_2's own rows the lower
            ///< triangle
  A outer;  ///< rows of Z_1 and Z_2 x (1 + p): the same of [y | X]; at the end X's are L_x^{-1}X'WZ
  A g;      ///< packed 1 + p: the same of the rows [y | X], as eliminate_x takes it
  A panel;  ///< rows x columns of Z_2: P. At first F, streamed rows x [y | X | Z_2], and a level's L and Y
  A x_factor, x_inverse;
  A c;   ///< Z'Py
  A xv;  ///< parameters x p: L_x^{-1}X'WZ E_a c
};

template <int K1, int K2, class A>
BATCHLMM_FUNCTION inline CrossedTermsWorkspace<A> make_workspace(const CrossedTermsSizes<K1, K2>& s, Arena<A>& arena) {
  using Sizes = CrossedTermsSizes<K1, K2>;
  const std::size_t p = s.p;  // NOLINT(clang-analyzer-core.uninitialized.Assign): the sizes' constructor sets it
  const std::size_t streamed = K1 * static_cast<std::size_t>(s.levels), n = K2 * static_cast<std::size_t>(s.dense),
                    outer = 1 + p, rows = streamed + n + outer, panel = rows * n, f = streamed * (n + outer + 2 * K1);
  CrossedTermsWorkspace<A> w;
  w.lambda = arena.take(Sizes::lambdas);
  w.gradient = arena.take(Sizes::parameters);
  w.hessian = arena.take(triangle_size(Sizes::parameters));
  w.information = arena.take(triangle_size(Sizes::parameters));
  w.beta = arena.take(p);
  w.b = arena.take(triangle_size(K1) * static_cast<std::size_t>(s.levels));
  w.dense = arena.take(rows * n);
  w.outer = arena.take((streamed + n) * outer);
  w.g = arena.take(triangle_size(1 + s.p));
  w.panel = arena.take(panel > f ? panel : f);
  w.x_factor = arena.take(triangle_size(s.p));
  w.x_inverse = arena.take(p);
  w.c = arena.take(streamed + n);
  w.xv = arena.take(Sizes::parameters * p);
  return w;
}

/// t(r, c) + (- where negative) the sum over e in [begin, end) of a(r, e) b(c, e), in the order of e.
/// @param a_row, b_row  from one row to the next
/// @param step          from one e to the next
template <bool negative, int R, int C, class V, class A>
BATCHLMM_INLINE void add_products(V (&t)[R][C], const A& a, int a_row, const A& b, int b_row, int step, int begin,
                                  int end) {
  for (int e = begin; e < end; ++e) {
    V x[C];
    for (int c = 0; c < C; ++c) x[c] = in_register(V(b[c * b_row + e * step]));
    for (int r = 0; r < R; ++r) {
      const V y = in_register(V(a[r * a_row + e * step]));
      for (int c = 0; c < C; ++c) t[r][c] = negative ? fnma(y, x[c], t[r][c]) : fma(y, x[c], t[r][c]);
    }
  }
}

/// Calls visit(constant R, first row) for rows [begin, end) in blocks of 4, 2 and 1.
template <int R>
struct Rows {
  static constexpr int count = R;
};
template <class F>
BATCHLMM_INLINE void in_blocks(int begin, int end, const F& visit) {
  int r = begin;
  for (; r + 4 <= end; r += 4) visit(Rows<4>{}, r);
  if (r + 2 <= end) {
    visit(Rows<2>{}, r);
    r += 2;
  }
  if (r < end) visit(Rows<1>{}, r);
}

/// I + lambda'Q lambda = LL': X = L^{-1}lambda' and (I + TQ)^{-1} = I - X'XQ.
template <int K, class V, class A>
BATCHLMM_INLINE void factor_level(const V (&q)[K][K], const A& lambda, V (&x)[K][K], V (&inverse)[K][K],
                                  LogProduct<V>& log_determinant, MaskOf<V>& ok) {
  V ql[K][K], m[K][K];
  for (int i = 0; i < K; ++i)
    for (int j = 0; j < K; ++j) {
      V t = q[i][0] * lambda[j];
      for (int e = 1; e < K; ++e) t = fma(q[i][e], lambda[e * K + j], t);
      ql[i][j] = t;
    }
  for (int i = 0; i < K; ++i)
    for (int j = 0; j <= i; ++j) {
      V t = V(i == j ? 1.0 : 0.0);
      for (int e = 0; e < K; ++e) t = fma(lambda[e * K + i], ql[e][j], t);
      m[i][j] = t;
    }
  for (int i = 0; i < K; ++i) {
    for (int j = 0; j < i; ++j) {
      V t = m[i][j];
      for (int e = 0; e < j; ++e) t = fnma(m[i][e], m[j][e], t);
      m[i][j] = t * m[j][j];
    }
    V t = m[i][i];
    for (int e = 0; e < i; ++e) t = fnma(m[i][e], m[i][e], t);
    ok = ok && (t > V(0.0));
    log_determinant.multiply(t);
    m[i][i] = V(1.0) / square_root(t);  // the reciprocal of L's diagonal
  }
  V xq[K][K];
  for (int j = 0; j < K; ++j)
    for (int i = 0; i < K; ++i) {
      V t = lambda[j * K + i];
      for (int e = 0; e < i; ++e) t = fnma(m[i][e], x[e][j], t);
      x[i][j] = t * m[i][i];
    }
  for (int i = 0; i < K; ++i)
    for (int j = 0; j < K; ++j) {
      V t = x[i][0] * q[0][j];
      for (int e = 1; e < K; ++e) t = fma(x[i][e], q[e][j], t);
      xq[i][j] = t;
    }
  for (int i = 0; i < K; ++i)
    for (int j = 0; j < K; ++j) {
      V t = V(i == j ? 1.0 : 0.0);
      for (int e = 0; e < K; ++e) t = fnma(x[e][i], xq[e][j], t);
      inverse[i][j] = t;
    }
}

/// Sums over pairs of levels, of terms of K and L columns, by the entries of both T's.
template <int K, int L, class V>
struct BlockSums {
  V trace[triangle_size(K)][triangle_size(L)];  ///< P_ik P_jl [+ P_il P_jk]: half of tr(E_a P E_b P') off the diagonals
  V form[triangle_size(K)][triangle_size(L)];   ///< (E_a c)'P(E_b c)
  BATCHLMM_INLINE BlockSums() {
    for (int a = 0; a < triangle_size(K); ++a)
      for (int b = 0; b < triangle_size(L); ++b) trace[a][b] = form[a][b] = V(0.0);
  }
};

/// One level's row of blocks.
template <int K, int L, class V>
struct BlockRow {
  V z[triangle_size(L)][K];  ///< sum over the blocks of P E_b c
  BATCHLMM_INLINE BlockRow() {
    for (int b = 0; b < triangle_size(L); ++b)
      for (int i = 0; i < K; ++i) z[b][i] = V(0.0);
  }
  /// Takes the block t(., first ...).
  /// @tparam half  half of it: a diagonal one, where the sums over pairs are taken both ways
  /// @param y  L entries of c
  template <bool half, int C, class A>
  BATCHLMM_INLINE void add(const V (&t)[K][C], int first, const A& y, BlockSums<K, L, V>& sums) {
    V h[K][L];
    for (int i = 0; i < K; ++i)
      for (int k = 0; k < L; ++k) h[i][k] = half ? V(0.5) * t[i][first + k] : t[i][first + k];
    for (int i = 0; i < K; ++i)
      for (int j = 0; j <= i; ++j)
        for (int k = 0; k < L; ++k)
          for (int l = 0; l <= k; ++l) {
            V& trace = sums.trace[triangle(i, j)][triangle(k, l)];
            trace = fma(h[i][k], t[j][first + l], trace);
            if (i != j && k != l) trace = fma(h[i][l], t[j][first + k], trace);
          }
    for (int k = 0; k < L; ++k)
      for (int l = 0; l <= k; ++l)
        for (int i = 0; i < K; ++i) {
          V& at = z[triangle(k, l)][i];
          at = fma(h[i][k], y[l], at);
          if (k != l) at = fma(h[i][l], y[k], at);
        }
  }
  /// @param x  the level's own K entries of c
  template <class A>
  BATCHLMM_INLINE void finish(const A& x, BlockSums<K, L, V>& sums) const {
    for (int i = 0; i < K; ++i)
      for (int j = 0; j <= i; ++j)
        for (int b = 0; b < triangle_size(L); ++b) {
          V& form = sums.form[triangle(i, j)][b];
          form = fma(x[i], z[b][j], form);
          if (i != j) form = fma(x[j], z[b][i], form);
        }
  }
};

/// Evaluates at w.lambda, with derivatives.
/// @param response  as evaluate() of deviance.hpp takes it
template <class V, int K1, int K2, class A, class Y, class C>
BATCHLMM_FUNCTION inline Evaluation<V> evaluate_crossed_terms(const CrossedTermsSizes<K1, K2>& s,
                                                              const Design<C>& design, const Y& response,
                                                              const CrossedTermsWorkspace<A>& w) {
  constexpr int m1 = triangle_size(K1), m2 = triangle_size(K2), m = m1 + m2;
  const int levels = s.levels, p = s.p, outer = 1 + p, streamed = K1 * levels, n = K2 * s.dense, random = streamed + n,
            rows = random + outer, columns = outer + n;
  LogProduct<V> log_determinant;
  Evaluation<V> result;
  result.ok = V(0.0) <= V(0.0);

  // Streamed levels: M = I + C'TC = LL', F = L^{-1}[y | R], B = Y'Y and U = Y'F with Y = L^{-1}C'.
  {
    V t[K1][K1];
    for (int i = 0; i < K1; ++i)
      for (int j = 0; j <= i; ++j) {
        V x = w.lambda[i * K1] * w.lambda[j * K1];
        for (int e = 1; e < K1; ++e) x = fma(w.lambda[i * K1 + e], w.lambda[j * K1 + e], x);
        t[i][j] = t[j][i] = x;
      }
    // Level by level first what waits for roots and quotients, so that levels overlap.
    const A factors = w.panel + streamed * columns;  // L with reciprocals on its diagonal, and Y
    for (int j = 0; j < levels; ++j) {
      const C* c = design.streamed_c + static_cast<std::size_t>(j) * K1 * K1;
      V tc[K1][K1], l[K1][K1], y[K1][K1];
      for (int i = 0; i < K1; ++i)
        for (int q = 0; q < K1; ++q) {
          V x = t[i][q] * V(c[q * K1 + q]);
          for (int e = q + 1; e < K1; ++e) x = fma(t[i][e], V(c[e * K1 + q]), x);
          tc[i][q] = x;
        }
      for (int i = 0; i < K1; ++i)
        for (int q = 0; q <= i; ++q) {
          V x = V(i == q ? 1.0 : 0.0);
          for (int e = i; e < K1; ++e) x = fma(tc[e][q], V(c[e * K1 + i]), x);
          l[i][q] = x;
        }
      for (int i = 0; i < K1; ++i) {
        for (int q = 0; q < i; ++q) {
          V x = l[i][q];
          for (int e = 0; e < q; ++e) x = fnma(l[i][e], l[q][e], x);
          l[i][q] = x * l[q][q];
        }
        V x = l[i][i];
        for (int e = 0; e < i; ++e) x = fnma(l[i][e], l[i][e], x);
        result.ok = result.ok && (x > V(0.0));
        log_determinant.multiply(x);
        l[i][i] = V(1.0) / square_root(x);
      }
      for (int i = 0; i < K1; ++i)
        for (int q = 0; q < K1; ++q) {
          V x = q >= i ? V(c[q * K1 + i]) : V(0.0);
          for (int e = 0; e < i; ++e) x = fnma(l[i][e], y[e][q], x);
          y[i][q] = x * l[i][i];
        }
      for (int i = 0; i < K1; ++i)
        for (int q = 0; q <= i; ++q) {
          V x = y[0][i] * y[0][q];
          for (int e = 1; e < K1; ++e) x = fma(y[e][i], y[e][q], x);
          w.b[j * m1 + triangle(i, q)] = x;
        }
      const A to = factors + j * 2 * K1 * K1;
      for (int i = 0; i < K1; ++i)
        for (int q = 0; q < K1; ++q) {
          if (q <= i) to[i * K1 + q] = l[i][q];
          to[(K1 + i) * K1 + q] = y[i][q];
        }
    }
    for (int j = 0; j < levels; ++j) {
      const A from = factors + j * 2 * K1 * K1;
      V l[K1][K1], y[K1][K1];
      for (int i = 0; i < K1; ++i)
        for (int q = 0; q < K1; ++q) {
          if (q <= i) l[i][q] = from[i * K1 + q];
          y[i][q] = from[(K1 + i) * K1 + q];
        }
      const A f = w.panel + j * K1 * columns;
      const auto column = [&](int at, const auto& value, const A& u, int u_row) BATCHLMM_INLINE_LAMBDA {
        V x[K1];
        for (int i = 0; i < K1; ++i) {
          V z = value(i);
          for (int e = 0; e < i; ++e) z = fnma(l[i][e], x[e], z);
          x[i] = z * l[i][i];
          f[i * columns + at] = x[i];
        }
        for (int i = 0; i < K1; ++i) {
          V z = y[0][i] * x[0];
          for (int e = 1; e < K1; ++e) z = fma(y[e][i], x[e], z);
          u[i * u_row] = z;
        }
      };
      const C* r = design.streamed_r + static_cast<std::size_t>(j) * K1 * (columns - 1);
      const auto given = [&](int at) { return [=](int i) { return V(r[i * (columns - 1) + at]); }; };
      column(
          0, [&](int i) { return V(response[j * K1 + i]); }, w.outer + j * K1 * outer, outer);
      for (int i = 0; i < p; ++i) column(1 + i, given(i), w.outer + (j * K1 * outer + 1 + i), outer);
      for (int i = 0; i < n; ++i) column(outer + i, given(p + i), w.dense + (j * K1 * n + i), n);
    }
  }

  // Gamma: E and F'F.
  {
    const Y y = response + streamed;
    const C* e = design.x_e;
    for (int i = 0; i < outer; ++i) {
      w.g[triangle(i, 0)] = i == 0 ? V(response[s.response - 1]) : V(y[n + i - 1]);
      for (int q = 1; q <= i; ++q) w.g[triangle(i, q)] = V(*e++);
      for (int q = 0; q <= i; ++q) {
        V t[1][1] = {{w.g[triangle(i, q)]}};
        add_products<false>(t, w.panel + i, 1, w.panel + q, 1, columns, 0, streamed);
        w.g[triangle(i, q)] = t[0][0];
      }
    }
    // Rows of own_e are [X | Z_2 up to the row's own].
    const auto own_e = [&](int i, int q) { return V(design.own_e[1][i * p + triangle(i, 0) + q]); };
    const A to_outer = w.dense + random * n, to_dense = w.dense + streamed * n;
    for (int q = 0; q < outer; ++q)
      for (int i = 0; i < n; ++i) to_outer[q * n + i] = q == 0 ? V(y[i]) : own_e(i, q - 1);
    for (int i = 0; i < n; ++i)
      for (int q = 0; q <= i; ++q) to_dense[i * n + q] = own_e(i, p + q);
    // The columns of one level and several rows at a time, so that what is loaded is shared.
    const A f = w.panel + outer;
    const auto square = [&](auto block, int i, int q, const A& a, const A& to) BATCHLMM_INLINE_LAMBDA {
      constexpr int R = decltype(block)::count;
      V t[R][K2];
      for (int r = 0; r < R; ++r)
        for (int x = 0; x < K2; ++x) t[r][x] = to[(i + r) * n + q + x];
      add_products<false>(t, a + i, 1, f + q, 1, columns, 0, streamed);
      for (int r = 0; r < R; ++r)
        for (int x = 0; x < K2; ++x) to[(i + r) * n + q + x] = t[r][x];
    };
    for (int q = 0; q < n; q += K2) {
      // The diagonal block has K2 rows: with what lies above the diagonal, which nothing reads.
      for (int i = 0; i < K2; ++i)
        for (int x = i + 1; x < K2; ++x) to_dense[(q + i) * n + q + x] = V(0.0);
      in_blocks(q, n, [&](auto block, int i) BATCHLMM_INLINE_LAMBDA { square(block, i, q, f, to_dense); });
      in_blocks(0, outer, [&](auto block, int i) BATCHLMM_INLINE_LAMBDA { square(block, i, q, w.panel, to_outer); });
    }
  }

  // The levels of Z_2, one after the other.
  const A lambda = w.lambda + K1 * K1, panel = w.panel;
  V q[K2][K2], x[K2][K2], inverse[K2][K2];
  const auto factor = [&](int at) BATCHLMM_INLINE_LAMBDA {
    const A own = panel + (streamed + at) * n, block = w.dense + ((streamed + at) * n + at);
    for (int i = 0; i < K2; ++i)
      for (int j = 0; j < K2; ++j) q[i][j] = i >= j ? block[i * n + j] : block[j * n + i];
    add_products<true>(q, own, n, own, n, 1, 0, at);
    factor_level<K2>(q, lambda, x, inverse, log_determinant, result.ok);
    for (int i = 0; i < K2; ++i)
      for (int j = 0; j <= i; ++j) {
        V t = q[i][0] * inverse[0][j];
        for (int e = 1; e < K2; ++e) t = fma(q[i][e], inverse[e][j], t);
        block[i * n + j] = t;
      }
  };
  if (n > 0) factor(0);
  for (int at = 0; at < n; at += K2) {
    const A own = panel + (streamed + at) * n;  // rows of P that belong to this level
    V x_here[K2][K2], inverse_here[K2][K2];
    for (int i = 0; i < K2; ++i)
      for (int j = 0; j < K2; ++j) {
        x_here[i][j] = x[i][j];
        inverse_here[i][j] = inverse[i][j];
      }
    // Row g of G: gX' into P, and g (I + TQ_ll)^{-1} in its place.
    const auto enter = [&](const V(&g)[K2], const A& to_panel, const A& to, int step) BATCHLMM_INLINE_LAMBDA {
      for (int i = 0; i < K2; ++i) {
        V a = g[0] * x_here[i][0], b = g[0] * inverse_here[0][i];
        for (int e = 1; e < K2; ++e) {
          a = fma(g[e], x_here[i][e], a);
          b = fma(g[e], inverse_here[e][i], b);
        }
        to_panel[i] = a;
        to[i * step] = b;
      }
    };
    const auto below = [&](auto block_rows, int r) BATCHLMM_INLINE_LAMBDA {
      constexpr int R = decltype(block_rows)::count;
      V t[R][K2];
      for (int i = 0; i < R; ++i)
        for (int j = 0; j < K2; ++j) t[i][j] = w.dense[(r + i) * n + at + j];
      add_products<true>(t, panel + r * n, n, own, n, 1, 0, at);
      for (int i = 0; i < R; ++i) enter(t[i], panel + ((r + i) * n + at), w.dense + ((r + i) * n + at), 1);
    };
    // The next level's rows first: its factor is on its way while the others enter.
    int next = streamed + at + K2;
    if (at + K2 < n) {
      below(Rows<K2>{}, next);
      next += K2;
      factor(at + K2);
    }
    in_blocks(next, rows, below);
    in_blocks(0, streamed, below);
    // Levels that have entered: their entries stand in this level's rows.
    for (int before = 0; before < at; before += K2) {
      const A row = panel + (streamed + before) * n, entries = w.dense + ((streamed + at) * n + before);
      V t[K2][K2];
      for (int i = 0; i < K2; ++i)
        for (int j = 0; j < K2; ++j) t[i][j] = entries[j * n + i];
      add_products<true>(t, row, n, own, n, 1, before + K2, at);
      for (int i = 0; i < K2; ++i) enter(t[i], row + (i * n + at), entries + i, n);
    }
  }
  log_determinant.flush();

  // [y | X] with itself, and with Z.
  const A outer_panel = panel + random * n;
  for (int i = 0; i < outer; ++i)
    for (int j = 0; j <= i; ++j) {
      V t[1][1] = {{w.g[triangle(i, j)]}};
      add_products<true>(t, outer_panel + i * n, n, outer_panel + j * n, n, 1, 0, n);
      w.g[triangle(i, j)] = t[0][0];
    }
  in_blocks(0, outer, [&](auto block, int i) BATCHLMM_INLINE_LAMBDA {
    constexpr int R = decltype(block)::count;
    const A from = outer_panel + i * n;
    const auto with_rows = [&](auto count, int r, int begin) BATCHLMM_INLINE_LAMBDA {
      constexpr int N = decltype(count)::count;
      V t[N][R];
      for (int x = 0; x < N; ++x)
        for (int j = 0; j < R; ++j)
          t[x][j] = r < streamed ? w.outer[(r + x) * outer + i + j] : w.dense[(random + i + j) * n + r - streamed + x];
      add_products<true>(t, panel + r * n, n, from, n, 1, begin, n);
      for (int x = 0; x < N; ++x)
        for (int j = 0; j < R; ++j) w.outer[(r + x) * outer + i + j] = t[x][j];
    };
    int r = 0;
    for (; r + 2 <= streamed; r += 2) with_rows(Rows<2>{}, r, 0);
    if (r < streamed) with_rows(Rows<1>{}, r, 0);
    for (int at = 0; at < n; at += K2) with_rows(Rows<K2>{}, streamed + at, at + K2);
  });
  V log_x;
  result.r2 = eliminate_x<V>(s, w, log_x, result.ok);
  result.ok = result.ok && (result.r2 > V(0.0));
  const V degrees = design.degrees != nullptr ? V(design.degrees[0]) : V(s.degrees);
  V deviance = fma(logarithm(result.r2), degrees, log_determinant.sum) + V(s.constant);
  if (s.reml) deviance = deviance + log_x;
  result.ok = result.ok && (absolute(deviance) < V(1e300));
  result.deviance = select(result.ok, deviance, V(1e300));

  // c = Z'Py, L_x^{-1}X'WZ, and (ML) what X takes from the forms.
  for (int r = 0; r < random; ++r) {
    const A row = w.outer + r * outer;
    V c = row[0];
    for (int x = 0; x < p; ++x) {
      c = fnma(V(w.beta[x]), V(row[1 + x]), c);
      V t = row[1 + x];
      for (int e = 0; e < x; ++e) t = fnma(V(w.x_factor[triangle(x, e)]), V(row[1 + e]), t);
      row[1 + x] = t * w.x_inverse[x];
    }
    w.c[r] = c;
  }
  V squares[m];  // c'E_a c
  for (int a = 0; a < m; ++a) squares[a] = V(0.0);
  const auto each_level = [&](auto columns_of_term, int first, int end, int parameter, const auto& visit)
                              BATCHLMM_INLINE_LAMBDA {
                                constexpr int K = decltype(columns_of_term)::count;
                                for (int r = first; r < end; r += K)
                                  for (int i = 0; i < K; ++i)
                                    for (int j = 0; j <= i; ++j) visit(r + i, r + j, parameter + triangle(i, j));
                              };
  const auto add_square_of_c = [&](int i, int j, int a)
                                   BATCHLMM_INLINE_LAMBDA { squares[a] = fma(V(w.c[i]), V(w.c[j]), squares[a]); };
  each_level(Rows<K1>{}, 0, streamed, 0, add_square_of_c);
  each_level(Rows<K2>{}, streamed, random, m1, add_square_of_c);
  if (!s.reml)
    for (int x = 0; x < p; ++x) {
      V t[m];
      for (int a = 0; a < m; ++a) t[a] = V(0.0);
      const auto add = [&](int i, int j, int a) BATCHLMM_INLINE_LAMBDA {
        t[a] = fma(w.outer[i * outer + 1 + x], V(w.c[j]), t[a]);
        if (i != j) t[a] = fma(w.outer[j * outer + 1 + x], V(w.c[i]), t[a]);
      };
      each_level(Rows<K1>{}, 0, streamed, 0, add);
      each_level(Rows<K2>{}, streamed, random, m1, add);
      for (int a = 0; a < m; ++a) w.xv[a * p + x] = t[a];
    }

  // Blocks of Q (REML: Z'PZ): their starts less sums of products.
  BlockSums<K1, K1, V> sums_11;
  BlockSums<K2, K1, V> sums_21;
  BlockSums<K2, K2, V> sums_22;
  V diagonal_1[m1], diagonal_2[m2];
  for (int a = 0; a < m1; ++a) diagonal_1[a] = V(0.0);
  for (int a = 0; a < m2; ++a) diagonal_2[a] = V(0.0);
  // Blocks (level at row r, levels of L columns at rows [first, last)): K rows of P and two levels' at a time.
  const auto row_of_blocks = [&](auto row_columns, auto other_columns, int r, int first, int last, int begin,
                                 const auto& start, auto& row, auto& sums) BATCHLMM_INLINE_LAMBDA {
    constexpr int K = decltype(row_columns)::count, L = decltype(other_columns)::count;
    const auto blocks = [&](auto count, int at) BATCHLMM_INLINE_LAMBDA {
      constexpr int levels_at_once = decltype(count)::count;
      V t[K][levels_at_once * L];
      for (int i = 0; i < K; ++i)
        for (int j = 0; j < levels_at_once * L; ++j) t[i][j] = start(i, at + j);
      add_products<true>(t, panel + r * n, n, panel + at * n, n, 1, begin, n);
      if (s.reml) add_products<true>(t, w.outer + r * outer, outer, w.outer + at * outer, outer, 1, 1, outer);
      for (int x = 0; x < levels_at_once; ++x) row.template add<false>(t, x * L, w.c + (at + x * L), sums);
    };
    int at = first;
    for (; at + 2 * L <= last; at += 2 * L) blocks(Rows<2>{}, at);
    if (at < last) blocks(Rows<1>{}, at);
  };
  const auto diagonal_block = [&](auto columns_of_term, int r, int begin, const auto& start, auto& row, auto& sums,
                                  auto& diagonal) BATCHLMM_INLINE_LAMBDA {
    constexpr int K = decltype(columns_of_term)::count;
    V t[K][K];
    for (int i = 0; i < K; ++i)
      for (int j = 0; j < K; ++j) t[i][j] = i >= j ? start(i, j) : start(j, i);
    add_products<true>(t, panel + r * n, n, panel + r * n, n, 1, begin, n);
    if (s.reml) add_products<true>(t, w.outer + r * outer, outer, w.outer + r * outer, outer, 1, 1, outer);
    for (int i = 0; i < K; ++i)
      for (int j = 0; j <= i; ++j) diagonal[triangle(i, j)] = diagonal[triangle(i, j)] + t[i][j];
    row.template add<true>(t, 0, w.c + r, sums);
    row.finish(w.c + r, sums);
  };
  for (int at = 0; at < n; at += K2) {
    const int r = streamed + at;
    {
      BlockRow<K2, K1, V> row;
      row_of_blocks(
          Rows<K2>{}, Rows<K1>{}, r, 0, streamed, at + K2, [&](int i, int j) { return V(w.dense[j * n + at + i]); },
          row, sums_21);
      row.finish(w.c + r, sums_21);
    }
    BlockRow<K2, K2, V> row;
    row_of_blocks(
        Rows<K2>{}, Rows<K2>{}, r, streamed, r, at + K2,
        [&](int i, int j) { return V(w.dense[(r + i) * n + j - streamed]); }, row, sums_22);
    diagonal_block(
        Rows<K2>{}, r, at + K2, [&](int i, int j) { return V(w.dense[(r + i) * n + at + j]); }, row, sums_22,
        diagonal_2);
  }
  for (int r = 0; r < streamed; r += K1) {
    BlockRow<K1, K1, V> row;
    row_of_blocks(
        Rows<K1>{}, Rows<K1>{}, r, 0, r, 0, [](int, int) { return V(0.0); }, row, sums_11);
    diagonal_block(
        Rows<K1>{}, r, 0, [&](int i, int j) { return V(w.b[r / K1 * m1 + triangle(i, j)]); }, row, sums_11, diagonal_1);
  }

  const V n_over_r2 = degrees / result.r2, n_over_r4 = n_over_r2 / result.r2;
  const auto gradient = [&](auto columns_of_term, int parameter, const auto& diagonal) {
    constexpr int K = decltype(columns_of_term)::count;
    for (int i = 0; i < K; ++i)
      for (int j = 0; j <= i; ++j) {
        const int a = triangle(i, j);
        const V t = fnma(n_over_r2, squares[parameter + a], diagonal[a]);
        w.gradient[parameter + a] = i == j ? t : t + t;
        // From here on with both places of an entry off the diagonal.
        if (i != j) squares[parameter + a] = squares[parameter + a] + squares[parameter + a];
      }
  };
  gradient(Rows<K1>{}, 0, diagonal_1);
  gradient(Rows<K2>{}, m1, diagonal_2);
  const auto second = [&](int a, int b, const V& trace, const V& form) {
    V q = form;
    if (!s.reml)
      for (int x = 0; x < p; ++x) q = fnma(V(w.xv[a * p + x]), V(w.xv[b * p + x]), q);
    const V ss = n_over_r4 * squares[a] * squares[b];
    w.hessian[triangle(a, b)] = fma(n_over_r2 + n_over_r2, q, -(trace + ss));
    w.information[triangle(a, b)] = fma(n_over_r2, q, -ss);
  };
  const auto within = [&](auto columns_of_term, int parameter, const auto& sums) {
    constexpr int K = decltype(columns_of_term)::count;
    for (int i = 0; i < K; ++i)
      for (int j = 0; j <= i; ++j)
        for (int k = 0; k <= i; ++k)
          for (int l = 0; l <= k; ++l) {
            const int a = triangle(i, j), b = triangle(k, l);
            if (b > a) continue;
            const V trace = sums.trace[a][b] + sums.trace[b][a];
            second(parameter + a, parameter + b, i != j || k != l ? trace + trace : trace,
                   sums.form[a][b] + sums.form[b][a]);
          }
  };
  within(Rows<K1>{}, 0, sums_11);
  within(Rows<K2>{}, m1, sums_22);
  for (int i = 0; i < K2; ++i)
    for (int j = 0; j <= i; ++j)
      for (int k = 0; k < K1; ++k)
        for (int l = 0; l <= k; ++l) {
          const int a = triangle(i, j), b = triangle(k, l);
          const V trace = sums_21.trace[a][b];
          second(m1 + a, b, i != j || k != l ? trace + trace : trace, sums_21.form[a][b]);
        }
  return result;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
