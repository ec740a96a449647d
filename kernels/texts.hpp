/// @file
/// The texts of the evaluation. Which of them a shape takes is part of its arithmetic, the same on every backend;
/// whether its sizes are known at compile time is not.
#pragma once

#include "kernels/crossed_intercepts.hpp"

namespace batchlmm::kernels {

enum class TextKind { general, one_column, crossed_intercepts };

inline TextKind text_kind(const Shape& s) {
  if (is_crossed_intercepts(s)) return TextKind::crossed_intercepts;
  return s.own[0] == 1 ? TextKind::one_column : TextKind::general;
}

inline namespace BATCHLMM_ISA {

/// deviance.hpp. A text has its sizes and evaluates, with derivatives, at w.lambda; make_workspace(sizes, arena) makes
/// w.
/// @tparam LK  1: the streamed factor has one column; else 0
/// @tparam S   Shape or FixedShape
template <int LK, class S = Shape>
struct StreamingText {
  using Sizes = S;
  template <class V, class C, class Y, class W>
  static BATCHLMM_INLINE Evaluation<V> evaluate_lanes(const S& s, const Design<C>& design, const Y& response,
                                                      const W& w) {
    return evaluate<LK, V>(s, design, response, w, true);
  }
};

/// crossed_intercepts.hpp
struct CrossedText {
  using Sizes = CrossedSizes;
  template <class V, class C, class Y, class W>
  static BATCHLMM_INLINE Evaluation<V> evaluate_lanes(const CrossedSizes& s, const Design<C>& design, const Y& response,
                                                      const W& w) {
    return evaluate_crossed<V>(s, design, response, w);
  }
};

/// f(text) with the text of that kind.
template <class F>
auto with_text(TextKind kind, const F& f) {
  if (kind == TextKind::crossed_intercepts) return f(CrossedText{});
  if (kind == TextKind::one_column) return f(StreamingText<1>{});
  return f(StreamingText<0>{});
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
