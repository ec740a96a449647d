/// @file
/// Shapes whose sizes are known at compile time.
#pragma once

#include "kernels/shape.hpp"

namespace batchlmm::kernels {

/// A term of a FixedShape.
struct FixedTerm {
  int k, levels, stage;
};

/// The sizes of a Shape where they are known at compile time: the kernels take it in place of a Shape, with the same
/// order of operations, so that bits do not depend on it. The number of nodes of a stage (the streamed levels) stays
/// known at run time only.
/// @tparam T  terms in the order of the Shape: stage 0 first, none of its `levels` counted
template <int P, bool Reml, FixedTerm... T>
struct FixedShape {
  static constexpr bool fixed = true;
  static constexpr int terms = sizeof...(T);
  static constexpr int parameters = (0 + ... + triangle_size(T.k));
  static constexpr int lambdas = (0 + ... + (T.k * T.k));
  static constexpr int p = P;
  static constexpr bool reml = Reml;
  static constexpr int stages = [] {
    int most = 0;
    for (const FixedTerm& f : {T...}) most = f.stage > most ? f.stage : most;
    return most;
  }();
  struct Sizes {
    TermSizes term[terms];
    int parameter_term[parameters] = {};
    int own[stages + 1] = {}, outer[stages + 1] = {};
  };
  static constexpr Sizes sizes = [] {
    Sizes z{};
    int b = 0, parameter = 0, lambda = 0;
    for (const FixedTerm& f : {T...}) {
      z.term[b] = {f.k, parameter, lambda, f.levels, f.stage, z.own[f.stage]};
      z.own[f.stage] += f.k * f.levels;
      for (int i = 0; i < triangle_size(f.k); ++i) z.parameter_term[parameter++] = b;
      lambda += f.k * f.k;
      ++b;
    }
    int outer = 1 + P;
    for (int stage = stages; stage >= 0; --stage) {
      z.outer[stage] = outer;
      outer += z.own[stage];
    }
    return z;
  }();
  static constexpr const TermSizes (&term)[terms] = sizes.term;
  static constexpr const int (&parameter_term)[parameters] = sizes.parameter_term;
  static constexpr const int (&own)[stages + 1] = sizes.own;
  static constexpr const int (&outer)[stages + 1] = sizes.outer;

  double scales[terms];
  int nodes[stages + 1];
  const int* node_end[stages + 1];
  double degrees, constant;
  int response;

  /// @param s  a Shape of these sizes
  explicit FixedShape(const Shape& s) : degrees(s.degrees), constant(s.constant), response(s.response) {
    for (int b = 0; b < terms; ++b) scales[b] = s.scale(b);
    for (int t = 0; t <= stages; ++t) {
      nodes[t] = s.nodes[t];
      node_end[t] = s.node_end[t];
    }
  }
  static constexpr int columns() { return sizes.outer[0]; }
  BATCHLMM_INLINE double scale(int b) const { return scales[b]; }

  /// Whether a Shape has these sizes.
  static bool is_shape_of(const Shape& s) {
    if (s.terms != terms || s.parameters != parameters || s.lambdas != lambdas || s.p != P || s.reml != Reml ||
        s.stages != stages)
      return false;
    for (int t = 0; t <= stages; ++t)
      if (s.own[t] != own[t] || s.outer[t] != outer[t]) return false;
    for (int b = 0; b < terms; ++b) {
      const TermShape& x = s.term[b];
      const TermSizes& y = term[b];
      if (x.k != y.k || x.levels != y.levels || x.stage != y.stage || x.column != y.column ||
          x.parameter != y.parameter || x.lambda != y.lambda)
        return false;
    }
    return true;
  }
};

}  // namespace batchlmm::kernels
