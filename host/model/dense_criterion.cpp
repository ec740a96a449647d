// The formulas are those of kernels/derivatives.hpp with one streamed stage and one dense node, in matrices. Outer
// columns O = [dense terms, X]; after the streamed stage G = E + F'F are their cross-products, U = Z_1'W_1^{-1}[O y]
// those with the streamed columns, B_j = Z_1j'W_1^{-1}Z_1j. With S = diag(Lambda', I)[G]diag(Lambda, I) + diag(I, 0) =
// LL' the blocks of Q are
//     Q_11 = B - YY',  Q_21 = U' - K'Y',  Q_22 = G - K'K,  Y = U diag(Lambda, I) L^{-T},  K = L^{-1}diag(Lambda', I)G,
// where the rows of L that belong to X count by REML only.
#include "host/model/dense_criterion.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "host/model/blas.hpp"
#include "host/model/memory.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

enum class Level { value, information, exact };

void gemm(char ta, char tb, int m, int n, int k, double alpha, const double* a, int lda, const double* b, int ldb,
          double beta, double* c, int ldc) {
  if (m == 0 || n == 0) return;
  lda = std::max(lda, 1);
  ldb = std::max(ldb, 1);
  dgemm_(&ta, &tb, &m, &n, &k, &alpha, a, &lda, b, &ldb, &beta, c, &ldc);
}
/// y += alpha a x, or with a transposed; a is m x n.
void gemv(char trans, int m, int n, double alpha, const double* a, int lda, const double* x, double* y) {
  const double one = 1;
  const int single = 1;
  lda = std::max(lda, 1);
  if (m > 0 && n > 0) dgemv_(&trans, &m, &n, &alpha, a, &lda, x, &single, &one, y, &single);
}
/// The lower triangle of c.
void syrk(char trans, int n, int k, double alpha, const double* a, int lda, double beta, double* c, int ldc) {
  lda = std::max(lda, 1);
  if (n > 0) dsyrk_("L", &trans, &n, &k, &alpha, a, &lda, &beta, c, &ldc);
}

class DenseCriterion final : public Criterion {
public:
  DenseCriterion(const Model& model, const VectorXd& y)
      : model_(model),
        s_(model.shape()),
        K_(s_.own[0]),
        g_(s_.nodes[0]),
        n1_(K_ * g_),
        q_(s_.stages > 0 ? s_.own[1] : 0),
        p_(s_.p),
        O_(q_ + p_),
        m_(s_.parameters) {
    require_memory(cost().bytes, "the dense criterion of \"" + model.matrices().formula + "\"");
    for (int b = 0; b < s_.terms; ++b)
      if (s_.term[b].stage == 0) m1_ += kernels::triangle_size(s_.term[b].k);
    read_levels();
    set_response(model.response(y));
  }

  CriterionValue evaluate(const std::vector<double>& lambda, bool derivatives) override {
    return evaluate(lambda, derivatives ? Level::exact : Level::value);
  }
  CriterionValue evaluate_with_information(const std::vector<double>& lambda) override {
    return evaluate(lambda, Level::information);
  }
  [[nodiscard]] CriterionCost cost() const override {
    const double o = O_, rows = n1_;
    return {dense_criterion_operations(s_), 8 * (3 * rows * (o + 1) + 4 * o * o + (rows + o) * (rows + o))};
  }
  [[nodiscard]] bool exact_is_cheap() const override { return true; }
  void set_response(const std::vector<double>& response) override;
  [[nodiscard]] VectorXd beta() const override { return solution_.tail(p_); }
  [[nodiscard]] MatrixXd x_information() const override {
    const MatrixXd l = factor_.bottomRightCorner(p_, p_).triangularView<Eigen::Lower>();
    return l * l.transpose();
  }
  [[nodiscard]] MatrixXd modes(int b) const override;

private:
  void read_levels();
  CriterionValue evaluate(const std::vector<double>& lambda, Level level);
  bool factorize(const std::vector<double>& lambda, Level level);
  void trace(Level level);
  /// tr(Q E_a Q E_b) of all pairs.
  void trace_pairs(int rows_of_l);
  void respond(Level level, CriterionValue& value);
  /// to = A diag(Lambda, I) of O columns and `rows` rows, both with leading dimension ld.
  void multiply_columns(const double* a, double* to, int rows, int ld) const;
  /// to = diag(Lambda', I)A (`transposed`) or diag(Lambda, I)A of O rows.
  void multiply_rows(const double* a, double* to, int columns, int ld, bool transposed) const;

  const Model& model_;
  const kernels::Shape& s_;
  int K_, g_, n1_, q_, p_, O_, m_, m1_ = 0;

  MatrixXd c_, r_, e_;  ///< C_j side by side (K x gK); R (gK x O); E (O x O), lower triangle
  VectorXd ry_, ey_;    ///< of the response: gK, O
  double yy_ = 0;

  // At the factors `kept_lambda_`, whatever the response.
  std::vector<double> kept_lambda_;
  Level kept_ = Level::value;
  std::vector<MatrixXd> lambda_;
  MatrixXd inverse_, half_;  ///< L_j^{-1} and C_j L_j^{-T}, side by side (K x gK)
  MatrixXd f_, u_, g11_, factor_, y_, k_;
  double log_determinant_ = 0;
  VectorXd traces_;         ///< m: tr(Q E_a)
  MatrixXd trace_of_pair_;  ///< m x m: tr(Q E_a Q E_b)
  MatrixXd q11_, q21_, q22_, pairs_, work_;

  VectorXd solution_, streamed_modes_, dense_modes_;
};

void DenseCriterion::read_levels() {
  c_.resize(K_, n1_);
  r_ = MatrixXd::Zero(n1_, O_);
  e_ = MatrixXd::Zero(O_, O_);
  MatrixXd cross;
  // Columns of a level count [y | X | dense] from 0.
  const auto place = [&](int column) { return column <= p_ ? q_ + column - 1 : column - 1 - p_; };
  for (int j = 0; j < g_; ++j) {
    const Model::StreamedLevel level = model_.streamed_level(j);
    c_.middleCols(static_cast<Index>(j) * K_, K_) = level.c;
    cross.noalias() = level.left.transpose() * level.left;
    for (std::size_t i = 0; i < level.touched.size(); ++i) {
      const int column = place(level.touched[i]);
      r_.block(static_cast<Index>(j) * K_, column, K_, 1) = level.r.col(static_cast<Index>(i));
      for (std::size_t h = 0; h < level.touched.size(); ++h)
        if (const int other = place(level.touched[h]); other >= column)
          e_(other, column) += cross(static_cast<Index>(h), static_cast<Index>(i));
    }
  }
}

void DenseCriterion::set_response(const std::vector<double>& response) {
  const auto at = Eigen::Map<const VectorXd>(response.data(), s_.response);
  ry_ = at.head(n1_);
  ey_.resize(O_);
  ey_.head(q_) = at.segment(n1_, q_);
  ey_.tail(p_) = at.segment(n1_ + q_, p_);
  yy_ = at[s_.response - 1];
}

void DenseCriterion::multiply_columns(const double* a, double* to, int rows, int ld) const {
  for (int b = 0; b < s_.terms; ++b) {
    const kernels::TermShape& t = s_.term[b];
    if (t.stage == 0) continue;
    for (int l = 0; l < t.levels; ++l) {
      const Index at = static_cast<Index>(t.column + l * t.k) * ld;
      gemm('N', 'N', rows, t.k, t.k, 1, a + at, ld, lambda_[b].data(), t.k, 0, to + at, ld);
    }
  }
  for (int c = q_; c < O_; ++c) std::copy_n(a + static_cast<Index>(c) * ld, rows, to + static_cast<Index>(c) * ld);
}

void DenseCriterion::multiply_rows(const double* a, double* to, int columns, int ld, bool transposed) const {
  for (int b = 0; b < s_.terms; ++b) {
    const kernels::TermShape& t = s_.term[b];
    if (t.stage == 0) continue;
    for (int l = 0; l < t.levels; ++l) {
      const int at = t.column + l * t.k;
      gemm(transposed ? 'T' : 'N', 'N', t.k, columns, t.k, 1, lambda_[b].data(), t.k, a + at, ld, 0, to + at, ld);
    }
  }
  for (Index c = 0; c < columns; ++c) std::copy(a + c * ld + q_, a + c * ld + O_, to + c * ld + q_);
}

bool DenseCriterion::factorize(const std::vector<double>& lambda, Level level) {
  kept_lambda_.clear();
  lambda_.resize(s_.terms);
  MatrixXd t = MatrixXd::Zero(K_, K_);
  for (int b = 0; b < s_.terms; ++b) {
    const kernels::TermShape& term = s_.term[b];
    lambda_[b] = Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
        lambda.data() + term.lambda, term.k, term.k);
    if (term.stage == 0) t.block(term.column, term.column, term.k, term.k) = lambda_[b] * lambda_[b].transpose();
  }
  if (!t.allFinite()) return false;
  // M_j = I + C_j'TC_j = LL'; F_j = L^{-1}R_j; U_j = C_j L^{-T}F_j.
  const MatrixXd tc = t * c_;
  inverse_.resize(K_, n1_);
  half_.resize(K_, n1_);
  f_.resize(n1_, O_);
  u_.resize(n1_, O_);
  log_determinant_ = 0;
  MatrixXd m(K_, K_), inverse(K_, K_);
  Eigen::LLT<MatrixXd> llt(K_);
  for (int j = 0; j < g_; ++j) {
    const Index at = static_cast<Index>(j) * K_;
    m.noalias() = c_.middleCols(at, K_).transpose().lazyProduct(tc.middleCols(at, K_));
    m.diagonal().array() += 1;
    llt.compute(m);
    if (llt.info() != Eigen::Success) return false;
    for (int a = 0; a < K_; ++a) log_determinant_ += 2 * std::log(llt.matrixLLT()(a, a));
    inverse.setIdentity();
    llt.matrixL().solveInPlace(inverse);
    inverse_.middleCols(at, K_) = inverse;
    half_.middleCols(at, K_).noalias() = c_.middleCols(at, K_).lazyProduct(inverse.transpose());
    gemm('N', 'N', K_, O_, K_, 1, inverse_.data() + at * K_, K_, r_.data() + at, n1_, 0, f_.data() + at, n1_);
    if (level != Level::value)
      gemm('N', 'N', K_, O_, K_, 1, half_.data() + at * K_, K_, f_.data() + at, n1_, 0, u_.data() + at, n1_);
  }
  g11_ = e_;
  syrk('T', O_, n1_, 1, f_.data(), n1_, 1, g11_.data(), O_);
  g11_.triangularView<Eigen::StrictlyUpper>() = g11_.transpose();
  k_.resize(O_, O_);
  factor_.resize(O_, O_);
  multiply_rows(g11_.data(), k_.data(), O_, O_, true);
  multiply_columns(k_.data(), factor_.data(), O_, O_);
  factor_.diagonal().head(q_).array() += 1;
  if (O_ > 0) {
    int info = 0;
    dpotrf_("L", &O_, factor_.data(), &O_, &info);
    if (info != 0) return false;
  }
  for (int i = 0; i < (s_.reml ? O_ : q_); ++i) log_determinant_ += 2 * std::log(factor_(i, i));
  if (!std::isfinite(log_determinant_)) return false;
  if (level != Level::value) trace(level);
  kept_lambda_ = lambda;
  kept_ = level;
  return true;
}

void DenseCriterion::trace(Level level) {
  const double one = 1;
  const int used = s_.reml ? O_ : q_;  // columns of Y and rows of K
  y_.resize(n1_, O_);
  if (O_ > 0) {
    multiply_columns(u_.data(), y_.data(), n1_, n1_);
    dtrsm_("R", "L", "T", "N", &n1_, &O_, &one, factor_.data(), &O_, y_.data(), &n1_);
    dtrsm_("L", "L", "N", "N", &O_, &q_, &one, factor_.data(), &O_, k_.data(), &O_);
  }
  traces_ = VectorXd::Zero(m_);
  const auto add = [&](const kernels::TermShape& t, const MatrixXd& block, int column) {
    for (int i = 0; i < t.k; ++i)
      for (int j = 0; j <= i; ++j)
        traces_[t.parameter + kernels::triangle(i, j)] += (i == j ? 1 : 2) * block(column + i, column + j);
  };
  // The columns of Y stand one after the other: Y is K x (g x columns) as well, and sum_j Y_j Y_j' one product.
  MatrixXd sum(K_, K_);
  syrk('N', K_, n1_, 1, half_.data(), K_, 0, sum.data(), K_);
  syrk('N', K_, g_ * used, -1, y_.data(), K_, 1, sum.data(), K_);
  for (int b = 0; b < s_.terms; ++b) {
    const kernels::TermShape& t = s_.term[b];
    if (t.stage == 0) {
      add(t, sum, t.column);
      continue;
    }
    MatrixXd block = MatrixXd::Zero(t.k, t.k);
    for (int l = 0; l < t.levels; ++l) {
      const Index at = t.column + static_cast<Index>(l) * t.k;
      block += g11_.block(at, at, t.k, t.k);
      syrk('T', t.k, used, -1, k_.data() + at * O_, O_, 1, block.data(), t.k);
    }
    add(t, block, 0);
  }
  if (level == Level::exact) trace_pairs(used);
}

void DenseCriterion::trace_pairs(int used) {
  q11_.resize(n1_, n1_);
  syrk('N', n1_, used, -1, y_.data(), n1_, 0, q11_.data(), n1_);
  for (int j = 0; j < g_; ++j) {
    const Index at = static_cast<Index>(j) * K_;
    q11_.block(at, at, K_, K_).triangularView<Eigen::StrictlyUpper>() = q11_.block(at, at, K_, K_).transpose();
    q11_.block(at, at, K_, K_).noalias() += half_.middleCols(at, K_).lazyProduct(half_.middleCols(at, K_).transpose());
  }
  q21_ = u_.leftCols(q_).transpose();
  gemm('T', 'T', q_, n1_, used, -1, k_.data(), O_, y_.data(), n1_, 1, q21_.data(), q_);
  q22_ = g11_.topLeftCorner(q_, q_);
  syrk('T', q_, used, -1, k_.data(), O_, 1, q22_.data(), q_);
  q22_.triangularView<Eigen::StrictlyUpper>() = q22_.transpose();

  trace_of_pair_ = MatrixXd::Zero(m_, m_);
  // A group of terms with common levels: the streamed terms together, each dense term by itself.
  struct Group {
    int columns, levels, at, first_term, terms;
  };
  std::vector<Group> groups;
  for (int b = 0; b < s_.terms; ++b) {
    if (s_.term[b].stage > 0)
      groups.push_back({s_.term[b].k, s_.term[b].levels, s_.term[b].column, b, 1});
    else if (groups.empty())
      groups.push_back({K_, g_, 0, 0, 1});
    else
      ++groups.front().terms;
  }
  const bool streamed_first = s_.term[0].stage == 0;
  for (std::size_t x = 0; x < groups.size(); ++x)
    for (std::size_t z = 0; z <= x; ++z) {
      const Group &a = groups[x], &b = groups[z];
      const MatrixXd& q = x == 0 && streamed_first ? q11_ : z == 0 && streamed_first ? q21_ : q22_;
      // Sums of vec(q)vec(q)' over the blocks q of pairs of levels: of different ones, of a level with itself.
      const auto accumulate = [&](bool itself) {
        const int size = a.columns * b.columns;
        const bool same = x == z;
        MatrixXd sum = MatrixXd::Zero(size, size);
        constexpr Index most = 4096;
        pairs_.resize(size, most);
        Index used_pairs = 0;
        const auto flush = [&] {
          syrk('N', size, static_cast<int>(used_pairs), 1, pairs_.data(), size, 1, sum.data(), size);
          used_pairs = 0;
        };
        for (int h = 0; h < b.levels; ++h)
          for (int l = same ? h + (itself ? 0 : 1) : 0; l < (itself ? h + 1 : a.levels); ++l) {
            Eigen::Map<MatrixXd>(pairs_.data() + used_pairs * size, a.columns, b.columns) =
                q.block(a.at + static_cast<Index>(l) * a.columns, b.at + static_cast<Index>(h) * b.columns, a.columns,
                        b.columns);
            if (++used_pairs == most) flush();
          }
        flush();
        sum.triangularView<Eigen::StrictlyUpper>() = sum.transpose();
        // tr(q E q' E') of directions (i, j) on q's rows and (k, l) on its columns
        for (int ta = a.first_term; ta < a.first_term + a.terms; ++ta)
          for (int tb = b.first_term; tb < b.first_term + b.terms; ++tb) {
            const kernels::TermShape &ra = s_.term[ta], &rb = s_.term[tb];
            const int oa = ra.stage == 0 ? ra.column : 0, ob = rb.stage == 0 ? rb.column : 0;
            for (int i = 0; i < ra.k; ++i)
              for (int j = 0; j <= i; ++j)
                for (int k = 0; k < rb.k; ++k)
                  for (int l = 0; l <= k; ++l) {
                    const auto at = [&](int r, int c) { return (ob + c) * a.columns + oa + r; };
                    double t = sum(at(i, l), at(j, k));
                    if (i != j) t += sum(at(j, l), at(i, k));
                    if (k != l) t += sum(at(i, k), at(j, l));
                    if (i != j && k != l) t += sum(at(j, k), at(i, l));
                    const int pa = ra.parameter + kernels::triangle(i, j), pb = rb.parameter + kernels::triangle(k, l);
                    trace_of_pair_(pa, pb) += t;
                    if (!(same && itself)) trace_of_pair_(pb, pa) += t;
                  }
          }
      };
      accumulate(false);
      if (x == z) accumulate(true);
    }
}

CriterionValue DenseCriterion::evaluate(const std::vector<double>& lambda, Level level) {
  CriterionValue value;
  value.deviance = 1e300;
  value.exact = level == Level::exact;
  if (level != Level::value) {
    value.gradient = VectorXd::Zero(m_);
    value.hessian = value.information = MatrixXd::Zero(m_, m_);
  }
  if ((lambda != kept_lambda_ || level > kept_) && !factorize(lambda, level)) return value;
  respond(level, value);
  return value;
}

void DenseCriterion::respond(Level level, CriterionValue& value) {
  const double one = 1;
  const int single = 1;
  VectorXd fy(n1_), uy(n1_);
  for (int j = 0; j < g_; ++j) {
    const Index at = static_cast<Index>(j) * K_;
    fy.segment(at, K_).noalias() = inverse_.middleCols(at, K_).lazyProduct(ry_.segment(at, K_));
    uy.segment(at, K_).noalias() = half_.middleCols(at, K_).lazyProduct(fy.segment(at, K_));
  }
  VectorXd gy = ey_;
  gemv('T', n1_, O_, 1, f_.data(), n1_, fy.data(), gy.data());
  VectorXd ly(O_);
  multiply_rows(gy.data(), ly.data(), 1, O_, true);
  if (O_ > 0) dtrsm_("L", "L", "N", "N", &O_, &single, &one, factor_.data(), &O_, ly.data(), &O_);
  value.r2 = yy_ + fy.squaredNorm() - ly.squaredNorm();
  if (!(value.r2 > 0)) return;
  const double deviance = log_determinant_ + s_.degrees * std::log(value.r2) + s_.constant;
  if (!std::isfinite(deviance)) return;
  value.deviance = deviance;
  value.ok = true;
  solution_ = ly;
  if (O_ > 0) dtrsm_("L", "L", "T", "N", &O_, &single, &one, factor_.data(), &O_, solution_.data(), &O_);
  if (level == Level::value) return;

  // c = Z'Py.
  const double n_over_r2 = s_.degrees / value.r2;
  VectorXd modes(O_);
  multiply_rows(solution_.data(), modes.data(), 1, O_, false);
  streamed_modes_ = uy;
  gemv('N', n1_, O_, -1, u_.data(), n1_, modes.data(), streamed_modes_.data());
  dense_modes_ = gy.head(q_);
  gemv('N', q_, O_, -1, g11_.data(), O_, modes.data(), dense_modes_.data());

  // W = the E_a c, streamed and dense; H = their cross-products with the outer columns after the streamed stage.
  const int m2 = m_ - m1_;
  MatrixXd w1 = MatrixXd::Zero(n1_, m1_), w2 = MatrixXd::Zero(q_, m2), h(O_, m_);
  for (int b = 0; b < s_.terms; ++b) {
    const kernels::TermShape& t = s_.term[b];
    const bool streamed = t.stage == 0;
    const int levels = streamed ? g_ : t.levels, step = streamed ? K_ : t.k;
    const double* c = (streamed ? streamed_modes_ : dense_modes_).data() + t.column;
    for (int i = 0; i < t.k; ++i)
      for (int j = 0; j <= i; ++j) {
        const int a = t.parameter + kernels::triangle(i, j);
        double* w = (streamed ? w1.col(a) : w2.col(a - m1_)).data() + t.column;
        for (int l = 0; l < levels; ++l) {
          const Index at = static_cast<Index>(l) * step;
          w[at + i] = c[at + j];
          w[at + j] = c[at + i];
        }
      }
  }
  gemm('T', 'N', O_, m1_, n1_, 1, u_.data(), n1_, w1.data(), n1_, 0, h.data(), O_);
  gemm('N', 'N', O_, m2, q_, 1, g11_.data(), O_, w2.data(), q_, 0, h.data() + static_cast<Index>(m1_) * O_, O_);
  MatrixXd products = MatrixXd::Zero(m_, m_);
  MatrixXd z(n1_, m1_);
  for (int j = 0; j < g_; ++j) {
    const Index at = static_cast<Index>(j) * K_;
    gemm('T', 'N', K_, m1_, K_, 1, half_.data() + at * K_, K_, w1.data() + at, n1_, 0, z.data() + at, n1_);
  }
  syrk('T', m1_, n1_, 1, z.data(), n1_, 0, products.data(), m_);
  gemm('T', 'N', m2, m_, q_, 1, w2.data(), q_, h.data(), O_, 0, products.data() + m1_, m_);
  MatrixXd lh(O_, m_);
  multiply_rows(h.data(), lh.data(), m_, O_, true);
  if (O_ > 0) dtrsm_("L", "L", "N", "N", &O_, &m_, &one, factor_.data(), &O_, lh.data(), &O_);
  syrk('T', m_, O_, -1, lh.data(), O_, 1, products.data(), m_);
  products = products.selfadjointView<Eigen::Lower>();

  value.forms.resize(m_);
  value.forms.head(m1_).noalias() = w1.transpose() * streamed_modes_;
  value.forms.tail(m2).noalias() = w2.transpose() * dense_modes_;
  value.gradient = traces_ - n_over_r2 * value.forms;
  const MatrixXd squares = (n_over_r2 / value.r2) * value.forms * value.forms.transpose();
  value.information = n_over_r2 * products - squares;
  value.hessian =
      level == Level::exact ? MatrixXd(2 * n_over_r2 * products - squares - trace_of_pair_) : value.information;
}

MatrixXd DenseCriterion::modes(int b) const {
  const kernels::TermShape& t = s_.term[b];
  if (t.stage > 0) return Eigen::Map<const MatrixXd>(dense_modes_.data() + t.column, t.k, t.levels).transpose();
  MatrixXd c(g_, t.k);
  for (int j = 0; j < g_; ++j)
    for (int i = 0; i < t.k; ++i)
      c(model_.level_of_node(b, j), i) = streamed_modes_[static_cast<Index>(j) * K_ + t.column + i];
  return c;
}

}  // namespace

double dense_criterion_operations(const kernels::Shape& s) {
  const double K = s.own[0], n1 = K * s.nodes[0], q = s.stages > 0 ? s.own[1] : 0, o = q + s.p, m = s.parameters;
  double pairs = 0;
  for (int b = 0; b < s.terms; ++b) {
    const kernels::TermShape& t = s.term[b];
    if (t.stage == 0) continue;
    pairs += 0.5 * std::pow(t.k * K, 2) * t.levels * s.nodes[0];
    for (int c = 0; c <= b; ++c)
      if (s.term[c].stage > 0) pairs += 0.5 * std::pow(t.k * s.term[c].k, 2) * t.levels * s.term[c].levels;
  }
  pairs += 0.25 * K * K * n1 * n1;
  const double value = 2 * n1 * K * o + 0.5 * n1 * o * o + o * o * o / 6;
  const double gradient = 0.5 * n1 * o * o + 0.5 * q * o * o + (n1 + 0.5 * o) * o * m;
  const double exact = 0.5 * n1 * n1 * q + n1 * q * q + 0.5 * q * q * q + pairs;
  return value + gradient + exact;
}

std::unique_ptr<Criterion> make_dense_criterion(const Model& model, const VectorXd& y) {
  return std::make_unique<DenseCriterion>(model, y);
}

}  // namespace batchlmm
