/// @file
/// Responses of one design reduced to what the streaming tier takes, many side by side: with B the orthonormal bases of
/// the streamed levels and O = [outer Z, X],
///     ols = X'(y - offset) / n,   r = y - offset - X ols,   [ B'r | O'(r - BB'r) | |r - BB'r|^2 ]
/// One lane a response: its bits depend neither on the others nor on the instruction set.
#pragma once

#include <cstdint>

namespace batchlmm::kernels {

/// A design's rows in streaming order, position by position.
struct ResponseRows {
  int rows = 0, positions = 0;
  int own = 0;                     ///< K: columns of a position's basis
  int p = 0;                       ///< columns of X
  int outer = 0;                   ///< entries that a row has in the outer columns of Z
  int length = 0;                  ///< of a response vector (shape.hpp)
  const int* first = nullptr;      ///< positions + 1
  const int* row = nullptr;        ///< rows: where it stands in y
  const double* offset = nullptr;  ///< rows
  const double* basis = nullptr;   ///< rows x own; zero columns where a position has fewer rows
  const double* x = nullptr;       ///< rows x p, in X's gauge
  const int* target = nullptr;     ///< rows x outer: place in the response vector
  const double* z = nullptr;       ///< rows x outer, in the terms' gauges
};

/// Entry points of one instruction set (CpuKernels::responses).
struct ResponseKernels {
  /// @param y         items pointers to `rows` values each
  /// @param response  items pointers: `length` values, then the p coefficients `ols`
  void (*reduce)(const ResponseRows& rows, int items, const double* const* y, double* const* response);
};

}  // namespace batchlmm::kernels
