/// @file
/// The block form of the algebra that a model's covariance matrices generate, found numerically.
///
/// A set of columns z_1 ... z_w with a Gram matrix stands for the random effects; the generators are the symmetrized
/// sums over nodes of z_a z_b', one for each entry of each term's T. The symmetric matrices that they generate act on
/// the columns' range as a direct sum of V_s (x) I_m, s = 1, 2, ...: a generic element's eigenspaces give the rows of
/// each V_s, a second element links the rows that belong together and aligns their copies. (Murota, Kanno, Kojima &
/// Kojima 2010, "A numerical algorithm for block-diagonal decomposition of matrix *-algebras", for real symmetric
/// generators.)
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/shape.hpp"

namespace batchlmm {

/// Random numbers whose bits depend on the seed alone (SplitMix64), uniform on (-1, 1).
class UniformSequence {
public:
  explicit UniformSequence(std::uint64_t seed) : state_(seed) {}
  double next();
  Eigen::MatrixXd matrix(Eigen::Index rows, Eigen::Index columns);

private:
  std::uint64_t state_;
};

/// Columns of the random effects, node by node; the columns of one term within a node stand together.
struct ColumnSystem {
  Eigen::MatrixXd gram;  ///< w x w
  struct Block {
    int first = 0;  ///< first column
    int term = 0;   ///< the kernels' term; it has as many columns as the term has coefficients
  };
  std::vector<Block> blocks;
};

/// An irreducible part: d rows, m copies.
struct BlockPart {
  int d = 0, m = 0;
  Eigen::MatrixXd weights;  ///< w x (d m): columns * weights is orthonormal; column i m + c is row i of copy c
  std::vector<Eigen::MatrixXd> generators;  ///< per parameter: d x d, off-diagonal entries of T count both places
};

struct BlockFormOptions {
  int tries = 8;
  /// Sum of d over all parts beyond which the search ends.
  int largest_sum = 400;
  std::uint64_t seed = 1;
};

/// @param tries  in: counted up to the largest number of generic elements that were needed
/// @param why    one line where nothing came out
std::optional<std::vector<BlockPart>> block_form(const ColumnSystem& system, const kernels::Shape& shape,
                                                 const BlockFormOptions& options, int* tries, std::string* why);

}  // namespace batchlmm
