/// @file
/// What fits cost before they are run: multiply-adds and bytes, as functions of a model's shape. The tiers are chosen
/// by them, and `batchlmm plan` shows them.
#pragma once

#include "host/model/design_layout.hpp"
#include "kernels/shape.hpp"

namespace batchlmm {

/// Multiply-adds (also single products, sums, quotients and roots) of one replicate by the streaming elimination,
/// counted from the loops of kernels/*.hpp.
struct StreamingCost {
  double value = 0;        ///< the criterion alone
  double derivatives = 0;  ///< the criterion with gradient, exact Hessian and average information
  double newton = 0;       ///< the optimizer's step after it
  /// One trip of a fit: an evaluation with derivatives and the step.
  [[nodiscard]] double trip() const { return derivatives + newton; }
};

StreamingCost streaming_cost(const kernels::Shape& shape);

/// Evaluations of an average fit from one starting point, by tier 2's Newton iteration (3.7 to 4.4 were measured on
/// bootstraps of politeness, sleepstudy and kb07).
inline constexpr double evaluations_a_fit = 4.2;

/// Doubles of memory that one lane's fit takes: elimination, derivatives, optimizer and response.
std::size_t lane_doubles(const kernels::Shape& shape);

/// Bytes that one thread's tile takes on the instruction set in use.
/// @param own_designs  each lane has a design of its own
double tile_bytes(const kernels::Shape& shape, bool own_designs = false);

}  // namespace batchlmm
