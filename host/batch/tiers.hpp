/// @file
/// The ways of drawing and fitting replicates; nothing of how they are done.
#pragma once

#include <cstdint>

namespace batchlmm {

/// How replicates are drawn and fitted; a model's class decides.
enum class Tier : std::uint8_t {
  symmetry = 1,              ///< strata of a balanced or pattern-repeated design: independent of its size
  streaming = 2,             ///< streamed elimination with a small dense Schur complement
  shared_factorization = 3,  ///< what is common to all replicates is tabulated
  large = 4                  ///< Schur complements in the hundreds or thousands
};

}  // namespace batchlmm
