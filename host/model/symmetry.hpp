/// @file
/// Balanced and pattern-repeated designs: invariant subspaces of the rows' space in which every covariance matrix of a
/// model is a small matrix, repeated.
///
/// V(T) = I + sum over terms of Z (T (x) I) Z' is a direct sum of V_s(T) (x) I_m over the strata s, and of the identity
/// on what is orthogonal to Z. So log|V| = sum of m log|V_s|, y'V^{-1}y needs only the d x d cross-products of y's
/// coordinates, and these are Wishart with m degrees of freedom: nothing depends on the numbers of rows and levels.
/// Fixed effects are no part of this: any column of X has coordinates in the strata.
#pragma once

#include <Eigen/Core>
#include <Eigen/SparseCore>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/model/model.hpp"

namespace batchlmm {

/// An invariant subspace of the rows' space on which every covariance V(T) of the model acts as V_s (x) I_m.
struct Stratum {
  int d = 0;  ///< order of V_s
  int m = 0;  ///< multiplicity: copies
  /// Per kernel parameter a, in the order of kernels::Shape: d x d symmetric, V_s = I + sum_a T_a generators[a], with
  /// T_a the packed entry of the term's T in the kernels' gauge (off-diagonal entries count both places); 0 x 0 where a
  /// does not act on the stratum.
  std::vector<Eigen::MatrixXd> generators;
  /// n x (d m), orthonormal columns; column i m + c is row i of copy c. Sparse: a contrast of two halves of some levels
  /// stands in these levels' rows alone.
  Eigen::SparseMatrix<double> basis;
};

struct Strata {
  std::vector<Stratum> strata;  ///< by d, then m, ascending
  int rank = 0;                 ///< sum of d m: the rank of Z
  /// Largest deviation from the block form: entries of (G - block form) x over all generators G and three random x with
  /// entries of mean square 1, relative to the generator's largest entry in the strata; and |B'Bx - x| of the basis B.
  double certificate = 0;
  int tries = 0;  ///< generic elements that were needed
};

struct SymmetryOptions {
  /// Columns of one system of levels that hang together, after exchangeable levels are set aside, beyond which the
  /// search ends; a dense eigenproblem of this order is solved.
  int largest_system = 2000;
  /// Entries of the bases, at most n x rank, beyond which they are not formed.
  double largest_basis = 1e8;
  /// Sum of d over the strata beyond which they cannot pay: absolute, and as a share of the columns of Z.
  int largest_sum = 400;
  double largest_share = 0.75;
  int tries = 8;
  double tolerance = 1e-11;  ///< for the certificate
  std::uint64_t seed = 20240229;
};

/// Finds and certifies the strata of the algebra that all V(T) generate, from the symmetrized Z_a Z_b' of every term (a
/// zero-correlation term brings only its own pairs).
/// @param why  where nothing was certified: one line for people
/// @return nothing where the design has no strata that could pay, or none within the tolerance
std::optional<Strata> find_strata(const Model& model, const SymmetryOptions& options, std::string* why);

/// Compares log|V| (REML: and log|X'V^{-1}X|) and the generalized least-squares residual sum of squares from the strata
/// with those of make_criterion(), for three random T and y (one where the model has many crossed levels).
/// @return the largest difference: of the log-determinants relative to the number of rows, of the sums of squares
///         relative to themselves; infinite where an evaluation failed
double verify_strata(const Model& model, const Strata& strata);

}  // namespace batchlmm
