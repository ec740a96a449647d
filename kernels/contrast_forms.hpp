/// @file
/// What a test of fixed effects for small samples takes from a fit, whatever the tier that evaluates it.
///
/// A contrast l'beta is u'y with u = V^{-1}X Phi l, Phi = (X'V^{-1}X)^{-1}, at sigma = 1. With V = I + sum T_a G_a over
/// the entries T_a of all terms and P = V^{-1} - V^{-1}X Phi X'V^{-1}, for the contrasts k, l of one hypothesis:
///     S = u_k'V u_l = l_k'Phi l_l,  D_a = u_k'G_a u_l = dS / dT_a,  K_ab = u_k'G_a P G_b u_l (symmetric part in a, b),
///     tr(P G_a P G_b), tr(P G_a)
/// Those with the residual variance follow from P V P = P and P V u = 0 (small_sample.hpp).
#pragma once

#include "kernels/workspace.hpp"

namespace batchlmm::kernels {

/// Hypotheses about fixed effects that are tested in every fit: L beta = 0, as t tests where L has one row.
struct TestPlan {
  bool kenward_roger = false;  ///< else Satterthwaite's
  int p = 0;                   ///< fixed effects
  int hypotheses = 0;
  int rows = 0;                   ///< of all L together
  int pairs = 0;                  ///< of rows of one hypothesis, all together
  int largest = 1;                ///< rows of the largest L
  const int* first = nullptr;     ///< hypotheses + 1: first row of each
  const double* l = nullptr;      ///< rows x p, in X's gauge
  const double* value = nullptr;  ///< rows: added to l'beta
};

/// What a test of one hypothesis gives; `values` doubles each, in this order.
struct TestValues {
  static constexpr int values = 7;
  enum : int { estimate, std_error, df1, df2, statistic, p_value, scaling };
};

inline namespace BATCHLMM_ISA {

template <class A>
struct ContrastForms {
  A l, value;  ///< in: the plan's, a lane each
  A phi_l;     ///< rows x p: Phi l. With indicator columns (strata) more columns, these first
  A estimate;  ///< rows: l'beta + value
  A t;         ///< m: entries of T
  A s;         ///< pairs: hypothesis by hypothesis, packed
  A d;         ///< m x pairs
  A k;         ///< packed m x pairs; Kenward-Roger
  A info;      ///< packed m: tr(P G_a P G_b); Kenward-Roger
  A trace;     ///< m: tr(P G_a); Kenward-Roger
  // Satterthwaite: derivatives of the profiled criterion by the entries of T, and of r^2.
  A gradient, hessian, dr;
};

/// @param columns  fixed effects with indicator columns, at least plan.p
template <class S, class A>
BATCHLMM_FUNCTION inline ContrastForms<A> make_contrast_forms(const S& s, const TestPlan& plan, int columns,
                                                              Arena<A>& arena) {
  const std::size_t m = s.parameters, mm = triangle_size(s.parameters), pairs = plan.pairs, rows = plan.rows;
  ContrastForms<A> f;
  f.l = arena.take(rows * plan.p);
  f.value = arena.take(rows);
  f.phi_l = arena.take(rows * columns);
  f.estimate = arena.take(rows);
  f.t = arena.take(m);
  f.s = arena.take(pairs);
  f.d = arena.take(m * pairs);
  f.k = arena.take(plan.kenward_roger ? mm * pairs : 0);
  f.info = arena.take(plan.kenward_roger ? mm : 0);
  f.trace = arena.take(plan.kenward_roger ? m : 0);
  f.gradient = arena.take(m);
  f.hessian = arena.take(mm);
  f.dr = arena.take(m);
  return f;
}

/// Puts the plan's contrasts into all lanes.
template <class V, class A>
BATCHLMM_FUNCTION inline void set_contrasts(const TestPlan& plan, const ContrastForms<A>& f) {
  for (int i = 0; i < plan.rows * plan.p; ++i) f.l[i] = V(plan.l[i]);
  for (int i = 0; i < plan.rows; ++i) f.value[i] = V(plan.value[i]);
}

/// visit(pair, row, row2), row2 <= row, for all pairs of rows of one hypothesis.
template <class F>
BATCHLMM_INLINE void for_each_contrast_pair(const TestPlan& plan, const F& visit) {
  int pair = 0;
  for (int h = 0; h < plan.hypotheses; ++h)
    for (int i = plan.first[h]; i < plan.first[h + 1]; ++i)
      for (int j = plan.first[h]; j <= i; ++j) visit(pair++, i, j);
}

/// The entries of T = lambda lambda'.
template <class V, class S, class L, class A>
BATCHLMM_INLINE void entries_of_t(const S& s, const L& lambda, const A& t) {
  for (int b = 0; b < s.terms; ++b) {
    const auto& term = s.term[b];
    const L l = lambda + term.lambda;
    for (int i = 0; i < term.k; ++i)
      for (int j = 0; j <= i; ++j) {
        V sum = V(0.0);
        for (int c = 0; c < term.k; ++c) sum = fma(l[i * term.k + c], l[j * term.k + c], sum);
        t[term.parameter + triangle(i, j)] = sum;
      }
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
