#include "host/inference/spectral_law.hpp"

#include <fmt/format.h>

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <boost/math/distributions/fisher_f.hpp>
#include <cmath>

#include "batchlmm/error.hpp"
#include "host/model/memory.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cpu_spectral.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// Relative to the largest: eigenvalues below the first count as 0, those closer than the second as equal.
constexpr double rank_tolerance = 1e-10, equal_tolerance = 1e-9;

/// @param values  ascending
std::vector<Eigenvalue> pooled(const VectorXd& values, double largest) {
  std::vector<Eigenvalue> out;
  double before = 0, sum = 0;
  for (const double value : values) {
    if (value <= rank_tolerance * largest) continue;
    if (out.empty() || value - before > equal_tolerance * largest) {
      out.push_back({0, 0});
      sum = 0;
    }
    sum += value;
    out.back().value = sum / ++out.back().count;
    before = value;
  }
  return out;
}

double total(const std::vector<Eigenvalue>& eigenvalues) {
  double count = 0;
  for (const Eigenvalue& e : eigenvalues) count += e.count;
  return count;
}

}  // namespace

SpectralLaw::SpectralLaw(const ModelMatrices& m, Method method, int dropped) {
  const RandomTerm& term = m.random.at(0);
  const Index n = m.y.size(), p = m.X.cols(), levels = static_cast<Index>(term.levels.size());
  require_memory(8.0 * static_cast<double>(levels) * static_cast<double>(3 * levels + 2 * n),
                 fmt::format("the spectral form of {} random effects", levels));
  VectorXd squares = VectorXd::Zero(levels);
  for (Index i = 0; i < n; ++i) squares[term.level_of_row[i]] += term.z(i, 0) * term.z(i, 0);
  x_basis_.resize(n, p);
  MatrixXd cross = MatrixXd::Zero(levels, p);  // Z'Q
  if (p > 0) {
    const Eigen::HouseholderQR<MatrixXd> qr(m.X);
    x_basis_ = qr.householderQ() * MatrixXd::Identity(n, p);
    for (Index i = 0; i < n; ++i) cross.row(term.level_of_row[i]) += term.z(i, 0) * x_basis_.row(i);
  }
  MatrixXd projected = -cross * cross.transpose();
  projected.diagonal() += squares;
  const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(projected);
  const double largest = squares.maxCoeff();
  mu_ = pooled(eigen.eigenvalues(), largest);
  if (mu_.empty())
    throw ModelError("\"" + m.formula + "\": expected random effects that differ from the fixed effects, found (" +
                     term.text + ") in their span");
  std::sort(squares.begin(), squares.end());
  xi_ = method == Method::reml ? mu_ : pooled(squares, largest);

  // Directions of the response: P Z v / sqrt(mu).
  Index at = levels - static_cast<Index>(total(mu_));
  for (const Eigenvalue& e : mu_) {
    const MatrixXd vectors = eigen.eigenvectors().middleCols(at, e.count);
    MatrixXd basis(n, e.count);
    for (Index i = 0; i < n; ++i) basis.row(i) = term.z(i, 0) * vectors.row(term.level_of_row[i]);
    basis -= x_basis_ * (x_basis_.transpose() * basis);
    basis.colwise().normalize();
    bases_.push_back(std::move(basis));
    at += e.count;
  }

  for (const Eigenvalue& e : mu_) {
    ratio_.push_back(e.value / mu_.front().value);
    multiplicity_.push_back(e.count);
  }
  for (const Eigenvalue& e : xi_) {
    log_ratio_.push_back(e.value / mu_.front().value);
    log_count_.push_back(e.count);
  }
  law_.groups = static_cast<int>(mu_.size());
  law_.ratio = ratio_.data();
  law_.multiplicity = multiplicity_.data();
  law_.residual = static_cast<double>(n - p) - total(mu_);
  law_.dropped = dropped;
  law_.n = static_cast<double>(method == Method::reml ? n - p : n);
  law_.logs = static_cast<int>(xi_.size());
  law_.log_ratio = log_ratio_.data();
  law_.log_count = log_count_.data();
  law_.shared = method == Method::reml;
  law_.closed = law_.groups == 1 && law_.logs == 1 && std::abs(log_ratio_.front() - 1) < equal_tolerance;
  if (law_.residual < 1)
    throw ModelError("\"" + m.formula +
                     "\": expected residual degrees of freedom beside the fixed and random effects, found none");
  if (!law_.closed) lay_out_nodes();
}

void SpectralLaw::lay_out_nodes() {
  // Steps in log(1 + lambda mu) of the largest mu: all other terms change more slowly. Up to variance ratios that one
  // draw in a million exceeds, about; what lies beyond is searched.
  const double count = total(mu_), largest = ratio_.back();
  const double ratio =
      boost::math::quantile(boost::math::complement(boost::math::fisher_f(count, std::max(1.0, law_.residual)), 1e-6));
  constexpr double step = 0.125, most_nodes = 200;
  const double end = std::log1p(largest * std::clamp(1.2 * ratio - 1, 2.0, 1e6));
  const int nodes = static_cast<int>(std::clamp(std::ceil(end / step), 16.0, most_nodes)) + 1;
  const double logs_falling = [&] {
    double sum = 0;
    for (std::size_t j = 0; j < log_ratio_.size(); ++j)
      if (log_ratio_[j] >= 1) sum += log_count_[j];
    return sum;
  }();
  double falling_before = 0, rising_before = 0, bent_before = 0, rising = 0;
  for (int k = 0; k < nodes; ++k) {
    const double tau = std::expm1(end * k / (nodes - 1)) / largest;
    x_.push_back(std::log1p(tau));
    for (const double r : ratio_) {
      const double f = 1 / (1 + r * tau), t = r * (1 + tau) * f;
      terms_.insert(terms_.end(), {f, f * t, f * t * (2 * t - 1)});
    }
    double falling = 0, bent_falling = 0, bent_rising = 0;
    rising = 0;
    for (std::size_t j = 0; j < log_ratio_.size(); ++j) {
      const double t = log_ratio_[j] * (1 + tau) / (1 + log_ratio_[j] * tau);
      (log_ratio_[j] >= 1 ? falling : rising) += log_count_[j] * t;
      (log_ratio_[j] >= 1 ? bent_falling : bent_rising) += log_count_[j] * t * (1 - t);
    }
    slope_.push_back(falling + rising);
    curvature_.push_back(bent_falling + bent_rising);
    if (k > 0) {
      slope_low_.push_back(falling + rising_before);
      slope_high_.push_back(falling_before + rising);
      curvature_low_.push_back(bent_before);
    }
    falling_before = falling;
    rising_before = rising;
    bent_before = bent_falling;
  }
  slope_low_.push_back(logs_falling + rising);
  law_.nodes = nodes;
  law_.x = x_.data();
  law_.terms = terms_.data();
  law_.slope = slope_.data();
  law_.curvature = curvature_.data();
  law_.slope_low = slope_low_.data();
  law_.slope_high = slope_high_.data();
  law_.curvature_low = curvature_low_.data();
}

std::uint64_t SpectralLaw::draw(std::uint64_t seed, std::uint64_t first, std::uint64_t count,
                                double* statistics) const {
  return kernels::spectral_kernels(kernels::cpu_kernels()).draw(law_, seed, first, count, statistics);
}

double SpectralLaw::statistic(const VectorXd& response, const MatrixXd& null_columns) const {
  const VectorXd projected = response - x_basis_ * (x_basis_.transpose() * response);
  std::vector<double> s;
  double rest = projected.squaredNorm();
  for (const MatrixXd& basis : bases_) {
    s.push_back((basis.transpose() * projected).squaredNorm());
    rest -= s.back();
  }
  double dropped = 0;
  if (law_.dropped > 0) {
    VectorXd left = response;
    if (null_columns.cols() > 0) left -= null_columns * null_columns.householderQr().solve(response);
    dropped = left.squaredNorm() - projected.squaredNorm();
  }
  return kernels::spectral_kernels(kernels::cpu_kernels()).statistic(law_, s.data(), rest, dropped);
}

double SpectralLaw::zero() const {
  const double count = log_count_.front(), m = multiplicity_.front();
  // Zero where S (N - count) / (count C) <= 1.
  const double f = count / (law_.n - count) * law_.residual / m;
  return boost::math::cdf(boost::math::fisher_f(m, law_.residual), f);
}

double SpectralLaw::tail(double observed) const {
  if (!(observed > 0)) return 1;
  // The statistic grows with S / C: bisection in its logarithm.
  double low = -50, high = 50;
  const auto statistic = [&](double log_ratio) {
    const double s = std::exp(log_ratio);
    return kernels::spectral_kernels(kernels::cpu_kernels()).statistic(law_, &s, 1.0, 0.0);
  };
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (statistic(middle) < observed ? low : high) = middle;
  }
  const double m = multiplicity_.front();
  return boost::math::cdf(
      boost::math::complement(boost::math::fisher_f(m, law_.residual), std::exp(high) * law_.residual / m));
}

}  // namespace batchlmm
