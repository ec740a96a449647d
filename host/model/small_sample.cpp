#include "host/model/small_sample.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <boost/math/distributions/fisher_f.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

double two_sided(double t, double df) {
  if (!(df > 0) || !std::isfinite(t)) return std::numeric_limits<double>::quiet_NaN();
  return 2 * boost::math::cdf(boost::math::complement(boost::math::students_t(df), std::abs(t)));
}
double upper_tail(double f, double df1, double df2) {
  if (!(df2 > 0) || !std::isfinite(f) || f < 0) return std::numeric_limits<double>::quiet_NaN();
  return boost::math::cdf(boost::math::complement(boost::math::fisher_f(df1, df2), f));
}

/// Inverse over the eigenvectors whose eigenvalues are above `least`: parameters on the boundary have no part.
MatrixXd positive_inverse(const MatrixXd& a, double least) {
  const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(a);
  MatrixXd out = MatrixXd::Zero(a.rows(), a.cols());
  for (Index i = 0; i < a.rows(); ++i)
    if (eigen.eigenvalues()[i] > least)
      out += eigen.eigenvectors().col(i) * eigen.eigenvectors().col(i).transpose() / eigen.eigenvalues()[i];
  return out;
}

/// Indices of rows that span l's row space, none depending on the others.
std::vector<Index> independent_rows(const MatrixXd& l) {
  Eigen::ColPivHouseholderQR<MatrixXd> qr(l.transpose());
  qr.setThreshold(1e-10);
  std::vector<Index> rows;
  for (Index i = 0; i < qr.rank(); ++i) rows.push_back(qr.colsPermutation().indices()[i]);
  return rows;
}

/// (theta, sigma), lme4's theta: how the entries of gamma depend on them.
struct ThetaMap {
  MatrixXd jacobian;             ///< (m + 1) x (m + 1)
  std::vector<MatrixXd> second;  ///< per entry of gamma: (m + 1) x (m + 1)
};

ThetaMap theta_map(const FittedModel& fit) {
  Index m = 0;
  for (const MatrixXd& l : fit.lambda) m += l.rows() * (l.rows() + 1) / 2;
  const double sigma = fit.sigma, sigma2 = sigma * sigma;
  ThetaMap map{MatrixXd::Zero(m + 1, m + 1), std::vector<MatrixXd>(m + 1, MatrixXd::Zero(m + 1, m + 1))};
  Index first = 0;
  for (const MatrixXd& l : fit.lambda) {
    const Index k = l.rows();
    const auto entry = [&](Index i, Index j) {  // of Sigma, packed by rows
      return first + (i >= j ? i * (i + 1) / 2 + j : j * (j + 1) / 2 + i);
    };
    const auto theta = [&](Index i, Index j) {  // of lambda, column by column
      return first + j * k - j * (j - 1) / 2 + (i - j);
    };
    // Sigma_ab = sigma^2 sum_j lambda_aj lambda_bj
    for (Index a = 0; a < k; ++a)
      for (Index b = 0; b <= a; ++b) {
        MatrixXd& second = map.second[entry(a, b)];
        const Index row = entry(a, b);
        for (Index j = 0; j <= b; ++j) {
          map.jacobian(row, theta(a, j)) += sigma2 * l(b, j);
          map.jacobian(row, theta(b, j)) += sigma2 * l(a, j);
          second(theta(a, j), theta(b, j)) += sigma2;
          second(theta(b, j), theta(a, j)) += sigma2;
        }
        const double t = l.row(a).dot(l.row(b));
        map.jacobian(row, m) = 2 * sigma * t;
        second(m, m) = 2 * t;
        for (Index i = first; i < first + k * (k + 1) / 2; ++i)
          second(i, m) = second(m, i) = 2 / sigma * map.jacobian(row, i);
      }
    first += k * (k + 1) / 2;
  }
  map.jacobian(m, m) = 2 * sigma;
  map.second[m](m, m) = 2;
  return map;
}

}  // namespace

SmallSampleTests::SmallSampleTests(const FittedModel& fit, SmallSample method) : method_(method), beta_(fit.beta) {
  if (method == SmallSample::kenward_roger && fit.method != Method::reml)
    throw ModelError("Kenward-Roger tests: expected a fit by REML, found one by ML");
  components_ = variance_components(fit);
  const VarianceComponents& v = components_;
  const Index r = v.gamma.size();
  if (method == SmallSample::satterthwaite) {
    covariance_ = v.phi;
    const ThetaMap map = theta_map(fit);
    MatrixXd hessian = map.jacobian.transpose() * v.hessian * map.jacobian;
    for (Index i = 0; i < r; ++i) hessian += v.gradient[i] * map.second[i];
    jacobian_ = map.jacobian;
    parameter_covariance_ = 2 * positive_inverse(0.5 * (hessian + hessian.transpose()), 1e-8);
    return;
  }
  // Kenward and Roger (1997): W, the inverse of the expected information, and what the estimation of gamma adds.
  MatrixXd information(r, r);
  for (Index i = 0; i < r; ++i)
    for (Index j = 0; j <= i; ++j)
      information(i, j) = information(j, i) =
          v.traces(i, j) - 2 * (v.phi * v.q[i][j]).trace() + (v.phi * v.p[i] * v.phi * v.p[j]).trace();
  const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(information);
  const double largest = eigen.eigenvalues().cwiseAbs().maxCoeff();
  parameter_covariance_ = 2 * positive_inverse(information, 1e-10 * largest);
  MatrixXd sum = MatrixXd::Zero(v.phi.rows(), v.phi.cols());
  for (Index i = 0; i < r; ++i)
    for (Index j = 0; j < r; ++j) sum += parameter_covariance_(i, j) * (v.q[i][j] - v.p[i] * v.phi * v.p[j]);
  covariance_ = v.phi + 2 * v.phi * (0.5 * (sum + sum.transpose())) * v.phi;
}

double SmallSampleTests::satterthwaite_df(const VectorXd& l) const {
  const VarianceComponents& v = components_;
  const VectorXd phi_l = v.phi * l;
  VectorXd by_gamma(v.gamma.size());
  for (Index i = 0; i < by_gamma.size(); ++i) by_gamma[i] = -phi_l.dot(v.p[i] * phi_l);
  const VectorXd gradient = jacobian_.transpose() * by_gamma;
  const double variance = l.dot(phi_l);
  return 2 * variance * variance / gradient.dot(parameter_covariance_ * gradient);
}

ContrastTest SmallSampleTests::test(const VectorXd& l, double value) const {
  ContrastTest out;
  out.estimate = l.dot(beta_) - value;
  out.se = std::sqrt(l.dot(covariance_ * l));
  out.t = out.estimate / out.se;
  out.df = method_ == SmallSample::satterthwaite
               ? satterthwaite_df(l)
               : kenward_roger_f(MatrixXd(l.transpose()), VectorXd::Constant(1, out.estimate)).df2;
  out.p = two_sided(out.t, out.df);
  return out;
}

FTest SmallSampleTests::test(const MatrixXd& l, const VectorXd& value) const {
  const std::vector<Index> rows = independent_rows(l);
  if (rows.empty()) throw InputError("expected contrasts of the fixed effects, found none that is not zero");
  VectorXd estimate = l * beta_;
  if (value.size() > 0) estimate -= value;
  if (method_ == SmallSample::satterthwaite) return satterthwaite_f(l, estimate);
  return kenward_roger_f(l(rows, Eigen::all), estimate(rows));
}

FTest SmallSampleTests::satterthwaite_f(const MatrixXd& l, const VectorXd& estimate) const {
  // Fai and Cornelius (1996): uncorrelated contrasts, each with degrees of freedom of its own. Which ones they are
  // depends on how the hypothesis is written down; as lmerTest, all rows are taken as they are given.
  const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(l * covariance_ * l.transpose());
  const double largest = eigen.eigenvalues().maxCoeff();
  FTest out;
  double expectation = 0, first = 0;
  bool equal = true, few = false;
  for (Index i = l.rows() - 1; i >= 0; --i) {
    if (!(eigen.eigenvalues()[i] > 1e-10 * largest)) continue;
    const VectorXd contrast = l.transpose() * eigen.eigenvectors().col(i);
    const double t = eigen.eigenvectors().col(i).dot(estimate) / std::sqrt(eigen.eigenvalues()[i]),
                 df = satterthwaite_df(contrast);
    out.f += t * t;
    if (out.df1 == 0) first = df;
    ++out.df1;
    equal = equal && std::abs(df - first) < 1e-8;
    few = few || df <= 2;
    expectation += df / (df - 2);
  }
  out.f /= out.df1;
  out.df2 = few ? 2 : equal ? first : 2 * expectation / (expectation - out.df1);
  out.p = upper_tail(out.f, out.df1, out.df2);
  return out;
}

FTest SmallSampleTests::kenward_roger_f(const MatrixXd& l, const VectorXd& estimate) const {
  const VarianceComponents& v = components_;
  const double q = static_cast<double>(l.rows());
  const MatrixXd theta = l.transpose() * (l * v.phi * l.transpose()).llt().solve(l);
  const Index r = v.gamma.size();
  std::vector<MatrixXd> part(r);
  for (Index i = 0; i < r; ++i) part[i] = theta * v.phi * v.p[i] * v.phi;
  double a1 = 0, a2 = 0;
  for (Index i = 0; i < r; ++i)
    for (Index j = 0; j < r; ++j) {
      a1 += parameter_covariance_(i, j) * part[i].trace() * part[j].trace();
      a2 += parameter_covariance_(i, j) * (part[i] * part[j]).trace();
    }
  const double b = (a1 + 6 * a2) / (2 * q), g = ((q + 1) * a1 - (q + 4) * a2) / ((q + 2) * a2),
               divisor = 3 * q + 2 * (1 - g), c1 = g / divisor, c2 = (q - g) / divisor, c3 = (q + 2 - g) / divisor;
  double v0 = 1 + c1 * b;
  const double v1 = 1 - c2 * b, v2 = 1 - c3 * b;
  if (std::abs(v0) < 1e-10) v0 = 0;
  // Both can be 0 where the law is exactly an F (pbkrtest's divZero).
  const double above = 1 - a2 / q;
  const double ratio = std::abs(above) < 1e-14 && std::abs(v1) < 1e-14 ? 1 : above / v1;
  const double rho = ratio * ratio * v0 / v2 / q;
  FTest out;
  out.df1 = q;
  out.df2 = 4 + (q + 2) / (q * rho - 1);
  out.scaling = std::abs(out.df2 - 2) < 1e-2 ? 1 : out.df2 * above / (out.df2 - 2);
  out.f = out.scaling * estimate.dot((l * covariance_ * l.transpose()).llt().solve(estimate)) / q;
  out.p = upper_tail(out.f, out.df1, out.df2);
  return out;
}

}  // namespace batchlmm
