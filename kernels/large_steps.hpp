/// @file
/// The steps of an evaluation with a large Schur complement that are not calls of a linear algebra library
/// (kernels/large_device.hpp says what each does): one item of each, by its index. Every result is written by one item
/// alone, in a fixed order of its terms, so that the bits are the same in every run. Plain text: a device's threads run
/// it, and a test item after item.
#pragma once

#include "kernels/elementary.hpp"
#include "kernels/lanes.hpp"
#include "kernels/large_device.hpp"
#include "kernels/shape.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

BATCHLMM_FUNCTION inline void run_item(const FactorLevels& a, std::size_t j) {
  const int K = a.m.K;
  const double* c = a.m.c + j * K * K;
  double *l = a.s.pivot + j * K * K, *y = a.s.back + j * K * K, *b = a.s.b + j * K * K;
  // M = I + C'TC, by way of TC.
  for (int col = 0; col < K; ++col)
    for (int i = 0; i < K; ++i) {
      double t = 0;
      for (int e = 0; e < K; ++e) t = fma(a.s.t[e * K + i], c[col * K + e], t);
      y[col * K + i] = t;
    }
  for (int col = 0; col < K; ++col)
    for (int i = col; i < K; ++i) {
      double t = i == col ? 1.0 : 0.0;
      for (int e = 0; e < K; ++e) t = fma(c[i * K + e], y[col * K + e], t);
      l[col * K + i] = t;
    }
  double log_determinant = 0;
  for (int col = 0; col < K; ++col) {
    double pivot = l[col * K + col];
    for (int e = 0; e < col; ++e) pivot = fma(-l[e * K + col], l[e * K + col], pivot);
    if (!(pivot > 0 && pivot <= 1.7976931348623157e308)) {
      a.s.log_determinant[j] = from_bits(0x7FF8000000000000ULL);
      return;
    }
    log_determinant += logarithm(pivot);
    const double root = square_root(pivot);
    l[col * K + col] = root;
    for (int i = col + 1; i < K; ++i) {
      double t = l[col * K + i];
      for (int e = 0; e < col; ++e) t = fma(-l[e * K + i], l[e * K + col], t);
      l[col * K + i] = t / root;
    }
  }
  a.s.log_determinant[j] = log_determinant;
  // Y = L^{-1}C', B = Y'Y.
  for (int col = 0; col < K; ++col)
    for (int i = 0; i < K; ++i) {
      double t = c[i * K + col];
      for (int e = 0; e < i; ++e) t = fma(-l[e * K + i], y[col * K + e], t);
      y[col * K + i] = t / l[i * K + i];
    }
  for (int col = 0; col < K; ++col)
    for (int i = 0; i < K; ++i) {
      double t = 0;
      for (int e = 0; e < K; ++e) t = fma(y[i * K + e], y[col * K + e], t);
      b[col * K + i] = t;
    }
}

BATCHLMM_FUNCTION inline void run_item(const SolveEntries& a, std::size_t item) {
  const int K = a.m.K;
  const int e = a.response_only ? a.m.first[item + 1] - 1 : static_cast<int>(item);
  const std::ptrdiff_t j = a.m.entry_level[e];
  const double *l = a.s.pivot + j * K * K, *y = a.s.back + j * K * K;
  const double* r = e + 1 == a.m.first[j + 1] ? a.s.response + j * K : a.m.r + static_cast<std::ptrdiff_t>(e) * K;
  double *f = a.s.f + static_cast<std::ptrdiff_t>(e) * K, *u = a.s.u + static_cast<std::ptrdiff_t>(e) * K;
  for (int i = 0; i < K; ++i) {
    double t = r[i];
    for (int b = 0; b < i; ++b) t = fma(-l[b * K + i], f[b], t);
    f[i] = t / l[i * K + i];
  }
  for (int i = 0; i < K; ++i) {
    double t = 0;
    for (int b = 0; b < K; ++b) t = fma(y[i * K + b], f[b], t);
    u[i] = t;
  }
}

BATCHLMM_FUNCTION inline void run_item(const AddPairs& a, std::size_t item) {
  const std::ptrdiff_t g = a.begin + static_cast<std::ptrdiff_t>(item);
  const int K = a.m.K;
  double sum = 0;
  for (int pair = a.m.segment[g]; pair < a.m.segment[g + 1]; ++pair) {
    const double *x = a.s.f + static_cast<std::ptrdiff_t>(a.m.pair_a[pair]) * K,
                 *y = a.s.f + static_cast<std::ptrdiff_t>(a.m.pair_b[pair]) * K;
    for (int i = 0; i < K; ++i) sum = fma(x[i], y[i], sum);
  }
  a.s.partial[g] = sum;
}

BATCHLMM_FUNCTION inline void run_item(const AddCross& a, std::size_t item) {
  const int O = a.m.q + a.m.p, N = O + 1, row = a.row + static_cast<int>(item / N), column = static_cast<int>(item % N);
  if (column > row) return;
  const std::ptrdiff_t t = static_cast<std::ptrdiff_t>(row) * (row + 1) / 2 + column;
  double sum = row == O ? a.s.response[a.m.levels * a.m.K + column] : a.m.e[t];
  for (int g = a.m.target_segment[t]; g < a.m.target_segment[t + 1]; ++g) sum += a.s.partial[g];
  a.s.cross[column + static_cast<std::ptrdiff_t>(row) * a.m.ld] = sum;
  a.s.cross[row + static_cast<std::ptrdiff_t>(column) * a.m.ld] = sum;
}

BATCHLMM_FUNCTION inline void run_item(const FillPanel& a, std::size_t item) {
  const std::ptrdiff_t w = a.begin + static_cast<std::ptrdiff_t>(item), e = a.m.wide_entry[w];
  const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(a.m.wide_slot[w] - a.slot) * a.m.K;
  for (int i = 0; i < a.m.K; ++i) a.panel[a.m.entry_column[e] + (at + i) * a.m.ld] = a.values[e * a.m.K + i];
}

BATCHLMM_FUNCTION inline void run_item(const ReadPanel& a, std::size_t item) {
  const std::ptrdiff_t w = a.begin + static_cast<std::ptrdiff_t>(item), e = a.m.wide_entry[w];
  const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(a.m.wide_slot[w] - a.slot) * a.m.K;
  const int column = a.m.entry_column[e];
  for (int i = 0; i < a.m.K; ++i)
    a.s.half[e * a.m.K + i] = column < a.columns ? 0.5 * a.panel[column + (at + i) * a.m.ld] : 0.0;
}

BATCHLMM_FUNCTION inline void run_item(const Mirror& a, std::size_t item) {
  const int row = static_cast<int>(item / a.n), column = static_cast<int>(item % a.n);
  if (column < row)
    a.matrix[column + static_cast<std::ptrdiff_t>(row) * a.ld] =
        a.matrix[row + static_cast<std::ptrdiff_t>(column) * a.ld];
}

BATCHLMM_FUNCTION inline void run_item(const Border& a, std::size_t item) {
  const int q = a.m.q, N = q + a.m.p + 1, row = static_cast<int>(item % N), column = static_cast<int>(item / N);
  if (column > row) return;
  const std::ptrdiff_t ld = a.m.ld;
  double sum = 0;
  const int first_row = row < q ? a.m.block[row] : row, rows = row < q ? a.m.block_k[row] : 1,
            first_column = column < q ? a.m.block[column] : column, columns = column < q ? a.m.block_k[column] : 1;
  for (int e = 0; e < columns; ++e) {
    double t = 0;
    for (int i = 0; i < rows; ++i) {
      const double x = a.s.cross[first_row + i + (first_column + e) * ld];
      t = row < q ? fma(a.s.lambda[a.m.block_lambda[row] + i * rows + row - first_row], x, t) : x;
    }
    sum = column < q ? fma(a.s.lambda[a.m.block_lambda[column] + e * columns + column - first_column], t, sum) : t;
  }
  if (row == column && row < q) sum += 1;
  a.s.factor[row + column * ld] = sum;
}

BATCHLMM_FUNCTION inline void run_item(const StartInverse& a, std::size_t item) {
  const int q = a.m.q, O = q + a.m.p, row = static_cast<int>(item % O), column = static_cast<int>(item / O);
  double x = row == column ? 1.0 : 0.0;
  if (row < q && column < q) {
    const int k = a.m.block_k[row], i = row - a.m.block[row], j = column - a.m.block[row];
    x = j >= 0 && j < k ? a.s.lambda[a.m.block_lambda[row] + j * k + i] : 0.0;
  }
  a.s.inverse[row + static_cast<std::ptrdiff_t>(column) * a.m.ld] = x;
}

BATCHLMM_FUNCTION inline void run_item(const Gather& a, std::size_t item) {
  const std::ptrdiff_t i = static_cast<std::ptrdiff_t>(item), ld = a.m.ld;
  const int q = a.m.q, O = q + a.m.p, N = O + 1, corner = 1 + a.m.p;
  if (i < N) a.out[i] = a.s.factor[i * (ld + 1)];
  if (i < q) a.out[N + i] = a.s.cross[i * (ld + 1)];
  if (i < static_cast<std::ptrdiff_t>(corner) * corner) {
    const std::ptrdiff_t row = q + i % corner, column = q + i / corner;
    a.out[N + q + i] = row >= column ? a.s.factor[row + column * ld] : 0.0;
  }
  if (i < O) a.s.ly[i] = a.s.factor[O + i * ld];
}

BATCHLMM_FUNCTION inline void run_item(const SparseTraces& a, std::size_t item) {
  const int K = a.m.K, e = static_cast<int>(item), j = a.m.entry_level[e], end = a.m.first[j + 1];
  if (a.m.is_wide[j] != 0) return;
  double* half = a.s.half + static_cast<std::ptrdiff_t>(e) * K;
  const int column = a.m.entry_column[e];
  for (int i = 0; i < K; ++i) half[i] = 0;
  if (column >= a.columns) return;
  const double* phi = a.s.factor + static_cast<std::ptrdiff_t>(column) * a.m.ld;
  for (int other = e; other < end; ++other) {
    const int row = a.m.entry_column[other];
    if (row >= a.columns) return;
    const double x = other == e ? 0.5 * phi[row] : phi[row];
    const double* u = a.s.u + static_cast<std::ptrdiff_t>(other) * K;
    for (int i = 0; i < K; ++i) half[i] = fma(x, u[i], half[i]);
  }
}

BATCHLMM_FUNCTION inline void run_item(const LevelValues& a, std::size_t item) {
  const std::ptrdiff_t j = static_cast<std::ptrdiff_t>(item), K = a.m.K, levels = a.m.levels;
  const int s = a.m.streamed_parameters, begin = a.m.first[j], end = a.m.first[j + 1];
  const double* b = a.s.b + j * K * K;
  double *d = a.s.d + j * K * K, *c = a.s.modes + j * K;
  if (a.traces) {
    for (int col = 0; col < K; ++col)
      for (int i = 0; i <= col; ++i) {
        double t = 0;
        for (std::ptrdiff_t e = begin; e < end - 1; ++e) {  // y is not of Phi's columns
          t = fma(a.s.half[e * K + i], a.s.u[e * K + col], t);
          t = fma(a.s.half[e * K + col], a.s.u[e * K + i], t);
        }
        d[col * K + i] = d[i * K + col] = t;
      }
    for (int x = 0; x < s; ++x) {
      const std::ptrdiff_t at = a.m.column[x] * K + a.m.row[x];
      a.gradient[x * levels + j] = (a.m.row[x] == a.m.column[x] ? 1.0 : 2.0) * (b[at] - d[at]);
    }
  }
  for (int i = 0; i < K; ++i) {
    double t = 0;
    for (std::ptrdiff_t e = begin; e < end; ++e) t = fma(a.s.u[e * K + i], a.s.v[a.m.entry_column[e]], t);
    c[i] = t;
  }
  for (int x = 0; x < s; ++x) {
    const int i = a.m.row[x], k = a.m.column[x];
    a.out[x * levels + j] = (i == k ? 1.0 : 2.0) * c[i] * c[k];
    // (E_x c)'B(E_z c)
    for (int z = 0; z <= x; ++z) {
      const int l = a.m.row[z], n = a.m.column[z];
      double t = c[i] * b[l * K + k] * c[n];
      if (i != k) t += c[k] * b[l * K + i] * c[n];
      if (l != n) t += c[i] * b[n * K + k] * c[l];
      if (i != k && l != n) t += c[k] * b[n * K + i] * c[l];
      a.out[(s + triangle(x, z)) * levels + j] = t;
    }
  }
}

/// tr(P E Q E') for symmetric P, Q and the directions E = e_i e_j' + e_j e_i' (or e_i e_i') and E' of (k, l).
template <class P, class Q>
BATCHLMM_FUNCTION inline double trace_of_directions(const P& p, const Q& q, int i, int j, int k, int l) {
  double t = p(i, l) * q(j, k);
  if (i != j) t += p(j, l) * q(i, k);
  if (k != l) t += p(i, k) * q(j, l);
  if (i != j && k != l) t += p(j, k) * q(i, l);
  return t;
}

BATCHLMM_FUNCTION inline void run_item(const LevelTraces& a, std::size_t item) {
  const std::ptrdiff_t j = static_cast<std::ptrdiff_t>(item), K = a.m.K, levels = a.m.levels;
  const auto b = [at = a.s.b + j * K * K, K](int r, int c) { return at[c * K + r]; };
  const auto d = [at = a.s.d + j * K * K, K](int r, int c) { return at[c * K + r]; };
  for (int x = 0; x < a.m.streamed_parameters; ++x)
    for (int z = 0; z <= x; ++z) {
      const int i = a.m.row[x], k = a.m.column[x], l = a.m.row[z], n = a.m.column[z];
      a.out[triangle(x, z) * levels + j] = trace_of_directions(d, b, i, k, l, n) +
                                           trace_of_directions(b, d, i, k, l, n) -
                                           trace_of_directions(b, b, i, k, l, n);
    }
}

BATCHLMM_FUNCTION inline void run_item(const AddPairDerivatives& a, std::size_t item) {
  const std::ptrdiff_t K = a.m.K;
  const int i = a.m.row[a.parameter], k = a.m.column[a.parameter];
  double sum = 0;
  for (int pair = a.m.segment[item]; pair < a.m.segment[item + 1]; ++pair) {
    const double *x = a.s.u + a.m.pair_a[pair] * K, *y = a.s.u + a.m.pair_b[pair] * K;
    sum = fma(-x[i], y[k], sum);
    if (i != k) sum = fma(-x[k], y[i], sum);
  }
  a.s.partial[item] = sum;
}

BATCHLMM_FUNCTION inline void run_item(const AddDerivative& a, std::size_t item) {
  const int O = a.m.q + a.m.p, row = static_cast<int>(item % O), column = static_cast<int>(item / O);
  if (column > row) return;
  const std::ptrdiff_t t = static_cast<std::ptrdiff_t>(row) * (row + 1) / 2 + column;
  double sum = 0;
  for (int g = a.m.target_segment[t]; g < a.m.target_segment[t + 1]; ++g) sum += a.s.partial[g];
  a.out[row + static_cast<std::ptrdiff_t>(column) * a.m.ld] = sum;
}

BATCHLMM_FUNCTION inline void run_item(const ProjectedBlocks& a, std::size_t item) {
  const int q = a.m.q, row = static_cast<int>(item % q), column = static_cast<int>(item / q);
  if (column > row) return;
  const std::ptrdiff_t ld = a.m.ld, at = row + column * ld;
  if (a.t_inverse == nullptr) {
    a.out[at] = a.s.cross[at];
    return;
  }
  const int first_row = a.m.block[row], rows = a.m.block_k[row], first_column = a.m.block[column],
            columns = a.m.block_k[column];
  const double *of_row = a.t_inverse + a.m.block_lambda[row] + (row - first_row) * rows,
               *of_column = a.t_inverse + a.m.block_lambda[column] + (column - first_column) * columns;
  double sum = first_row == first_column ? of_row[column - first_column] : 0.0;
  for (int e = 0; e < columns; ++e) {
    double t = 0;
    for (int i = 0; i < rows; ++i) t = fma(of_row[i], a.s.factor[first_row + i + (first_column + e) * ld], t);
    sum = fma(-of_column[e], t, sum);
  }
  a.out[at] = sum;
}

BATCHLMM_FUNCTION inline void run_item(const SubtractFromIdentity& a, std::size_t item) {
  const int row = static_cast<int>(item % a.rows), column = static_cast<int>(item / a.rows);
  double& x = a.matrix[row + static_cast<std::ptrdiff_t>(column) * a.ld];
  x = (row == column ? 1.0 : 0.0) - x;
}

BATCHLMM_FUNCTION inline void run_item(const BlockProducts& a, std::size_t item) {
  const int parameter = static_cast<int>(item / a.m.most_levels), level = static_cast<int>(item % a.m.most_levels);
  double x = 0;
  if (level < a.m.of_levels[parameter]) {
    const int first = a.m.of_column[parameter] + level * a.m.of_k[parameter];
    const double *p = a.a + static_cast<std::ptrdiff_t>(first + a.m.of_row[parameter]) * a.m.ld,
                 *r = a.b + static_cast<std::ptrdiff_t>(first + a.m.of_col[parameter]) * a.m.ld;
    for (int i = 0; i < a.rows; ++i) x = fma(p[i], r[i], x);
  }
  a.out[item] = x;
}

BATCHLMM_FUNCTION inline void run_item(const BlockTraces& a, std::size_t item) {
  const int pair = static_cast<int>(item / a.m.most_levels), level = static_cast<int>(item % a.m.most_levels);
  int x = 0;
  while (triangle(x + 1, 0) <= pair) ++x;
  const int z = pair - triangle(x, 0);
  double sum = 0;
  if (level < a.m.of_levels[z]) {
    const int first = a.m.of_column[z] + level * a.m.of_k[z];
    for (int l = 0; l < a.m.of_levels[x]; ++l) {
      const int other = a.m.of_column[x] + l * a.m.of_k[x];
      const auto block = [&](int r, int c) {
        const std::ptrdiff_t i = other + r, k = first + c;
        return i >= k ? a.q[i + k * a.m.ld] : a.q[k + i * a.m.ld];
      };
      sum += trace_of_directions(block, block, a.m.of_row[x], a.m.of_col[x], a.m.of_row[z], a.m.of_col[z]);
    }
  }
  a.out[item] = sum;
}

BATCHLMM_FUNCTION inline void run_item(const TraceProducts& a, std::size_t item) {
  const int column = static_cast<int>(item % a.n), begin = static_cast<int>(item / a.n) * a.piece,
            end = begin + a.piece < a.n ? begin + a.piece : a.n;
  double t = 0;
  for (std::ptrdiff_t i = begin; i < end; ++i)
    t = fma(a.a[i + static_cast<std::ptrdiff_t>(column) * a.ld], a.b[column + i * a.ld], t);
  a.out[item] = t;
}

BATCHLMM_FUNCTION inline void run_item(const BlockValues& a, std::size_t item) {
  const int parameter = static_cast<int>(item / a.m.most_levels), level = static_cast<int>(item % a.m.most_levels);
  double x = 0;
  if (level < a.m.of_levels[parameter]) {
    const std::ptrdiff_t ld = a.m.ld, first = a.m.of_column[parameter] + level * a.m.of_k[parameter],
                         row = first + a.m.of_row[parameter], column = first + a.m.of_col[parameter];
    if (a.p == nullptr) {
      x = a.s.factor[row + column * ld];
    } else {
      x = a.s.cross[row + column * ld];
      for (int i = 0; i < a.rows; ++i) x = fma(-a.p[i + row * ld], a.p[i + column * ld], x);
    }
  }
  a.out[item] = x;
}

BATCHLMM_FUNCTION inline void run_item(const DenseDirections& a, std::size_t item) {
  const int q = a.m.q, at = static_cast<int>(item % q), parameter = static_cast<int>(item / q),
            own = parameter - a.m.block_parameter[at], k = a.m.block_k[at], first = a.m.block[at], row = at - first;
  double x = 0;
  if (own >= 0 && own < triangle_size(k)) {
    const int i = a.m.of_row[parameter], j = a.m.of_col[parameter];
    if (row == i)
      x = a.s.dense_modes[first + j];
    else if (row == j)
      x = a.s.dense_modes[first + i];
  }
  a.s.direction[at + static_cast<std::ptrdiff_t>(parameter) * a.m.ld] = x;
}

BATCHLMM_FUNCTION inline void run_item(const AppliedPartials& a, std::size_t item) {
  const int g = static_cast<int>(item % a.segments), x = static_cast<int>(item / a.segments);
  const std::ptrdiff_t K = a.m.K;
  const int i = a.m.row[x], k = a.m.column[x];
  double t = 0;
  for (int w = a.m.column_segment[g]; w < a.m.column_segment[g + 1]; ++w) {
    const std::ptrdiff_t e = a.m.by_column[w];
    const double *u = a.s.u + e * K, *c = a.s.modes + a.m.entry_level[e] * K;
    t = fma(u[i], c[k], t);
    if (i != k) t = fma(u[k], c[i], t);
  }
  a.s.applied_partial[item] = t;
}

BATCHLMM_FUNCTION inline void run_item(const AppliedSums& a, std::size_t item) {
  const int O = a.m.q + a.m.p;
  const std::ptrdiff_t column = static_cast<std::ptrdiff_t>(item) % O, x = static_cast<std::ptrdiff_t>(item) / O;
  double t = 0;
  for (int g = a.m.segment_of_column[column]; g < a.m.segment_of_column[column + 1]; ++g)
    t += a.s.applied_partial[x * a.segments + g];
  a.s.applied[column + x * a.m.ld] = t;
}

BATCHLMM_FUNCTION inline void run_item(const SumPieces& a, std::size_t item) {
  const int row = static_cast<int>(item) / a.pieces, piece = static_cast<int>(item) % a.pieces;
  const double* from = a.from + static_cast<std::ptrdiff_t>(row) * a.n;
  const int begin = piece * a.piece, end = begin + a.piece < a.n ? begin + a.piece : a.n;
  double t = 0;
  for (int i = begin; i < end; ++i) t += from[i];
  a.to[item] = t;
}

BATCHLMM_FUNCTION inline void run_item(const SubtractOffset& a, std::size_t item) {
  a.y[item] -= a.offset[item % static_cast<std::size_t>(a.n)];
}

BATCHLMM_FUNCTION inline void run_item(const AddColumns& a, std::size_t item) {
  const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(item) % a.rows,
                       column = static_cast<std::ptrdiff_t>(item) / a.rows;
  a.to[row + column * a.ld_to] += a.from[row + column * a.ld_from];
}

BATCHLMM_FUNCTION inline void run_item(const SquarePieces& a, std::size_t item) {
  const std::ptrdiff_t column = static_cast<std::ptrdiff_t>(item) / a.pieces,
                       g = static_cast<std::ptrdiff_t>(item) % a.pieces;
  const std::ptrdiff_t begin = g * a.piece, end = begin + a.piece < a.n ? begin + a.piece : a.n;
  const double* y = a.y + column * a.n;
  double t = 0;
  for (std::ptrdiff_t i = begin; i < end; ++i) t = fma(y[i], y[i], t);
  a.out[item] = t;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
