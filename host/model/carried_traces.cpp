#include "host/model/carried_traces.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>

#include "host/model/blas.hpp"

namespace batchlmm {
namespace {

using Eigen::MatrixXd;

/// The part of the Hessian and of twice the information that is not t: (N / r^4) s s'.
MatrixXd squares(const kernels::Shape& s, const CriterionValue& value) {
  return (s.degrees / (value.r2 * value.r2)) * value.forms * value.forms.transpose();
}

}  // namespace

MatrixXd CarriedTraces::factor(int term, const std::vector<double>& lambda) const {
  const kernels::TermShape& t = shape_->term[term];
  const Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> l(
      lambda.data() + t.lambda, t.k, t.k);
  MatrixXd sum = l * l.transpose();
  sum.diagonal().array() += 1 / t.scale;
  return sum.llt().matrixL();
}

void CarriedTraces::take(const std::vector<double>& lambda, const CriterionValue& value) {
  factor_.clear();
  for (int b = 0; b < shape_->terms; ++b) factor_.push_back(factor(b, lambda));
  traces_ = 2 * value.information + squares(*shape_, value) - value.hessian;
}

bool CarriedTraces::near(const std::vector<double>& lambda) const {
  if (empty()) return false;
  for (int b = 0; b < shape_->terms; ++b) {
    const MatrixXd ratio = factor(b, lambda).triangularView<Eigen::Lower>().solve(factor_[b]);
    if (!ratio.allFinite()) return false;
    const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(ratio * ratio.transpose(), Eigen::EigenvaluesOnly);
    if (eigen.eigenvalues()[0] < 0.5 || eigen.eigenvalues()[ratio.rows() - 1] > 2) return false;
  }
  return true;
}

void CarriedTraces::apply(const std::vector<double>& lambda, CriterionValue& value) const {
  // E_a at lambda counts as M E_a M' where t was taken, M = A_0 A^{-1}.
  MatrixXd map = MatrixXd::Zero(shape_->parameters, shape_->parameters);
  for (int b = 0; b < shape_->terms; ++b) {
    const kernels::TermShape& t = shape_->term[b];
    const MatrixXd m = factor(b, lambda).triangularView<Eigen::Lower>().solve<Eigen::OnTheRight>(MatrixXd(factor_[b]));
    for (int i = 0; i < t.k; ++i)
      for (int j = 0; j <= i; ++j)
        for (int r = 0; r < t.k; ++r)
          for (int c = 0; c <= r; ++c)
            map(t.parameter + kernels::triangle(r, c), t.parameter + kernels::triangle(i, j)) =
                i == j ? m(r, i) * m(c, i) : m(r, i) * m(c, j) + m(r, j) * m(c, i);
  }
  const int m = shape_->parameters;
  const double one = 1, minus = -1, zero = 0;
  MatrixXd half(m, m);
  dgemm_("N", "N", &m, &m, &m, &one, traces_.data(), &m, map.data(), &m, &zero, half.data(), &m);
  value.hessian = 2 * value.information + squares(*shape_, value);
  dgemm_("T", "N", &m, &m, &m, &minus, map.data(), &m, half.data(), &m, &one, value.hessian.data(), &m);
  value.exact = true;
}

}  // namespace batchlmm
