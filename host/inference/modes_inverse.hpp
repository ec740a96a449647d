/// @file
/// The inverse of the random effects' equations W'W + I where it is asked for: entries within a level, quadratic forms
/// of a row, products. Sparse, or with one grouping factor's levels eliminated one by one and a dense Schur complement
/// of the rest, whatever takes less time.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host/model/sparse_factor.hpp"

namespace batchlmm {

class ModesInverse {
public:
  /// Places and values of what is not 0; places are distinct.
  using Vector = std::vector<std::pair<std::int32_t, double>>;

  virtual ~ModesInverse() = default;
  /// w'(W'W + I)^{-1}w
  [[nodiscard]] virtual double form(const Vector& w) const = 0;
  /// An entry of the inverse, for two columns of one level of a term.
  [[nodiscard]] virtual double entry(std::int32_t i, std::int32_t j) const = 0;
  /// (W'W + I)^{-1}A
  [[nodiscard]] virtual Eigen::MatrixXd solve(const Eigen::MatrixXd& a) const = 0;
};

/// @param equations  W'W + I, both triangles
/// @param level_of   per column: level of the grouping factor whose levels may be eliminated one by one (no two of
/// which
///                   share a row of the data), or -1
/// @param levels     of that factor
/// @param what       subject of messages
/// @throws ModelError where neither finds room in memory; ComputationError where there is no factor
std::unique_ptr<ModesInverse> make_modes_inverse(const SparseFactor::Matrix& equations,
                                                 const std::vector<std::int32_t>& level_of, std::int32_t levels,
                                                 const std::string& what);
/// One of the two, for tests.
std::unique_ptr<ModesInverse> make_sparse_modes_inverse(const SparseFactor::Matrix& equations, const std::string& what);
std::unique_ptr<ModesInverse> make_dense_modes_inverse(const SparseFactor::Matrix& equations,
                                                       const std::vector<std::int32_t>& level_of, std::int32_t levels,
                                                       const std::string& what);

}  // namespace batchlmm
