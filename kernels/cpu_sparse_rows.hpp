/// @file
/// Products of sparse rows with a dense matrix, for criteria whose levels touch few of many columns.
#pragma once

#include <cstddef>

namespace batchlmm::kernels {

/// Sparse rows in groups that share their columns. Row a of group j has the value `value[i * rows_a_group + a]` in
/// column `column[i] - 1` (columns are counted from 1), for i from first[j] + 1 (what is at first[j] takes no part) to
/// first[j + 1] - 1.
struct SparseRows {
  const std::ptrdiff_t* first = nullptr;
  const int* column = nullptr;
  const double* value = nullptr;
  int rows_a_group = 1;
};

/// Entry points of one instruction set. The same bits on every instruction set.
struct SparseRowKernels {
  /// Columns of the dense matrix that one call takes.
  static constexpr int width = 32;
  /// out = rows * matrix for the groups begin .. end - 1.
  /// @param matrix  `width` entries of its row c are at c * stride
  /// @param out     width a row, one row of a group after the other
  void (*multiply)(const SparseRows& rows, int begin, int end, const double* matrix, std::ptrdiff_t stride,
                   double* out);
};

}  // namespace batchlmm::kernels
