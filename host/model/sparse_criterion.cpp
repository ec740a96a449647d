// The formulas are those of large_criterion.cpp with a sparse Gamma_11. Its inverse is needed where Gamma_11 or its
// factor has entries only: for the streamed terms' traces on the pairs of columns that a level touches, for a dense
// term's on its levels' own blocks. Takahashi, Fagan and Chin (1973), "Formation of a sparse bus impedance matrix",
// gives these entries from the factor. T of a dense term is moved away from singular by `least_t` for the traces (not
// for the value), an error of that relative size in the gradient.
#include "host/model/sparse_criterion.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/SparseCore>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "host/model/memory.hpp"
#include "host/model/sparse_factor.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using Sparse = SparseFactor::Matrix;

constexpr double least_t = 1e-7;

class SparseCriterion final : public Criterion {
public:
  explicit SparseCriterion(const Model& model)
      : model_(model), s_(model.shape()), K_(s_.own[0]), g_(s_.nodes[0]), q_(s_.own[1]), p_(s_.p), m_(s_.parameters) {
    for (int b = 0; b < s_.terms; ++b) {
      const kernels::TermShape& t = s_.term[b];
      if (t.stage == 0) m1_ += kernels::triangle_size(t.k);
      for (int l = 0; t.stage > 0 && l < t.levels; ++l) levels_.push_back({b, t.column + l * t.k, t.k});
    }
    for (int x = 0; x < m1_; ++x) {
      const int column = s_.term[s_.parameter_term[x]].column;
      direction_.push_back({column + s_.parameter_row[x], column + s_.parameter_column[x]});
    }
  }
  /// The pattern and what it costs; false where the pattern itself is too much.
  bool analyze(double most_operations, SparseAnalysis& analysis);
  void read_values();
  [[nodiscard]] CriterionCost cost() const override { return cost_; }

  CriterionValue evaluate(const std::vector<double>& lambda, bool derivatives) override;
  void set_response(const std::vector<double>& response) override {
    const auto at = Eigen::Map<const VectorXd>(response.data(), s_.response);
    for (int j = 0; j < g_; ++j) ry_.col(j) = at.segment(static_cast<Index>(j) * K_, K_);
    e_1c_.col(0) = at.segment(static_cast<Index>(g_) * K_, q_);
    e_cc_.col(0).tail(p_) = at.segment(static_cast<Index>(g_) * K_ + q_, p_);
    e_cc_.row(0).tail(p_) = e_cc_.col(0).tail(p_).transpose();
    e_cc_(0, 0) = at[s_.response - 1];
  }
  [[nodiscard]] VectorXd beta() const override { return beta_; }
  [[nodiscard]] MatrixXd x_information() const override { return x_information_; }
  [[nodiscard]] MatrixXd modes(int b) const override;

private:
  struct DenseLevel {
    int term, column, k;
  };
  struct Direction {
    int i, j;
  };
  /// Lambda as a block-diagonal sparse matrix.
  [[nodiscard]] Sparse block_diagonal(const std::vector<MatrixXd>& blocks) const;
  bool factorize(const Sparse& lambda);
  /// L^{-1}P A and P'L^{-T}A.
  void solve_lower(MatrixXd& a) const {
    a = factor_.permutationP() * a;
    factor_.matrixL().solveInPlace(a);
  }
  void solve_upper(MatrixXd& a) const {
    factor_.matrixU().solveInPlace(a);
    a = factor_.permutationPinv() * a;
  }
  /// The inverse of the factored matrix on the factor's pattern.
  void invert();
  /// Entry of `inverse_` at rows of the unpermuted matrix.
  [[nodiscard]] double inverse_at(int i, int j) const;

  const Model& model_;
  const kernels::Shape& s_;
  int K_, g_, q_, p_, m_, m1_ = 0;
  std::vector<DenseLevel> levels_;
  std::vector<Direction> direction_;

  // Streamed level j touches the dense columns column_[first_[j]] ..; K entries for each.
  std::vector<Index> first_;
  std::vector<std::int32_t> column_;
  std::vector<double> c_, r_, f_, u_, b_;
  MatrixXd ry_, rx_, fy_, fx_, uy_, ux_;  ///< K x g of y, K x gp of X
  // Pair (i >= e) of a level's columns, level after level: where it stands in cross_ and in the inverse.
  std::vector<std::int32_t> in_cross_, in_inverse_;
  Sparse constant_, cross_;  ///< E and Gamma_11, lower triangles
  MatrixXd e_1c_, e_cc_;     ///< against [y X]: q x (1 + p), (1 + p) x (1 + p)
  SparseFactor factor_;
  std::vector<double> inverse_;  ///< on the factor's pattern

  CriterionCost cost_;
  VectorXd beta_, dense_modes_;
  MatrixXd x_information_, streamed_modes_;
};

bool SparseCriterion::analyze(double most_operations, SparseAnalysis& analysis) {
  // Columns that the levels touch, in ascending order, from the rows alone.
  std::vector<std::vector<std::int32_t>> touched(g_);
  const ModelMatrices& m = model_.matrices();
  const PlanFactor& streamed = model_.plan().chain[0];
  std::vector<int> position(g_);
  for (int j = 0; j < g_; ++j) position[model_.plan().streamed_order[j]] = j;
  std::vector<std::size_t> next;
  std::vector<int> of_row(streamed.level_of_row.size());  // streamed levels, rows sorted by the term's levels
  for (int b = 0; b < s_.terms; ++b) {
    const kernels::TermShape& t = s_.term[b];
    if (t.stage == 0) continue;
    const std::vector<std::int32_t>& level = m.random[model_.term_of(b)].level_of_row;
    next.assign(t.levels + 1, 0);
    for (const std::int32_t l : level) ++next[l + 1];
    for (int l = 0; l < t.levels; ++l) next[l + 1] += next[l];
    for (std::size_t i = 0; i < level.size(); ++i) of_row[next[level[i]]++] = position[streamed.level_of_row[i]];
    for (std::size_t l = 0, i = 0; l < next.size() - 1; ++l)
      for (; i < next[l]; ++i) {
        std::vector<std::int32_t>& columns = touched[of_row[i]];
        const int first = t.column + static_cast<int>(l) * t.k;
        for (int c = columns.empty() || columns.back() < first ? 0 : t.k; c < t.k; ++c) columns.push_back(first + c);
      }
  }
  double pairs = 0;
  first_.assign(1, 0);
  for (const std::vector<std::int32_t>& columns : touched) {
    column_.insert(column_.end(), columns.begin(), columns.end());
    first_.push_back(static_cast<Index>(column_.size()));
    const auto t = static_cast<double>(columns.size());
    pairs += t * (t + 1) / 2;
  }
  analysis.operations = 2 * pairs * K_ * (K_ + 1);
  analysis.bytes = pairs * 24;
  if (analysis.operations > most_operations || analysis.bytes > 0.25 * available_memory() || pairs > 1e9) return false;
  // The lower triangle of Gamma_11, column by column.
  std::vector<Index> of_column(q_ + 1, 0);
  for (const std::int32_t c : column_) ++of_column[c + 1];
  for (Index c = 0; c < q_; ++c) of_column[c + 1] += of_column[c];
  std::vector<int> touches(column_.size());
  for (int j = 0; j < g_; ++j)
    for (Index i = first_[j]; i < first_[j + 1]; ++i) touches[of_column[column_[i]]++] = j;
  std::vector<std::int32_t> row;
  std::vector<Index> begin(q_ + 1, 0);
  std::vector<char> seen(q_, 0);
  for (const DenseLevel& level : levels_)
    for (int c = level.column; c < level.column + level.k; ++c) {
      auto size = static_cast<std::size_t>(begin[c]);
      if (row.size() <= size + q_) row.resize(2 * size + q_ + 1);
      const auto add = [&](std::int32_t r) {
        row[size] = r;
        size += seen[r] == 0 ? 1 : 0;
        seen[r] = 1;
      };
      for (int r = c; r < level.column + level.k; ++r) add(r);
      for (Index t = c > 0 ? of_column[c - 1] : 0; t < of_column[c]; ++t) {
        const auto *first = column_.data() + first_[touches[t]], *last = column_.data() + first_[touches[t] + 1];
        std::for_each(std::lower_bound(first, last, c), last, add);
      }
      for (std::size_t at = begin[c]; at < size; ++at) seen[row[at]] = 0;
      begin[c + 1] = static_cast<Index>(size);
      // The factor will have about twice as many entries, or more. Of all columns with so many entries together, equal
      // ones are the cheapest.
      const double mean = 2 * static_cast<double>(size) / q_, expected = 1.5 * q_ * mean * (mean + 1);
      if (analysis.operations + expected <= most_operations) continue;
      analysis.operations += expected;
      return false;
    }
  constant_.resize(q_, q_);
  constant_.reserve(begin[q_]);
  for (Index c = 0; c < q_; ++c) {
    std::sort(row.begin() + begin[c], row.begin() + begin[c + 1]);
    constant_.startVec(c);
    for (Index at = begin[c]; at < begin[c + 1]; ++at) constant_.insertBack(row[at], c) = 1;
  }
  constant_.finalize();
  factor_.analyzePattern(constant_);
  double entries = 0;
  for (Index c = 0; c < q_; ++c) {
    const auto n = static_cast<double>(factor_.column_counts()[c]);
    entries += n + 1;
    analysis.operations += 1.5 * (n + 1) * (n + 2);
  }
  analysis.bytes += 32 * entries;
  cost_ = {analysis.operations, analysis.bytes};
  return analysis.operations <= most_operations && analysis.bytes <= 0.8 * available_memory() && entries < 2e9;
}

void SparseCriterion::read_values() {
  const std::size_t n = column_.size() * K_;
  c_.resize(static_cast<std::size_t>(g_) * K_ * K_);
  b_.resize(c_.size());
  r_.assign(n, 0.0);
  f_.resize(n);
  u_.resize(n);
  ry_ = fy_ = uy_ = MatrixXd::Zero(K_, g_);
  rx_ = fx_ = ux_ = MatrixXd::Zero(K_, static_cast<Index>(g_) * p_);
  e_1c_ = MatrixXd::Zero(q_, 1 + p_);
  e_cc_ = MatrixXd::Zero(1 + p_, 1 + p_);
  std::fill_n(constant_.valuePtr(), constant_.nonZeros(), 0.0);
  for (int j = 0; j < g_; ++j) {
    const Model::StreamedLevel level = model_.streamed_level(j);
    Eigen::Map<MatrixXd>(c_.data() + static_cast<std::size_t>(j) * K_ * K_, K_, K_) = level.c;
    // level.touched: X's columns 1 .. p, then the dense ones that column_ has too.
    rx_.middleCols(static_cast<Index>(j) * p_, p_) = level.r.leftCols(p_);
    const Index count = first_[j + 1] - first_[j];
    Eigen::Map<MatrixXd>(r_.data() + first_[j] * K_, K_, count) = level.r.rightCols(count);
    const MatrixXd cross = level.left.transpose() * level.left;
    e_cc_.bottomRightCorner(p_, p_) += cross.topLeftCorner(p_, p_);
    const std::int32_t* column = column_.data() + first_[j];
    for (Index i = 0; i < count; ++i) {
      e_1c_.row(column[i]).tail(p_) += cross.row(p_ + i).head(p_);
      const std::int32_t* begin = constant_.innerIndexPtr() + constant_.outerIndexPtr()[column[i]];
      const std::int32_t* end = constant_.innerIndexPtr() + constant_.outerIndexPtr()[column[i] + 1];
      for (Index e = i; e < count; ++e) {
        begin = std::lower_bound(begin, end, column[e]);
        const auto at = static_cast<std::int32_t>(begin - constant_.innerIndexPtr());
        in_cross_.push_back(at);
        constant_.valuePtr()[at] += cross(p_ + e, p_ + i);
      }
    }
  }
  cross_ = constant_;
}

Sparse SparseCriterion::block_diagonal(const std::vector<MatrixXd>& blocks) const {
  Sparse matrix(q_, q_);
  Index entries = 0;
  for (const DenseLevel& level : levels_) entries += static_cast<Index>(level.k) * level.k;
  matrix.reserve(entries);
  for (const DenseLevel& level : levels_)
    for (int c = 0; c < level.k; ++c) {
      matrix.startVec(level.column + c);
      for (int i = 0; i < level.k; ++i)
        matrix.insertBack(level.column + i, level.column + c) = blocks[level.term](i, c);
    }
  matrix.finalize();
  return matrix;
}

bool SparseCriterion::factorize(const Sparse& lambda) {
  const Sparse all = cross_.selfadjointView<Eigen::Lower>();
  Sparse scaled = Sparse(lambda.transpose()) * all * lambda;
  for (Index c = 0; c < q_; ++c) scaled.coeffRef(static_cast<std::int32_t>(c), static_cast<std::int32_t>(c)) += 1;
  factor_.factorize(scaled);
  return factor_.info() == Eigen::Success;
}

void SparseCriterion::invert() {
  factor_.selected_inverse(inverse_);
  if (!in_inverse_.empty()) return;
  in_inverse_.reserve(in_cross_.size());
  for (int j = 0; j < g_; ++j)
    for (Index i = first_[j]; i < first_[j + 1]; ++i)
      for (Index e = i; e < first_[j + 1]; ++e) in_inverse_.push_back(factor_.entry(column_[e], column_[i]));
}

double SparseCriterion::inverse_at(int i, int j) const { return inverse_[factor_.entry(i, j)]; }

CriterionValue SparseCriterion::evaluate(const std::vector<double>& lambda, bool derivatives) {
  CriterionValue value;
  value.deviance = 1e300;
  value.exact = false;
  if (derivatives) {
    value.gradient = VectorXd::Zero(m_);
    value.hessian = value.information = MatrixXd::Zero(m_, m_);
  }
  std::vector<MatrixXd> factor(s_.terms), away(s_.terms);
  bool singular = false;
  MatrixXd t = MatrixXd::Zero(K_, K_);
  for (int b = 0; b < s_.terms; ++b) {
    const kernels::TermShape& term = s_.term[b];
    factor[b] = Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
        lambda.data() + term.lambda, term.k, term.k);
    if (!factor[b].allFinite()) return value;
    MatrixXd tb = factor[b] * factor[b].transpose();
    if (term.stage == 0) {
      t.block(term.column, term.column, term.k, term.k) = tb;
      continue;
    }
    const double least = least_t / term.scale;
    away[b] = factor[b];
    if (Eigen::SelfAdjointEigenSolver<MatrixXd>(tb, Eigen::EigenvaluesOnly).eigenvalues()[0] >= least) continue;
    singular = true;
    tb.diagonal().array() += least;
    away[b] = tb.llt().matrixL();
  }

  // The streamed stage.
  double log_determinant = 0;
  std::copy_n(constant_.valuePtr(), constant_.nonZeros(), cross_.valuePtr());
  MatrixXd g_1c = e_1c_, g_cc = e_cc_, m(K_, K_), back(K_, K_);
  Eigen::LLT<MatrixXd> llt(K_);
  const std::int32_t* pair = in_cross_.data();
  for (int j = 0; j < g_; ++j) {
    const std::size_t own = static_cast<std::size_t>(j) * K_ * K_;
    const Eigen::Map<const MatrixXd> c(c_.data() + own, K_, K_);
    m.noalias() = c.transpose() * t * c;
    m.diagonal().array() += 1;
    llt.compute(m);
    if (llt.info() != Eigen::Success) return value;
    for (int a = 0; a < K_; ++a) log_determinant += 2 * std::log(llt.matrixLLT()(a, a));
    const Index count = first_[j + 1] - first_[j];
    Eigen::Map<MatrixXd> f(f_.data() + first_[j] * K_, K_, count), u(u_.data() + first_[j] * K_, K_, count);
    f = Eigen::Map<const MatrixXd>(r_.data() + first_[j] * K_, K_, count);
    llt.matrixL().solveInPlace(f);
    auto fx = fx_.middleCols(static_cast<Index>(j) * p_, p_);
    fx = llt.matrixL().solve(rx_.middleCols(static_cast<Index>(j) * p_, p_));
    fy_.col(j) = llt.matrixL().solve(ry_.col(j));
    if (derivatives) {
      back = llt.matrixL().solve(MatrixXd(c.transpose()));
      Eigen::Map<MatrixXd>(b_.data() + own, K_, K_).noalias() = back.transpose() * back;
      u.noalias() = back.transpose() * f;
      ux_.middleCols(static_cast<Index>(j) * p_, p_).noalias() = back.transpose() * fx;
      uy_.col(j).noalias() = back.transpose() * fy_.col(j);
    }
    const std::int32_t* column = column_.data() + first_[j];
    double* values = cross_.valuePtr();
    for (Index i = 0; i < count; ++i) {
      for (Index e = i; e < count; ++e) values[*pair++] += f.col(i).dot(f.col(e));
      g_1c(column[i], 0) += f.col(i).dot(fy_.col(j));
      for (int x = 0; x < p_; ++x) g_1c(column[i], 1 + x) += f.col(i).dot(fx.col(x));
    }
    g_cc(0, 0) += fy_.col(j).squaredNorm();
    g_cc.col(0).tail(p_) += fx.transpose() * fy_.col(j);
    g_cc.bottomRightCorner(p_, p_) += fx.transpose() * fx;
  }
  g_cc.row(0).tail(p_) = g_cc.col(0).tail(p_).transpose();

  // S = I + Lambda'Gamma_11 Lambda = P'LL'P, then X.
  const Sparse block = block_diagonal(factor), transposed = block.transpose();
  if (!factorize(block)) return value;
  for (Index c = 0; c < q_; ++c)
    log_determinant += 2 * std::log(factor_.l().valuePtr()[factor_.l().outerIndexPtr()[c]]);
  MatrixXd pc = transposed * g_1c;
  solve_lower(pc);
  const MatrixXd left = g_cc - pc.transpose() * pc;
  x_information_ = left.bottomRightCorner(p_, p_);
  const Eigen::LLT<MatrixXd> x(x_information_);
  value.r2 = left(0, 0);
  beta_ = left.col(0).tail(p_);
  double log_x = 0;
  if (p_ > 0) {
    if (x.info() != Eigen::Success) return value;
    for (int i = 0; i < p_; ++i) log_x += 2 * std::log(x.matrixLLT()(i, i));
    x.matrixL().solveInPlace(beta_);
    value.r2 -= beta_.squaredNorm();
    x.matrixU().solveInPlace(beta_);
  }
  const double deviance = log_determinant + s_.degrees * std::log(value.r2) + s_.constant + (s_.reml ? log_x : 0.0);
  if (!(value.r2 > 0) || !std::isfinite(deviance)) return value;
  value.deviance = deviance;
  value.ok = true;
  if (!derivatives) return value;

  // c = Z'Py and the directions E_a c.
  const double n_over_r2 = s_.degrees / value.r2;
  MatrixXd h = pc;
  solve_upper(h);
  h = block * h;
  const MatrixXd u1 = g_1c - cross_.selfadjointView<Eigen::Lower>() * h;
  VectorXd v(1 + p_);
  v[0] = 1;
  v.tail(p_) = -beta_;
  const VectorXd v1 = -h * v;
  dense_modes_ = u1 * v;
  streamed_modes_.resize(K_, g_);
  const int m2 = m_ - m1_;
  MatrixXd applied = MatrixXd::Zero(q_, m_), of_x = MatrixXd::Zero(p_, m_), products = MatrixXd::Zero(m_, m_);
  VectorXd forms = VectorXd::Zero(m_);
  MatrixXd w(K_, m1_), bw(K_, m1_);
  for (int j = 0; j < g_; ++j) {
    const Index count = first_[j + 1] - first_[j];
    const Eigen::Map<const MatrixXd> u(u_.data() + first_[j] * K_, K_, count),
        b(b_.data() + static_cast<std::size_t>(j) * K_ * K_, K_, K_);
    const std::int32_t* column = column_.data() + first_[j];
    const auto ux = ux_.middleCols(static_cast<Index>(j) * p_, p_);
    VectorXd c = uy_.col(j) - ux * beta_;
    for (Index i = 0; i < count; ++i) c += u.col(i) * v1[column[i]];
    streamed_modes_.col(j) = c;
    w.setZero();
    for (int a = 0; a < m1_; ++a) {
      w(direction_[a].i, a) = c[direction_[a].j];
      w(direction_[a].j, a) = c[direction_[a].i];
    }
    forms.head(m1_) += w.transpose() * c;
    bw.noalias() = b * w;
    products.topLeftCorner(m1_, m1_).noalias() += w.transpose() * bw;
    of_x.leftCols(m1_).noalias() += ux.transpose() * w;
    for (Index i = 0; i < count; ++i) applied.row(column[i]).head(m1_) += u.col(i).transpose() * w;
  }
  MatrixXd direction = MatrixXd::Zero(q_, m2);
  for (const DenseLevel& level : levels_)
    for (int i = 0; i < level.k; ++i)
      for (int j = 0; j <= i; ++j) {
        const int a = s_.term[level.term].parameter + kernels::triangle(i, j);
        const double ci = dense_modes_[level.column + i], cj = dense_modes_[level.column + j];
        forms[a] += (i == j ? 1 : 2) * ci * cj;
        direction(level.column + i, a - m1_) = cj;
        direction(level.column + j, a - m1_) = ci;
      }
  applied.rightCols(m2) = cross_.selfadjointView<Eigen::Lower>() * direction;
  of_x.rightCols(m2) = g_1c.rightCols(p_).transpose() * direction;
  products.bottomRows(m2) = direction.transpose() * applied;
  products = MatrixXd(products.selfadjointView<Eigen::Lower>());
  MatrixXd projected = transposed * applied;
  solve_lower(projected);
  of_x -= pc.rightCols(p_).transpose() * projected;
  if (p_ > 0) x.matrixL().solveInPlace(of_x);
  products -= projected.transpose() * projected + of_x.transpose() * of_x;

  // Traces.
  const Sparse* scale = &block;
  const Sparse moved = singular ? block_diagonal(away) : Sparse();
  if (singular) {
    scale = &moved;
    if (!factorize(moved)) {
      value.ok = false;
      value.deviance = 1e300;
      return value;
    }
  }
  invert();
  // REML: what X takes away, V_j V_j' and half half'.
  MatrixXd half_x = u1.rightCols(p_), half_h = h.rightCols(p_);
  const MatrixXd x_root = s_.reml && p_ > 0 ? MatrixXd(x.matrixU().solve(MatrixXd::Identity(p_, p_))) : MatrixXd();
  if (s_.reml) half_x = (half_x * x_root).eval();
  const std::int32_t* at = in_inverse_.data();
  MatrixXd ul, d(K_, K_);
  for (int j = 0; j < g_; ++j) {
    const Index count = first_[j + 1] - first_[j];
    const Eigen::Map<const MatrixXd> u(u_.data() + first_[j] * K_, K_, count);
    const std::int32_t* column = column_.data() + first_[j];
    // U Lambda: a level's k columns stand together.
    ul.resize(K_, count);
    for (Index i = 0; i < count; ++i) {
      ul.col(i).setZero();
      for (Sparse::InnerIterator entry(*scale, column[i]); entry; ++entry) {
        const Index row = std::lower_bound(column, column + count, entry.row()) - column;
        ul.col(i) += u.col(row) * entry.value();
      }
    }
    d.setZero();
    for (Index i = 0; i < count; ++i) {
      VectorXd sum = 0.5 * inverse_[*at++] * ul.col(i);
      for (Index e = i + 1; e < count; ++e) sum += inverse_[*at++] * ul.col(e);
      d.noalias() += sum * ul.col(i).transpose();
    }
    d = (d + d.transpose()).eval();
    if (s_.reml) {
      MatrixXd vj = ux_.middleCols(static_cast<Index>(j) * p_, p_);
      for (Index i = 0; i < count; ++i) vj -= u.col(i) * half_h.row(column[i]);
      vj = (vj * x_root).eval();
      d += vj * vj.transpose();
    }
    const Eigen::Map<const MatrixXd> b(b_.data() + static_cast<std::size_t>(j) * K_ * K_, K_, K_);
    for (int a = 0; a < m1_; ++a) {
      const auto [i, e] = direction_[a];
      value.gradient[a] += (i == e ? 1 : 2) * (b(i, e) - d(i, e));
    }
  }
  for (const DenseLevel& level : levels_) {
    // Q of one level: lambda^{-T}(I - S^{-1})lambda^{-1}, X taken off.
    const int k = level.k;
    MatrixXd own(k, k);
    for (int i = 0; i < k; ++i)
      for (int j = 0; j < k; ++j) own(i, j) = (i == j ? 1 : 0) - inverse_at(level.column + i, level.column + j);
    const Eigen::PartialPivLU<MatrixXd> lu(MatrixXd(away[level.term].transpose()));
    own = lu.solve(own);
    own = lu.solve(MatrixXd(own.transpose()));
    if (s_.reml) own -= half_x.middleRows(level.column, k) * half_x.middleRows(level.column, k).transpose();
    for (int i = 0; i < k; ++i)
      for (int j = 0; j <= i; ++j)
        value.gradient[s_.term[level.term].parameter + kernels::triangle(i, j)] += (i == j ? 1 : 2) * own(i, j);
  }
  value.gradient -= n_over_r2 * forms;
  value.forms = forms;
  value.information = n_over_r2 * products - (n_over_r2 / value.r2) * forms * forms.transpose();
  value.hessian = value.information;
  return value;
}

MatrixXd SparseCriterion::modes(int b) const {
  const kernels::TermShape& t = s_.term[b];
  if (t.stage > 0) return Eigen::Map<const MatrixXd>(dense_modes_.data() + t.column, t.k, t.levels).transpose();
  MatrixXd c(g_, t.k);
  for (int j = 0; j < g_; ++j)
    c.row(model_.level_of_node(b, j)) = streamed_modes_.col(j).segment(t.column, t.k).transpose();
  return c;
}

}  // namespace

std::unique_ptr<Criterion> make_sparse_criterion(const Model& model, const VectorXd& y, double most_operations,
                                                 SparseAnalysis* analysis) {
  SparseAnalysis found;
  SparseAnalysis& predicted = analysis != nullptr ? *analysis : found;
  if (model.shape().stages != 1) return nullptr;
  auto criterion = std::make_unique<SparseCriterion>(model);
  if (!criterion->analyze(most_operations, predicted)) return nullptr;
  criterion->read_values();
  criterion->set_response(model.response(y));
  return criterion;
}

}  // namespace batchlmm
