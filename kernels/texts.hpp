/// @file
/// The texts of the evaluation. Which of them a shape takes is part of its arithmetic, the same on every backend;
/// whether its sizes are known at compile time is not.
#pragma once

#include "kernels/crossed_intercepts.hpp"
#include "kernels/crossed_terms.hpp"

namespace batchlmm::kernels {

enum class TextKind { general, one_column, crossed_intercepts, crossed_1_2, crossed_2_1, crossed_2_2 };
inline constexpr TextKind text_kinds[] = {TextKind::general,     TextKind::one_column,  TextKind::crossed_intercepts,
                                          TextKind::crossed_1_2, TextKind::crossed_2_1, TextKind::crossed_2_2};

inline TextKind text_kind(const Shape& s) {
  if (is_crossed_intercepts(s)) return TextKind::crossed_intercepts;
  if (is_crossed_terms<1, 2>(s)) return TextKind::crossed_1_2;
  if (is_crossed_terms<2, 1>(s)) return TextKind::crossed_2_1;
  if (is_crossed_terms<2, 2>(s)) return TextKind::crossed_2_2;
  return s.own[0] == 1 ? TextKind::one_column : TextKind::general;
}

inline namespace BATCHLMM_ISA {

/// deviance.hpp. A text has its sizes and evaluates, with derivatives, at w.lambda; make_workspace(sizes, arena) makes
/// w. On the CPU a tile has `vectors` native vectors: two hide the latency of scalar recurrences.
/// @tparam LK  1: the streamed factor has one column; else 0
/// @tparam S   Shape or FixedShape
template <int LK, class S = Shape>
struct StreamingText {
  using Sizes = S;
  static constexpr int vectors = LK == 1 ? 2 : 1;
  template <class V, class C, class Y, class W>
  static BATCHLMM_INLINE Evaluation<V> evaluate_lanes(const S& s, const Design<C>& design, const Y& response,
                                                      const W& w) {
    return evaluate<LK, V>(s, design, response, w, true);
  }
};

/// crossed_intercepts.hpp
struct CrossedText {
  using Sizes = CrossedSizes;
  static constexpr int vectors = 2;
  template <class V, class C, class Y, class W>
  static BATCHLMM_INLINE Evaluation<V> evaluate_lanes(const CrossedSizes& s, const Design<C>& design, const Y& response,
                                                      const W& w) {
    return evaluate_crossed<V>(s, design, response, w);
  }
};

/// crossed_terms.hpp
template <int K1, int K2>
struct CrossedTermsText {
  using Sizes = CrossedTermsSizes<K1, K2>;
  static constexpr int vectors = 1;
  template <class V, class C, class Y, class W>
  static BATCHLMM_INLINE Evaluation<V> evaluate_lanes(const Sizes& s, const Design<C>& design, const Y& response,
                                                      const W& w) {
    return evaluate_crossed_terms<V>(s, design, response, w);
  }
};

/// f(text) with the text of that kind.
template <class F>
auto with_text(TextKind kind, const F& f) {
  if (kind == TextKind::crossed_intercepts) return f(CrossedText{});
  if (kind == TextKind::crossed_1_2) return f(CrossedTermsText<1, 2>{});
  if (kind == TextKind::crossed_2_1) return f(CrossedTermsText<2, 1>{});
  if (kind == TextKind::crossed_2_2) return f(CrossedTermsText<2, 2>{});
  if (kind == TextKind::one_column) return f(StreamingText<1>{});
  return f(StreamingText<0>{});
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
