/// @file
/// What a fit keeps from one trip to the next (newton.hpp), in one order: arrays, then numbers, then truth values.
#pragma once

#include "kernels/newton.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// f(array, size) for the arrays: the proposal in `lambda` first.
template <class S, class V, class A, class L, class F>
BATCHLMM_INLINE void for_each_state_array(const S& s, Newton<V, A>& n, L& lambda, const F& f) {
  f(lambda, s.lambdas);
  f(n.base.l, s.lambdas);
  f(n.base.pivot, s.lambdas);
  f(n.base.w, s.terms);
  f(n.direction, s.parameters);
  f(n.best_lambda, s.lambdas);
}
/// f(x) for the numbers.
template <class V, class A, class F>
BATCHLMM_INLINE void for_each_state_number(Newton<V, A>& n, const F& f) {
  f(n.f);
  f(n.slope);
  f(n.predicted);
  f(n.t);
  f(n.best);
  f(n.evaluations);
  f(n.total_evaluations);
  f(n.start);
  f(n.bumps);
  f(n.runs);
  f(n.worst);
}
/// f(m) for the truth values.
template <class V, class A, class F>
BATCHLMM_INLINE void for_each_state_flag(Newton<V, A>& n, const F& f) {
  f(n.fresh);
  f(n.certified);
  f(n.best_certified);
}
/// Arrays' and numbers' length together.
template <class S>
BATCHLMM_INLINE int state_size(const S& s) {
  return 4 * s.lambdas + s.terms + s.parameters + 11;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
