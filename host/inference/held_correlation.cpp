#include "host/inference/held_correlation.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/shape.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// A free entry x of the factors: the term's lambda is the sum of x * direction.
struct Entry {
  int term = 0;  ///< kernel term
  MatrixXd direction;
};

/// One Newton iteration's view of the criterion.
struct Point {
  CriterionValue value;
  VectorXd gradient;
  MatrixXd hessian;
};

class Search {
public:
  Search(const Model& model, Criterion& criterion, int term, int row, int column, double correlation)
      : model_(model), criterion_(criterion), term_(term), row_(row), column_(column), rho_(correlation) {
    const kernels::Shape& s = model.shape();
    for (int b = 0; b < s.terms; ++b) {
      const int k = s.term[b].k;
      const auto unit = [&](int i, int j) {
        MatrixXd e = MatrixXd::Zero(k, k);
        e(i, j) = 1;
        return e;
      };
      if (b != term) {
        for (int i = 0; i < k; ++i)
          for (int j = 0; j <= i; ++j) entries_.push_back({b, unit(i, j)});
        continue;
      }
      // a and b stand first.
      entries_.insert(entries_.begin(),
                      {Entry{b, unit(column, 0)}, Entry{b, rho_ * unit(row, 0) + rest() * unit(row, 1)}});
      int place = 2;
      for (int i = 0; i < k; ++i) {
        if (i == row || i == column) continue;
        for (int j = 0; j <= place; ++j) entries_.push_back({b, unit(i, j)});
        ++place;
      }
    }
  }

  HeldCorrelationMinimum run(const std::vector<MatrixXd>& start) {
    HeldCorrelationMinimum result;
    VectorXd x = start_of(start);
    const double smallest_a = 1e-6 * x[0], smallest_b = 1e-6 * x[1];
    Point here = evaluate(x);
    result.evaluations = 1;
    bool done = false, definite = false;
    constexpr int most_evaluations = 200;
    while (here.value.ok && !done && result.evaluations < most_evaluations) {
      const VectorXd scale = here.hessian.diagonal().cwiseAbs().cwiseMax(1e-300).cwiseSqrt().cwiseInverse();
      const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(scale.asDiagonal() * here.hessian * scale.asDiagonal());
      const double floor = 1e-9 * eigen.eigenvalues().cwiseAbs().maxCoeff();
      definite = eigen.eigenvalues()[0] > floor;
      const VectorXd along = eigen.eigenvectors().transpose() * scale.cwiseProduct(here.gradient);
      VectorXd weights = -along.cwiseQuotient(eigen.eigenvalues().cwiseAbs().cwiseMax(floor));
      // At a saddle the gradient does not say which way is down: either is.
      if (!definite && eigen.eigenvalues()[0] < -floor && std::abs(along[0]) < 1e-6) weights[0] = 0.1;
      VectorXd step = scale.cwiseProduct(eigen.eigenvectors() * weights);
      const double predicted = -0.5 * here.gradient.dot(step);
      // a and b stay positive.
      double t = 1;
      for (int e = 0; e < 2; ++e)
        if (step[e] < -0.8 * x[e]) t = std::min(t, -0.8 * x[e] / step[e]);
      const double noise = 1e-12 * (std::abs(here.value.deviance) + 1);
      if (definite && t == 1 && predicted < 1e-13) break;
      bool moved = false;
      for (; t > 1e-12 && result.evaluations < most_evaluations; t *= 0.3) {
        const VectorXd trial = x + t * step;
        Point next = evaluate(trial);
        ++result.evaluations;
        if (!next.value.ok || next.value.deviance > here.value.deviance + 1e-4 * t * here.gradient.dot(step) + noise)
          continue;
        done = definite && t == 1 && predicted < 1e-8;
        x = trial;
        here = std::move(next);
        moved = true;
        break;
      }
      if (x[0] < smallest_a || x[1] < smallest_b) {
        result.at_zero = true;
        return result;
      }
      if (!moved) break;
    }
    result.deviance = here.value.deviance;
    result.r2 = here.value.r2;
    result.certified = here.value.ok && is_minimum(here);
    result.slope = slope(x, here);
    result.lambda = user_lambda(x);
    return result;
  }

private:
  [[nodiscard]] double rest() const { return std::sqrt(std::max(0.0, (1 - rho_) * (1 + rho_))); }

  /// The entries of a start: a and b from its variances, the other rows from a factor of its T with those two foremost.
  [[nodiscard]] VectorXd start_of(const std::vector<MatrixXd>& start) const {
    const kernels::Shape& s = model_.shape();
    const int k = s.term[term_].k;
    std::vector<int> order{column_, row_};
    for (int i = 0; i < k; ++i)
      if (i != row_ && i != column_) order.push_back(i);
    const MatrixXd& l = start[model_.term_of(term_)];
    MatrixXd t(k, k);
    for (int i = 0; i < k; ++i)
      for (int j = 0; j < k; ++j) t(i, j) = l.row(order[i]).dot(l.row(order[j]));
    const double largest = std::max(t.diagonal().maxCoeff(), 1e-8 / s.term[term_].scale);
    t.diagonal() = (t.diagonal() * (1 + 1e-6)).cwiseMax(1e-6 * largest);
    const MatrixXd factor = t.llt().matrixL();
    VectorXd x(static_cast<Index>(entries_.size()));
    Index e = 2;
    x[0] = std::sqrt(t(0, 0));
    x[1] = std::sqrt(t(1, 1));
    for (int b = 0; b < s.terms; ++b) {
      if (b == term_) {
        for (int i = 2; i < k; ++i)
          for (int j = 0; j <= i; ++j) x[e++] = factor(i, j);
      } else {
        const MatrixXd& other = start[model_.term_of(b)];
        for (int i = 0; i < s.term[b].k; ++i)
          for (int j = 0; j <= i; ++j) x[e++] = other(i, j);
      }
    }
    return x;
  }

  /// User's factors by kernel term, any square ones.
  [[nodiscard]] std::vector<MatrixXd> factors(const VectorXd& x) const {
    const kernels::Shape& s = model_.shape();
    std::vector<MatrixXd> out(s.terms);
    for (int b = 0; b < s.terms; ++b) out[b] = MatrixXd::Zero(s.term[b].k, s.term[b].k);
    for (std::size_t e = 0; e < entries_.size(); ++e)
      out[entries_[e].term] += x[static_cast<Index>(e)] * entries_[e].direction;
    return out;
  }
  [[nodiscard]] std::vector<MatrixXd> user_lambda(const VectorXd& x) const {
    const std::vector<MatrixXd> f = factors(x);
    std::vector<MatrixXd> out(f.size());
    for (int b = 0; b < model_.shape().terms; ++b)
      out[model_.term_of(b)] = model_.to_user_lambda(b, model_.from_user_lambda(b, f[b]));
    return out;
  }

  Point evaluate(const VectorXd& x) {
    const kernels::Shape& s = model_.shape();
    const std::vector<MatrixXd> f = factors(x);
    std::vector<double> lambda(s.lambdas, 0.0);
    kernel_.resize(f.size());
    for (int b = 0; b < s.terms; ++b) {
      kernel_[b] = model_.from_user_lambda(b, f[b]);
      for (int i = 0; i < s.term[b].k; ++i)
        for (int j = 0; j < s.term[b].k; ++j) lambda[s.term[b].lambda + i * s.term[b].k + j] = kernel_[b](i, j);
    }
    Point point;
    point.value = criterion_.evaluate(lambda, true);
    if (!point.value.ok) return point;
    // dT = M lambda' + lambda M' for a direction M, d^2 T = M N' + N M'.
    const auto m = static_cast<Index>(entries_.size());
    MatrixXd by_entry = MatrixXd::Zero(s.parameters, m);
    std::vector<MatrixXd> directions(entries_.size());
    for (Index e = 0; e < m; ++e) {
      const Entry& entry = entries_[e];
      directions[e] = model_.from_user_lambda(entry.term, entry.direction);
      by_entry.col(e) = by_direction(entry.term, directions[e]);
    }
    point.gradient = by_entry.transpose() * point.value.gradient;
    point.hessian = by_entry.transpose() * point.value.hessian * by_entry;
    for (Index e = 0; e < m; ++e) {
      const kernels::TermShape& term = s.term[entries_[e].term];
      const MatrixXd g = symmetric(term, point.value.gradient) * directions[e];
      for (Index f2 = 0; f2 < m; ++f2)
        if (entries_[e].term == entries_[f2].term) point.hessian(e, f2) += 2 * g.cwiseProduct(directions[f2]).sum();
    }
    point.hessian = (0.5 * (point.hessian + point.hessian.transpose())).eval();
    return point;
  }

  /// dT's entries, packed as the kernels' parameters, where the term's kernel factor moves along `direction`.
  [[nodiscard]] VectorXd by_direction(int b, const MatrixXd& direction) const {
    const kernels::TermShape& term = model_.shape().term[b];
    VectorXd out = VectorXd::Zero(model_.shape().parameters);
    const MatrixXd product = direction * kernel_[b].transpose();
    for (int i = 0; i < term.k; ++i)
      for (int j = 0; j <= i; ++j) out[term.parameter + kernels::triangle(i, j)] = product(i, j) + product(j, i);
    return out;
  }
  /// G of a term from the packed gradient, whose off-diagonal entries count both places.
  static MatrixXd symmetric(const kernels::TermShape& term, const VectorXd& gradient) {
    MatrixXd g(term.k, term.k);
    for (int i = 0; i < term.k; ++i)
      for (int j = 0; j <= i; ++j)
        g(i, j) = g(j, i) = (i == j ? 1 : 0.5) * gradient[term.parameter + kernels::triangle(i, j)];
    return g;
  }

  /// No direction goes down: neither among the entries nor, for the terms that nothing is held of, in T's cone.
  [[nodiscard]] bool is_minimum(const Point& point) const {
    constexpr double rounding = 1e-7;
    const VectorXd scale = point.hessian.diagonal().cwiseAbs().cwiseMax(1e-300).cwiseSqrt().cwiseInverse();
    const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(scale.asDiagonal() * point.hessian * scale.asDiagonal());
    if (!(eigen.eigenvalues()[0] > -rounding)) return false;
    const VectorXd along = eigen.eigenvectors().transpose() * scale.cwiseProduct(point.gradient);
    // Twice what a step would still gain.
    if (along.cwiseAbs2().cwiseQuotient(eigen.eigenvalues().cwiseMax(rounding)).sum() > 1e-8) return false;
    const kernels::Shape& s = model_.shape();
    for (int b = 0; b < s.terms; ++b) {
      if (b == term_) continue;
      VectorXd size = kernel_[b].rowwise().squaredNorm();
      size = (size.array() + 1 / s.term[b].scale).sqrt();
      const MatrixXd g = size.asDiagonal() * symmetric(s.term[b], point.value.gradient) * size.asDiagonal();
      if (Eigen::SelfAdjointEigenSolver<MatrixXd>(g, Eigen::EigenvaluesOnly).eigenvalues()[0] < -1e-4) return false;
    }
    return true;
  }

  /// The derivative of the minimum by the correlation: that of b's direction.
  [[nodiscard]] double slope(const VectorXd& x, const Point& point) const {
    if (rest() == 0) return std::numeric_limits<double>::quiet_NaN();
    const int k = model_.shape().term[term_].k;
    MatrixXd direction = MatrixXd::Zero(k, k);
    direction(row_, 0) = x[1];
    direction(row_, 1) = -x[1] * rho_ / rest();
    return point.value.gradient.dot(by_direction(term_, model_.from_user_lambda(term_, direction)));
  }

  const Model& model_;
  Criterion& criterion_;
  int term_, row_, column_;
  double rho_;
  std::vector<Entry> entries_;
  std::vector<MatrixXd> kernel_;  ///< the kernels' factors at the last evaluation
};

}  // namespace

HeldCorrelationMinimum minimize_at_correlation(const Model& model, Criterion& criterion, int kernel_term, int row,
                                               int column, double correlation, const std::vector<MatrixXd>& start) {
  return Search(model, criterion, kernel_term, row, column, correlation).run(start);
}

}  // namespace batchlmm
