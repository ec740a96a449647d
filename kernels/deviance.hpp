/// @file
/// The profiled deviance (ML) or REML criterion of one replicate a lane, with its gradient and Hessian by the entries
/// of T.
#pragma once

#include "kernels/derivatives.hpp"
#include "kernels/evaluation.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Evaluates at w.lambda. With `derivatives`, leaves gradient, hessian and information by the entries of T
/// (off-diagonal entries count both places), beta and c = Z'Py in w.
/// @param response  a replicate's response vector (see Design), s.response entries
/// @param s         a Shape or FixedShape
template <int LK, class V, class Sizes, class A, class Y, class C>
BATCHLMM_FUNCTION inline Evaluation<V> evaluate(const Sizes& s, const Design<C>& design, const Y& response,
                                                const Workspace<A>& w, bool derivatives) {
  const int S = s.stages;
  LogProduct<V> log_determinant;
  Evaluation<V> result;
  result.ok = V(0.0) <= V(0.0);
  make_t<V>(s, w);

  // y and X's own cross-products; the stages' own rows follow as their nodes start.
  const Y xy = response + (s.response - 1 - s.p);
  w.g[0] = xy[s.p];
  {
    const C* e = design.x_e;
    for (int i = 0; i < s.p; ++i) {
      const A row = w.g + triangle(1 + i, 0);
      row[0] = xy[i];
      for (int j = 0; j <= i; ++j) row[1 + j] = V(*e++);
    }
  }
  if (derivatives) {
    const int size = dg_offset(s, s.parameters);
    for (int i = 0; i < size; ++i) w.dg[i] = V(0.0);
    for (int i = 0; i < s.parameters; ++i) w.gradient[i] = V(0.0);
    for (int i = 0; i < triangle_size(s.parameters); ++i) w.hessian[i] = V(0.0);
    for (int i = 0; i < triangle_size(s.parameters); ++i) w.information[i] = V(0.0);
  }
  int current[max_stages] = {};
  for (int t = 1; t <= S; ++t) start_node<V>(s, design, response, w, t, 0, derivatives);
  for (int j = 0; j < s.nodes[0];) {
    // Up to the end of a node of the next stage, which is there for any S but 0.
    int end = S > 0 ? s.node_end[1][current[1]] : s.nodes[0];
    if (end > j + streamed_group) end = j + streamed_group;
    eliminate_streamed<LK, V>(s, design, response, w, j, end - j, log_determinant, result.ok, derivatives);
    j = end;
    for (int t = 1; t <= S && s.node_end[t][current[t]] == j; ++t) {
      eliminate_node<V>(s, w, t, current[t], log_determinant, result.ok, derivatives);
      if (current[t] + 1 < s.nodes[t]) start_node<V>(s, design, response, w, t, ++current[t], derivatives);
    }
  }
  log_determinant.flush();
  V log_x;
  result.r2 = eliminate_x<V>(s, w, log_x, result.ok);
  result.ok = result.ok && (result.r2 > V(0.0));
  const V degrees = design.degrees != nullptr ? V(design.degrees[0]) : V(s.degrees);
  V deviance = fma(logarithm(result.r2), degrees, log_determinant.sum) + V(s.constant);
  if (s.reml) deviance = deviance + log_x;
  result.ok = result.ok && (absolute(deviance) < V(1e300));
  result.deviance = select(result.ok, deviance, V(1e300));
  if (!derivatives) return result;

  descend_x<V>(s, w);
  const V n_over_r2 = degrees / result.r2;
  int modes_end[max_stages] = {};
  modes_end[0] = s.nodes[0] * s.own[0];
  for (int t = 1; t <= S; ++t) modes_end[t] = modes_end[t - 1] + s.nodes[t] * s.own[t];
  for (int j = s.nodes[0] - 1; j >= 0; --j) {
    for (int t = S; t >= 1; --t)
      if (s.node_end[t][current[t]] == j + 1)
        descend_node<V>(s, w, t, current[t], w.modes + (modes_end[t - 1] + current[t] * s.own[t]), n_over_r2);
    descend_streamed<LK, V>(s, w, j, n_over_r2);
    for (int t = 1; t <= S; ++t)
      if (current[t] > 0 && s.node_end[t][current[t] - 1] == j) --current[t];
  }
  // hessian holds the log-determinants' part, information q = (second derivative of r^2) / 2, dr the derivative of r^2.
  const V n_over_r4 = n_over_r2 / result.r2;
  for (int a = 0; a < s.parameters; ++a)
    for (int b = 0; b <= a; ++b) {
      const int at = triangle(a, b);
      const V q = w.information[at], ss = n_over_r4 * w.dr[a] * w.dr[b];
      w.hessian[at] = fma(n_over_r2 + n_over_r2, q, w.hessian[at] - ss);
      w.information[at] = fma(n_over_r2, q, -ss);
    }
  return result;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
