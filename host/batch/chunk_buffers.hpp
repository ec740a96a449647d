/// @file
/// The results of one chunk of replicates, with the memory that they stand in.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/jobs.hpp"

namespace batchlmm {

/// One model's results; beta, r2 and X's factor only where they are wanted.
struct FitBuffers {
  /// @param n  replicates
  /// @return pointers into this object
  kernels::FitResults resize(const kernels::Shape& s, std::uint64_t n, bool parameters) {
    status.resize(n);
    deviance.resize(n);
    lambda.resize(n * s.lambdas);
    boundary.resize(n);
    evaluations.resize(n);
    if (parameters) {
      beta.resize(n * s.p);
      r2.resize(n);
      x_factor.resize(n * kernels::triangle_size(s.p));
    }
    return {status.data(),
            deviance.data(),
            lambda.data(),
            boundary.data(),
            evaluations.data(),
            parameters ? beta.data() : nullptr,
            parameters ? r2.data() : nullptr,
            nullptr,
            parameters ? x_factor.data() : nullptr};
  }
  std::vector<std::uint8_t> status;
  std::vector<double> deviance, lambda, beta, r2, x_factor;
  std::vector<std::uint32_t> boundary;
  std::vector<std::uint16_t> evaluations;
};

struct ChunkBuffers {
  /// @param full  null where one model is refitted
  void resize(const kernels::Shape& null_shape, const kernels::Shape* full_shape, std::uint64_t first, std::uint64_t n,
              bool parameters) {
    chunk.first = first;
    chunk.count = n;
    chunk.null = null.resize(null_shape, n, parameters);
    chunk.full = full_shape != nullptr ? full.resize(*full_shape, n, parameters) : kernels::FitResults{};
  }
  kernels::BootstrapChunk chunk;
  FitBuffers null, full;
};

}  // namespace batchlmm
