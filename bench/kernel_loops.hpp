/// @file
/// Loops over single operations of the kernel text, compiled once for each instruction set.
#pragma once

#include <cstdint>

#include "kernels/shape.hpp"

namespace batchlmm::bench {

/// Each loop returns a sum of its results, so that nothing is left out, and works on `lanes` replicates a repetition.
struct KernelLoops {
  const char* isa;
  int lanes;
  double (*philox)(std::uint64_t repetitions);   ///< blocks of four words
  double (*normals)(std::uint64_t repetitions);  ///< one normal each
  double (*chi_square)(std::uint64_t repetitions, double degrees);
};

/// The criterion of one tile of lanes at slightly different lambdas.
/// @param response  shape.response
/// @param lambda    shape.lambdas
struct EvaluationLoop {
  int lanes;
  double (*run)(const kernels::Shape& shape, const kernels::Design<double>& design, const double* response,
                const double* lambda, std::uint64_t repetitions, bool derivatives);
};

}  // namespace batchlmm::bench
