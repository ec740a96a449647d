/// @file
/// Draws the records of tier 1 (kernels/strata.hpp) without drawing y: copies of a stratum that no fixed column touches
/// give one Wishart matrix, the few that are touched give their coordinates, and what is outside the range of [Z X]
/// gives one chi-square. A replicate's cost depends on neither rows nor levels.
///
/// Drawn at sigma = 1 and beta = 0, for the design with its missing rows filled in; the models' indicator columns take
/// the filled rows out again.
#pragma once

#include "kernels/wishart.hpp"

namespace batchlmm::kernels {

/// One stratum under the generating T.
struct SampledStratum {
  int d = 1;
  int touched = 0;                 ///< copies whose coordinates are drawn
  int free = 0;                    ///< copies that give a Wishart matrix
  int coordinates = 0;             ///< place of the touched copies' coordinates (touched x d)
  int wishart = 0;                 ///< place of the Wishart matrix (packed d)
  const double* factor = nullptr;  ///< d x d: V_s = LL'
};

/// How a block's part of a record comes from the draws.
struct BlockRecord {
  int d = 1;                         ///< of the block
  int stratum_d = 1;                 ///< of the stratum
  int copies = 0;                    ///< touched copies in this block
  const int* coordinates = nullptr;  ///< copies: place of the copy's coordinates
  const double* reduce = nullptr;    ///< d x stratum_d: what is left of a copy; null: all of it
  int wishart = -1;                  ///< place of the free copies' matrix, or -1
  int s = -1, y = -1, z = -1;        ///< places in the record (StrataBlock)
  const double* coupled = nullptr;   ///< copies x d x coupled: coordinates of the coupled columns
};

/// How a model's record comes from the draws.
struct RecordMap {
  int blocks = 0;
  const BlockRecord* block = nullptr;
  int coupled = 0;
  int residual = 0;                          ///< directions of the residual stratum that are kept
  const double* residual_map = nullptr;      ///< residual x touched residual coordinates
  const double* residual_coupled = nullptr;  ///< residual x coupled
  int c = 0, record = 0;                     ///< as in StrataModel
};

struct StrataSampler {
  int strata = 0;
  const SampledStratum* stratum = nullptr;
  int residual = 0;              ///< touched residual coordinates
  int residual_coordinates = 0;  ///< their place
  double chi_square_degrees = 0;
  int coordinates = 0;  ///< length of the coordinates, residual ones last
  int wisharts = 0;     ///< length of the Wishart matrices
  int largest_d = 1;
  RecordMap null, full;
};

inline namespace BATCHLMM_ISA {

/// Doubles (or lanes) of scratch that a draw needs.
BATCHLMM_INLINE std::size_t strata_draw_scratch(const StrataSampler& s) {
  return static_cast<std::size_t>(s.coordinates) + s.wisharts + static_cast<std::size_t>(s.largest_d) * s.largest_d +
         s.largest_d + 1;
}

/// A model's record from the coordinates and matrices that were drawn.
template <class V, class A>
BATCHLMM_FUNCTION inline void make_record(const RecordMap& m, const A& coordinates, const A& wishart,
                                          const A& residual_coordinates, int residual, const V& rss, const A& record,
                                          const A& scratch) {
  const int nc = m.coupled;
  for (int b = 0; b < m.blocks; ++b) {
    const BlockRecord& block = m.block[b];
    const int d = block.d, size = triangle_size(d);
    if (block.s >= 0)
      for (int i = 0; i < size; ++i) record[block.s + i] = block.wishart >= 0 ? V(wishart[block.wishart + i]) : V(0.0);
    if (block.y >= 0)
      for (int i = 0; i < size * nc; ++i) record[block.y + i] = V(0.0);
    for (int c = 0; c < block.copies; ++c) {
      const A y = coordinates + block.coordinates[c];
      const A v = scratch;
      for (int i = 0; i < d; ++i) {
        if (block.reduce == nullptr) {
          v[i] = y[i];
          continue;
        }
        V t = V(0.0);
        for (int e = 0; e < block.stratum_d; ++e) t = fma(V(block.reduce[i * block.stratum_d + e]), V(y[e]), t);
        v[i] = t;
      }
      if (block.z >= 0) {
        for (int i = 0; i < d; ++i) record[block.z + c * d + i] = v[i];
        continue;
      }
      if (block.s >= 0)
        for (int i = 0; i < d; ++i)
          for (int j = 0; j <= i; ++j)
            record[block.s + triangle(i, j)] = fma(v[i], v[j], record[block.s + triangle(i, j)]);
      if (block.y < 0) continue;
      const double* e = block.coupled + static_cast<std::size_t>(c) * d * nc;
      for (int i = 0; i < d; ++i)
        for (int j = 0; j <= i; ++j)
          for (int u = 0; u < nc; ++u) {
            const int at = block.y + triangle(i, j) * nc + u;
            const double half = i == j ? 1.0 : 0.5;
            V t = record[at];
            t = fma(V(half * e[i * nc + u]), V(v[j]), t);
            if (i != j) t = fma(V(half * e[j * nc + u]), V(v[i]), t);
            record[at] = t;
          }
    }
  }
  for (int u = 0; u < nc; ++u) record[m.c + u] = V(0.0);
  V total = rss;
  for (int i = 0; i < m.residual; ++i) {
    V t = V(0.0);
    for (int e = 0; e < residual; ++e) t = fma(V(m.residual_map[i * residual + e]), V(residual_coordinates[e]), t);
    total = fma(t, t, total);
    for (int u = 0; u < nc; ++u) record[m.c + u] = fma(V(m.residual_coupled[i * nc + u]), t, V(record[m.c + u]));
  }
  record[m.record - 1] = total;
}

/// Draws one replicate a lane: its coordinates and Wishart matrices into `scratch`, and the records of both models.
/// @param full     left alone where one model is refitted (s.full.record == 0)
/// @param scratch  strata_draw_scratch(s) entries; the coordinates stand first
template <class V, class A>
BATCHLMM_FUNCTION inline void draw_strata(const StrataSampler& s, std::uint64_t seed, const IntOf<V>& replicate,
                                          const A& null, const A& full, const A& scratch) {
  const A coordinates = scratch, wisharts = coordinates + s.coordinates, small = wisharts + s.wisharts;
  Normals<V> normals(seed, replicate, 0);
  ChiSquares<V> chi_squares(seed, replicate, 1);
  for (int at = 0; at < s.strata; ++at) {
    const SampledStratum& stratum = s.stratum[at];
    const int d = stratum.d;
    for (int c = 0; c < stratum.touched; ++c) {
      const A y = coordinates + (stratum.coordinates + c * d);
      for (int i = 0; i < d; ++i) y[i] = V(0.0);
      for (int r = 0; r < d; ++r) {
        const V u = normals.next();
        for (int i = r; i < d; ++i) y[i] = fma(V(stratum.factor[i * d + r]), u, V(y[i]));
      }
    }
    if (stratum.free > 0)
      wishart<V>(d, stratum.free, stratum.factor, normals, chi_squares, wisharts + stratum.wishart, small);
  }
  const A residual = coordinates + s.residual_coordinates;
  for (int i = 0; i < s.residual; ++i) residual[i] = normals.next();
  const V rss = chi_squares.next(s.chi_square_degrees);
  make_record<V>(s.null, coordinates, wisharts, residual, s.residual, rss, null, small);
  if (s.full.record > 0) make_record<V>(s.full, coordinates, wisharts, residual, s.residual, rss, full, small);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
