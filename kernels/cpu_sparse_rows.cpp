// Compiled once for each instruction set.
#include "kernels/cpu_sparse_rows.hpp"

#include "kernels/lanes.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

// Half of the vector registers at most.
constexpr int vectors = native_width == 2 ? 8 : SparseRowKernels::width / native_width;
using Part = Pack<vectors>;
constexpr int part_width = vectors * native_width;

void multiply(const SparseRows& rows, int begin, int end, const double* matrix, std::ptrdiff_t stride, double* out) {
  for (int j = begin; j < end; ++j)
    for (int a = 0; a < rows.rows_a_group; ++a)
      for (int c = 0; c < SparseRowKernels::width; c += part_width, out += part_width) {
        Part sum(0.0);
        for (std::ptrdiff_t i = rows.first[j] + 1; i < rows.first[j + 1]; ++i) {
          Part x;
          std::memcpy(&x, matrix + (rows.column[i] - 1) * stride + c, sizeof x);
          // Not fma: it is not faster here, and slow where there is none.
          sum = sum + Part(rows.value[i * rows.rows_a_group + a]) * x;
        }
        std::memcpy(out, &sum, sizeof sum);
      }
}

}  // namespace

/// In the table of cpu_lanes.cpp.
extern const SparseRowKernels sparse_row_kernels_of_this_isa;
const SparseRowKernels sparse_row_kernels_of_this_isa{multiply};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
