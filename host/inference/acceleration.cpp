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
  zpy_ = zv_ * (m.y - m.offset - m.X * fit.beta);
  zp_ = p > 0 ? MatrixXd(zv_ - (zv_ * m.X) * components_.phi * xv_) : zv_;
}

template <class Visit>
void Acceleration::for_levels(Index r, const Visit& visit) const {
  const Entry& e = entries_[static_cast<std::size_t>(r)];
  const RandomTerm& term = fit_.model->random[static_cast<std::size_t>(e.term)];
  for (Index l = 0; l < static_cast<Index>(term.levels.size()); ++l) {
    const Index at = first_[static_cast<std::size_t>(e.term)] + l * term.z.cols();
    visit(l, at + e.row, at + e.column);
  }
}

void Acceleration::expand_forms() {
  const bool reml = fit_.method == Method::reml;
  const MatrixXd forms = (reml ? zp_ : zv_) * z_;
  const VectorXd& gamma = components_.gamma;
  const auto m = static_cast<Index>(entries_.size());
  const double degrees = static_cast<double>(z_.rows() - (reml ? fit_.model->X.cols() : 0));
  // V^{-1} V_r = alpha_r I + V^{-1} Z D_r Z', D_r the block diagonal of E_r - alpha_r Sigma.
  directed_.assign(static_cast<std::size_t>(m) + 1, MatrixXd::Zero(forms.rows(), forms.cols()));
  for (Index r = 0; r < m; ++r)
    for_levels(r, [&](Index, Index i, Index j) {
      MatrixXd& to = directed_[static_cast<std::size_t>(r)];
      to.col(j) += forms.col(i);
      if (i != j) to.col(i) += forms.col(j);
    });
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

MatrixXd Acceleration::mixed() const {
  const auto m = static_cast<Index>(entries_.size());
  const VectorXd& gamma = components_.gamma;
  const MatrixXd xvz = xv_ * z_;
  MatrixXd out = MatrixXd::Zero(xv_.rows(), m + 1);
  for (Index r = 0; r < m; ++r)
    for_levels(r, [&](Index, Index i, Index j) {
      out.col(r) += zpy_[j] * xvz.col(i);
      if (i != j) out.col(r) += zpy_[i] * xvz.col(j);
    });
  // X'Py = 0, and gamma_0 V^{-1} P = P - sum_r gamma_r V^{-1} G_r P on y.
  out.col(m) = -out.leftCols(m) * gamma.head(m) / gamma[m];
  return out;
}

MatrixXd Acceleration::influence(const MatrixXd& score, const MatrixXd& by_beta) const {
  const auto m = static_cast<Index>(entries_.size());
  const Index p = by_beta.cols();
  // Components of singular terms stay where they are.
  std::vector<Index> free;
  for (Index r = 0; r < m; ++r)
    if (!fit_.random[static_cast<std::size_t>(entries_[static_cast<std::size_t>(r)].term)].boundary) free.push_back(r);
  free.push_back(m);
  const MatrixXd of_gamma =
      2 * components_.hessian(free, free).partialPivLu().solve(score(Eigen::all, free).transpose()).transpose();
  MatrixXd out = MatrixXd::Zero(score.rows(), p + m + 1);
  for (std::size_t f = 0; f < free.size(); ++f) out.col(p + free[f]) = of_gamma.col(static_cast<Index>(f));
  if (p > 0) out.leftCols(p) = (by_beta - out.rightCols(m + 1) * mixed().transpose()) * components_.phi;
  return out;
}

MatrixXd Acceleration::by_rows() const {
  const bool reml = fit_.method == Method::reml;
  const Index n = z_.rows(), p = xv_.rows();
  const auto m = static_cast<Index>(entries_.size());
  const VectorXd& gamma = components_.gamma;
  const VectorXd error = fit_.model->y - fit_.fitted, py = error / gamma[m];
  const MatrixXd& za = reml ? zp_ : zv_;
  VectorXd a = diagonal_;  // of V^{-1}, by REML of P
  if (reml && p > 0) a -= xv_.cwiseProduct(components_.phi * xv_).colwise().sum().transpose();
  // Per row and entry r, with columns a_i of V^{-1} (by REML of P) and p_i of P: a_i'G_r a_i and p_i'G_r P y.
  MatrixXd quadratic = MatrixXd::Zero(n, m), bilinear = MatrixXd::Zero(n, m);
  for (Index r = 0; r < m; ++r)
    for_levels(r, [&](Index, Index i, Index j) {
      quadratic.col(r) += (i == j ? 1 : 2) * za.row(i).cwiseProduct(za.row(j)).transpose();
      bilinear.col(r) += zpy_[j] * zp_.row(i).transpose();
      if (i != j) bilinear.col(r) += zpy_[i] * zp_.row(j).transpose();
    });
  MatrixXd score(n, m + 1);
  for (Index r = 0; r < m; ++r)
    score.col(r) = -0.5 * (gamma[m] * quadratic.col(r) - 2 * error.cwiseProduct(bilinear.col(r)));
  const VectorXd ratios = gamma.head(m);
  const VectorXd aa = (a - quadratic * ratios) / gamma[m], ppy = (py - bilinear * ratios) / gamma[m];
  score.col(m) = -0.5 * (gamma[m] * aa - a - 2 * error.cwiseProduct(ppy) + py.cwiseProduct(py));
  score.col(m).array() -= 0.5 / gamma[m];  // one more error of this variance
  return influence(score, (xv_ * error.asDiagonal()).transpose());
}

MatrixXd Acceleration::by_clusters(const Clusters& clusters) const {
  const ModelMatrices& model = *fit_.model;
  const bool reml = fit_.method == Method::reml;
  const Index p = xv_.rows(), units = static_cast<Index>(clusters.rows.size());
  const auto m = static_cast<Index>(entries_.size());
  const VectorXd& gamma = components_.gamma;
  const VectorXd left = model.y - model.offset - model.X * fit_.beta, error = model.y - fit_.fitted;
  // Per cluster and component r: tr V^{-1} V_r, r'V^{-1} V_r V^{-1} r, and by REML tr Phi X'V^{-1} V_r V^{-1} X.
  MatrixXd traces = MatrixXd::Zero(units, m + 1), forms = traces, x_traces = traces;
  const MatrixXd zvx = zv_ * model.X, zvx_phi = zvx * components_.phi;
  std::vector<MatrixXd> sum(static_cast<std::size_t>(m) + 1, MatrixXd::Zero(p, p));  // X'V^{-1} V_r V^{-1} X
  for (Index r = 0; r < m; ++r) {
    const RandomTerm& term = model.random[static_cast<std::size_t>(entries_[static_cast<std::size_t>(r)].term)];
    std::vector<Index> cluster(term.levels.size());
    for (std::size_t i = 0; i < term.level_of_row.size(); ++i)
      cluster[static_cast<std::size_t>(term.level_of_row[i])] = clusters.of_row[i];
    for_levels(r, [&](Index level, Index i, Index j) {
      const Index u = cluster[static_cast<std::size_t>(level)];
      const double twice = i == j ? 1 : 2;
      traces(u, r) += twice * zv_.row(i).dot(z_.col(j).transpose());
      forms(u, r) += twice * zpy_[i] * zpy_[j];
      x_traces(u, r) += twice * zvx_phi.row(i).dot(zvx.row(j));
      sum[static_cast<std::size_t>(r)] += zvx.row(i).transpose() * zvx.row(j);
      if (i != j) sum[static_cast<std::size_t>(r)] += zvx.row(j).transpose() * zvx.row(i);
    });
  }
  MatrixXd by_beta = MatrixXd::Zero(units, p);
  std::vector<MatrixXd> information(static_cast<std::size_t>(units), MatrixXd::Zero(p, p));
  for (Index u = 0; u < units; ++u) {
    double form = 0, x_trace = 0;
    const std::vector<int>& rows = clusters.rows[static_cast<std::size_t>(u)];
    for (const int row : rows) {
      by_beta.row(u) += left[row] * xv_.col(row).transpose();
      form += left[row] * error[row] / gamma[m];
      information[static_cast<std::size_t>(u)] += xv_.col(row) * model.X.row(row);
    }
    x_trace = components_.phi.cwiseProduct(information[static_cast<std::size_t>(u)]).sum();
    // gamma_0 V^{-2} = V^{-1} - sum_r gamma_r V^{-1} G_r V^{-1}, cluster by cluster.
    const auto residual = [&](double all, const MatrixXd& of) {
      return (all - of.row(u).head(m).dot(gamma.head(m).transpose())) / gamma[m];
    };
    traces(u, m) = residual(static_cast<double>(rows.size()), traces);
    forms(u, m) = residual(form, forms);
    x_traces(u, m) = residual(x_trace, x_traces);
  }
  MatrixXd score = -0.5 * (traces - forms);
  if (p > 0) {
    score -= by_beta * components_.phi * mixed();
    if (reml) {
      MatrixXd all = MatrixXd::Zero(p, p);
      for (const MatrixXd& one : information) all += one;
      for (Index r = 0; r < m; ++r) all -= gamma[r] * sum[static_cast<std::size_t>(r)];
      sum[static_cast<std::size_t>(m)] = all / gamma[m];
      score += 0.5 * x_traces;
      for (Index r = 0; r <= m; ++r) {
        const MatrixXd both = components_.phi * sum[static_cast<std::size_t>(r)] * components_.phi;
        for (Index u = 0; u < units; ++u)
          score(u, r) -= 0.5 * both.cwiseProduct(information[static_cast<std::size_t>(u)]).sum();
      }
    }
  }
  return influence(score, by_beta);
}

double Acceleration::nonparametric(const VectorXd& by_beta, const VectorXd& by_gamma, const MatrixXd& influence) {
  VectorXd gradient(by_beta.size() + by_gamma.size());
  gradient << by_beta, by_gamma;
  if (!gradient.allFinite()) return std::numeric_limits<double>::quiet_NaN();
  const Eigen::ArrayXd values = (influence * gradient).array();
  return sixth_of_skewness(values.square().sum(), values.cube().sum());
}

}  // namespace batchlmm
