/// @file
/// What all replicates of a batch share. Shape: the sizes, that is, the sequence of operations. Design: the constants.
///
/// The random effects are eliminated in stages. Stage 0 is the streamed grouping factor (its levels are independent
/// given the rest). Each further stage but the last is a factor in which the stage before is nested, so that its levels
/// are streamed too; the last stage holds what remains (crossed factors), as one dense block: the Schur complement.
/// Columns are ordered
///     [ y | X (p) | stage S | ... | stage 1 | (stage 0) ]
/// and eliminated from the right, so that what remains after a stage is a prefix: one packed lower triangle serves all
/// stages.
#pragma once

#include <cstdint>

#include "kernels/lanes.hpp"

namespace batchlmm::kernels {

inline constexpr int max_terms = 12;
inline constexpr int max_parameters = 160;
inline constexpr int max_stages = 6;

/// Index into a packed lower triangle, row by row, i >= j.
BATCHLMM_INLINE constexpr int triangle(int i, int j) { return i * (i + 1) / 2 + j; }
BATCHLMM_INLINE constexpr int packed(int i, int j) { return i >= j ? triangle(i, j) : triangle(j, i); }
/// Elements of a packed triangle of order n.
BATCHLMM_INLINE constexpr int triangle_size(int n) { return n * (n + 1) / 2; }

/// One random-effects term: its template lambda is k x k.
struct TermShape {
  int k = 1;
  int levels = 1;  ///< levels within one node of its stage (1 in a streamed stage)
  int stage = 0;
  int column = 0;     ///< offset of its first column within its stage's own columns
  int parameter = 0;  ///< index of its first entry of T = lambda lambda', packed lower row by row
  int lambda = 0;     ///< offset of its k x k (row-major) lambda in the array of all lambdas
  double scale = 1;   ///< c: mean over levels of the diagonal of Z'Z; sets the scale of a variance's coordinate
};

struct Shape {
  static constexpr bool fixed = false;  ///< sizes are members; see Terms
  int terms = 0;
  TermShape term[max_terms];
  int parameters = 0;  ///< m: entries of all T's
  std::int16_t parameter_term[max_parameters] = {};
  std::int16_t parameter_row[max_parameters] = {};
  std::int16_t parameter_column[max_parameters] = {};
  int lambdas = 0;  ///< sum of k^2
  int p = 0;
  int stages = 0;              ///< S: node stages after the streamed stage 0
  int own[max_stages] = {};    ///< columns of a node; own[0] = K of the streamed factor
  int outer[max_stages] = {};  ///< columns to the left of a node's own, y and X included; outer[stages] = 1 + p
  int nodes[max_stages] = {};  ///< levels of the stage; 1 in the last
  const int* node_end[max_stages] =
      {};               ///< stage t >= 1: streamed level at which node l ends (exclusive); nodes[t] entries
  double degrees = 0;   ///< N = n (ML) or n - p (REML)
  double constant = 0;  ///< added to the deviance: N (1 + log(2 pi / N)) and, for REML, the gauge of X
  bool reml = false;
  int response = 0;  ///< length of a replicate's response vector (see Design)

  BATCHLMM_INLINE int columns() const { return outer[0]; }
  BATCHLMM_INLINE int first_own(int stage) const { return outer[stage]; }
  BATCHLMM_INLINE double scale(int b) const { return term[b].scale; }
};

/// A TermShape without what is known at run time only.
struct TermSizes {
  int k = 1, parameter = 0, lambda = 0, levels = 1, stage = 0, column = 0;
};

/// The terms' sizes where they are known at compile time, one K a term: loops over terms, columns and parameters unroll
/// and small triangles live in registers. The optimizer (newton.hpp) and fit_lanes (replicate.hpp) take it, or anything
/// with its members, in place of a Shape. Another evaluation than deviance.hpp's uses them so:
///
///     Terms<2, 1> s{{c_0, c_1}, p};                    // T's entries, lambdas and gradient lie as in a Shape
///     struct { V *lambda, *gradient, *hessian, *information; } w;
///     Newton<V, V*> n = make_newton<V>(s, arena);
///     fit_lanes<V>(s, w, n, [&] { return Evaluation<V>{...}; },  // at w.lambda, derivatives by T into w
///                  take, load, start, limit, starts, options, parameters, results);
template <int... K>
struct Terms {
  static constexpr bool fixed = true;
  static constexpr int terms = sizeof...(K);
  static constexpr int parameters = (0 + ... + triangle_size(K));
  static constexpr int lambdas = (0 + ... + (K * K));
  struct Table {
    BATCHLMM_INLINE constexpr TermSizes operator[](int b) const {
      TermSizes found;
      int i = 0, parameter = 0, lambda = 0;
      ((i++ == b ? void(found = TermSizes{K, parameter, lambda, 1, 0, 0}) : void(), parameter += triangle_size(K),
        lambda += K * K),
       ...);
      return found;
    }
  };

  double scales[terms];  ///< c of each term: TermShape::scale
  int p = 0;             ///< fixed effects
  Table term{};          // a member, since device code has no static objects
  BATCHLMM_INLINE double scale(int b) const { return scales[b]; }
};

/// Constants of one design in orthogonal form: per streamed level A_j = Z_j'Z_j = C_j C_j', R_j = C_j^{-1} Z_j'[X,
/// outer Z], and E, the cross-products of what is left of [X, outer Z] once the streamed levels are projected out. `C`
/// is double where all lanes share the design, V where each lane has its own.
///
/// A replicate's response vector is [ streamed: nodes[0] x K, C_j^{-1}Z_j'y | per stage t = 1..S and node: own[t] | X:
/// p | y'y left ], where all but the first are cross-products of the projected columns and the projected y.
template <class C>
struct Design {
  const C* streamed_c = nullptr;  ///< nodes[0] x K x K, lower triangular, row-major
  const C* streamed_r = nullptr;  ///< nodes[0] x K x (columns - 1): y's column is the replicate's
  const C* own_e[max_stages] =
      {};  ///< stage t: nodes[t] x own[t] rows of the triangle, without y's column: row i has outer - 1 + i + 1 entries
  const C* x_e = nullptr;  ///< X: packed p (p + 1) / 2
  /// N of this design where designs of one shape have different numbers of rows; null: the shape's. A level without
  /// rows has zeros in all arrays, and no part in the deviance. The constant stays the shape's.
  const C* degrees = nullptr;
};

/// Entries of one node's block of `own_e`: rows of the packed triangle without y's column.
BATCHLMM_INLINE constexpr int own_e_size(int own, int outer) { return own * (outer - 1) + triangle_size(own); }

}  // namespace batchlmm::kernels
