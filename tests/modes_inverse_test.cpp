#include "host/inference/modes_inverse.hpp"

#include <gtest/gtest.h>

#include <Eigen/LU>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

namespace batchlmm {
namespace {

using Eigen::MatrixXd;

TEST(ModesInverse, SparseAndDenseAgreeWithTheInverse) {
  // 12 levels of a factor with two columns each (as of two terms), 9 levels of another; four rows a level.
  const std::int32_t levels = 12, rest = 9, size = 2 * levels + rest;
  SparseFactor::Matrix w(size, 4 * levels);
  MatrixXd dense = MatrixXd::Zero(size, 4 * levels);
  for (std::int32_t row = 0; row < 4 * levels; ++row) {
    const std::int32_t level = row / 4;
    for (const std::int32_t place : {level, levels + level, 2 * levels + (row * 5 + level) % rest}) {
      dense(place, row) = std::sin(7.1 * row + 3.3 * place);
      w.insert(place, row) = dense(place, row);
    }
  }
  const SparseFactor::Matrix one = MatrixXd(MatrixXd::Identity(size, size)).sparseView();
  const SparseFactor::Matrix crossed = w * SparseFactor::Matrix(w.transpose());
  const SparseFactor::Matrix equations = crossed + one;
  const MatrixXd inverse = (dense * dense.transpose() + MatrixXd::Identity(size, size)).inverse();
  std::vector<std::int32_t> level_of(size, -1);
  for (std::int32_t l = 0; l < levels; ++l) level_of[l] = level_of[levels + l] = l;

  for (const auto& make : {+[](const SparseFactor::Matrix&e, const std::vector<std::int32_t>&) {
                             return make_sparse_modes_inverse(e, "the test");
                           },
                           +[](const SparseFactor::Matrix&e, const std::vector<std::int32_t>&of) {
                             return make_dense_modes_inverse(e, of, 12, "the test");
                           }}) {
    const std::unique_ptr<ModesInverse> found = make(equations, level_of);

    EXPECT_LE((found->solve(MatrixXd::Identity(size, size)) - inverse).cwiseAbs().maxCoeff(), 1e-12);
    for (std::int32_t i = 0; i < size; ++i) {
      EXPECT_NEAR(found->entry(i, i), inverse(i, i), 1e-12);
      for (std::int32_t j = 0; j < size; ++j) {
        if (i == j) continue;
        // Combinations of all kinds, also of two levels and of what no row has together.
        const double form = 4 * inverse(i, i) + 9 * inverse(j, j) - 12 * inverse(i, j);
        EXPECT_NEAR(found->form({{i, 2.0}, {j, -3.0}}), form, 1e-11) << i << " " << j;
      }
    }
    EXPECT_NEAR(found->entry(3, levels + 3), inverse(3, levels + 3), 1e-12) << "two columns of a level";
  }
}

}  // namespace
}  // namespace batchlmm
