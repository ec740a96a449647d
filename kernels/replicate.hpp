/// @file
/// A replicate's way: draw -> null fit -> full fit from the null's optimum -> record. Shared by the CPU's tiles and the
/// GPU's threads.
#pragma once

#include "kernels/newton.hpp"
#include "kernels/sampler.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// A term is singular where its smallest pivot is below this (on the scale of sigma, columns of mean square 1): lme4's
/// tolerance on theta.
inline constexpr double singular_tolerance = 1e-4;

/// Which terms of lane l's optimum are singular: bit b for term b. `newton.small` is scratch.
template <class V, class A>
BATCHLMM_INLINE MaskOf<V> singular_term(const Shape& s, const Newton<V, A>& n, int b) {
  return n.next.l[s.term[b].lambda + s.term[b].k * s.term[b].k - 1] < V(singular_tolerance);
}

/// Starting point of the full fit from the null's optimum. Columns of a full term that the null does not fill start a
/// little inside the cone where the term has several columns (the gradient vanishes at a corner of rank k - 2), at 0
/// where it is scalar.
template <class Out, class In>
BATCHLMM_INLINE void full_start(const BootstrapJob& job, const In& null_lambda, const Out& full_lambda) {
  const Shape &full = *job.full, &null = *job.null;
  for (int b = 0; b < full.terms; ++b) {
    const int k = full.term[b].k;
    const double inside = k > 1 ? square_root(0.01 / full.term[b].scale) : 0.0;
    for (int i = 0; i < k; ++i)
      for (int c = 0; c < k; ++c) full_lambda[full.term[b].lambda + i * k + c] = i == c ? inside : 0.0;
  }
  const double* map = job.embed_map;
  for (int b = 0; b < null.terms; ++b) {
    const TermShape &from = null.term[b], &to = full.term[job.embed_term[b]];
    const auto in = null_lambda + from.lambda;
    const auto out = full_lambda + (to.lambda + job.embed_column[b]);
    for (int i = 0; i < to.k; ++i)
      for (int c = 0; c < from.k; ++c) {
        double t = 0;
        for (int e = 0; e < from.k; ++e) t = fma(map[i * from.k + e], double(in[e * from.k + c]), t);
        out[i * to.k + c] = t;
      }
    map += to.k * from.k;
  }
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
