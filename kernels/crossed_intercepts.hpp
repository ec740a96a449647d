/// @file
/// The profiled deviance of two crossed random intercepts by maximum likelihood, with its derivatives by both
/// variances: the formulas of eliminate.hpp and derivatives.hpp where every T is one number, in fewer operations and a
/// third of the memory.
///
/// The streamed factor has weights a_j = 1 / m_j, m_j = 1 + C_j^2 T_1, and b_j = C_j^2 a_j = Z_j'V_1^{-1}Z_j (V_1: with
/// this factor alone). With r_j the rows of R_j over the dense factor's columns, S = I + T_2 Gamma_22 = LL' and
/// V^{-1} = W,
///     Q_22 = Z_2'W Z_2 = Gamma_22 S^{-1},   Q_12 = sqrt(a_j b_j) r_j S^{-1} by rows j,   Q_11 = diag(b) - T_2 Q_12
///     (Z_2'V_1^{-1}Z_1)
/// and the traces of the Hessian need Q_11 and Q_12 only through M = sum a_j b_j r_j'r_j and M_b = sum a_j b_j^2
/// r_j'r_j:
///     tr Q_11 = sum b - T_2 tr(S^{-1}M),      tr Q_12 Q_12' = tr(S^{-1} M S^{-1}),
///     tr Q_11^2 = sum b^2 - 2 T_2 tr(S^{-1}M_b) + T_2^2 tr(S^{-1} M S^{-1} M).
#pragma once

#include <type_traits>

#include "kernels/deviance.hpp"

namespace batchlmm::kernels {

/// Whether a shape has this evaluation.
BATCHLMM_INLINE bool is_crossed_intercepts(const Shape& s) {
  return s.stages == 1 && s.terms == 2 && !s.reml && s.own[0] == 1 && s.term[0].stage == 0 && s.term[1].stage == 1 &&
         s.term[1].k == 1 && s.nodes[1] == 1;
}

/// The sizes of such a shape.
struct CrossedSizes : Terms<1, 1> {
  static constexpr bool reml = false;
  int levels, own;  ///< of the streamed and of the dense factor
  double degrees, constant;
  int response;
  BATCHLMM_INLINE explicit CrossedSizes(const Shape& s)
      : Terms<1, 1>{{s.scale(0), s.scale(1)}, s.p},
        levels(s.nodes[0]),
        own(s.own[1]),
        degrees(s.degrees),
        constant(s.constant),
        response(s.response) {}
};

inline namespace BATCHLMM_ISA {

template <class A>
struct CrossedWorkspace {
  // In: lambda. Out: derivatives by T, and beta.
  A lambda, gradient, hessian, information, beta;
  A weight;      ///< levels x 5: a, b, a b, a b^2, a y
  A g;           ///< packed 1 + p + own: cross-products of [y | X | dense], as in Workspace
  A m, m_b;      ///< packed own
  A l, inverse;  ///< packed own; own
  A l_inverse;   ///< packed own: L^{-1}
  A s_inverse;   ///< own x own: S^{-1}
  A f, u;        ///< own x (1 + p): L^{-1}Gamma_2c; S^{-1}Gamma_2c = Z_2'W[y | X]
  A x_factor, x_inverse;
  A c;        ///< own: Z_2'Py
  A n;        ///< own: Z_2'V_1^{-1}Z_1 c_1
  A e;        ///< 2 x p: X'W Z_i c_i
  A product;  ///< own x own: S^{-1}M
};

template <class A>
BATCHLMM_FUNCTION inline CrossedWorkspace<A> make_workspace(const CrossedSizes& s, Arena<A>& arena) {
  // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): the constructor of the sizes sets p
  const std::size_t own = s.own, square = triangle_size(s.own), outer = 1 + s.p;
  CrossedWorkspace<A> w;
  w.lambda = arena.take(2);
  w.gradient = arena.take(2);
  w.hessian = arena.take(3);
  w.information = arena.take(3);
  w.beta = arena.take(s.p);
  w.weight = arena.take(5 * static_cast<std::size_t>(s.levels));
  w.g = arena.take(triangle_size(1 + s.p + s.own));
  w.m = arena.take(square);
  w.m_b = arena.take(square);
  w.l = arena.take(square);
  w.inverse = arena.take(own);
  w.l_inverse = arena.take(square);
  w.s_inverse = arena.take(own * own);
  w.f = arena.take(own * outer);
  w.u = arena.take(own * outer);
  w.x_factor = arena.take(triangle_size(s.p));
  w.x_inverse = arena.take(s.p);
  w.c = arena.take(own);
  w.n = arena.take(own);
  w.e = arena.take(2 * static_cast<std::size_t>(s.p));
  w.product = arena.take(own * own);
  return w;
}

/// Adds weight_j r_j(row) r_j(column) over the levels to four columns of a row from `column` on; for each of `weights`
/// sums (1: cross-products; 3: M and M_b too).
template <int columns, bool with_m, class V, class A, class C>
BATCHLMM_INLINE void add_levels(const A& weight, const C* r, int levels, int width, int row, int column, const A& g,
                                const A& m, const A& m_b) {
  V t[columns], t1[columns], t2[columns];
  for (int q = 0; q < columns; ++q) {
    t[q] = g[q];
    if (with_m) t1[q] = t2[q] = V(0.0);
  }
  for (int j = 0; j < levels; ++j) {
    const C* rj = r + static_cast<std::size_t>(j) * width;
    const V a = weight[5 * j], ab = weight[5 * j + 2], abb = weight[5 * j + 3];
    for (int q = 0; q < columns; ++q) {
      const V product = V(rj[row] * rj[column + q]);
      t[q] = fma(a, product, t[q]);
      if (with_m) {
        t1[q] = fma(ab, product, t1[q]);
        t2[q] = fma(abb, product, t2[q]);
      }
    }
  }
  for (int q = 0; q < columns; ++q) {
    g[q] = t[q];
    if (with_m) {
      m[q] = t1[q];
      m_b[q] = t2[q];
    }
  }
}

/// Evaluates at w.lambda, with derivatives.
/// @param response  as evaluate() of deviance.hpp takes it
template <class V, class A, class Y, class C>
BATCHLMM_FUNCTION inline Evaluation<V> evaluate_crossed(const CrossedSizes& s, const Design<C>& design,
                                                        const Y& response, const CrossedWorkspace<A>& w) {
  const int levels = s.levels, n = s.own, p = s.p, outer = 1 + p, width = p + n;
  const V t1 = w.lambda[0] * w.lambda[0], t2 = w.lambda[1] * w.lambda[1];
  LogProduct<V> log_determinant;
  Evaluation<V> result;
  result.ok = V(0.0) <= V(0.0);
  V sum_b = V(0.0), sum_bb = V(0.0);
  for (int j = 0; j < levels; ++j) {
    const V cc = V(design.streamed_c[j] * design.streamed_c[j]);
    const V m = fma(cc, t1, V(1.0));
    result.ok = result.ok && (m > V(0.0));
    log_determinant.multiply(m);
    const V a = V(1.0) / m, b = cc * a, ab = a * b;
    w.weight[5 * j] = a;
    w.weight[5 * j + 1] = b;
    w.weight[5 * j + 2] = ab;
    w.weight[5 * j + 3] = ab * b;
    w.weight[5 * j + 4] = a * response[j];
    sum_b = sum_b + b;
    sum_bb = fma(b, b, sum_bb);
  }

  // Cross-products of [y | X | dense] by V_1^{-1}: E and what the streamed levels add.
  const C* r = design.streamed_r;
  {
    V yy = response[s.response - 1];
    for (int j = 0; j < levels; ++j) yy = fma(w.weight[5 * j + 4], V(response[j]), yy);
    w.g[0] = yy;
  }
  const C *x_e = design.x_e, *own_e = design.own_e[1];
  for (int i = 0; i < width; ++i) {
    const A row = w.g + triangle(1 + i, 0);
    V y = response[i < p ? levels + n + i : levels + i - p];
    for (int j = 0; j < levels; ++j) y = fma(w.weight[5 * j + 4], V(r[static_cast<std::size_t>(j) * width + i]), y);
    row[0] = y;
    for (int q = 0; q <= i; ++q) row[1 + q] = V(i < p ? *x_e++ : *own_e++);
    int q = 0;
    const auto upto = [&](int end, auto with_m, const A& m, const A& m_b) {
      constexpr bool dense = decltype(with_m)::value;
      const int first = dense ? p : 0;
      for (; q + 4 <= end; q += 4)
        add_levels<4, dense, V>(w.weight, r, levels, width, i, q, row + (1 + q), m + (q - first), m_b + (q - first));
      if (q + 2 <= end) {
        add_levels<2, dense, V>(w.weight, r, levels, width, i, q, row + (1 + q), m + (q - first), m_b + (q - first));
        q += 2;
      }
      if (q < end) {
        add_levels<1, dense, V>(w.weight, r, levels, width, i, q, row + (1 + q), m + (q - first), m_b + (q - first));
        ++q;
      }
    };
    upto(i < p ? i + 1 : p, std::false_type{}, w.m, w.m_b);
    if (i >= p) upto(i + 1, std::true_type{}, w.m + triangle(i - p, 0), w.m_b + triangle(i - p, 0));
  }
  const A g = w.g;
  const auto own = [&](int i, int j) { return triangle(outer + i, outer + j); };

  // S = I + T_2 Gamma_22 = LL', L^{-1}, S^{-1}.
  const A l = w.l, li = w.l_inverse, si = w.s_inverse;
  for (int j = 0; j < n; ++j) {
    V t = fma(t2, g[own(j, j)], V(1.0));
    for (int e = 0; e < j; ++e) t = fnma(V(l[triangle(j, e)]), V(l[triangle(j, e)]), t);
    result.ok = result.ok && (t > V(0.0));
    log_determinant.multiply(t);
    const V inverse = V(1.0) / square_root(t);
    w.inverse[j] = inverse;
    sum_products<true, V>(
        j + 1, n, j, 0, j, [&](int i, int q) { return t2 * g[own(i, q)]; },
        [&](int e, int i) -> const V& { return l[triangle(i, e)]; },
        [&](int e, int q) -> const V& { return l[triangle(q, e)]; },
        [&](int i, int q, const V& value) { l[triangle(i, q)] = value * inverse; });
  }
  log_determinant.flush();
  const auto zero = [](int, int) { return V(0.0); };
  for (int i = 0; i < n; ++i) {
    // Row i of L^{-1}: columns are independent.
    const V inverse = w.inverse[i];
    li[triangle(i, i)] = inverse;
    for (int j = 0; j < i; ++j) {
      V t = V(0.0);
      for (int e = j; e < i; ++e) t = fnma(V(l[triangle(i, e)]), V(li[triangle(e, j)]), t);
      li[triangle(i, j)] = t * inverse;
    }
  }
  for (int j = 0; j < n; ++j)
    for (int i = j; i < n; ++i) {
      V t = V(0.0);
      for (int e = i; e < n; ++e) t = fma(li[triangle(e, i)], li[triangle(e, j)], t);
      si[i * n + j] = t;
      si[j * n + i] = t;
    }
  // F = L^{-1}Gamma_2c, U = L^{-T}F, and what is left of the outer columns: Gamma_cc - T_2 F'F.
  for (int i = 0; i < n; ++i)
    sum_products<false, V>(
        0, outer, i, 0, i + 1, zero, [&](int e, int c) -> const V& { return g[triangle(outer + e, c)]; },
        [&](int e, int q) -> const V& { return li[triangle(q, e)]; },
        [&](int c, int q, const V& t) { w.f[q * outer + c] = t; });
  for (int i = 0; i < n; ++i)
    sum_products<false, V>(
        0, outer, i, i, n, zero, [&](int e, int c) -> const V& { return w.f[e * outer + c]; },
        [&](int e, int q) -> const V& { return li[triangle(e, q)]; },
        [&](int c, int q, const V& t) { w.u[q * outer + c] = t; });
  for (int j = 0; j < outer; ++j)
    sum_products<false, V>(
        j, outer, j, 0, n, zero, [&](int e, int c) -> const V& { return w.f[e * outer + c]; },
        [&](int e, int c) -> const V& { return w.f[e * outer + c]; },
        [&](int i, int q, const V& t) { g[triangle(i, q)] = fnma(t2, t, V(g[triangle(i, q)])); });
  V unused;
  result.r2 = eliminate_x<V>(s, w, unused, result.ok);
  result.ok = result.ok && (result.r2 > V(0.0));
  const V degrees = design.degrees != nullptr ? V(design.degrees[0]) : V(s.degrees);
  const V deviance = fma(logarithm(result.r2), degrees, log_determinant.sum) + V(s.constant);
  result.ok = result.ok && (absolute(deviance) < V(1e300));
  result.deviance = select(result.ok, deviance, V(1e300));

  // c_2 = Z_2'Py = U v, c_1 = Z_1'Py with v = (1, -beta, -T_2 c_2); n = Z_2'V_1^{-1}Z_1 c_1.
  const A beta = w.beta, c2 = w.c, nc = w.n, e1 = w.e, e2 = w.e + p;
  for (int i = 0; i < n; ++i) {
    V t = w.u[i * outer];
    for (int x = 0; x < p; ++x) t = fnma(V(beta[x]), V(w.u[i * outer + 1 + x]), t);
    c2[i] = t;
    nc[i] = V(0.0);
  }
  for (int x = 0; x < p; ++x) e1[x] = V(0.0);
  V s1 = V(0.0), s2 = V(0.0), q11 = V(0.0);
  for (int j = 0; j < levels; ++j) {
    const C* rj = r + static_cast<std::size_t>(j) * width;
    const V b = w.weight[5 * j + 1];
    V t = response[j], dense = V(0.0);
    for (int x = 0; x < p; ++x) t = fnma(V(beta[x]), V(rj[x]), t);
    for (int i = 0; i < n; ++i) dense = fma(c2[i], V(rj[p + i]), dense);
    // The rows of Z_1'V_1^{-1}[.] are C_j a_j r_j.
    const V to_u = V(design.streamed_c[j]) * w.weight[5 * j];
    const V c1 = fnma(t2, dense, t) * to_u, uc = c1 * to_u;
    s1 = fma(c1, c1, s1);
    q11 = fma(c1 * b, c1, q11);
    for (int x = 0; x < p; ++x) e1[x] = fma(uc, V(rj[x]), V(e1[x]));
    for (int i = 0; i < n; ++i) nc[i] = fma(uc, V(rj[p + i]), V(nc[i]));
  }
  // Traces and quadratic forms.
  V trace_m = V(0.0), trace_mb = V(0.0), trace_mm = V(0.0), trace_12 = V(0.0), trace_22 = V(0.0), sum_22 = V(0.0);
  V q12 = V(0.0), q22 = V(0.0), nsn = V(0.0);
  for (int i = 0; i < n; ++i) {
    // S^{-1} n: q_12 = n'S^{-1}c_2, and T_2 n'S^{-1}n leaves q_11.
    V t = V(0.0);
    for (int e = 0; e < n; ++e) t = fma(si[i * n + e], nc[e], t);
    s2 = fma(c2[i], c2[i], s2);
    q12 = fma(t, c2[i], q12);
    nsn = fma(t, nc[i], nsn);
    for (int j = 0; j <= i; ++j) {
      const V twice = V(i == j ? 1.0 : 2.0), sij = si[i * n + j];
      trace_m = fma(twice * sij, w.m[triangle(i, j)], trace_m);
      trace_mb = fma(twice * sij, w.m_b[triangle(i, j)], trace_mb);
    }
    // Q_22 by rows, symmetric.
    sum_products<false, V>(
        i, n, i, 0, n, zero, [&](int e, int q) -> const V& { return si[q * n + e]; },
        [&](int e, int q) -> const V& { return g[packed(outer + e, outer + q)]; },
        [&](int row, int q, const V& value) {
          const V c = row == q ? V(1.0) : V(2.0);
          trace_22 = fma(c * value, value, trace_22);
          q22 = fma(c * value, c2[row] * c2[q], q22);
          if (row == q) sum_22 = sum_22 + value;
        });
  }
  // N = S^{-1}M: tr(N S^{-1}) and tr(N N).
  for (int i = 0; i < n; ++i)
    sum_products<false, V>(
        0, n, i, 0, n, zero, [&](int e, int q) -> const V& { return si[q * n + e]; },
        [&](int e, int q) -> const V& { return w.m[packed(e, q)]; },
        [&](int row, int q, const V& value) { w.product[row * n + q] = value; });
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) {
      trace_12 = fma(w.product[i * n + j], si[i * n + j], trace_12);
      if (j < i) trace_mm = fma(V(2.0) * w.product[i * n + j], w.product[j * n + i], trace_mm);
      if (j == i) trace_mm = fma(w.product[i * n + i], w.product[i * n + i], trace_mm);
    }
  // X'W Z_i c_i, and what X takes from the quadratic forms.
  for (int x = 0; x < p; ++x) {
    V t = V(0.0), z = V(0.0);
    for (int i = 0; i < n; ++i) {
      t = fma(w.u[i * outer + 1 + x], c2[i], t);
      z = fma(w.u[i * outer + 1 + x], nc[i], z);
    }
    e2[x] = t;
    e1[x] = fnma(t2, z, V(e1[x]));
  }
  q11 = fnma(t2, nsn, q11);
  for (int x = 0; x < p; ++x) {
    V a = e1[x], b = e2[x];
    for (int e = 0; e < x; ++e) {
      a = fnma(V(w.x_factor[triangle(x, e)]), V(e1[e]), a);
      b = fnma(V(w.x_factor[triangle(x, e)]), V(e2[e]), b);
    }
    a = a * w.x_inverse[x];
    b = b * w.x_inverse[x];
    e1[x] = a;
    e2[x] = b;
    q11 = fnma(a, a, q11);
    q12 = fnma(a, b, q12);
    q22 = fnma(b, b, q22);
  }
  const V n_over_r2 = degrees / result.r2, twice = n_over_r2 + n_over_r2, n_over_r4 = n_over_r2 / result.r2;
  w.gradient[0] = fnma(n_over_r2, s1, fnma(t2, trace_m, sum_b));
  w.gradient[1] = fnma(n_over_r2, s2, sum_22);
  const V trace_11 = fma(t2 * t2, trace_mm, fnma(t2 + t2, trace_mb, sum_bb));
  const auto second = [&](int at, const V& trace, const V& q, const V& ss) {
    w.hessian[at] = fma(twice, q, -fma(n_over_r4, ss, trace));
    w.information[at] = fma(n_over_r2, q, -(n_over_r4 * ss));
  };
  second(0, trace_11, q11, s1 * s1);
  second(1, trace_12, q12, s1 * s2);
  second(2, trace_22, q22, s2 * s2);
  return result;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
