/// @file
/// Tests of fixed effects for small samples from the contrasts' forms (contrast_forms.hpp): Satterthwaite's degrees of
/// freedom (as Kuznetsova, Brockhoff and Christensen 2017 have them) and Kenward and Roger's (1997; as Halekoh and
/// Hojsgaard 2014 have them), the numbers of host/model/small_sample.cpp. sigma = 1 until the statistics: degrees
/// of freedom do not depend on the scale.
///
/// The residual variance has index m, V = gamma_m I + sum gamma_a G_a with gamma_m = 1:
///     tr(P G_a P) = tr(P G_a) - sum_b T_b tr(P G_a P G_b),   tr(P P) = N - sum_a T_a (tr(P G_a) + tr(P G_a P))
///     u'u = S - sum T_a D_a,   P u = -sum T_a P G_a u
/// Satterthwaite's gradient takes sigma out of the Hessian in closed form: with the profiled criterion's Hessian H by
/// theta, df = S^2 / (S^2 / N + v'H^{-1}v), v = dS + S dr^2 / r^2.
#pragma once

#include "kernels/contrast_forms.hpp"
#include "kernels/covariance.hpp"
#include "kernels/tail_probabilities.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template <class A>
struct SmallSampleScratch {
  Coordinates<A> at;  ///< Satterthwaite
  A jacobian;         ///< m x m: T's entries by those of the pivoted factors, block by block
  A matrix;           ///< packed m + 1: Cholesky factor of the information or the Hessian
  A inverse;          ///< m + 1: reciprocals of its diagonal, 0 where it is left out
  A product;          ///< m x m
  A gradient;         ///< (m + 1) x pairs of one hypothesis
  A weight;           ///< packed m: of K
  A row;              ///< m + 1
  A s, vectors;       ///< rows x rows of one hypothesis
  A small;            ///< what pivoting takes
};

template <class S, class A>
BATCHLMM_FUNCTION inline SmallSampleScratch<A> make_small_sample_scratch(const S& s, const TestPlan& plan,
                                                                         Arena<A>& arena) {
  const std::size_t m = s.parameters, q = plan.largest;
  std::size_t largest = 1;
  for (int b = 0; b < s.terms; ++b) {
    const std::size_t k = s.term[b].k;
    if (k * k > largest) largest = k * k;
  }
  SmallSampleScratch<A> x;
  x.at = {arena.take(s.lambdas), arena.take(s.lambdas), arena.take(s.terms)};
  x.jacobian = arena.take(m * m);
  x.matrix = arena.take((m + 1) * (m + 2) / 2);
  x.inverse = arena.take(m + 1);
  x.product = arena.take((m + 1) * (m + 1));
  x.gradient = arena.take((m + 1) * (q * q));
  x.weight = arena.take(m * (m + 1) / 2);
  x.row = arena.take(m + 1);
  x.s = arena.take(q * q);
  x.vectors = arena.take(q * q);
  x.small = arena.take(largest + m);
  return x;
}

/// Cholesky factor of a positive semidefinite packed matrix in place; directions without curvature are left out: a
/// pivot up to `absolute` or `relative` times the diagonal entry counts as 0, and has an inverse of 0.
template <class V, class A>
BATCHLMM_INLINE void factor_semidefinite(int n, const A& l, const A& inverse, double least, double relative) {
  for (int i = 0; i < n; ++i) {
    const V diagonal = l[triangle(i, i)];
    for (int j = 0; j < i; ++j) {
      V t = l[triangle(i, j)];
      for (int e = 0; e < j; ++e) t = fnma(V(l[triangle(i, e)]), V(l[triangle(j, e)]), t);
      l[triangle(i, j)] = t * inverse[j];
    }
    V t = diagonal;
    for (int e = 0; e < i; ++e) t = fnma(V(l[triangle(i, e)]), V(l[triangle(i, e)]), t);
    const auto positive = t > maximum(V(least), V(relative) * diagonal);
    const V root = square_root(select(positive, t, V(1.0)));
    l[triangle(i, i)] = select(positive, root, V(0.0));
    inverse[i] = select(positive, V(1.0) / root, V(0.0));
  }
}

/// Eigenvalues (a's diagonal) and eigenvectors (columns) of a symmetric n x n matrix by Jacobi's rotations. A lane
/// whose entries off the diagonal have vanished is left alone.
template <class V, class A>
BATCHLMM_FUNCTION inline void jacobi_eigen(int n, const A& a, const A& vectors) {
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) vectors[i * n + j] = V(i == j ? 1.0 : 0.0);
  for (int sweep = 0; sweep < 30; ++sweep) {
    bool rotated = false;
    for (int p = 1; p < n; ++p)
      for (int q = 0; q < p; ++q) {
        const V off = a[p * n + q], app = a[p * n + p], aqq = a[q * n + q];
        const auto turn = off * off > V(1e-34) * absolute(app * aqq) && absolute(off) > V(1e-290);
        if (!any(turn)) continue;
        rotated = true;
        const V safe = select(turn, off, V(1.0)), theta = (aqq - app) / (safe + safe),
                root = absolute(theta) + square_root(fma(theta, theta, V(1.0))),
                tangent = select(theta < V(0.0), V(-1.0), V(1.0)) / root,
                c1 = V(1.0) / square_root(fma(tangent, tangent, V(1.0)));
        const V c = select(turn, c1, V(1.0)), s = select(turn, c1 * tangent, V(0.0));
        for (int e = 0; e < n; ++e) {
          const V x = a[e * n + p], y = a[e * n + q];
          a[e * n + p] = select(turn, c * x - s * y, x);
          a[e * n + q] = select(turn, s * x + c * y, y);
        }
        for (int e = 0; e < n; ++e) {
          const V x = a[p * n + e], y = a[q * n + e];
          a[p * n + e] = select(turn, c * x - s * y, x);
          a[q * n + e] = select(turn, s * x + c * y, y);
          const V vx = vectors[e * n + p], vy = vectors[e * n + q];
          vectors[e * n + p] = select(turn, c * vx - s * vy, vx);
          vectors[e * n + q] = select(turn, s * vx + c * vy, vy);
        }
      }
    if (!rotated) break;
  }
}

/// The Hessian by the entries of the pivoted factors l, T = P'll'P, into x.matrix, factored, and the map to them.
template <class V, class S, class L, class A>
BATCHLMM_FUNCTION inline void factor_hessian(const S& s, const L& lambda, const ContrastForms<A>& f,
                                             const SmallSampleScratch<A>& x) {
  const int m = s.parameters;
  to_coordinates<V>(s, lambda, x.at, x.small);
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k, a0 = term.parameter;
    const A l = x.at.l + term.lambda, pivot = x.at.pivot + term.lambda, column = x.small;
    for (int c = 0; c < k; ++c) {
      for (int i = 0; i < k; ++i) {
        V t = V(0.0);
        for (int r = c; r < k; ++r) t = fma(pivot[r * k + i], l[r * k + c], t);
        column[i] = t;
      }
      for (int r = c; r < k; ++r)
        for (int i = 0; i < k; ++i)
          for (int j = 0; j <= i; ++j)
            x.jacobian[(a0 + triangle(i, j)) * m + a0 + triangle(r, c)] =
                fma(pivot[r * k + i], column[j], pivot[r * k + j] * column[i]);
    }
  }
  // H J, then J'(H J), by blocks; and the curvature of T = ll': 2 G between the entries of a column.
  for (int b = 0; b < s.terms; ++b) {
    const int a0 = s.term[b].parameter, size = triangle_size(s.term[b].k);
    for (int i = 0; i < m; ++i)
      for (int c = 0; c < size; ++c) {
        V t = V(0.0);
        for (int e = 0; e < size; ++e) t = fma(f.hessian[packed(i, a0 + e)], x.jacobian[(a0 + e) * m + a0 + c], t);
        x.product[i * m + a0 + c] = t;
      }
  }
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const int k = term.k, a0 = term.parameter, size = triangle_size(k);
    const A pivot = x.at.pivot + term.lambda;
    for (int r = 0; r < size; ++r)
      for (int c = 0; c <= a0 + r; ++c) {
        V t = V(0.0);
        for (int e = 0; e < size; ++e) t = fma(x.jacobian[(a0 + e) * m + a0 + r], x.product[(a0 + e) * m + c], t);
        x.matrix[triangle(a0 + r, c)] = t;
      }
    for (int r = 0; r < k; ++r)
      for (int r2 = 0; r2 <= r; ++r2) {
        V g = V(0.0);
        for (int i = 0; i < k; ++i)
          for (int j = 0; j < k; ++j)
            g = fma(pivot[r * k + i] * pivot[r2 * k + j], f.gradient[a0 + packed(i, j)] * V(i == j ? 1.0 : 0.5), g);
        for (int c = 0; c <= r2; ++c) {
          const int at = triangle(a0 + triangle(r, c), a0 + triangle(r2, c));
          x.matrix[at] = fma(g, V(2.0), x.matrix[at]);
        }
      }
  }
  // As host/model/small_sample.cpp: directions of theta without curvature have no part.
  factor_semidefinite<V>(m, x.matrix, x.inverse, 1e-8, 1e-11);
}

/// Satterthwaite's degrees of freedom of a contrast with variance `s` (at sigma = 1).
/// @param d  m: the variance's derivatives by T, d[a * step]
template <class V, class S, class A>
BATCHLMM_FUNCTION inline V satterthwaite_df(const S& s, const ContrastForms<A>& f, const SmallSampleScratch<A>& x,
                                            const V& variance, const A& d, int step, const V& r2, const V& degrees) {
  const int m = s.parameters;
  const V share = variance / r2;
  for (int b = 0; b < s.terms; ++b) {
    const int a0 = s.term[b].parameter, size = triangle_size(s.term[b].k);
    for (int c = 0; c < size; ++c) {
      V t = V(0.0);
      for (int e = 0; e < size; ++e)
        t = fma(x.jacobian[(a0 + e) * m + a0 + c], fma(share, V(f.dr[a0 + e]), V(d[(a0 + e) * step])), t);
      x.row[a0 + c] = t;
    }
  }
  V form = variance * variance / degrees;
  for (int i = 0; i < m; ++i) {
    V t = x.row[i];
    for (int e = 0; e < i; ++e) t = fnma(V(x.matrix[triangle(i, e)]), V(x.row[e]), t);
    t = t * x.inverse[i];
    x.row[i] = t;
    form = fma(t, t, form);
  }
  // The criterion is -2 log: the information is half its Hessian.
  return variance * variance / form;
}

/// Kenward and Roger's information of (T, residual) into x.matrix, factored; x.weight gets the weights of K in the sum
/// over W (K) with the residual's share in them.
template <class V, class S, class A>
BATCHLMM_FUNCTION inline void factor_information(const S& s, const ContrastForms<A>& f, const SmallSampleScratch<A>& x,
                                                 const V& degrees) {
  const int m = s.parameters;
  V last = degrees;
  for (int a = 0; a < m; ++a) {
    V t = f.trace[a];
    for (int b = 0; b < m; ++b) t = fnma(V(f.t[b]), V(f.info[packed(a, b)]), t);
    x.row[a] = t;
    last = fnma(V(f.t[a]), f.trace[a] + t, last);
  }
  for (int i = 0; i < triangle_size(m); ++i) x.matrix[i] = f.info[i];
  for (int a = 0; a < m; ++a) x.matrix[triangle(m, a)] = x.row[a];
  x.matrix[triangle(m, m)] = last;
  factor_semidefinite<V>(m + 1, x.matrix, x.inverse, 0.0, 1e-10);
  // W = 2 L^{-T}L^{-1}; K's residual rows are -T'K: sum W K = 2 sum of squares of L^{-1}[I; -T'].
  for (int i = 0; i < triangle_size(m); ++i) x.weight[i] = V(0.0);
  for (int a = 0; a < m; ++a) {
    // Column a of L^{-1}[I; -T'].
    for (int i = 0; i <= m; ++i) {
      V t = i == a ? V(1.0) : i == m ? -f.t[a] : V(0.0);
      for (int e = a; e < i; ++e) t = fnma(V(x.matrix[triangle(i, e)]), V(x.product[e * m + a]), t);
      x.product[i * m + a] = i < a ? V(0.0) : t * x.inverse[i];
    }
  }
  for (int a = 0; a < m; ++a)
    for (int b = 0; b <= a; ++b) {
      V t = V(0.0);
      for (int i = a; i <= m; ++i) t = fma(x.product[i * m + a], x.product[i * m + b], t);
      x.weight[triangle(a, b)] = t + t;
    }
}

/// Tests all hypotheses from the forms.
/// @param r2      penalized residual sum of squares: sigma^2 = r2 / degrees
/// @param put     put(hypothesis, value, v): TestValues
template <class V, class S, class L, class A, class Put>
BATCHLMM_FUNCTION inline void test_hypotheses(const S& s, const TestPlan& plan, const L& lambda,
                                              const ContrastForms<A>& f, const SmallSampleScratch<A>& x, const V& r2,
                                              const V& degrees, const Put& put) {
  const int m = s.parameters;
  const V sigma2 = r2 / degrees, nan = V(__builtin_nan(""));
  if (plan.kenward_roger)
    factor_information<V>(s, f, x, degrees);
  else
    factor_hessian<V>(s, lambda, f, x);
  int pair = 0;
  for (int h = 0; h < plan.hypotheses; ++h) {
    const int first = plan.first[h], q = plan.first[h + 1] - first;
    // What Kenward and Roger add to the covariance: sum W K, twice.
    const auto added = [&](int at) {
      V t = V(0.0);
      for (int a = 0; a < m; ++a)
        for (int b = 0; b <= a; ++b) {
          const V k = f.k[triangle(a, b) * plan.pairs + at];
          t = fma(x.weight[triangle(a, b)], a == b ? k : k + k, t);
        }
      return t + t;
    };
    if (q == 1) {
      const V variance = f.s[pair], estimate = f.estimate[first];
      V adjusted = variance, df;
      if (plan.kenward_roger) {
        adjusted = variance + added(pair);
        // Of one contrast the F's two moments give df2 = 2 / A_2, A_2 = sum W D D / S^2.
        V form = V(0.0), left = variance;
        for (int i = 0; i <= m; ++i) {
          V t = i < m ? V(f.d[i * plan.pairs + pair]) : left;
          if (i < m) left = fnma(V(f.t[i]), t, left);
          for (int e = 0; e < i; ++e) t = fnma(V(x.matrix[triangle(i, e)]), V(x.row[e]), t);
          t = t * x.inverse[i];
          x.row[i] = t;
          form = fma(t, t, form);
        }
        df = variance * variance / form;
      } else {
        df = satterthwaite_df<V>(s, f, x, variance, f.d + pair, plan.pairs, r2, degrees);
      }
      const V error = square_root(adjusted * sigma2), t = estimate / error;
      put(h, TestValues::estimate, estimate);
      put(h, TestValues::std_error, error);
      put(h, TestValues::df1, V(1.0));
      put(h, TestValues::df2, df);
      put(h, TestValues::statistic, t);
      put(h, TestValues::p_value, two_sided_tail<V>(t, df));
      put(h, TestValues::scaling, V(1.0));
      ++pair;
      continue;
    }
    put(h, TestValues::estimate, nan);
    put(h, TestValues::std_error, nan);
    if (!plan.kenward_roger) {
      // Fai and Cornelius (1996): uncorrelated contrasts, each with degrees of freedom of its own.
      for (int i = 0; i < q; ++i)
        for (int j = 0; j <= i; ++j) x.s[i * q + j] = x.s[j * q + i] = f.s[pair + triangle(i, j)];
      jacobi_eigen<V>(q, x.s, x.vectors);
      V largest = V(0.0);
      for (int i = 0; i < q; ++i) largest = maximum(largest, V(x.s[i * q + i]));
      V sum = V(0.0), count = V(0.0), expectation = V(0.0), lowest = V(1e300), highest = V(0.0), common = V(0.0);
      for (int i = 0; i < q; ++i) {
        const V variance = x.s[i * q + i];
        const auto counts = variance > V(1e-10) * largest;
        V estimate = V(0.0);
        for (int e = 0; e < q; ++e) estimate = fma(x.vectors[e * q + i], f.estimate[first + e], estimate);
        for (int a = 0; a < m; ++a) {
          V d = V(0.0);
          for (int e = 0; e < q; ++e)
            for (int e2 = 0; e2 <= e; ++e2) {
              const V both = x.vectors[e * q + i] * x.vectors[e2 * q + i];
              d = fma(f.d[a * plan.pairs + pair + triangle(e, e2)], e == e2 ? both : both + both, d);
            }
          x.gradient[a] = d;
        }
        const V safe = select(counts, variance, V(1.0));
        const V df = satterthwaite_df<V>(s, f, x, safe, x.gradient, 1, r2, degrees);
        sum = select(counts, fma(estimate, estimate / (safe * sigma2), sum), sum);
        count = select(counts, count + V(1.0), count);
        lowest = select(counts, minimum(lowest, df), lowest);
        highest = select(counts, maximum(highest, df), highest);
        common = select(counts, df, common);
        expectation = select(counts, expectation + df / (df - V(2.0)), expectation);
      }
      const V statistic = sum / count, mean = V(2.0) * expectation / (expectation - count);
      const V df2 = select(lowest <= V(2.0), V(2.0), select(highest - lowest < V(1e-8), common, mean));
      V p = nan;
      for (int i = 1; i <= q; ++i) {
        const auto here = count > V(i - 0.5) && count < V(i + 0.5);
        if (any(here)) p = select(here, f_tail<V>(statistic, i, df2), p);
      }
      put(h, TestValues::df1, count);
      put(h, TestValues::df2, df2);
      put(h, TestValues::statistic, statistic);
      put(h, TestValues::p_value, p);
      put(h, TestValues::scaling, V(1.0));
      pair += triangle_size(q);
      continue;
    }
    // S = CC'; C^{-1}D_i C^{-T} of all parameters.
    const A c = x.s;
    const int size = triangle_size(q);
    for (int i = 0; i < q; ++i)
      for (int j = 0; j <= i; ++j) {
        V t = f.s[pair + triangle(i, j)];
        for (int e = 0; e < j; ++e) t = fnma(V(c[i * q + e]), V(c[j * q + e]), t);
        c[i * q + j] = i == j ? square_root(t) : t / c[j * q + j];
      }
    // The residual's D = S - sum T_a D_a has C^{-1}(.)C^{-T} = I - sum of theirs.
    for (int i = 0; i < q; ++i)
      for (int j = 0; j <= i; ++j) x.gradient[m * size + triangle(i, j)] = V(i == j ? 1.0 : 0.0);
    for (int a = 0; a < m; ++a) {
      const A z = x.vectors;
      for (int j = 0; j < q; ++j)
        for (int i = 0; i < q; ++i) {
          V t = f.d[a * plan.pairs + pair + packed(i, j)];
          for (int e = 0; e < i; ++e) t = fnma(V(c[i * q + e]), V(z[e * q + j]), t);
          z[i * q + j] = t / c[i * q + i];
        }
      for (int i = 0; i < q; ++i)
        for (int j = 0; j <= i; ++j) {
          V t = z[i * q + j];
          for (int e = 0; e < j; ++e) t = fnma(V(c[j * q + e]), V(z[i * q + e]), t);
          t = t / c[j * q + j];
          z[i * q + j] = t;
          const int at = triangle(i, j);
          x.gradient[a * size + at] = t;
          x.gradient[m * size + at] = fnma(V(f.t[a]), t, V(x.gradient[m * size + at]));
        }
    }
    V a1 = V(0.0), a2 = V(0.0);
    for (int i = 0; i < q; ++i)
      for (int j = 0; j <= i; ++j) {
        const int at = triangle(i, j);
        for (int r = 0; r <= m; ++r) {
          V t = x.gradient[r * size + at];
          for (int e = 0; e < r; ++e) t = fnma(V(x.matrix[triangle(r, e)]), V(x.gradient[e * size + at]), t);
          t = t * x.inverse[r];
          x.gradient[r * size + at] = t;
          a2 = fma(i == j ? V(2.0) * t : V(4.0) * t, t, a2);
        }
      }
    for (int r = 0; r <= m; ++r) {
      V t = V(0.0);
      for (int i = 0; i < q; ++i) t = t + x.gradient[r * size + triangle(i, i)];
      a1 = fma(V(2.0) * t, t, a1);
    }
    const V n = V(double(q)), b = (a1 + V(6.0) * a2) / V(2.0 * q),
            g = (V(q + 1.0) * a1 - V(q + 4.0) * a2) / (V(q + 2.0) * a2), divisor = V(3.0 * q) + V(2.0) * (V(1.0) - g),
            c1 = g / divisor, c2 = (n - g) / divisor, c3 = (V(q + 2.0) - g) / divisor;
    V v0 = V(1.0) + c1 * b;
    const V v1 = V(1.0) - c2 * b, v2 = V(1.0) - c3 * b;
    v0 = select(absolute(v0) < V(1e-10), V(0.0), v0);
    // Both can be 0 where the law is exactly an F (pbkrtest's divZero).
    const V above = V(1.0) - a2 / n;
    const V ratio = select(absolute(above) < V(1e-14) && absolute(v1) < V(1e-14), V(1.0), above / v1);
    const V rho = ratio * ratio * v0 / v2 / n;
    const V df2 = V(4.0) + V(q + 2.0) / (n * rho - V(1.0));
    const V scaling = select(absolute(df2 - V(2.0)) < V(1e-2), V(1.0), df2 * above / (df2 - V(2.0)));
    // The Wald form by the adjusted covariance.
    for (int i = 0; i < q; ++i)
      for (int j = 0; j <= i; ++j) {
        const int at = pair + triangle(i, j);
        V t = f.s[at] + added(at);
        for (int e = 0; e < j; ++e) t = fnma(V(c[i * q + e]), V(c[j * q + e]), t);
        c[i * q + j] = i == j ? square_root(t) : t / c[j * q + j];
      }
    V wald = V(0.0);
    for (int i = 0; i < q; ++i) {
      V t = f.estimate[first + i];
      for (int e = 0; e < i; ++e) t = fnma(V(c[i * q + e]), V(x.vectors[e]), t);
      t = t / c[i * q + i];
      x.vectors[i] = t;
      wald = fma(t, t, wald);
    }
    const V statistic = scaling * wald / (sigma2 * n);
    put(h, TestValues::df1, n);
    put(h, TestValues::df2, df2);
    put(h, TestValues::statistic, statistic);
    put(h, TestValues::p_value, f_tail<V>(statistic, q, df2));
    put(h, TestValues::scaling, scaling);
    pair += size;
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
