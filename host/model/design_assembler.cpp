#include "host/model/design_assembler.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace batchlmm {
namespace {

using kernels::own_e_size;
using kernels::Shape;
using kernels::TermShape;
using kernels::triangle_size;

/// As make_gauge: a column whose part outside the columns before is below this share of it counts as dependent.
constexpr double rank_tolerance = 1e-10;

double dot(const double* a, const double* b, Eigen::Index n) {
  // Four sums, so that the additions do not wait for each other.
  double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  Eigen::Index i = 0;
  for (; i + 4 <= n; i += 4) {
    s0 += a[i] * b[i];
    s1 += a[i + 1] * b[i + 1];
    s2 += a[i + 2] * b[i + 2];
    s3 += a[i + 3] * b[i + 3];
  }
  for (; i < n; ++i) s0 += a[i] * b[i];
  return (s0 + s1) + (s2 + s3);
}

/// Columns of mean square 1, orthogonal over the rows, in place (Gram-Schmidt, each column twice), and the map back.
/// @return false where the columns have not full rank; they are as they were, and the map is the identity
bool to_gauge(double* columns, Eigen::Index n, int k, double* map, std::vector<double>& saved) {
  std::fill(map, map + k * k, 0.0);
  const auto identity = [&] {
    std::fill(map, map + k * k, 0.0);
    for (int j = 0; j < k; ++j) map[j * k + j] = 1;
    return false;
  };
  if (n < k) return identity();
  saved.assign(columns, columns + n * k);
  const double root = std::sqrt(static_cast<double>(n));
  for (int j = 0; j < k; ++j) {
    double* v = columns + j * n;
    const double norm = std::sqrt(dot(v, v, n));
    bool full = norm > 0 && std::isfinite(norm);
    for (int pass = 0; full && pass < 2 && j > 0; ++pass)
      for (int i = 0; i < j; ++i) {
        const double* q = columns + i * n;
        const double c = dot(q, v, n) / static_cast<double>(n);
        for (Eigen::Index r = 0; r < n; ++r) v[r] -= c * q[r];
        map[j * k + i] += c;
      }
    const double left = std::sqrt(dot(v, v, n));
    full = full && left >= rank_tolerance * norm;
    if (!full) {
      std::copy(saved.begin(), saved.end(), columns);
      return identity();
    }
    map[j * k + j] = left / root;
    const double inverse = root / left;
    for (Eigen::Index r = 0; r < n; ++r) v[r] *= inverse;
  }
  return true;
}

}  // namespace

kernels::Design<double> DesignAssembler::design(const double* constants) const {
  const Shape& s = layout_->shape();
  const std::size_t levels = s.nodes[0], K = s.own[0];
  kernels::Design<double> d;
  d.degrees = constants;
  d.x_e = d.degrees + 1;
  d.streamed_c = d.x_e + triangle_size(s.p);
  d.streamed_r = d.streamed_c + levels * K * K;
  const double* at = d.streamed_r + levels * K * (s.columns() - 1);
  for (int t = 1; t <= s.stages; ++t) {
    d.own_e[t] = at;
    at += static_cast<std::size_t>(s.nodes[t]) * own_e_size(s.own[t], s.outer[t]);
  }
  return d;
}

/// Orders the rows that are there by streaming position. @return lme4's conditions on sizes hold
bool DesignAssembler::sort_rows(const DesignRows& rows) {
  const Shape& s = layout_->shape();
  const auto level_of = [&](int b, Eigen::Index i) {
    const std::int32_t l = rows.level[b][i];
    return rows.renumbered[b].empty() ? l : rows.renumbered[b][l];
  };
  const int streamed = layout_->streamed_term();
  begin_.assign(s.nodes[0] + 1, 0);
  for (Eigen::Index i = 0; i < rows.rows; ++i)
    if (rows.present == nullptr || rows.present[i] != 0) ++begin_[layout_->position_of(level_of(streamed, i)) + 1];
  for (int j = 0; j < s.nodes[0]; ++j) begin_[j + 1] += begin_[j];
  n_ = begin_[s.nodes[0]];
  order_.resize(n_);
  for (Eigen::Index i = 0; i < rows.rows; ++i)
    if (rows.present == nullptr || rows.present[i] != 0)
      order_[begin_[layout_->position_of(level_of(streamed, i))]++] = static_cast<int>(i);
  for (int j = s.nodes[0]; j > 0; --j) begin_[j] = begin_[j - 1];
  begin_[0] = 0;
  bool fittable = s.p < n_;
  level_.resize(s.terms);
  for (int b = 0; b < s.terms; ++b) {
    level_[b].resize(n_);
    std::int32_t most = 0;
    for (Eigen::Index i = 0; i < n_; ++i) most = std::max(most, level_[b][i] = level_of(b, order_[i]));
    seen_.assign(most + 1, 0);
    Eigen::Index levels = 0;
    for (Eigen::Index i = 0; i < n_; ++i) levels += seen_[level_[b][i]]++ == 0 ? 1 : 0;
    fittable = fittable && levels > 1 && levels * s.term[b].k < n_;
  }
  return fittable;
}

bool DesignAssembler::take_columns(const DesignColumns& from, double* to, double* map) {
  const int k = static_cast<int>(from.columns.size());
  for (int c = 0; c < k; ++c) {
    const double* column = from.columns[c];
    double* out = to + c * n_;
    for (Eigen::Index i = 0; i < n_; ++i) out[i] = column[order_[i]];
  }
  if (from.map == nullptr) return to_gauge(to, n_, k, map, norms_);
  std::copy(from.map->data(), from.map->data() + k * k, map);
  return true;
}

void DesignAssembler::assemble(const DesignRows& rows, double* constants, double* response, AssembledDesign& result) {
  const Shape& s = layout_->shape();
  rows_ = &rows;
  result.fittable = sort_rows(rows);
  result.rows = n_;
  result.degrees = static_cast<double>(s.reml ? n_ - s.p : n_);
  result.x_map.assign(static_cast<std::size_t>(s.p) * s.p, 0.0);
  result.z_map.assign(s.lambdas, 0.0);
  result.ols.assign(s.p, 0.0);
  if (!result.fittable) return;

  x_.resize(n_ * s.p);
  if (s.p > 0 && !take_columns(rows.x, x_.data(), result.x_map.data())) {
    result.fittable = false;
    return;
  }
  z_.resize(s.terms);
  for (int b = 0; b < s.terms; ++b) {
    z_[b].resize(n_ * s.term[b].k);
    (void)take_columns(rows.z[b], z_[b].data(), result.z_map.data() + s.term[b].lambda);
  }
  result.constant = result.degrees * (1 + std::log(2 * std::numbers::pi / result.degrees));
  if (s.reml)
    for (int c = 0; c < s.p; ++c) result.constant += 2 * std::log(std::abs(result.x_map[c * s.p + c]));

  // Large fitted values are taken off first, as in a single fit.
  y_.resize(n_);
  for (Eigen::Index i = 0; i < n_; ++i)
    y_[i] = rows.y[order_[i]] - (rows.offset != nullptr ? rows.offset[order_[i]] : 0.0);
  for (int c = 0; c < s.p; ++c) result.ols[c] = dot(x_.data() + c * n_, y_.data(), n_) / static_cast<double>(n_);
  for (int c = 0; c < s.p; ++c)
    for (Eigen::Index i = 0; i < n_; ++i) y_[i] -= result.ols[c] * x_[c * n_ + i];

  std::fill(constants, constants + design_doubles(s), 0.0);
  std::fill(response, response + s.response, 0.0);
  constants[0] = result.degrees;
  slot_of_column_.assign(s.columns(), -1);
  for (int j = 0; j < s.nodes[0]; ++j)
    if (begin_[j] < begin_[j + 1]) add_level(j, constants, response);
}

/// What one streamed level brings: a QR of its rows of [own | y | X | outer columns that are not zero here], whose
/// upper rows are C', C^{-1}Z'[.], and whose lower rows have the cross-products that are left.
void DesignAssembler::add_level(int j, double* constants, double* response) {
  const Shape& s = layout_->shape();
  const int K = s.own[0], N = s.columns(), first = begin_[j], rows = begin_[j + 1] - begin_[j];
  // Slot 0 is y, slots 1 .. p are X, then the columns that occur.
  column_of_slot_.resize(1 + s.p);
  for (int c = 0; c <= s.p; ++c) column_of_slot_[c] = c;
  const auto first_column = [&](int b, int row) {
    const TermShape& term = s.term[b];
    return s.outer[term.stage] + term.column + (layout_->is_dense(b) ? level_[b][row] * term.k : 0);
  };
  for (int b = 0; b < s.terms; ++b) {
    if (s.term[b].stage == 0) continue;
    const int last = layout_->is_dense(b) ? first + rows : first + 1;  // a level lies in one node of each outer factor
    for (int row = first; row < last; ++row) {
      const int column = first_column(b, row);
      if (slot_of_column_[column] >= 0) continue;
      for (int q = 0; q < s.term[b].k; ++q) {
        slot_of_column_[column + q] = static_cast<int>(column_of_slot_.size());
        column_of_slot_.push_back(column + q);
      }
    }
  }
  const int slots = static_cast<int>(column_of_slot_.size()), width = K + slots;
  level_rows_.assign(static_cast<std::size_t>(rows) * width, 0.0);
  for (int r = 0; r < rows; ++r) {
    double* row = level_rows_.data() + static_cast<std::size_t>(r) * width;
    const int i = first + r;
    row[K] = y_[i];
    for (int c = 0; c < s.p; ++c) row[K + 1 + c] = x_[c * n_ + i];
    for (int b = 0; b < s.terms; ++b) {
      const TermShape& term = s.term[b];
      double* to = term.stage == 0 ? row + term.column : row + K + slot_of_column_[first_column(b, i)];
      for (int q = 0; q < term.k; ++q) to[q] = z_[b][q * n_ + i];
    }
  }
  for (int slot = 1 + s.p; slot < slots; ++slot) slot_of_column_[column_of_slot_[slot]] = -1;

  // Householder reflections of the level's own columns, applied to all.
  const int rank = std::min(rows, K);
  cross_.resize(std::max<std::size_t>(cross_.size(), width + triangle_size(slots)));
  double* product = cross_.data();
  for (int a = 0; a < rank; ++a) {
    double* top = level_rows_.data() + static_cast<std::size_t>(a) * width;
    double below = 0;
    for (int r = a + 1; r < rows; ++r)
      below +=
          level_rows_[static_cast<std::size_t>(r) * width + a] * level_rows_[static_cast<std::size_t>(r) * width + a];
    if (below == 0) continue;
    const double alpha = top[a], norm = std::copysign(std::sqrt(alpha * alpha + below), alpha), v0 = alpha + norm;
    const double tau = v0 / norm;  // H = I - tau u u', u = v / v0
    for (int c = a + 1; c < width; ++c) product[c] = top[c];
    for (int r = a + 1; r < rows; ++r) {
      double* row = level_rows_.data() + static_cast<std::size_t>(r) * width;
      const double u = row[a] /= v0;
      for (int c = a + 1; c < width; ++c) product[c] += u * row[c];
    }
    for (int c = a + 1; c < width; ++c) top[c] -= tau * product[c];
    for (int r = a + 1; r < rows; ++r) {
      double* row = level_rows_.data() + static_cast<std::size_t>(r) * width;
      const double u = tau * row[a];
      for (int c = a + 1; c < width; ++c) row[c] -= u * product[c];
    }
    top[a] = -norm;
  }

  double* c_out = constants + 1 + triangle_size(s.p) + static_cast<std::size_t>(j) * K * K;
  double* r_out = constants + 1 + triangle_size(s.p) + static_cast<std::size_t>(s.nodes[0]) * K * K +
                  static_cast<std::size_t>(j) * K * (N - 1);
  for (int a = 0; a < rank; ++a) {
    const double* top = level_rows_.data() + static_cast<std::size_t>(a) * width;
    for (int q = a; q < K; ++q) c_out[q * K + a] = top[q];
    response[j * K + a] = top[K];
    for (int slot = 1; slot < slots; ++slot) r_out[a * (N - 1) + column_of_slot_[slot] - 1] = top[K + slot];
  }
  if (rows <= rank) return;
  double* cross = cross_.data();
  std::fill(cross, cross + triangle_size(slots), 0.0);
  for (int r = rank; r < rows; ++r) {
    const double* row = level_rows_.data() + static_cast<std::size_t>(r) * width + K;
    double* out = cross;
    for (int i = 0; i < slots; out += ++i) {
      const double x = row[i];
      if (x == 0) continue;
      for (int c = 0; c <= i; ++c) out[c] += x * row[c];
    }
  }
  // Where the products of a column go: X's own block, or that of the node of its stage.
  const double* end_of_r = constants + 1 + triangle_size(s.p) + static_cast<std::size_t>(s.nodes[0]) * K * (K + N - 1);
  std::array<double*, kernels::max_stages> block{};
  std::array<double*, kernels::max_stages> response_of{};
  double* at = constants + (end_of_r - constants);
  double* response_at = response + static_cast<std::ptrdiff_t>(s.nodes[0]) * K;
  for (int t = 1; t <= s.stages; ++t) {
    const int node = layout_->node_of(t, j);
    block[t] = at + static_cast<std::size_t>(node) * own_e_size(s.own[t], s.outer[t]);
    response_of[t] = response_at + static_cast<std::ptrdiff_t>(node) * s.own[t];
    at += static_cast<std::size_t>(s.nodes[t]) * own_e_size(s.own[t], s.outer[t]);
    response_at += static_cast<std::ptrdiff_t>(s.nodes[t]) * s.own[t];
  }
  double* x_response = response + (s.response - 1 - s.p);
  x_response[s.p] += cross[0];
  const auto stage_of = [&](int column) {
    int stage = s.stages;
    while (stage > 0 && column >= s.outer[stage] + s.own[stage]) --stage;
    return stage;
  };
  for (int i = 1; i < slots; ++i) {
    const int column = column_of_slot_[i];
    const double* from = cross + triangle_size(i);
    if (i <= s.p) {
      x_response[column - 1] += from[0];
      double* out = constants + 1 + triangle_size(column - 1);
      for (int c = 1; c <= i; ++c) out[column_of_slot_[c] - 1] += from[c];
      continue;
    }
    const int stage = stage_of(column), own = column - s.outer[stage];
    response_of[stage][own] += from[0];
    double* out = block[stage] + own * (s.outer[stage] - 1) + triangle_size(own);
    for (int c = 1; c <= i; ++c) {
      const int other = column_of_slot_[c];
      if (other <= column) {
        out[other - 1] += from[c];
      } else {
        // The pair stands in the other column's row, which is that of a later column of its stage.
        const int other_stage = stage_of(other), other_own = other - s.outer[other_stage];
        block[other_stage][other_own * (s.outer[other_stage] - 1) + triangle_size(other_own) + column - 1] += from[c];
      }
    }
  }
}

}  // namespace batchlmm
