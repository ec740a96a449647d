/// @file
/// What an evaluation of the criterion gives the optimizer beside the derivatives by the entries of T.
#pragma once

#include "kernels/lanes.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template <class V>
struct Evaluation {
  V deviance;    ///< log|V| [+ log|X'V^{-1}X|] + N (1 + log(2 pi r^2 / N))
  V r2;          ///< penalized residual sum of squares
  MaskOf<V> ok;  ///< every pivot was positive
};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
