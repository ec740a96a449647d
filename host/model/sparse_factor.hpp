/// @file
/// A sparse Cholesky factor that shows what it will cost and what its matrix's inverse has on its pattern.
#pragma once

#include <Eigen/SparseCholesky>
#include <Eigen/SparseCore>
#include <cstdint>
#include <vector>

namespace batchlmm {

/// LL' of a symmetric matrix whose rows and columns are ordered by approximate minimum degree.
class SparseFactor : public Eigen::SimplicialLLT<Eigen::SparseMatrix<double, Eigen::ColMajor, std::int32_t>,
                                                 Eigen::Lower, Eigen::AMDOrdering<std::int32_t>> {
public:
  using Matrix = Eigen::SparseMatrix<double, Eigen::ColMajor, std::int32_t>;

  /// Entries of each column below the diagonal, known once the pattern is analyzed.
  [[nodiscard]] const auto& column_counts() const { return m_nonZerosPerCol; }
  /// Entries of the factor, likewise.
  [[nodiscard]] double expected_entries() const;
  [[nodiscard]] const Matrix& l() const { return m_matrix; }
  /// Place of each column in the order of elimination.
  [[nodiscard]] std::int32_t place(Eigen::Index column) const {
    return m_P.size() > 0 ? m_P.indices()[column] : static_cast<std::int32_t>(column);
  }
  /// Where l() keeps the entry that belongs to rows `i` and `j` of the matrix; -1 where it has none.
  [[nodiscard]] std::int32_t entry(Eigen::Index i, Eigen::Index j) const;

  /// The matrix' inverse on the pattern of the factor, in the order of l()'s entries. Takahashi, Fagan and Chin (1973),
  /// "Formation of a sparse bus impedance matrix".
  void selected_inverse(std::vector<double>& inverse) const;
};

}  // namespace batchlmm
