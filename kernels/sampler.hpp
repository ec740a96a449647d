/// @file
/// Draws response vectors of the parametric bootstrap without drawing y: with [Z X] = U F (U orthonormal), U'y has
/// independent normal errors and what is outside the range of U contributes one chi-square to y'y. A replicate costs r
/// + q normals and one chi-square, whatever n is.
///
/// Drawn at sigma = 1 and beta = 0: the criterion only shifts with them, and the caller undoes it.
#pragma once

#include "kernels/chi_square.hpp"
#include "kernels/workspace.hpp"

namespace batchlmm::kernels {

/// Constants of the draw, in the shape of the full model.
struct Sampler {
  const double* lambda =
      nullptr;  ///< generating lambdas of the full model's terms, k x k each; zero where the null has no such term
  const int* streamed_rank = nullptr;  ///< nodes[0]: min(n_j, K), errors of a streamed level
  const int* row_begin[max_stages] =
      {};  ///< stage t >= 1, nodes[t] + 1: rows of the node in `row`; index 0: X's rows (2 entries)
  const double* row[max_stages] = {};  ///< rows of F: over the columns 1 .. outer + own - 1 of the node (X: 1 .. p)
  int rows = 0;                        ///< all of them
  double chi_square_degrees = 0;       ///< n - rank of [Z X]
  // The null model's response vector.
  int null_response = 0;           ///< its length
  const double* null_x = nullptr;  ///< same random effects: X_null = X_full * null_x, p_full x p_null, row-major
  int null_p = 0;
  const double* null_map =
      nullptr;            ///< other random effects: (null_response - 1) x coordinates, row-major; null otherwise
  int null_streamed = 0;  ///< other random effects: leading entries of the null's vector that are its streamed part
};

inline namespace BATCHLMM_ISA {

/// Draws one replicate a lane.
/// @param full, null  response vectors to fill: s.response and sampler.null_response entries
/// @param b           scratch: columns()
/// @param eta         scratch: sampler.rows
template <class V, class A>
BATCHLMM_FUNCTION inline void draw_replicate(const Shape& s, const Design<double>& design, const Sampler& sampler,
                                             std::uint64_t seed, const IntOf<V>& replicate, const A& full,
                                             const A& null, const A& b, const A& eta) {
  const int K = s.own[0], N = s.columns(), S = s.stages, x_at = s.response - 1 - s.p;
  Normals<V> normals(seed, replicate, 0);
  for (int i = 0; i < s.response; ++i) full[i] = V(0.0);
  for (int i = 0; i < N; ++i) b[i] = V(0.0);

  int offset[max_stages] = {};
  for (int t = 1; t <= S; ++t) offset[t] = offset[t - 1] + s.nodes[t - 1] * s.own[t - 1];
  int current[max_stages] = {};
  const auto draw_effects = [&](int stage, const A& out) {
    // lambda u for one node's own columns; terms without variance take no random numbers.
    for (int term_index = 0; term_index < s.terms; ++term_index) {
      const TermShape& term = s.term[term_index];
      if (term.stage != stage) continue;
      const double* lambda = sampler.lambda + term.lambda;
      bool zero = true;
      for (int i = 0; i < term.k * term.k; ++i) zero = zero && lambda[i] == 0;
      for (int l = 0; l < term.levels; ++l) {
        const A at = out + (term.column + l * term.k);
        for (int i = 0; i < term.k; ++i) at[i] = V(0.0);
        if (zero) continue;
        for (int c = 0; c < term.k; ++c) {
          const V u = normals.next();
          for (int i = 0; i < term.k; ++i) at[i] = fma(V(lambda[i * term.k + c]), u, V(at[i]));
        }
      }
    }
  };
  V yy = V(0.0);
  int eta_index = 0;
  // One row of F: the coordinate of y, its share of the cross-products of the node's own and of all outer columns.
  const auto draw_row = [&](int stage, const double* row, int columns) {
    V e = normals.next();
    for (int c = 1; c < columns; ++c) e = fma(V(row[c - 1]), V(b[c]), e);
    eta[eta_index++] = e;
    yy = fma(e, e, yy);
    for (int c = 1; c <= s.p; ++c) full[x_at + c - 1] = fma(V(row[c - 1]), e, V(full[x_at + c - 1]));
    for (int t = S; t >= 1 && t >= stage && stage > 0; --t) {
      const A own = full + (offset[t] + current[t] * s.own[t]);
      for (int i = 0; i < s.own[t]; ++i) own[i] = fma(V(row[s.outer[t] + i - 1]), e, V(own[i]));
    }
  };

  for (int t = S; t >= 1; --t) draw_effects(t, b + s.outer[t]);
  for (int j = 0; j < s.nodes[0]; ++j) {
    // Streamed level: C'lambda u + R b + error.
    const A out = full + j * K;
    const double* c = design.streamed_c + static_cast<std::size_t>(j) * K * K;
    const double* r = design.streamed_r + static_cast<std::size_t>(j) * K * (N - 1);
    draw_effects(0, out);
    for (int a = 0; a < K; ++a) {
      V y = V(0.0);
      for (int q = a; q < K; ++q) y = fma(V(c[q * K + a]), V(out[q]), y);  // reads out[q >= a] only: in place
      for (int i = 1 + s.p; i < N; ++i) y = fma(V(r[a * (N - 1) + i - 1]), V(b[i]), y);
      if (a < sampler.streamed_rank[j]) y = y + normals.next();
      out[a] = y;
    }
    for (int t = 1; t <= S && s.node_end[t][current[t]] == j + 1; ++t) {
      const int* begin = sampler.row_begin[t] + current[t];
      const int columns = s.outer[t] + s.own[t];
      for (int i = begin[0]; i < begin[1]; ++i)
        draw_row(t, sampler.row[t] + static_cast<std::size_t>(i) * (columns - 1), columns);
      if (current[t] + 1 < s.nodes[t]) {
        ++current[t];
        draw_effects(t, b + s.outer[t]);
      }
    }
  }
  for (int i = sampler.row_begin[0][0]; i < sampler.row_begin[0][1]; ++i) {
    // X's rows reach no random effect.
    const double* row = sampler.row[0] + static_cast<std::size_t>(i) * s.p;
    const V e = normals.next();
    eta[eta_index++] = e;
    yy = fma(e, e, yy);
    for (int c = 0; c < s.p; ++c) full[x_at + c] = fma(V(row[c]), e, V(full[x_at + c]));
  }
  yy = yy + chi_square<V>(seed, replicate, 1, sampler.chi_square_degrees);
  full[s.response - 1] = yy;

  if (sampler.null_map == nullptr) {
    for (int i = 0; i < x_at; ++i) null[i] = full[i];
    for (int c = 0; c < sampler.null_p; ++c) {
      V t = V(0.0);
      for (int e = 0; e < s.p; ++e) t = fma(V(sampler.null_x[e * sampler.null_p + c]), V(full[x_at + e]), t);
      null[x_at + c] = t;
    }
    null[sampler.null_response - 1] = yy;
    return;
  }
  const int streamed = s.nodes[0] * K, coordinates = streamed + sampler.rows;
  V total = yy;
  for (int i = 0; i < streamed; ++i) total = fma(full[i], full[i], total);
  for (int i = 0; i < sampler.null_response - 1; ++i) {
    const double* row = sampler.null_map + static_cast<std::size_t>(i) * coordinates;
    V t = V(0.0);
    for (int e = 0; e < streamed; ++e) t = fma(V(row[e]), V(full[e]), t);
    for (int e = 0; e < sampler.rows; ++e) t = fma(V(row[streamed + e]), V(eta[e]), t);
    null[i] = t;
    if (i < sampler.null_streamed) total = fma(-t, t, total);
  }
  null[sampler.null_response - 1] = total;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
