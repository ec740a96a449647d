#include "host/inference/acceleration.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>
#include <cmath>
#include <limits>

#include "host/model/memory.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// Skewness over 6, from the second and third cumulants.
double sixth_of_skewness(double second, double third) {
  return second > 0 ? third / (6 * second * std::sqrt(second)) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

Acceleration::Acceleration(const Fit& fit) : fit_(fit), components_(variance_components(fit)) {
  const ModelMatrices& m = *fit.model;
  const Index n = m.y.size(), p = m.X.cols();
  Index q = 0;
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const RandomTerm& term = m.random[t];
    const Index k = term.z.cols();
    for (Index i = 0; i < k; ++i)
      for (Index j = 0; j <= i; ++j) entries_.push_back({static_cast<int>(t), i, j});
    first_.push_back(q);
    q += k * static_cast<Index>(term.levels.size());
  }
  const auto rows = static_cast<double>(n), effects = static_cast<double>(q);
  require_memory(8 * effects * (5 * rows + 6 * effects), "the accelerations of BCa intervals");
  z_ = MatrixXd::Zero(n, q);
  MatrixXd scaled = MatrixXd::Zero(n, q);
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const RandomTerm& term = m.random[t];
    const Index k = term.z.cols();
    const MatrixXd zl = term.z * fit.random[t].lambda;
    for (Index i = 0; i < n; ++i) {
      const Index at = first_[t] + k * term.level_of_row[static_cast<std::size_t>(i)];
      z_.row(i).segment(at, k) = term.z.row(i);
      scaled.row(i).segment(at, k) = zl.row(i);
    }
  }
  // V^{-1} = (I - H'H) / sigma^2 with H = L^{-1} Lambda'Z', LL' = I + Lambda'Z'Z Lambda.
  MatrixXd s = scaled.transpose() * scaled;
  s.diagonal().array() += 1;
  const Eigen::LLT<MatrixXd> llt(s);
  const MatrixXd h = llt.matrixL().solve(scaled.transpose());
  const double sigma2 = fit.sigma * fit.sigma;
  zv_ = (z_.transpose() - (h * z_).transpose() * h) / sigma2;
  xv_ = (m.X.transpose() - (h * m.X).transpose() * h) / sigma2;
  diagonal_ = (1 - h.colwise().squaredNorm().array()).matrix().transpose() / sigma2;
  zp_ = p > 0 ? MatrixXd(zv_ - (zv_ * m.X) * components_.phi * xv_) : zv_;
}

void Acceleration::expand_forms() {
  const bool reml = fit_.method == Method::reml;
  const MatrixXd forms = (reml ? zp_ : zv_) * z_;
  const VectorXd& gamma = components_.gamma;
  const auto m = static_cast<Index>(entries_.size());
  const double degrees = static_cast<double>(z_.rows() - (reml ? fit_.model->X.cols() : 0));
  // V^{-1} V_r = alpha_r I + V^{-1} Z D_r Z', D_r the block diagonal of E_r - alpha_r Sigma.
  directed_.assign(static_cast<std::size_t>(m) + 1, MatrixXd::Zero(forms.rows(), forms.cols()));
  for (Index r = 0; r < m; ++r) {
    MatrixXd& to = directed_[static_cast<std::size_t>(r)];
    const Entry& e = entries_[static_cast<std::size_t>(r)];
    const RandomTerm& term = fit_.model->random[static_cast<std::size_t>(e.term)];
    for (Index l = 0; l < static_cast<Index>(term.levels.size()); ++l) {
      const Index at = first_[static_cast<std::size_t>(e.term)] + l * term.z.cols();
      to.col(at + e.column) += forms.col(at + e.row);
      if (e.row != e.column) to.col(at + e.row) += forms.col(at + e.column);
    }
  }
  alpha_ = VectorXd::Zero(m + 1);
  alpha_[m] = 1 / gamma[m];
  for (Index r = 0; r < m; ++r)
    directed_[static_cast<std::size_t>(m)] -= gamma[r] / gamma[m] * directed_[static_cast<std::size_t>(r)];
  MatrixXd information(m + 1, m + 1);
  for (Index r = 0; r <= m; ++r)
    for (Index t = 0; t <= r; ++t) {
      const MatrixXd &a = directed_[static_cast<std::size_t>(r)], &b = directed_[static_cast<std::size_t>(t)];
      information(r, t) = information(t, r) = 0.5 * (degrees * alpha_[r] * alpha_[t] + alpha_[r] * b.trace() +
                                                     alpha_[t] * a.trace() + a.cwiseProduct(b.transpose()).sum());
    }
  information_ = information.ldlt();
  degrees_ = degrees;
}

double Acceleration::parametric(const VectorXd& by_beta, const VectorXd& by_gamma) {
  const VectorXd of_beta = components_.phi * by_beta;
  double second = by_beta.dot(of_beta), third = 0;
  if (!by_gamma.isZero(0)) {
    if (!by_gamma.allFinite()) return std::numeric_limits<double>::quiet_NaN();
    if (directed_.empty()) expand_forms();
    const VectorXd direction = information_.solve(by_gamma);
    const double alpha = alpha_.dot(direction);
    MatrixXd sum = MatrixXd::Zero(directed_.front().rows(), directed_.front().cols());
    double crossed = 0;
    for (Index r = 0; r < direction.size(); ++r) {
      sum += direction[r] * directed_[static_cast<std::size_t>(r)];
      crossed -= direction[r] * of_beta.dot(components_.p[static_cast<std::size_t>(r)] * of_beta);
    }
    const MatrixXd square = sum * sum;
    const double one = sum.trace(), two = square.trace(), three = square.cwiseProduct(sum.transpose()).sum();
    second += 0.5 * (degrees_ * alpha * alpha + 2 * alpha * one + two);
    third = degrees_ * alpha * alpha * alpha + 3 * alpha * alpha * one + 3 * alpha * two + three + 3 * crossed;
  }
  return sixth_of_skewness(second, third);
}

const MatrixXd& Acceleration::influence() {
  if (influence_.size() > 0) return influence_;
  const ModelMatrices& model = *fit_.model;
  const bool reml = fit_.method == Method::reml;
  const Index n = model.y.size(), p = model.X.cols();
  const auto m = static_cast<Index>(entries_.size());
  const VectorXd& gamma = components_.gamma;
  const VectorXd error = model.y - fit_.fitted, py = error / gamma[m];
  const VectorXd c = zv_ * (model.y - model.offset - model.X * fit_.beta);
  const MatrixXd& za = reml ? zp_ : zv_;
  VectorXd a = diagonal_;  // of V^{-1}, by REML of P
  if (reml && p > 0) a -= xv_.cwiseProduct(components_.phi * xv_).colwise().sum().transpose();

  // Per row and entry r: a_i'G_r a_i and p_i'G_r P y.
  MatrixXd quadratic = MatrixXd::Zero(n, m), bilinear = MatrixXd::Zero(n, m), x_bilinear = MatrixXd::Zero(p, m);
  const MatrixXd xvz = xv_ * z_;
  for (Index r = 0; r < m; ++r) {
    const Entry& e = entries_[static_cast<std::size_t>(r)];
    const RandomTerm& term = model.random[static_cast<std::size_t>(e.term)];
    for (Index l = 0; l < static_cast<Index>(term.levels.size()); ++l) {
      const Index at = first_[static_cast<std::size_t>(e.term)] + l * term.z.cols(), i = at + e.row, j = at + e.column;
      const double twice = e.row == e.column ? 1 : 2;
      quadratic.col(r) += twice * za.row(i).cwiseProduct(za.row(j)).transpose();
      bilinear.col(r) += c[j] * zp_.row(i).transpose();
      x_bilinear.col(r) += c[j] * xvz.col(i);
      if (e.row == e.column) continue;
      bilinear.col(r) += c[i] * zp_.row(j).transpose();
      x_bilinear.col(r) += c[i] * xvz.col(j);
    }
  }
  // Of the score by the row's weight.
  MatrixXd score(n, m + 1);
  for (Index r = 0; r < m; ++r)
    score.col(r) = -0.5 * (gamma[m] * quadratic.col(r) - 2 * error.cwiseProduct(bilinear.col(r)));
  const VectorXd ratios = gamma.head(m);
  const VectorXd aa = (a - quadratic * ratios) / gamma[m], ppy = (py - bilinear * ratios) / gamma[m];
  score.col(m) = -0.5 * (gamma[m] * aa - a - 2 * error.cwiseProduct(ppy) + py.cwiseProduct(py));

  // Components of singular terms stay where they are.
  std::vector<Index> free;
  for (Index r = 0; r < m; ++r)
    if (!fit_.random[static_cast<std::size_t>(entries_[static_cast<std::size_t>(r)].term)].boundary) free.push_back(r);
  free.push_back(m);
  const MatrixXd of_gamma =
      2 * components_.hessian(free, free).partialPivLu().solve(score(Eigen::all, free).transpose()).transpose();
  influence_ = MatrixXd::Zero(n, p + m + 1);
  for (std::size_t f = 0; f < free.size(); ++f) influence_.col(p + free[f]) = of_gamma.col(static_cast<Index>(f));
  if (p > 0) {
    MatrixXd by_gamma(p, m + 1);  // X'V^{-1} G_r P y
    by_gamma.leftCols(m) = x_bilinear;
    by_gamma.col(m) = -x_bilinear * ratios / gamma[m];
    influence_.leftCols(p) =
        ((xv_ * error.asDiagonal()).transpose() - influence_.rightCols(m + 1) * by_gamma.transpose()) * components_.phi;
  }
  return influence_;
}

double Acceleration::nonparametric(const VectorXd& by_beta, const VectorXd& by_gamma,
                                   const std::vector<std::vector<int>>& clusters) {
  VectorXd gradient(by_beta.size() + by_gamma.size());
  gradient << by_beta, by_gamma;
  if (!gradient.allFinite()) return std::numeric_limits<double>::quiet_NaN();
  const VectorXd of_rows = influence() * gradient;
  double second = 0, third = 0;
  for (const std::vector<int>& rows : clusters) {
    double value = 0;
    for (const int row : rows) value += of_rows[row];
    second += value * value;
    third += value * value * value;
  }
  return sixth_of_skewness(second, third);
}

}  // namespace batchlmm
