#include "host/batch/sampler_data.hpp"

#include <fmt/format.h>
#include <Eigen/QR>
#include <cmath>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

/// Columns whose part outside the columns before is below this share of the column count as dependent.
constexpr double rank_tolerance = 1e-10;

/// Rows waiting for a node's QR: [columns 1 .. width | carried]. Kept short by replacing them with their triangular
/// factor.
class Stack {
public:
  explicit Stack(Eigen::Index columns) : rows_(0, columns) {}
  void push(const Eigen::MatrixXd& rows) {
    const Eigen::Index have = rows_.rows();
    rows_.conservativeResize(have + rows.rows(), Eigen::NoChange);
    rows_.bottomRows(rows.rows()) = rows;
    if (rows_.rows() > 4 * rows_.cols() + 64) compress();
  }
  [[nodiscard]] Eigen::MatrixXd& rows() { return rows_; }

private:
  void compress() {
    const Eigen::HouseholderQR<Eigen::MatrixXd> qr(rows_);
    rows_ = Eigen::MatrixXd(qr.matrixQR().topRows(rows_.cols()).triangularView<Eigen::Upper>());
  }
  Eigen::MatrixXd rows_;
};

/// The null's linear response functionals as columns over the rows: null.response(y) without its last entry is W'y.
Eigen::MatrixXd response_functionals(const Model& null) {
  const kernels::Shape& s = null.shape();
  const Eigen::Index n = null.matrices().y.size();
  Eigen::MatrixXd w(n, s.response - 1);
  Eigen::VectorXd y = Eigen::VectorXd::Zero(n);
  // Column by column through the responses of unit vectors: the functionals of row i.
  for (Eigen::Index i = 0; i < n; ++i) {
    y[i] = 1;
    const std::vector<double> r = null.response(y);
    w.row(i) = Eigen::Map<const Eigen::RowVectorXd>(r.data(), s.response - 1);
    y[i] = 0;
  }
  return w;
}

}  // namespace

bool same_random_effects(const Model& a, const Model& b) {
  const auto &ra = a.matrices().random, &rb = b.matrices().random;
  if (ra.size() != rb.size()) return false;
  for (std::size_t t = 0; t < ra.size(); ++t)
    if (ra[t].level_of_row != rb[t].level_of_row || ra[t].z.cols() != rb[t].z.cols() || ra[t].z != rb[t].z)
      return false;
  return true;
}

SamplerData::SamplerData(const Model& full, const Model& null, std::vector<double> lambda)
    : lambda_(std::move(lambda)) {
  const kernels::Shape &f = full.shape(), &s = null.shape();
  const Eigen::Index n = full.matrices().y.size();
  const bool same = same_random_effects(full, null);
  Eigen::MatrixXd carried(n, 0);
  if (!same) {
    constexpr double most = 5e7;
    if (static_cast<double>(n) * s.response > most)
      throw ModelError(fmt::format(
          "models with different random effects: the bootstrap needs a map of {} rows x {} columns, which is more than "
          "{:.0e} entries",
          n, s.response, most));
    carried = response_functionals(null);
  }
  factor_columns(full, carried);

  sampler_.lambda = lambda_.data();
  sampler_.streamed_rank = streamed_rank_.data();
  sampler_.chi_square_degrees = static_cast<double>(n);
  for (int r : streamed_rank_) sampler_.chi_square_degrees -= r;
  for (int t = 0; t <= f.stages; ++t) {
    sampler_.row_begin[t] = row_begin_[t].data();
    sampler_.row[t] = row_[t].data();
    sampler_.rows += row_begin_[t].back();
  }
  sampler_.chi_square_degrees -= sampler_.rows;
  sampler_.null_response = s.response;
  if (same) {
    // Columns of X are orthogonal with mean square 1 in the gauge.
    const Eigen::MatrixXd a = full.x_gauge().columns.transpose() * null.x_gauge().columns / static_cast<double>(n);
    sampler_.null_p = s.p;
    null_x_.resize(static_cast<std::size_t>(f.p) * s.p);
    for (int i = 0; i < f.p; ++i)
      for (int j = 0; j < s.p; ++j) null_x_[static_cast<std::size_t>(i) * s.p + j] = a(i, j);
    sampler_.null_x = null_x_.data();
  } else {
    null_map_.resize(static_cast<std::size_t>(map_.size()));
    for (Eigen::Index i = 0; i < map_.cols(); ++i)
      for (Eigen::Index e = 0; e < map_.rows(); ++e)
        null_map_[static_cast<std::size_t>(i * map_.rows() + e)] = map_(e, i);
    sampler_.null_map = null_map_.data();
    sampler_.null_streamed = s.nodes[0] * s.own[0];
  }
}

void SamplerData::factor_columns(const Model& full, const Eigen::MatrixXd& carried) {
  const kernels::Shape& s = full.shape();
  const int K = s.own[0];
  const Eigen::Index extra = carried.cols();
  const double norm = std::sqrt(static_cast<double>(full.matrices().y.size()));
  std::vector<Eigen::RowVectorXd>
      found;  // carried part of each coordinate after the streamed ones, in the sampler's order
  Eigen::MatrixXd streamed_carried = Eigen::MatrixXd::Zero(static_cast<Eigen::Index>(s.nodes[0]) * K, extra);

  // stacks[t]: rows waiting for the current node of stage t; stacks[0]: for X.
  std::vector<Stack> stacks;
  stacks.emplace_back(s.p + extra);
  for (int t = 1; t <= s.stages; ++t) {
    stacks.emplace_back(s.outer[t] + s.own[t] - 1 + extra);
    row_begin_[t].push_back(0);
  }
  /// Takes the rows of F for the last `own` of `columns` columns off a stack, and hands the rest to the next.
  const auto finish = [&](int stage, int own, int columns, Stack* next) {
    Eigen::MatrixXd rows = std::move(stacks[stage].rows());
    stacks[stage].rows().resize(0, columns + extra);
    Eigen::Index rank = 0;
    if (rows.rows() > 0 && own > 0) {
      Eigen::ColPivHouseholderQR<Eigen::MatrixXd> qr(rows.middleCols(columns - own, own));
      const Eigen::Index most = std::min<Eigen::Index>(rows.rows(), own);
      while (rank < most && std::abs(qr.matrixQR()(rank, rank)) > rank_tolerance * norm) ++rank;
      rows.applyOnTheLeft(qr.householderQ().setLength(qr.nonzeroPivots()).transpose());
      for (Eigen::Index i = 0; i < rank; ++i) {
        for (int c = 0; c < columns; ++c) row_[stage].push_back(rows(i, c));
        found.emplace_back(rows.row(i).tail(extra));
      }
    }
    row_begin_[stage].push_back(row_begin_[stage].back() + static_cast<int>(rank));
    if (next == nullptr || rows.rows() == rank) return;
    Eigen::MatrixXd rest(rows.rows() - rank, columns - own + extra);
    rest.leftCols(columns - own) = rows.bottomRows(rest.rows()).leftCols(columns - own);
    rest.rightCols(extra) = rows.bottomRows(rest.rows()).rightCols(extra);
    next->push(rest);
  };

  std::array<int, kernels::max_stages> current{};
  for (int j = 0; j < s.nodes[0]; ++j) {
    const Model::StreamedLevel level = full.streamed_level(j);
    const Eigen::Index rank = level.basis.cols(), n = static_cast<Eigen::Index>(level.rows.size());
    streamed_rank_.push_back(static_cast<int>(rank));
    Eigen::MatrixXd carry(n, extra);
    for (Eigen::Index i = 0; i < n; ++i) carry.row(i) = carried.row(level.rows[i]);
    const Eigen::MatrixXd inside = level.basis.transpose() * carry;
    streamed_carried.middleRows(static_cast<Eigen::Index>(j) * K, rank) = inside;
    carry -= level.basis * inside;
    if (n > rank) {
      // The n - rank dimensions left: an orthonormal basis of the complement keeps the noise's dimension right.
      const Eigen::HouseholderQR<Eigen::MatrixXd> complement(level.basis);
      Eigen::MatrixXd rows = Eigen::MatrixXd::Zero(n, s.columns() - 1 + extra);
      for (std::size_t c = 0; c < level.touched.size(); ++c)
        rows.col(level.touched[c] - 1) = level.left.col(static_cast<Eigen::Index>(c));
      rows.rightCols(extra) = carry;
      rows.applyOnTheLeft(complement.householderQ().transpose());
      stacks[s.stages == 0 ? 0 : 1].push(rows.bottomRows(n - rank));
    }
    for (int t = 1; t <= s.stages && s.node_end[t][current[t]] == j + 1; ++t) {
      finish(t, s.own[t], s.outer[t] + s.own[t] - 1, &stacks[t < s.stages ? t + 1 : 0]);
      ++current[t];
      if (current[t] >= s.nodes[t]) current[t] = s.nodes[t] - 1;
    }
  }
  row_begin_[0].push_back(0);
  finish(0, s.p, s.p, nullptr);
  if (extra == 0) return;
  map_.resize(streamed_carried.rows() + static_cast<Eigen::Index>(found.size()), extra);
  map_.topRows(streamed_carried.rows()) = streamed_carried;
  for (std::size_t i = 0; i < found.size(); ++i)
    map_.row(streamed_carried.rows() + static_cast<Eigen::Index>(i)) = found[i];
}

}  // namespace batchlmm
