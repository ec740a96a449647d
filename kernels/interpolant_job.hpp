/// @file
/// What the host hands to the kernels that fit replicates on interpolants (interpolant.hpp), as plain structures.
#pragma once

#include <cstdint>

#include "kernels/jobs.hpp"

namespace batchlmm::kernels {

/// Terms that are interpolated at most.
inline constexpr int max_interpolated = 3;
/// Rows of a packed matrix that stand together; rows are padded to a multiple by zeros.
inline constexpr int packed_rows = 8;
BATCHLMM_INLINE constexpr int padded(int rows) { return (rows + packed_rows - 1) / packed_rows * packed_rows; }

/// One term: how it is eliminated after the terms before it.
struct InterpolantLevel {
  int term = 0;     ///< the kernels' term
  int columns = 0;  ///< of Z: levels of the grouping factor
  int nodes = 0;    ///< K; the abscissae are the nodes and, last, the one held out
  /// Of the coordinate u = 4 x / upper: x = log1p(scale rho) where `logarithmic`, else scale rho / (1 + scale rho).
  bool logarithmic = true;
  double scale = 1;
  double upper = 1;
  // On [0, 4], where products of distances of Chebyshev points stay near 1.
  const double* node = nullptr;      ///< K, ascending from 0 to 4
  const double* weight = nullptr;    ///< K: 1 / prod (node_a - node_b)
  const double* held_out = nullptr;  ///< K: Lagrange's basis at the abscissa held out
  double own = 0;                    ///< factors 1 + scale rho of |V|'s leading part
  double common_rate = 0;            ///< a of its factors 1 + sum a rho
  /// Grid points of the levels before: all combinations of their nodes, the first level outermost, and last, where
  /// there are levels before, the point where all of them are held out.
  int parents = 1;
  const int* parent = nullptr;       ///< each parent's place among the values of the level before
  const double* rotation = nullptr;  ///< parents x packed (columns x response entries but the last)
  const double* shrink = nullptr;    ///< parents x packed (abscissae x columns): rho l / (1 + rho l)
  const double* tested = nullptr;    ///< parents x tested x packed (abscissae x columns): the same times the tested
                                     ///< column's v
};

/// The tables of one model, or of two models that differ in fixed effects only: the larger's r^2 is the smaller's less
/// what the tested columns X_t explain, |(X_t'P X_t)^{-1/2} X_t'P y|^2.
struct Interpolant {
  int levels = 0;
  InterpolantLevel level[max_interpolated];
  int response = 0;                      ///< entries of a response vector
  int streamed = 0;                      ///< its leading entries, whose squares count in y'y
  int x_rows = 0;                        ///< p
  int tested = 0;                        ///< tested columns; 0 where there is one model
  const double* root = nullptr;          ///< packed ((p + tested) x response entries but the last):
                                         ///< (X'X)^{-1/2} X'y, X_t'P_X y
  const double* tested_root = nullptr;   ///< per value of the last level: packed inverse Cholesky factor of X_t'P X_t
  const double* held_out_row = nullptr;  ///< per combination of nodes of the levels before the last: Lagrange's basis
                                         ///< at the point where they are held out
  const double* determinant = nullptr;   ///< per value of the last level: N-th root of |V| (REML: |V| |X'V^{-1}X|), its
                                         ///< leading part left out
  const double* leading = nullptr;       ///< N-th root of the leading part on the nodes
  double common = 0;                     ///< its factors 1 + sum a rho
  /// Two levels: the last one's a, as a polynomial of the first one's coordinate by its values on the nodes; null: it
  /// is a number.
  const double* common_rate = nullptr;
  double degrees = 0, constant = 0;  ///< N, and what is added to N log phi + log(leading part)
  double tolerance = 1e-9;           ///< largest error of the deviance at what is held out
};

/// A bootstrap whose replicates are fitted on interpolants.
struct InterpolantJob {
  const BootstrapJob* bootstrap = nullptr;  ///< the draws, and the shapes of the results
  Interpolant null;
  bool same_random_effects = true;  ///< the full model is null's larger one; else it has its own
  Interpolant full;
  double finish = 1e-7;  ///< take the step and stop when it predicts less than this decrease of the deviance
};

/// Arrays over a chunk, beside its results.
struct InterpolantChunk {
  std::uint8_t* refused = nullptr;  ///< 1 where the interpolant does not serve: the results are void
  double* null_response = nullptr;  ///< items x null response, or null: the response vectors drawn
  double* full_response = nullptr;  ///< items x full response, or null
};

}  // namespace batchlmm::kernels
