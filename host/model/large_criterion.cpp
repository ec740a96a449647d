// The formulas of kernels/eliminate.hpp and kernels/derivatives.hpp with one streamed stage and one dense node. With O
// the outer columns [X, dense terms], Gamma their cross-products after the streamed stage, U_j = Z_j'V_0^{-1}[O] for a
// streamed level and dGamma_a = -sum_j U_j'E_a U_j, the log-determinants' second derivatives are those of
// -tr(Q E_a Q E_b), Q = Z'PZ (ML: Z'V^{-1}Z), in blocks:
//     streamed, streamed   sum_j [ 2 tr(D_j E_a B_j E_b) - tr(B_j E_a B_j E_b) ] - tr(Phi dGamma_a Phi dGamma_b)
//     dense, streamed      + tr(Psi'dGamma_a Psi E_b)
//     dense, dense         - tr(Q_11 E_a Q_11 E_b)
// Phi is the inverse of [X'X, X'Z_1; Z_1'X, Z_1'Z_1 + T^{-1}] under V_0 (ML: of its last block, zero on X), D_j = U_j
// Phi U_j', Psi = (I - Phi Gamma) on the dense columns and Q_11 = Gamma_11 Psi on the dense rows. Where T is well away
// from singular, Psi = Phi T^{-1} and Q_11 = T^{-1} - T^{-1} Phi T^{-1}, which saves most of the dense products.
#include "host/model/large_criterion.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "batchlmm/error.hpp"
#include "host/model/blas.hpp"
#include "host/model/dense_term_inverses.hpp"
#include "host/model/memory.hpp"
#include "host/model/streamed_levels.hpp"
#include "host/model/triangular_inverse.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using Block = Eigen::Map<MatrixXd, 0, Eigen::OuterStride<>>;
using ConstBlock = Eigen::Map<const MatrixXd, 0, Eigen::OuterStride<>>;

constexpr int panel_columns = 64;
constexpr int tile = 32;

/// Copies the lower triangle of a square matrix onto the upper one of `to` (which may be the same).
void mirror(const double* from, Index ld_from, double* to, Index ld_to, Index n) {
  for (Index jt = 0; jt < n; jt += tile)
    for (Index it = jt; it < n; it += tile)
      for (Index j = jt; j < std::min(jt + tile, n); ++j)
        for (Index i = std::max(it, j); i < std::min(it + tile, n); ++i) {
          const double x = from[j * ld_from + i];
          to[j * ld_to + i] = x;
          to[i * ld_to + j] = x;
        }
}

/// Calls f for the columns of a lower triangle of n, by threads with about as many entries each.
template <class F>
void for_columns(Index n, const F& f) {
  constexpr Index few = 256;
  const int threads = n < few ? 1 : blas_threads();
  in_parallel(threads, [&](int part) {
    const auto border = [&](int t) {
      return t == threads ? n : static_cast<Index>(static_cast<double>(n) * (1 - std::sqrt(1 - 1.0 * t / threads)));
    };
    for (Index c = border(part), end = border(part + 1); c < end; ++c) f(c);
  });
}

/// A matrix without values, in large pages where it is large.
MatrixXd uninitialized(Index rows, Index columns) {
  MatrixXd matrix(rows, columns);
  prefer_large_pages(matrix.data(), sizeof(double) * static_cast<std::size_t>(matrix.size()));
  return matrix;
}

/// tr(AB) of n x n matrices.
double trace_of_product(const MatrixXd& a, const MatrixXd& b) {
  const Index n = a.rows();
  double sum = 0;
  for (Index jt = 0; jt < n; jt += tile)
    for (Index it = 0; it < n; it += tile)
      for (Index j = jt; j < std::min(jt + tile, n); ++j)
        for (Index i = it; i < std::min(it + tile, n); ++i) sum += a(i, j) * b(j, i);
  return sum;
}

/// tr(P E Q E') for symmetric P, Q and the directions E = e_i e_j' + e_j e_i' (or e_i e_i') and E' of (k, l), where P
/// and Q are given between E's rows and those of E'.
template <class P, class Q>
double trace_of_four(const P& p, const Q& q, Index i, Index j, Index k, Index l) {
  double t = p(i, l) * q(j, k);
  if (i != j) t += p(j, l) * q(i, k);
  if (k != l) t += p(i, k) * q(j, l);
  if (i != j && k != l) t += p(j, k) * q(i, l);
  return t;
}

class LargeCriterion final : public Criterion {
public:
  LargeCriterion(const Model& model, const VectorXd& y, const LargeOptions& options)
      : model_(model),
        shape_(model.shape()),
        K_(shape_.own[0]),
        p_(shape_.p),
        q_(shape_.stages > 0 ? shape_.own[1] : 0),
        O_(p_ + q_),
        N_(1 + p_ + q_),
        m_(shape_.parameters) {
    for (int b = 0; b < shape_.terms; ++b) {
      const kernels::TermShape& term = shape_.term[b];
      if (term.stage == 0) {
        streamed_parameters_ += kernels::triangle_size(term.k);
        continue;
      }
      for (int l = 0; l < term.levels; ++l) levels_.push_back({b, term.column + l * term.k, term.k});
      scalar_levels_ = scalar_levels_ && term.k == 1;
    }
    for (int x = 0; x < streamed_parameters_; ++x) {
      const int column = shape_.term[shape_.parameter_term[x]].column;
      direction_.push_back({column + shape_.parameter_row[x], column + shape_.parameter_column[x]});
    }
    const double q = q_;
    exact_ = 4.0 * (streamed_parameters_ + 1) * q * q * q <= options.largest_exact_hessian;
    require_memory(cost().bytes,
                   "the dense system of " + std::to_string(q_) + " columns that the crossed random effects leave");
    read_levels(options.dense_share);
    const double entries = static_cast<double>(column_.size()) * K_, outer = O_;
    sparse_rows_ = O_ >= kernels::SparseRowKernels::width && K_ <= kernels::SparseRowKernels::width &&
                   entries * (outer + 0.5 * K_ * shape_.nodes[0]) <=
                       options.sparse_product_share * streamed_parameters_ * outer * outer * outer;
    set_response(model.response(y));
  }

  CriterionValue evaluate(const std::vector<double>& lambda, bool derivatives) override {
    return evaluate(lambda, derivatives, derivatives && exact_);
  }
  CriterionValue evaluate_with_information(const std::vector<double>& lambda) override {
    return evaluate(lambda, true, false);
  }
  void set_response(const std::vector<double>& response) override;
  [[nodiscard]] CriterionCost cost() const override;
  [[nodiscard]] VectorXd beta() const override { return beta_; }
  [[nodiscard]] MatrixXd x_information() const override { return x_information_; }
  [[nodiscard]] MatrixXd modes(int b) const override;

private:
  /// k columns of one level of a dense term.
  struct DenseLevel {
    int term = 0, column = 0, k = 0;
  };
  /// x to M'x for one level's part of a vector.
  static void multiply_level(const DenseLevel& level, double* x, const std::vector<MatrixXd>& blocks) {
    const MatrixXd& m = blocks[level.term];
    if (level.k == 1) {
      *x *= m(0, 0);
      return;
    }
    std::array<double, kernels::max_parameters> tmp;  // more than any k
    for (int i = 0; i < level.k; ++i) {
      tmp[i] = 0;
      for (int e = 0; e < level.k; ++e) tmp[i] += m(e, i) * x[e];
    }
    std::copy_n(tmp.data(), level.k, x);
  }
  /// A streamed parameter's entry of T, in the columns of a level.
  struct Direction {
    int i = 0, j = 0;
  };

  CriterionValue evaluate(const std::vector<double>& lambda, bool derivatives, bool exact);
  void read_levels(double dense_share);
  void divide_columns(int parts);

  /// M'AM on the lower triangle of a q x q matrix, M block diagonal: `blocks[b]` for each level of term b. `to` may be
  /// `from`.
  void congruence(const double* from, Index ld_from, double* to, Index ld, const std::vector<MatrixXd>& blocks) const;
  /// A to M'A for A with q rows.
  void multiply(double* a, Index ld, Index columns, const std::vector<MatrixXd>& blocks) const;
  void solve(bool transposed, double* a, int ld, int columns) const {
    const double one = 1;
    dtrsm_("L", "L", transposed ? "T" : "N", "N", &q_, &columns, &one, factor_.data(), &q_, a, &ld);
  }

  /// Factors the streamed levels: adds to cross_ and, with derivatives, keeps B and U. Returns their log-determinant.
  double stream(const MatrixXd& t, bool derivatives);
  /// F, and with derivatives U and B, of level j. Returns its log-determinant, NaN where it has none.
  double factor_level(int j, const MatrixXd& t, bool derivatives);
  /// The response's column of cross_, at the factors that the levels have.
  void stream_response();
  /// The products of the sparse levels whose first column is one of begin .. end - 1.
  void add_sparse(int begin, int end);
  /// The same for dGamma.
  void add_sparse_derivatives(int begin, int end);
  void stream_derivatives();
  /// Calls flush(levels) for panel_columns of the dense levels at a time, whose `values` are the columns of `panel`.
  template <class Flush>
  void through_panels(const std::vector<double>& values, std::vector<MatrixXd>& panel, const Flush& flush);
  /// D_j and c_j of the streamed levels: gradient and second derivatives of their terms.
  void descend_streamed(bool kept, const VectorXd& v, double n_over_r2, CriterionValue& value);
  /// D_j of all levels.
  void trace_streamed();
  /// D_j of a sparse level.
  void sparse_trace(int j);
  void finish_level(int j, const VectorXd& v, const double* d, double n_over_r2, CriterionValue& value);
  bool invert_t();
  /// Gradient and second derivatives of the dense terms. Where not regular_, psi_ holds P = L^{-1}Lambda'Gamma_11 in
  /// its last rows.
  /// @param half_u1  q x p, U_1x L_x^{-T}
  void descend_dense(const MatrixXd& half_u1, double n_over_r2, CriterionValue& value);
  /// What needs dense matrix products: all second derivatives of the log-determinants but those within a streamed
  /// level. psi_ holds P and then Psi, derivative_ holds dGamma and then dGamma Phi.
  void add_exact_hessian(const MatrixXd& u1, const MatrixXd& phi_xx, const MatrixXd& h, CriterionValue& value);
  /// What of it is between dense terms of one column each, where regular_.
  void add_scalar_levels_hessian(CriterionValue& value) const;
  /// What of it involves the streamed terms, where regular_, without dGamma: from M = Phi U' by sparse products, with
  /// D_jl = U_j M_l.
  void add_hessian_by_rows(CriterionValue& value) const;
  /// The parts of one panel of M: of a dense level, and of the pairs of `rows` levels with those of the panel, whose D
  /// is given (`both`: and the other way round).
  void add_level_by_rows(const DenseLevel& level, const double* m, int levels, MatrixXd& sum) const;
  void add_pairs_by_rows(const double* d, int rows, int columns, bool both, MatrixXd& sum) const;

  const Model& model_;
  const kernels::Shape& shape_;
  int K_, p_, q_;  ///< columns of a streamed level, of X, and of the dense terms
  int O_, N_;      ///< p + q, 1 + p + q
  int m_, streamed_parameters_ = 0;
  bool exact_ = false, exact_now_ = false;  ///< the exact Hessian is affordable; wanted in this evaluation
  std::vector<DenseLevel> levels_;          ///< of the dense terms, by column
  bool scalar_levels_ = true;               ///< every dense term has one column
  std::vector<Direction> direction_;        ///< per streamed parameter

  // Streamed level j: K x K at j K^2; columns first_[j] .. first_[j+1] of [y, O] and K entries for each of them.
  std::vector<double> c_, b_, r_, f_, u_, d_;
  std::vector<double> log_determinant_;  ///< per level
  std::vector<int> part_;                ///< borders of the threads' shares of the columns
  std::vector<Index> first_;
  std::vector<int> column_;
  std::vector<char> dense_;  ///< goes through the panels
  bool any_dense_ = false;
  bool sparse_rows_ = false;  ///< add_hessian_by_rows takes less time than products with dGamma

  std::vector<MatrixXd> lambda_transposed_, t_inverse_;
  bool regular_ = false;                ///< T of the dense terms is well away from singular: t_inverse_ holds
  std::vector<MatrixXd> lambda_;        ///< per kernel term
  MatrixXd constant_, cross_, factor_;  ///< E and G (N x N) and L (q x q), lower triangles
  MatrixXd phi_, psi_, q11_, work_;     ///< O x O lower, O x q, q x q, O x O
  std::vector<MatrixXd> derivative_;    ///< per streamed parameter: dGamma, then dGamma Phi, O x O
  std::vector<MatrixXd> panel_;         ///< per own column of a level: N x panel_columns
  std::vector<MatrixXd> phi_panel_;     ///< O x panel_columns
  // Of each parameter, with c = Z'Py: Z'V_0^{-1}Z E_a c on the outer columns (O x m), c'E_a c, and of each pair (lower
  // triangle) (E_a c)'Z'V_0^{-1}Z(E_b c).
  MatrixXd applied_, products_;
  VectorXd forms_;
  VectorXd beta_, streamed_modes_, dense_modes_;
  // What the last evaluation with derivatives left for another response at the same factors.
  std::vector<double> kept_lambda_;  ///< empty: nothing
  double kept_log_determinant_ = 0;
  std::vector<double> pivot_;  ///< L of M = I + C'TC per streamed level, K x K
  MatrixXd pc_, h_, u1_;       ///< L^{-1}Lambda'Gamma_1c, K Gamma_1c and (I - Gamma_11 K) Gamma_1c, q x (1 + p)
  MatrixXd x_information_;
};

CriterionCost LargeCriterion::cost() const {
  const double n = N_, matrices = exact_ ? 7.0 + streamed_parameters_ : 5.0;
  return {n * n * n * (1 + 0.5 * streamed_parameters_), matrices * 8 * n * n};
}

void LargeCriterion::read_levels(double dense_share) {
  const int levels = shape_.nodes[0];
  constant_ = uninitialized(N_, N_);
  constant_.setZero();
  cross_ = uninitialized(N_, N_);
  c_.resize(static_cast<std::size_t>(levels) * K_ * K_);
  b_.resize(c_.size());
  first_.push_back(0);
  read_streamed_levels(model_, constant_.data(), [&](int j, const Model::StreamedLevel& level) {
    const auto touched = static_cast<int>(level.touched.size());
    Eigen::Map<MatrixXd>(c_.data() + static_cast<std::size_t>(j) * K_ * K_, K_, K_) = level.c;
    column_.push_back(0);
    column_.insert(column_.end(), level.touched.begin(), level.touched.end());
    r_.resize(column_.size() * K_, 0.0);
    Eigen::Map<MatrixXd>(r_.data() + (first_.back() + 1) * K_, K_, touched) = level.r;
    first_.push_back(static_cast<Index>(column_.size()));
    dense_.push_back(touched > dense_share * O_);
    any_dense_ = any_dense_ || dense_.back();
  });
  u_.resize(r_.size());
  f_.resize(r_.size());
  d_.resize(c_.size());
  pivot_.resize(c_.size());
  log_determinant_.resize(levels);
  if (any_dense_) {
    panel_.assign(K_, MatrixXd::Zero(N_, panel_columns));
    phi_panel_.resize(K_);
  }
}

void LargeCriterion::set_response(const std::vector<double>& response) {
  const double* at = response.data();
  for (int j = 0; j < shape_.nodes[0]; ++j)
    for (int a = 0; a < K_; ++a) r_[first_[j] * K_ + a] = *at++;
  for (int i = 0; i < q_; ++i) constant_(1 + p_ + i, 0) = *at++;
  for (int i = 0; i < p_; ++i) constant_(1 + i, 0) = *at++;
  constant_(0, 0) = *at;
}

/// Borders of ranges of columns with about as many products of the sparse levels each.
void LargeCriterion::divide_columns(int parts) {
  if (static_cast<int>(part_.size()) == parts + 1) return;
  std::vector<double> products(N_, 0.0);
  double total = 0;
  for (int j = 0; j < shape_.nodes[0]; ++j) {
    if (dense_[j]) continue;
    for (Index i = first_[j]; i < first_[j + 1]; ++i) {
      const auto n = static_cast<double>(first_[j + 1] - i);
      products[column_[i]] += n;
      total += n;
    }
  }
  part_.assign(parts + 1, N_);
  part_[0] = 0;
  double sum = 0;
  int part = 1;
  for (int c = 0; c < N_ && part < parts; ++c) {
    sum += products[c];
    while (part < parts && sum >= total * part / parts) part_[part++] = c + 1;
  }
}

void LargeCriterion::congruence(const double* from, Index ld_from, double* to, Index ld,
                                const std::vector<MatrixXd>& blocks) const {
  if (scalar_levels_) {
    VectorXd scale(q_);
    for (const DenseLevel& level : levels_) scale[level.column] = blocks[level.term](0, 0);
    for_columns(q_, [&](Index c) {
      const double *x = from + c * ld_from, own = scale[c];
      double* y = to + c * ld;
      for (Index i = c; i < q_; ++i) y[i] = own * x[i] * scale[i];
    });
    return;
  }
  for (Index c = 0; c < q_ && to != from; ++c)
    std::copy(from + c * ld_from + c, from + c * ld_from + q_, to + c * ld + c);
  for (const DenseLevel& level : levels_)  // the diagonal blocks in full
    for (int c = 1; c < level.k; ++c)
      for (int i = 0; i < c; ++i)
        to[(level.column + c) * ld + level.column + i] = to[(level.column + i) * ld + level.column + c];
  MatrixXd tmp;
  for (const DenseLevel& level : levels_) {
    const Index o = level.column;
    Block columns(to + o * ld + o, q_ - o, level.k, Eigen::OuterStride<>(ld));
    tmp = columns;
    columns.noalias() = tmp.lazyProduct(blocks[level.term]);
  }
  for (std::size_t first = 0; first < levels_.size(); ++first)
    for (int c = levels_[first].column; c < levels_[first].column + levels_[first].k; ++c)
      for (std::size_t b = first; b < levels_.size(); ++b)
        multiply_level(levels_[b], to + c * ld + levels_[b].column, blocks);
}

void LargeCriterion::multiply(double* a, Index ld, Index columns, const std::vector<MatrixXd>& blocks) const {
  for (Index c = 0; c < columns; ++c)
    for (const DenseLevel& level : levels_) multiply_level(level, a + c * ld + level.column, blocks);
}

void LargeCriterion::add_sparse(int begin, int end) {
  const int K = K_;
  for (int j = 0; j < shape_.nodes[0]; ++j) {
    if (dense_[j]) continue;
    const int* column = column_.data() + first_[j];
    const int count = static_cast<int>(first_[j + 1] - first_[j]);
    const int low = static_cast<int>(std::lower_bound(column, column + count, begin) - column),
              high = static_cast<int>(std::lower_bound(column + low, column + count, end) - column);
    const double* f = f_.data() + first_[j] * K;
    for (int i = low; i < high; ++i) {
      double* g = cross_.data() + static_cast<Index>(column[i]) * N_;
      for (int a = 0; a < K; ++a) {
        const double fi = f[i * K + a];
        if (fi == 0) continue;
        for (int e = i; e < count; ++e) g[column[e]] += fi * f[e * K + a];
      }
    }
  }
}

void LargeCriterion::add_sparse_derivatives(int begin, int end) {
  const int K = K_;
  for (int j = 0; j < shape_.nodes[0]; ++j) {
    if (dense_[j]) continue;
    const int* column = column_.data() + first_[j];
    const int count = static_cast<int>(first_[j + 1] - first_[j]);
    const int low = static_cast<int>(std::lower_bound(column, column + count, begin) - column),
              high = static_cast<int>(std::lower_bound(column + low, column + count, end) - column);
    const double* u = u_.data() + first_[j] * K;
    for (int x = 0; x < streamed_parameters_; ++x) {
      const auto [a, b] = direction_[x];
      for (int i = std::max(low, 1); i < high; ++i) {
        double* d = derivative_[x].data() + static_cast<Index>(column[i] - 1) * O_ - 1;
        const double ua = u[i * K + a], ub = u[i * K + b];
        if (a == b)
          for (int e = i; e < count; ++e) d[column[e]] -= ua * u[e * K + a];
        else
          for (int e = i; e < count; ++e) d[column[e]] -= ua * u[e * K + b] + ub * u[e * K + a];
      }
    }
  }
}

template <class Flush>
void LargeCriterion::through_panels(const std::vector<double>& values, std::vector<MatrixXd>& panel,
                                    const Flush& flush) {
  const int K = K_;
  std::vector<int> waiting;
  const auto flush_and_clear = [&] {
    if (waiting.empty()) return;
    flush(waiting);
    for (MatrixXd& m : panel) m.leftCols(static_cast<Index>(waiting.size())).setZero();
    waiting.clear();
  };
  for (int j = 0; any_dense_ && j < shape_.nodes[0]; ++j) {
    if (!dense_[j]) continue;
    const int* column = column_.data() + first_[j];
    const int count = static_cast<int>(first_[j + 1] - first_[j]);
    const double* x = values.data() + first_[j] * K;
    for (int a = 0; a < K; ++a)
      for (int i = 0; i < count; ++i) panel[a](column[i], static_cast<Index>(waiting.size())) = x[i * K + a];
    waiting.push_back(j);
    if (waiting.size() == panel_columns) flush_and_clear();
  }
  flush_and_clear();
}

double LargeCriterion::factor_level(int j, const MatrixXd& t, bool derivatives) {
  const int K = K_, count = static_cast<int>(first_[j + 1] - first_[j]);
  const double* r = r_.data() + first_[j] * K;
  double *f = f_.data() + first_[j] * K, *u = u_.data() + first_[j] * K;
  if (K == 1) {
    const double c = c_[j], pivot = 1 + c * c * t(0, 0), inverse = 1 / std::sqrt(pivot);
    pivot_[j] = inverse;
    for (int i = 0; i < count; ++i) f[i] = inverse * r[i];
    if (derivatives) {
      const double to_u = c * inverse;
      b_[j] = to_u * to_u;
      for (int i = 0; i < count; ++i) u[i] = to_u * f[i];
    }
    return std::log(pivot);
  }
  // M = I + C'TC = LL'; F = L^{-1}[y | R]; Y = L^{-1}C'; B = Y'Y; U = Y'F.
  const Eigen::Map<const MatrixXd> c(c_.data() + static_cast<std::size_t>(j) * K * K, K, K);
  MatrixXd m = c.transpose().lazyProduct((t * c).eval());
  m.diagonal().array() += 1;
  const Eigen::LLT<MatrixXd> llt(m);
  if (llt.info() != Eigen::Success) return std::nan("");
  Eigen::Map<MatrixXd>(pivot_.data() + static_cast<std::size_t>(j) * K * K, K, K) = llt.matrixLLT();
  double log_determinant = 0;
  for (int a = 0; a < K; ++a) log_determinant += 2 * std::log(llt.matrixLLT()(a, a));
  Eigen::Map<MatrixXd> fj(f, K, count);
  fj = Eigen::Map<const MatrixXd>(r, K, count);
  llt.matrixL().solveInPlace(fj);
  if (derivatives) {
    MatrixXd yl = c.transpose();
    llt.matrixL().solveInPlace(yl);
    Eigen::Map<MatrixXd>(b_.data() + static_cast<std::size_t>(j) * K * K, K, K).noalias() =
        yl.transpose().lazyProduct(yl);
    Eigen::Map<MatrixXd>(u, K, count).noalias() = yl.transpose().lazyProduct(fj);
  }
  return log_determinant;
}

double LargeCriterion::stream(const MatrixXd& t, bool derivatives) {
  const int levels = shape_.nodes[0], threads = blas_threads();
  in_parallel(threads, [&](int part) {
    const int end = static_cast<int>(static_cast<Index>(levels) * (part + 1) / threads);
    for (int j = static_cast<int>(static_cast<Index>(levels) * part / threads); j < end; ++j)
      log_determinant_[j] = factor_level(j, t, derivatives);
  });
  // Summed in the order of the levels, and every cross-product by one thread in that order: the bits do not depend on
  // the threads.
  double log_determinant = 0;
  for (int j = 0; j < levels; ++j) log_determinant += log_determinant_[j];
  if (std::isnan(log_determinant)) return log_determinant;
  divide_columns(threads);
  in_parallel(threads, [&](int part) { add_sparse(part_[part], part_[part + 1]); });
  const double one = 1;
  through_panels(f_, panel_, [&](const std::vector<int>& waiting) {
    const auto used = static_cast<int>(waiting.size());
    for (int a = 0; a < K_; ++a) dsyrk_("L", "N", &N_, &used, &one, panel_[a].data(), &N_, &one, cross_.data(), &N_);
  });
  return log_determinant;
}

void LargeCriterion::stream_derivatives() {
  if (derivative_.empty()) derivative_.assign(streamed_parameters_, MatrixXd(O_, O_));
  for (MatrixXd& d : derivative_) d.setZero();
  in_parallel(static_cast<int>(part_.size()) - 1,
              [&](int part) { add_sparse_derivatives(part_[part], part_[part + 1]); });
  if (O_ == 0) return;
  const double one = 1, minus = -1;
  through_panels(u_, panel_, [&](const std::vector<int>& waiting) {
    const auto used = static_cast<int>(waiting.size());
    for (int x = 0; x < streamed_parameters_; ++x) {
      const auto [a, b] = direction_[x];
      if (a == b)
        dsyrk_("L", "N", &O_, &used, &minus, panel_[a].data() + 1, &N_, &one, derivative_[x].data(), &O_);
      else
        dsyr2k_("L", "N", &O_, &used, &minus, panel_[a].data() + 1, &N_, panel_[b].data() + 1, &N_, &one,
                derivative_[x].data(), &O_);
    }
  });
}

void LargeCriterion::stream_response() {
  const int K = K_;
  cross_.col(0) = constant_.col(0);
  double* g = cross_.data();
  for (int j = 0; j < shape_.nodes[0]; ++j) {
    const int count = static_cast<int>(first_[j + 1] - first_[j]);
    const int* column = column_.data() + first_[j];
    const double* r = r_.data() + first_[j] * K;
    double *f = f_.data() + first_[j] * K, *u = u_.data() + first_[j] * K;
    if (K == 1) {
      f[0] = pivot_[j] * r[0];
      u[0] = c_[j] * pivot_[j] * f[0];
    } else {
      const std::size_t at = static_cast<std::size_t>(j) * K * K;
      const auto l = Eigen::Map<const MatrixXd>(pivot_.data() + at, K, K).triangularView<Eigen::Lower>();
      Eigen::Map<VectorXd> fy(f, K);
      fy = Eigen::Map<const VectorXd>(r, K);
      l.solveInPlace(fy);
      VectorXd back = fy;
      l.transpose().solveInPlace(back);
      Eigen::Map<VectorXd>(u, K).noalias() = Eigen::Map<const MatrixXd>(c_.data() + at, K, K) * back;
    }
    for (int e = 0; e < count; ++e)
      for (int a = 0; a < K; ++a) g[column[e]] += f[a] * f[e * K + a];
  }
}

CriterionValue LargeCriterion::evaluate(const std::vector<double>& lambda, bool derivatives, bool exact) {
  exact_now_ = exact;

  const kernels::Shape& s = shape_;
  CriterionValue value;
  value.deviance = 1e300;
  if (derivatives) {
    value.gradient = VectorXd::Zero(m_);
    value.hessian = MatrixXd::Zero(m_, m_);
    value.information = MatrixXd::Zero(m_, m_);
  }
  lambda_.resize(s.terms);
  lambda_transposed_.resize(s.terms);
  MatrixXd t = MatrixXd::Zero(K_, K_);
  for (int b = 0; b < s.terms; ++b) {
    const kernels::TermShape& term = s.term[b];
    lambda_[b] = Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
        lambda.data() + term.lambda, term.k, term.k);
    lambda_transposed_[b] = lambda_[b].transpose();
    if (term.stage == 0) t.block(term.column, term.column, term.k, term.k) = lambda_[b] * lambda_[b].transpose();
  }

  // The streamed stage, then S = I + Lambda'Gamma_11 Lambda = LL'.
  const bool kept = derivatives && !exact && kept_lambda_ == lambda;
  if (!kept) kept_lambda_.clear();
  const ConstBlock gamma_11(cross_.data() + static_cast<Index>(1 + p_) * (N_ + 1), q_, q_, Eigen::OuterStride<>(N_));
  double log_determinant = kept_log_determinant_;
  if (kept) {
    stream_response();
    if (q_ > 0) {
      pc_.col(0) = cross_.col(0).tail(q_);
      multiply(pc_.data(), q_, 1, lambda_);
      solve(false, pc_.data(), q_, 1);
    }
  } else {
    for_columns(N_, [&](Index i) { cross_.col(i).tail(N_ - i) = constant_.col(i).tail(N_ - i); });
    log_determinant = stream(t, derivatives);
    pc_ = cross_.block(1 + p_, 0, q_, 1 + p_);
    if (q_ > 0) {
      if (factor_.size() == 0) factor_ = uninitialized(q_, q_);
      congruence(gamma_11.data(), N_, factor_.data(), q_, lambda_);
      factor_.diagonal().array() += 1;
      int info = 0;
      dpotrf_("L", &q_, factor_.data(), &q_, &info);
      if (info != 0) return value;
      for (int i = 0; i < q_; ++i) log_determinant += 2 * std::log(factor_(i, i));
      multiply(pc_.data(), q_, 1 + p_, lambda_);
      solve(false, pc_.data(), q_, 1 + p_);
    }
    kept_log_determinant_ = log_determinant;
  }

  // X.
  MatrixXd g = cross_.topLeftCorner(1 + p_, 1 + p_);
  g.triangularView<Eigen::StrictlyUpper>() = g.transpose();
  g.noalias() -= pc_.transpose() * pc_;
  x_information_ = g.bottomRightCorner(p_, p_);
  const Eigen::LLT<MatrixXd> x(x_information_);
  value.r2 = g(0, 0);
  beta_ = g.col(0).tail(p_);
  double log_x = 0;
  if (p_ > 0) {
    if (x.info() != Eigen::Success) return value;
    for (int i = 0; i < p_; ++i) log_x += 2 * std::log(x.matrixLLT()(i, i));
    x.matrixL().solveInPlace(beta_);
    value.r2 -= beta_.squaredNorm();
    x.matrixU().solveInPlace(beta_);
  }
  if (!(value.r2 > 0)) return value;
  const double deviance = log_determinant + s.degrees * std::log(value.r2) + s.constant + (s.reml ? log_x : 0.0);
  if (!std::isfinite(deviance)) return value;
  value.deviance = deviance;
  value.ok = true;
  if (!derivatives) return value;

  // The adjoints: v for r^2 = v'Gamma v, Phi for the log-determinants.
  const double n_over_r2 = s.degrees / value.r2;
  VectorXd v(N_);
  v[0] = 1;
  v.segment(1, p_) = -beta_;
  MatrixXd phi_xx = MatrixXd::Zero(p_, p_);
  if (s.reml && p_ > 0) phi_xx = x.solve(MatrixXd::Identity(p_, p_));
  const int c = kept ? 1 : 1 + p_;  // columns that are new
  h_.resize(q_, 1 + p_);
  u1_.resize(q_, 1 + p_);
  h_.leftCols(c) = pc_.leftCols(c);
  u1_.leftCols(c) = cross_.block(1 + p_, 0, q_, c);
  if (!kept) {
    if (phi_.size() == 0) phi_ = uninitialized(O_, O_);
    phi_.topLeftCorner(p_, p_) = phi_xx;
  }
  if (q_ > 0) {
    solve(true, h_.data(), q_, c);
    multiply(h_.data(), q_, c, lambda_transposed_);
    v.tail(q_).noalias() = -h_ * v.head(1 + p_);

    // u1 = Gamma_1c - Gamma_11 H
    const double one = 1, minus = -1;
    dsymm_("L", "L", &q_, &c, &minus, gamma_11.data(), &N_, h_.data(), &q_, &one, u1_.data(), &q_);
    dense_modes_ = u1_ * v.head(1 + p_);
  }
  if (q_ > 0 && !kept) {
    const double one = 1;
    regular_ = invert_t();
    if (!regular_) {
      // P = L^{-1}Lambda'Gamma_11 in the last rows of psi_.
      psi_.resize(O_, q_);
      mirror(gamma_11.data(), N_, psi_.data() + p_, O_, q_);
      multiply(psi_.data() + p_, O_, q_, lambda_);
      solve(false, psi_.data() + p_, O_, q_);
    }

    // K = Lambda S^{-1} Lambda' in the last block of phi_.
    Block k(phi_.data() + static_cast<Index>(p_) * (O_ + 1), q_, q_, Eigen::OuterStride<>(O_));
    for_columns(q_, [&](Index i) { k.col(i).tail(q_ - i) = factor_.col(i).tail(q_ - i); });
    invert_from_cholesky(q_, k.data(), O_);
    congruence(k.data(), O_, k.data(), O_, lambda_transposed_);
    phi_.bottomLeftCorner(q_, p_).noalias() = -h_.rightCols(p_) * phi_xx;
    if (s.reml && p_ > 0) {
      // K + H Phi_xx H' on the lower triangle
      MatrixXd half = h_.rightCols(p_);
      x.matrixU().solveInPlace<Eigen::OnTheRight>(half);
      dsyrk_("L", "N", &q_, &p_, &one, half.data(), &q_, &one, k.data(), &O_);
    }
  }

  applied_ = MatrixXd::Zero(O_, m_);
  products_ = MatrixXd::Zero(m_, m_);
  forms_ = VectorXd::Zero(m_);
  descend_streamed(kept, v, n_over_r2, value);
  MatrixXd half_u1 = u1_.rightCols(p_);
  if (s.reml && p_ > 0 && q_ > 0) x.matrixU().solveInPlace<Eigen::OnTheRight>(half_u1);
  descend_dense(half_u1, n_over_r2, value);
  if (exact_now_) add_exact_hessian(u1_.rightCols(p_), phi_xx, h_.rightCols(p_), value);

  // q_ab = (E_a c)'Z'PZ(E_b c): the dense terms and X are projected out.
  MatrixXd projected = applied_.bottomRows(q_), of_x = applied_.topRows(p_);
  if (q_ > 0) {
    multiply(projected.data(), q_, m_, lambda_);
    solve(false, projected.data(), q_, m_);
    of_x.noalias() -= pc_.rightCols(p_).transpose() * projected;
  }
  if (p_ > 0) x.matrixL().solveInPlace(of_x);
  products_ = products_.selfadjointView<Eigen::Lower>();
  products_.noalias() -= projected.transpose() * projected;
  products_.noalias() -= of_x.transpose() * of_x;
  const MatrixXd squares = (n_over_r2 / value.r2) * forms_ * forms_.transpose();
  value.information = n_over_r2 * products_ - squares;
  if (exact_now_)
    value.hessian = MatrixXd(value.hessian.selfadjointView<Eigen::Lower>()) + 2 * n_over_r2 * products_ - squares;
  else
    value.hessian = value.information;
  value.exact = exact_now_;
  value.forms = forms_;
  if (regular_ || !exact_now_) kept_lambda_ = lambda;
  return value;
}

void LargeCriterion::finish_level(int j, const VectorXd& v, const double* d_of_level, double n_over_r2,
                                  CriterionValue& value) {
  const Eigen::Map<const MatrixXd> d(d_of_level, K_, K_);
  const int count = static_cast<int>(first_[j + 1] - first_[j]);
  const int* column = column_.data() + first_[j];
  const double* u = u_.data() + first_[j] * K_;
  const Eigen::Map<const MatrixXd> b(b_.data() + static_cast<std::size_t>(j) * K_ * K_, K_, K_);
  double* c = streamed_modes_.data() + static_cast<Index>(j) * K_;
  for (int a = 0; a < K_; ++a) c[a] = 0;
  for (int i = 0; i < count; ++i)
    for (int a = 0; a < K_; ++a) c[a] += u[i * K_ + a] * v[column[i]];
  for (int x = 0; x < streamed_parameters_; ++x) {
    const Direction e = direction_[x];
    const double twice = e.i == e.j ? 1 : 2;
    value.gradient[x] += twice * (b(e.i, e.j) - d(e.i, e.j) - n_over_r2 * c[e.i] * c[e.j]);
    forms_[x] += twice * c[e.i] * c[e.j];
    double* applied = applied_.data() + static_cast<Index>(x) * O_;
    for (int i = 1; i < count; ++i) {
      double t = u[i * K_ + e.i] * c[e.j];
      if (e.i != e.j) t += u[i * K_ + e.j] * c[e.i];
      applied[column[i] - 1] += t;
    }
    for (int z = 0; z <= x; ++z) {
      const Direction f = direction_[z];
      double t = c[e.i] * b(e.j, f.i) * c[f.j];
      if (e.i != e.j) t += c[e.j] * b(e.i, f.i) * c[f.j];
      if (f.i != f.j) t += c[e.i] * b(e.j, f.j) * c[f.i];
      if (e.i != e.j && f.i != f.j) t += c[e.j] * b(e.i, f.j) * c[f.i];
      products_(x, z) += t;
      if (exact_now_)
        value.hessian(x, z) += trace_of_four(d, b, e.i, e.j, f.i, f.j) + trace_of_four(b, d, e.i, e.j, f.i, f.j) -
                               trace_of_four(b, b, e.i, e.j, f.i, f.j);
    }
  }
}

void LargeCriterion::descend_streamed(bool kept, const VectorXd& v, double n_over_r2, CriterionValue& value) {
  const int K = K_, levels = shape_.nodes[0];
  streamed_modes_.resize(static_cast<Index>(levels) * K);
  if (!kept) trace_streamed();
  for (int j = 0; j < levels; ++j)
    finish_level(j, v, d_.data() + static_cast<std::size_t>(j) * K * K, n_over_r2, value);
}

void LargeCriterion::trace_streamed() {
  const int K = K_, levels = shape_.nodes[0], threads = blas_threads();
  in_parallel(threads, [&](int part) {
    const int end = static_cast<int>(static_cast<Index>(levels) * (part + 1) / threads);
    for (int j = static_cast<int>(static_cast<Index>(levels) * part / threads); j < end; ++j)
      if (!dense_[j]) sparse_trace(j);
  });
  const double one = 1, zero = 0;
  through_panels(u_, panel_, [&](const std::vector<int>& waiting) {
    const auto used = static_cast<int>(waiting.size());
    for (int a = 0; a < K; ++a) {
      phi_panel_[a].resize(O_, panel_columns);
      if (O_ > 0)
        dsymm_("L", "L", &O_, &used, &one, phi_.data(), &O_, panel_[a].data() + 1, &N_, &zero, phi_panel_[a].data(),
               &O_);
    }
    for (int w = 0; w < used; ++w) {
      double* d = d_.data() + static_cast<std::size_t>(waiting[w]) * K * K;
      for (int a = 0; a < K; ++a)
        for (int b = 0; b < K; ++b) d[b * K + a] = panel_[a].col(w).tail(O_).dot(phi_panel_[b].col(w));
    }
  });
}

void LargeCriterion::sparse_trace(int j) {
  const int K = K_, count = static_cast<int>(first_[j + 1] - first_[j]);
  const int* column = column_.data() + first_[j];
  const double* u = u_.data() + first_[j] * K;
  double* d = d_.data() + static_cast<std::size_t>(j) * K * K;
  std::array<double, kernels::max_parameters> half;  // more than any K
  std::fill_n(d, K * K, 0.0);
  // D = U Phi U' from Phi's lower triangle: its half, and then the other half.
  for (int i = 1; i < count; ++i) {
    const double* phi = phi_.data() + static_cast<Index>(column[i] - 1) * O_ - 1;
    for (int a = 0; a < K; ++a) {
      double t = 0.5 * phi[column[i]] * u[i * K + a];
      for (int e = i + 1; e < count; ++e) t += phi[column[e]] * u[e * K + a];
      half[a] = t;
    }
    for (int b = 0; b < K; ++b)
      for (int a = 0; a < K; ++a) d[b * K + a] += half[a] * u[i * K + b];
  }
  for (int b = 0; b < K; ++b)
    for (int a = 0; a <= b; ++a) d[b * K + a] = d[a * K + b] = d[b * K + a] + d[a * K + b];
}

bool LargeCriterion::invert_t() {
  return invert_dense_t(
      shape_, lambda_,
      [&](int b) {
        const kernels::TermShape& term = shape_.term[b];
        return cross_.diagonal().segment(1 + p_ + term.column, static_cast<Index>(term.k) * term.levels).mean();
      },
      t_inverse_);
}

void LargeCriterion::descend_dense(const MatrixXd& half_u1, double n_over_r2, CriterionValue& value) {
  if (q_ == 0) return;
  const kernels::Shape& s = shape_;
  const double one = 1, minus = -1, zero = 0;
  const double* gamma_11 = cross_.data() + static_cast<Index>(1 + p_) * (N_ + 1);
  const VectorXd& c = dense_modes_;
  const bool keeps_q11 = exact_now_ && !(regular_ && scalar_levels_);
  if (keeps_q11 && regular_) {
    q11_.resize(q_, q_);
    congruence(&phi_(p_, p_), O_, q11_.data(), q_, t_inverse_);
    q11_ *= -1;
    for (const DenseLevel& level : levels_)
      q11_.block(level.column, level.column, level.k, level.k) += t_inverse_[level.term];
  } else if (keeps_q11) {
    q11_ = ConstBlock(gamma_11, q_, q_, Eigen::OuterStride<>(N_));
    dsyrk_("L", "T", &q_, &q_, &minus, psi_.data() + p_, &O_, &one, q11_.data(), &q_);
    if (s.reml && p_ > 0) dsyrk_("L", "N", &q_, &p_, &minus, half_u1.data(), &q_, &one, q11_.data(), &q_);
  }
  // Q_11 of one level, lower triangle
  const auto own_block = [&](const DenseLevel& level) -> MatrixXd {
    const Index o = level.column, k = level.k;
    if (keeps_q11) return q11_.block(o, o, k, k);
    if (regular_) {
      const MatrixXd phi = phi_.block(p_ + o, p_ + o, k, k).selfadjointView<Eigen::Lower>();
      return t_inverse_[level.term] - t_inverse_[level.term] * phi * t_inverse_[level.term];
    }
    const auto p = psi_.block(p_, o, q_, k);
    MatrixXd block = ConstBlock(gamma_11 + o * (N_ + 1), k, k, Eigen::OuterStride<>(N_)) - p.transpose() * p;
    if (s.reml) block -= half_u1.middleRows(o, k) * half_u1.middleRows(o, k).transpose();
    return block;
  };
  const int dense = m_ - streamed_parameters_;
  MatrixXd direction = MatrixXd::Zero(q_, dense);  // E_a c
  for (const DenseLevel& level : levels_) {
    const MatrixXd q11 = own_block(level);
    for (int i = 0; i < level.k; ++i)
      for (int j = 0; j <= i; ++j) {
        const int a = s.term[level.term].parameter + kernels::triangle(i, j), oi = level.column + i,
                  oj = level.column + j;
        const double twice = i == j ? 1 : 2;
        value.gradient[a] += twice * (q11(i, j) - n_over_r2 * c[oi] * c[oj]);
        forms_[a] += twice * c[oi] * c[oj];
        direction(oi, a - streamed_parameters_) += c[oj];
        if (i != j) direction(oj, a - streamed_parameters_) += c[oi];
      }
  }
  products_.bottomLeftCorner(dense, streamed_parameters_) +=
      direction.transpose() * applied_.block(p_, 0, q_, streamed_parameters_);
  MatrixXd applied(q_, dense);
  dsymm_("L", "L", &q_, &dense, &one, gamma_11, &N_, direction.data(), &q_, &zero, applied.data(), &q_);
  products_.bottomRightCorner(dense, dense) += direction.transpose() * applied;
  applied_.bottomRightCorner(q_, dense) = applied;
  applied_.topRightCorner(p_, dense) = cross_.block(1 + p_, 1, q_, p_).transpose() * direction;
}

void LargeCriterion::add_exact_hessian(const MatrixXd& u1, const MatrixXd& phi_xx, const MatrixXd& h,
                                       CriterionValue& value) {
  if (O_ == 0) return;
  const kernels::Shape& s = shape_;
  const double one = 1, zero = 0;
  if (q_ > 0 && !regular_) {
    // Psi = [-Phi_xx U_1'; I - Lambda L^{-T}P + H Phi_xx U_1']
    double* dense_psi = psi_.data() + p_;
    solve(true, dense_psi, O_, q_);
    multiply(dense_psi, O_, q_, lambda_transposed_);
    psi_.bottomRows(q_) *= -1;
    psi_.bottomRows(q_).diagonal().array() += 1;
    if (p_ > 0) {
      psi_.topRows(p_).noalias() = -phi_xx * u1.transpose();
      if (s.reml) psi_.bottomRows(q_).noalias() -= h * psi_.topRows(p_);
    }
  }
  if (q_ > 0 && regular_ && scalar_levels_) {
    add_scalar_levels_hessian(value);
  } else if (q_ > 0) {
    mirror(q11_.data(), q_, q11_.data(), q_, q_);
    for (int b = 0; b < s.terms; ++b)
      for (int b2 = 0; b2 <= b; ++b2) {
        const kernels::TermShape &term = s.term[b], &other = s.term[b2];
        if (term.stage == 0 || other.stage == 0) continue;
        if (term.k == 1 && other.k == 1) {
          value.hessian(term.parameter, other.parameter) -=
              q11_.block(term.column, other.column, term.levels, other.levels).squaredNorm();
          continue;
        }
        for (int l2 = 0; l2 < other.levels; ++l2)
          for (int l = 0; l < term.levels; ++l) {
            const auto block = q11_.block(term.column + l * term.k, other.column + l2 * other.k, term.k, other.k);
            for (int i = 0; i < term.k; ++i)
              for (int j = 0; j <= i; ++j)
                for (int k = 0; k < other.k; ++k)
                  for (int e = 0; e <= k; ++e) {
                    const int a = term.parameter + kernels::triangle(i, j),
                              a2 = other.parameter + kernels::triangle(k, e);
                    if (a2 <= a) value.hessian(a, a2) -= trace_of_four(block, block, i, j, k, e);
                  }
          }
      }
  }
  if (streamed_parameters_ == 0) return;
  if (sparse_rows_ && regular_) {
    add_hessian_by_rows(value);
    return;
  }
  mirror(phi_.data(), O_, phi_.data(), O_, O_);
  stream_derivatives();
  work_.resize(O_, O_);
  for (int x = 0; x < streamed_parameters_; ++x) {
    MatrixXd& dg = derivative_[x];
    // To the diagonal blocks of Psi'dGamma Psi, from dGamma Psi or from dGamma Phi.
    const auto add_dense = [&](const auto& left, const std::vector<MatrixXd>* scale) {
      for (const DenseLevel& level : levels_) {
        MatrixXd block = left.middleCols(level.column, level.k).transpose() *
                         work_.middleCols((scale != nullptr ? p_ : 0) + level.column, level.k);
        if (scale != nullptr) block = (*scale)[level.term] * block * (*scale)[level.term];
        for (int i = 0; i < level.k; ++i)
          for (int j = 0; j <= i; ++j)
            value.hessian(s.term[level.term].parameter + kernels::triangle(i, j), x) +=
                i == j ? block(i, j) : 2 * block(i, j);
      }
    };
    if (q_ > 0 && !regular_) {
      dsymm_("L", "L", &O_, &q_, &one, dg.data(), &O_, psi_.data(), &O_, &zero, work_.data(), &O_);
      add_dense(psi_, nullptr);
    }
    dsymm_("L", "L", &O_, &O_, &one, dg.data(), &O_, phi_.data(), &O_, &zero, work_.data(), &O_);
    if (q_ > 0 && regular_) add_dense(phi_.rightCols(q_), &t_inverse_);
    dg.swap(work_);
    for (int z = 0; z <= x; ++z) value.hessian(x, z) -= trace_of_product(dg, derivative_[z]);
  }
}

void LargeCriterion::add_scalar_levels_hessian(CriterionValue& value) const {
  // Q_11 = T^{-1} - T^{-1} Phi T^{-1} on the dense rows.
  for (int b = 0; b < shape_.terms; ++b)
    for (int b2 = 0; b2 <= b; ++b2) {
      const kernels::TermShape &term = shape_.term[b], &other = shape_.term[b2];
      if (term.stage == 0 || other.stage == 0) continue;
      const double scale = t_inverse_[b](0, 0) * t_inverse_[b2](0, 0);
      double sum = 0, of_levels = 0;
      for (int l = 0; l < other.levels; ++l) {
        const double* phi = phi_.data() + static_cast<Index>(p_ + other.column + l) * O_ + p_ + term.column;
        const int below = b == b2 ? l + 1 : 0;
        sum += Eigen::Map<const VectorXd>(phi + below, term.levels - below).squaredNorm();
        if (b == b2) of_levels += std::pow(t_inverse_[b](0, 0) - scale * phi[l], 2);
      }
      value.hessian(term.parameter, other.parameter) -= of_levels + (b == b2 ? 2 : 1) * scale * scale * sum;
    }
}

void LargeCriterion::add_hessian_by_rows(CriterionValue& value) const {
  const int levels = shape_.nodes[0], K = K_;
  constexpr int width = kernels::SparseRowKernels::width, panels_a_chunk = 16, levels_a_piece = 64;
  const int a_panel = width / K, a_chunk = panels_a_chunk * a_panel, chunks = (levels + a_chunk - 1) / a_chunk;
  const kernels::SparseRowKernels& kernel = *kernels::cpu_kernels().sparse_rows;
  const kernels::SparseRows rows{first_.data(), column_.data(), u_.data(), K};
  // Phi in strips of `width` rows, one after the other: what a level takes of a strip stands together.
  const int strips = (O_ + width - 1) / width;
  const auto first_row = [&](int strip) { return std::min(strip * width, O_ - width); };  // the last one overlaps
  MatrixXd phi = uninitialized(static_cast<Index>(width) * O_, strips);
  in_parallel(blas_threads(), [&](int part) {
    for (int strip = part; strip < strips; strip += blas_threads()) {
      const int r0 = first_row(strip);
      double* to = phi.col(strip).data();
      for (int c = 0; c < r0 + width; ++c)
        std::copy_n(phi_.data() + static_cast<Index>(c) * O_ + std::max(r0, c), r0 + width - std::max(r0, c),
                    to + c * width + std::max(0, c - r0));
      for (int r = 0; r < width; ++r) {
        const double* column = phi_.data() + static_cast<Index>(r0 + r) * O_;
        for (int c = r0 + r + 1; c < O_; ++c) to[c * width + r] = column[c];
      }
    }
  });
  std::vector<MatrixXd> sums(chunks);
  const int threads = std::min(blas_threads(), chunks);
  in_parallel(threads, [&](int part) {
    // M = Phi U' of a panel of levels stands row by row, `width` entries each: those of level j of the panel from j K.
    std::vector<double> m(static_cast<std::size_t>(panels_a_chunk) * O_ * width);
    std::vector<double> out(static_cast<std::size_t>(std::max(levels_a_piece * K, width)) * width);
    for (int chunk = part; chunk < chunks; chunk += threads) {
      const int begin = chunk * a_chunk, end = std::min(levels, begin + a_chunk),
                panels = (end - begin + a_panel - 1) / a_panel;
      std::fill(m.begin(), m.end(), 0.0);
      for (int strip = 0; strip < strips; ++strip) {
        for (int panel = 0; panel < panels; ++panel) {
          const int first = begin + panel * a_panel, last = std::min(end, first + a_panel);
          kernel.multiply(rows, first, last, phi.col(strip).data(), width, out.data());
          double* to = m.data() + (static_cast<std::size_t>(panel) * O_ + first_row(strip)) * width;
          for (int r = 0; r < width; ++r)
            for (int i = 0; i < (last - first) * K; ++i) to[r * width + i] = out[i * width + r];
        }
      }
      MatrixXd& sum = sums[chunk];
      sum = MatrixXd::Zero(m_, streamed_parameters_);
      for (int panel = 0; panel < panels; ++panel) {
        const double* of_panel = m.data() + static_cast<std::size_t>(panel) * O_ * width;
        for (const DenseLevel& level : levels_) add_level_by_rows(level, of_panel, a_panel, sum);
        const auto add_pairs_with = [&](int first, int last, bool both) {
          for (int piece = first; piece < last; piece += levels_a_piece) {
            const int stop = std::min(last, piece + levels_a_piece);
            kernel.multiply(rows, piece, stop, of_panel, width, out.data());
            add_pairs_by_rows(out.data(), stop - piece, a_panel, both, sum);
          }
        };
        add_pairs_with(0, begin, true);  // pairs with levels before this chunk stand for both orders
        add_pairs_with(begin, end, false);
      }
    }
  });
  for (const MatrixXd& sum : sums) value.hessian.leftCols(streamed_parameters_) += sum;
}

void LargeCriterion::add_level_by_rows(const DenseLevel& level, const double* m, int levels, MatrixXd& sum) const {
  // Psi'dGamma_x Psi on the level's columns, Psi = Phi T^{-1}.
  constexpr int width = kernels::SparseRowKernels::width;
  const double* of_level = m + static_cast<Index>(p_ + level.column) * width;
  const MatrixXd& scale = t_inverse_[level.term];
  const int parameter = shape_.term[level.term].parameter;
  if (K_ == 1 && level.k == 1) {
    sum(parameter, 0) -= scale(0, 0) * scale(0, 0) * Eigen::Map<const VectorXd>(of_level, width).squaredNorm();
    return;
  }
  MatrixXd block(level.k, level.k);
  for (int x = 0; x < streamed_parameters_; ++x) {
    const auto [a, b] = direction_[x];
    for (int i = 0; i < level.k; ++i)
      for (int j = 0; j < level.k; ++j) {
        const double *mi = of_level + i * width, *mj = of_level + j * width;
        double t = 0;
        for (int l = 0; l < levels; ++l) {
          t -= mi[l * K_ + a] * mj[l * K_ + b];
          if (a != b) t -= mi[l * K_ + b] * mj[l * K_ + a];
        }
        block(i, j) = t;
      }
    block = (scale * block * scale).eval();
    for (int i = 0; i < level.k; ++i)
      for (int j = 0; j <= i; ++j)
        sum(parameter + kernels::triangle(i, j), x) += i == j ? block(i, j) : 2 * block(i, j);
  }
}

void LargeCriterion::add_pairs_by_rows(const double* d, int rows, int columns, bool both, MatrixXd& sum) const {
  constexpr int width = kernels::SparseRowKernels::width;
  if (K_ == 1) {
    const double squares = Eigen::Map<const VectorXd>(d, static_cast<Index>(rows) * width).squaredNorm();
    sum(0, 0) -= both ? 2 * squares : squares;
    return;
  }
  for (int j = 0; j < rows; ++j)
    for (int l = 0; l < columns; ++l) {
      const Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0,
                       Eigen::OuterStride<>>
          block(d + static_cast<Index>(j) * K_ * width + l * K_, K_, K_, Eigen::OuterStride<>(width));
      for (int x = 0; x < streamed_parameters_; ++x)
        for (int z = 0; z <= x; ++z) {
          const Direction e = direction_[x], f = direction_[z];
          sum(x, z) -= trace_of_four(block, block, e.i, e.j, f.i, f.j);
          if (both) sum(x, z) -= trace_of_four(block, block, f.i, f.j, e.i, e.j);
        }
    }
}

MatrixXd LargeCriterion::modes(int b) const {
  const kernels::TermShape& term = shape_.term[b];
  if (term.stage > 0) {
    const Eigen::Map<const MatrixXd> c(dense_modes_.data() + term.column, term.k, term.levels);
    return c.transpose();
  }
  MatrixXd c(shape_.nodes[0], term.k);
  for (int j = 0; j < shape_.nodes[0]; ++j)
    for (int i = 0; i < term.k; ++i)
      c(model_.level_of_node(b, j), i) = streamed_modes_[static_cast<Index>(j) * K_ + term.column + i];
  return c;
}

}  // namespace

std::unique_ptr<Criterion> make_large_criterion(const Model& model, const VectorXd& y, const LargeOptions& options) {
  return std::make_unique<LargeCriterion>(model, y, options);
}

}  // namespace batchlmm
