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
/// @param s         a Shape, FixedShape or TeamShape: all members of a team call, and get the same
template <int LK, class V, class Sizes, class A, class Y, class C>
BATCHLMM_FUNCTION inline Evaluation<V> evaluate(const Sizes& s, const Design<C>& design, const Y& response,
                                                const Workspace<A>& w, bool derivatives) {
  const int S = s.stages;
  LogProduct<V> log_determinant;
  Evaluation<V> result;
  result.ok = V(0.0) <= V(0.0);
  const auto team = team_of(s);
  make_t<V>(s, w);

  // y and X's own cross-products; the stages' own rows follow as their nodes start.
  const Y xy = response + (s.response - 1 - s.p);
  if (is_mine(team, 0)) w.g[0] = xy[s.p];
  for (int i = first_mine(team, 0); i < s.p; i += team.size()) {
    const C* e = design.x_e + triangle(i, 0);
    const A row = w.g + triangle(1 + i, 0);
    row[0] = xy[i];
    for (int j = 0; j <= i; ++j) row[1 + j] = V(e[j]);
  }
  if (derivatives) {
    const auto clear = [&](const A& x, int size) {
      for (int i = first_mine(team, 0); i < size; i += team.size()) x[i] = V(0.0);
    };
    clear(w.dg, dg_offset(s, s.parameters));
    clear(w.gradient, s.parameters);
    clear(w.hessian, triangle_size(s.parameters));
    clear(w.information, triangle_size(s.parameters));
  }
  team.sync();
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
  for (int end = s.nodes[0]; end > 0;) {
    for (int t = S; t >= 1; --t)
      if (s.node_end[t][current[t]] == end)
        descend_node<V>(s, w, t, current[t], w.modes + (modes_end[t - 1] + current[t] * s.own[t]), n_over_r2);
    // Down to the beginning of the node of the next stage.
    int begin = S > 0 && current[1] > 0 ? s.node_end[1][current[1] - 1] : 0;
    if (begin < end - levels_together(s)) begin = end - levels_together(s);
    descend_streamed<LK, V>(s, w, begin, end, n_over_r2);
    end = begin;
    for (int t = 1; t <= S; ++t)
      if (current[t] > 0 && s.node_end[t][current[t] - 1] == end) --current[t];
  }
  // hessian holds the log-determinants' part, information q = (second derivative of r^2) / 2, dr the derivative of r^2.
  const V n_over_r4 = n_over_r2 / result.r2;
  for (int a = 0; a < s.parameters; ++a)
    for (int b = first_mine(team, 0); b <= a; b += team.size()) {
      const int at = triangle(a, b);
      const V q = w.information[at], ss = n_over_r4 * w.dr[a] * w.dr[b];
      w.hessian[at] = fma(n_over_r2 + n_over_r2, q, w.hessian[at] - ss);
      w.information[at] = fma(n_over_r2, q, -ss);
    }
  team.sync();
  return result;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
