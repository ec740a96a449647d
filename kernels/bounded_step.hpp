/// @file
/// The Newton step under the bounds w >= 0. Coordinates without a bound are eliminated once; what is left is a system
/// of one row a term, on which the active set is found.
#pragma once

#include "kernels/shape.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template <class T>
BATCHLMM_INLINE int bounded_coordinate(const T& term) {
  return term.parameter + triangle_size(term.k) - 1;
}

/// Coordinates in the order of their elimination: those without a bound, then each term's bounded one.
template <class S>
struct EliminationOrder {
  int at[S::fixed ? 1 : max_parameters];

  BATCHLMM_INLINE explicit EliminationOrder(const S& s) {
    if constexpr (!S::fixed)
      for (int i = 0; i < s.parameters; ++i) at[i] = find(s, i);
  }
  BATCHLMM_INLINE static constexpr int find(const S& s, int i) {
    for (int b = 0; b < s.terms; ++b) {
      const int free = triangle_size(s.term[b].k) - 1;
      if (i < free) return s.term[b].parameter + i;
      i -= free;
    }
    return bounded_coordinate(s.term[i]);
  }
  BATCHLMM_INLINE int operator()(const S& s, int i) const {
    if constexpr (S::fixed)
      return find(s, i);
    else
      return at[i];
  }
};

/// Rows `row` .. `row + R - 1` of M = L D left of column `end`, from the rows of L above: M_ij = A_ij - sum of M_ie
/// L_je.
template <int R, class V, class A>
BATCHLMM_INLINE void eliminate_rows(int row, int end, const A& l) {
  int j = 0;
  for (; j + 2 <= end; j += 2) {
    V first[R], second[R];
    for (int r = 0; r < R; ++r) {
      first[r] = l[triangle(row + r, j)];
      second[r] = l[triangle(row + r, j + 1)];
    }
    for (int e = 0; e < j; ++e) {
      const V a = l[triangle(j, e)], b = l[triangle(j + 1, e)];
      for (int r = 0; r < R; ++r) {
        const V m = l[triangle(row + r, e)];
        first[r] = fnma(m, a, first[r]);
        second[r] = fnma(m, b, second[r]);
      }
    }
    const V last = l[triangle(j + 1, j)];
    for (int r = 0; r < R; ++r) {
      l[triangle(row + r, j)] = first[r];
      l[triangle(row + r, j + 1)] = fnma(first[r], last, second[r]);
    }
  }
  for (; j < end; ++j) {
    V t[R];
    for (int r = 0; r < R; ++r) t[r] = l[triangle(row + r, j)];
    for (int e = 0; e < j; ++e)
      for (int r = 0; r < R; ++r) t[r] = fnma(V(l[triangle(row + r, e)]), V(l[triangle(j, e)]), t[r]);
    for (int r = 0; r < R; ++r) l[triangle(row + r, j)] = t[r];
  }
}

/// A pivot that divides: not positive ones are replaced.
template <class V>
BATCHLMM_INLINE V checked_pivot(const V& pivot, const V& diagonal, MaskOf<V>& definite) {
  const V scale = absolute(diagonal) + V(1e-12);
  definite = definite && (pivot > V(-1e-8) * scale);
  return maximum(absolute(pivot), V(1e-10) * scale);
}

/// Eliminates the coordinates without a bound: n.factor holds L by rows, what is left of the bounded ones' matrix in
/// its last rows, and then the reciprocal pivots; n.rhs = L^{-1}(-gradient).
/// @return lanes where the matrix of the coordinates without a bound was positive definite
template <class V, class S, class N, class A>
BATCHLMM_INLINE MaskOf<V> eliminate_free(const S& s, const N& n, const A& matrix) {
  const int m = s.parameters, free = m - s.terms;
  const EliminationOrder<S> order(s);
  const A l = n.factor, inverse = n.factor + triangle_size(m), y = n.rhs;
  for (int i = 0; i < m; ++i) {
    const int row = order(s, i);
    y[i] = -n.x_gradient[row];
    for (int j = 0; j <= i; ++j) l[triangle(i, j)] = matrix[packed(row, order(s, j))];
  }
  MaskOf<V> definite = V(0.0) <= V(0.0);
  // M to L: the row's own pivot comes with it.
  const auto finish = [&](int i) {
    const V diagonal = l[triangle(i, i)];
    V pivot = diagonal;
    for (int e = 0; e < i; ++e) {
      const V t = l[triangle(i, e)], scaled = t * inverse[e];
      pivot = fnma(t, scaled, pivot);
      l[triangle(i, e)] = scaled;
    }
    inverse[i] = V(1.0) / checked_pivot(pivot, diagonal, definite);
  };
  int i = 0;
  for (; i + 4 <= free; i += 4) {
    eliminate_rows<4, V>(i, i, l);
    for (int r = 0; r < 4; ++r) {
      for (int j = i; j < i + r; ++j) {
        V t = l[triangle(i + r, j)];
        for (int e = 0; e < j; ++e) t = fnma(V(l[triangle(i + r, e)]), V(l[triangle(j, e)]), t);
        l[triangle(i + r, j)] = t;
      }
      finish(i + r);
    }
  }
  for (; i < free; ++i) {
    eliminate_rows<1, V>(i, i, l);
    finish(i);
  }
  for (int e = 0; e < free; ++e)
    for (int j = e + 1; j < free; ++j) y[j] = fnma(V(l[triangle(j, e)]), V(y[e]), V(y[j]));
  for (int b = free; b < m; ++b) {
    eliminate_rows<1, V>(b, free, l);
    V t = y[b];
    for (int e = 0; e < free; ++e) t = fnma(V(l[triangle(b, e)]) * inverse[e], V(y[e]), t);
    y[b] = t;
    for (int b2 = free; b2 <= b; ++b2) {
      V sum = l[triangle(b, b2)];
      // Rows above are L's by now, this one is still M's.
      for (int e = 0; e < free; ++e)
        sum = fnma(V(l[triangle(b, e)]), b2 == b ? l[triangle(b, e)] * inverse[e] : V(l[triangle(b2, e)]), sum);
      l[triangle(b, b2)] = sum;
    }
    for (int e = 0; e < free; ++e) l[triangle(b, e)] = l[triangle(b, e)] * inverse[e];
  }
  return definite;
}

/// Solves for the bounded coordinates after eliminate_free.
/// @param held  per term: lanes whose bounded coordinate is held at n.fixed_step
/// @return lanes where what is left was positive definite on those that are not held
template <class V, class S, class N>
BATCHLMM_INLINE MaskOf<V> solve_bounded(const S& s, const N& n, const MaskOf<V> (&held)[max_terms]) {
  const int free = s.parameters - s.terms, terms = s.terms;
  const auto l = n.bounded, rhs = l + triangle_size(terms), inverse = rhs + terms;
  MaskOf<V> definite = V(0.0) <= V(0.0);
  for (int b = 0; b < terms; ++b) {
    rhs[b] = n.rhs[free + b];
    for (int b2 = 0; b2 <= b; ++b2) l[triangle(b, b2)] = n.factor[triangle(free + b, free + b2)];
  }
  for (int b = 0; b < terms; ++b) {
    for (int i = 0; i < terms; ++i) {
      if (i == b) continue;
      const V h = select(held[b], V(l[packed(i, b)]), V(0.0));
      rhs[i] = fnma(h, V(n.fixed_step[b]), V(rhs[i]));
    }
    for (int i = 0; i < terms; ++i) l[packed(i, b)] = select(held[b], V(i == b ? 1.0 : 0.0), V(l[packed(i, b)]));
    rhs[b] = select(held[b], V(n.fixed_step[b]), V(rhs[b]));
  }
  // The right-hand sides of held coordinates must not have been changed by coordinates that were held later.
  for (int b = 0; b < terms; ++b) rhs[b] = select(held[b], V(n.fixed_step[b]), V(rhs[b]));
  for (int i = 0; i < terms; ++i) {
    const V diagonal = l[triangle(i, i)];
    V pivot = diagonal, x = rhs[i];
    for (int j = 0; j < i; ++j) {
      V t = l[triangle(i, j)];
      for (int e = 0; e < j; ++e) t = fnma(V(l[triangle(i, e)]), V(l[triangle(j, e)]), t);
      l[triangle(i, j)] = t;
    }
    for (int j = 0; j < i; ++j) {
      const V t = l[triangle(i, j)], scaled = t * inverse[j];
      pivot = fnma(t, scaled, pivot);
      x = fnma(scaled, V(rhs[j]), x);
      l[triangle(i, j)] = scaled;
    }
    inverse[i] = V(1.0) / checked_pivot(pivot, diagonal, definite);
    rhs[i] = x;
  }
  for (int i = terms - 1; i >= 0; --i) {
    V t = rhs[i] * inverse[i];
    for (int e = i + 1; e < terms; ++e) t = fnma(V(l[triangle(e, i)]), V(n.step[bounded_coordinate(s.term[e])]), t);
    n.step[bounded_coordinate(s.term[i])] = t;
  }
  return definite;
}

/// The other coordinates' step, from the bounded ones'.
template <class V, class S, class N>
BATCHLMM_INLINE void solve_free(const S& s, const N& n) {
  const int m = s.parameters, free = m - s.terms;
  const EliminationOrder<S> order(s);
  const auto l = n.factor, inverse = n.factor + triangle_size(m), x = n.rhs;
  for (int i = 0; i < free; ++i) x[i] = x[i] * inverse[i];
  for (int i = m - 1; i >= 0; --i) {
    const V t = i < free ? V(x[i]) : V(n.step[order(s, i)]);
    for (int e = 0; e < (i < free ? i : free); ++e) x[e] = fnma(V(l[triangle(i, e)]), t, V(x[e]));
    if (i < free) n.step[order(s, i)] = t;
  }
}

/// The bound-constrained Newton step by an active set: a bounded coordinate that is at 0 and pushed outwards stays, one
/// that the step would take below 0 is taken to 0, and the rest is solved again.
/// @param[out] inside  lanes where no bound was newly hit
/// @return lanes where the matrix was positive definite on the free coordinates
template <class V, class S, class N, class A>
BATCHLMM_INLINE MaskOf<V> bounded_step(const S& s, const N& n, const A& matrix, MaskOf<V>& inside) {
  MaskOf<V> held[max_terms];
  for (int b = 0; b < s.terms; ++b) {
    held[b] = (n.next.w[b] <= V(0.0)) && (n.x_gradient[bounded_coordinate(s.term[b])] >= V(0.0));
    n.fixed_step[b] = V(0.0);
  }
  const MaskOf<V> free_definite = eliminate_free<V>(s, n, matrix);
  MaskOf<V> definite = V(0.0) <= V(0.0);
  inside = definite;
  for (int pass = 0; pass <= s.terms; ++pass) {
    definite = solve_bounded<V>(s, n, held);
    MaskOf<V> hit = V(1.0) <= V(0.0);
    for (int b = 0; b < s.terms; ++b) {
      const int z = bounded_coordinate(s.term[b]);
      const auto below = !held[b] && (n.next.w[b] + n.step[z] < V(0.0));
      held[b] = held[b] || below;
      n.fixed_step[b] = select(below, -n.next.w[b], V(n.fixed_step[b]));
      // A bound hit by a coordinate that is already as good as there is no news.
      inside = inside && !(below && (n.next.w[b] > V(1e-10)));
      hit = hit || below;
    }
    if (!any(hit)) break;
  }
  solve_free<V>(s, n);
  return free_definite && definite;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
