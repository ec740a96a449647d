// Products of sparse rows with a dense matrix: against sums in the order of the entries, to the bit, on every
// instruction set.
#include "kernels/cpu_sparse_rows.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/cpu.hpp"

namespace batchlmm::kernels {
namespace {

TEST(SparseRows, AreMultipliedEntryByEntryOnEveryInstructionSet) {
  constexpr int groups = 9, columns = 23, stride = 40, width = SparseRowKernels::width;
  std::mt19937_64 rng(3);
  std::normal_distribution<double> normal;
  std::vector<double> matrix(columns * stride);
  for (double& x : matrix) x = normal(rng);
  for (const int a_group : {1, 2, 3}) {
    // Arrange: the first entry of a group takes no part; a group may have no other.
    std::vector<std::ptrdiff_t> first{0};
    std::vector<int> column;
    for (int j = 0; j < groups; ++j) {
      column.push_back(0);
      for (int c = 1; c <= columns; ++c)
        if (j > 0 && rng() % 3 == 0) column.push_back(c);
      first.push_back(static_cast<std::ptrdiff_t>(column.size()));
    }
    std::vector<double> value(column.size() * a_group);
    for (double& x : value) x = normal(rng);
    constexpr int begin = 0, end = 7;
    std::vector<double> expected;
    for (int j = begin; j < end; ++j)
      for (int a = 0; a < a_group; ++a)
        for (int w = 0; w < width; ++w) {
          volatile double sum = 0;  // so that nothing is contracted
          for (std::ptrdiff_t i = first[j] + 1; i < first[j + 1]; ++i) {
            volatile const double product = value[i * a_group + a] * matrix[(column[i] - 1) * stride + w];
            sum = sum + product;
          }
          expected.push_back(double{sum});
        }

    for (const CpuKernels* kernels : all_cpu_kernels()) {
      // Act
      std::vector<double> found(expected.size());
      kernels->sparse_rows->multiply({first.data(), column.data(), value.data(), a_group}, begin, end, matrix.data(),
                                     stride, found.data());

      // Assert
      EXPECT_EQ(found, expected) << kernels->name << ", " << a_group << " rows a group";
    }
  }
}

}  // namespace
}  // namespace batchlmm::kernels
