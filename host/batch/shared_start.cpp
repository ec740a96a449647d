#include "host/batch/shared_start.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>
#include <algorithm>
#include <cmath>

#include "kernels/cpu.hpp"

namespace batchlmm {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// T of one stage's terms, block diagonal over the terms' columns and levels.
MatrixXd stage_covariance(const kernels::Shape& s, const double* lambda, int stage) {
  MatrixXd t = MatrixXd::Zero(s.own[stage], s.own[stage]);
  for (int b = 0; b < s.terms; ++b) {
    const kernels::TermShape& term = s.term[b];
    if (term.stage != stage) continue;
    const Eigen::Map<const Matrix> l(lambda + term.lambda, term.k, term.k);
    for (int level = 0; level < (stage == 0 ? 1 : term.levels); ++level) {
      const int at = term.column + level * term.k;
      t.block(at, at, term.k, term.k) = l * l.transpose();
    }
  }
  return t;
}

/// Cross-products of [X | own of the dense stage] that are left once the streamed levels' rows are projected out.
MatrixXd left_cross_products(const kernels::Shape& s, const kernels::Design<double>& design) {
  const int own = s.stages > 0 ? s.own[1] : 0, n = s.p + own;
  MatrixXd e(n, n);
  const double* from = design.x_e;
  for (int i = 0; i < s.p; ++i)
    for (int j = 0; j <= i; ++j) e(i, j) = e(j, i) = *from++;
  if (own > 0) from = design.own_e[1];
  for (int i = s.p; i < n; ++i)
    for (int j = 0; j <= i; ++j) e(i, j) = e(j, i) = *from++;
  return e;
}

}  // namespace

std::unique_ptr<const SharedStartData> SharedStartData::make(const Model& model, const double* lambda) {
  const kernels::Shape& s = model.shape();
  const kernels::Design<double>& design = model.design();
  if (s.stages > 1 || (s.stages == 1 && s.nodes[1] != 1)) return nullptr;
  std::unique_ptr<SharedStartData> data(new SharedStartData);
  kernels::SharedStart& shared = data->shared_;
  const int K = s.own[0], own = s.stages > 0 ? s.own[1] : 0, p = s.p, n = p + own, m = s.parameters;
  shared.columns = n;
  shared.own = own;

  const MatrixXd t0 = stage_covariance(s, lambda, 0);
  MatrixXd gamma = left_cross_products(s, design);
  data->streamed_.resize(static_cast<std::size_t>(s.nodes[0]) * K * (2 * K + n));
  double* to = data->streamed_.data();
  for (int j = 0; j < s.nodes[0]; ++j) {
    const Eigen::Map<const Matrix> c(design.streamed_c + static_cast<std::size_t>(j) * K * K, K, K),
        r(design.streamed_r + static_cast<std::size_t>(j) * K * n, K, n);
    const MatrixXd lower = c.triangularView<Eigen::Lower>();
    const Eigen::LLT<MatrixXd> factor(MatrixXd::Identity(K, K) + lower.transpose() * t0 * lower);
    if (factor.info() != Eigen::Success) return nullptr;
    const MatrixXd inverse = factor.matrixL().solve(MatrixXd::Identity(K, K));
    Eigen::Map<Matrix>(to, K, K) = inverse;
    Eigen::Map<Matrix> f(to + K * K, K, n);
    f = inverse * r;
    Eigen::Map<Matrix>(to + K * K + K * n, K, K) = lower * inverse.transpose();
    gamma += f.transpose() * f;
    to += K * (2 * K + n);
  }
  // S: the dense stage's effects, then X (eliminate.hpp: K = T (I + Gamma_11 T)^{-1}, H = K Gamma_1x).
  MatrixXd solve = MatrixXd::Zero(n, n);
  MatrixXd k = MatrixXd::Zero(own, own), h = MatrixXd::Zero(own, p);
  if (own > 0) {
    const MatrixXd t = stage_covariance(s, lambda, 1);
    const MatrixXd outer = MatrixXd::Identity(own, own) + gamma.bottomRightCorner(own, own) * t;
    k = outer.transpose().partialPivLu().solve(t).transpose();
    h = k * gamma.bottomLeftCorner(own, p);
  }
  const MatrixXd xx = gamma.topLeftCorner(p, p) - gamma.topRightCorner(p, own) * h;
  const Eigen::LLT<MatrixXd> x_factor(xx);
  if (x_factor.info() != Eigen::Success) return nullptr;
  const MatrixXd x_inverse = x_factor.solve(MatrixXd::Identity(p, p));
  solve.topLeftCorner(p, p) = x_inverse;
  solve.bottomLeftCorner(own, p) = -h * x_inverse;
  solve.topRightCorner(p, own) = solve.bottomLeftCorner(own, p).transpose();
  solve.bottomRightCorner(own, own) = k + h * x_inverse * h.transpose();
  data->solve_.resize(static_cast<std::size_t>(n) * n);
  data->cross_.resize(static_cast<std::size_t>(own) * n);
  Eigen::Map<Matrix>(data->solve_.data(), n, n) = solve;
  Eigen::Map<Matrix>(data->cross_.data(), own, n) = gamma.bottomRows(own);
  shared.streamed = data->streamed_.data();
  shared.solve = data->solve_.data();
  shared.cross = data->cross_.data();

  // The shared parts of the derivatives, from those of any one response: gradient = trace - (N / r^2) s, and
  // hessian - 2 information = (trace part) + (N / r^4) s s'.
  std::vector<double> response(s.response, 1.0);
  for (int i = 0; i < s.response; ++i) response[i] = std::sin(1.0 + i);
  response.back() = s.response;
  const kernels::CpuKernels& cpu = kernels::cpu_kernels();
  std::vector<double> memory(cpu.scratch(s));
  const kernels::ScalarEvaluation e = cpu.evaluate(s, design, response.data(), lambda, memory.data(), true);
  if (!e.ok) return nullptr;
  kernels::Arena<double*> count{nullptr};
  (void)kernels::make_shared_start_scratch(s, count);
  std::vector<double> scratch(count.used);
  kernels::Arena<double*> arena{scratch.data()};
  const auto x = kernels::make_shared_start_scratch(s, arena);
  const double r2 = kernels::shared_sums<double>(s, shared, response.data(), x);
  if (!(std::abs(r2 - e.r2) <= 1e-8 * e.r2)) return nullptr;
  const double n_over_r2 = s.degrees / r2;
  VectorXd trace(m);
  for (int i = 0; i < m; ++i) trace[i] = e.gradient[i] + n_over_r2 * x.s[i];
  // The expected Hessian: minus the trace part, less what estimating sigma takes.
  std::vector<double> gradient(m, 0.0), expected(kernels::triangle_size(m)), none(kernels::triangle_size(m), 0.0);
  for (int i = 0; i < m; ++i)
    for (int j = 0; j <= i; ++j) {
      const int at = kernels::triangle(i, j);
      expected[at] =
          n_over_r2 / r2 * x.s[i] * x.s[j] + 2 * e.information[at] - e.hessian[at] - trace[i] * trace[j] / s.degrees;
    }
  // By the coordinates.
  struct {
    double *lambda, *gradient, *hessian, *information;
  } const w{nullptr, gradient.data(), expected.data(), none.data()};
  kernels::Arena<double*> newton_count{nullptr};
  (void)kernels::make_newton<double>(s, newton_count);
  std::vector<double> newton_memory(newton_count.used);
  kernels::Arena<double*> newton_arena{newton_memory.data()};
  const auto newton = kernels::make_newton<double>(s, newton_arena);
  kernels::to_coordinates<double>(s, lambda, newton.next, newton.small);
  const auto by_coordinates = [&] {
    kernels::by_coordinates<double>(s, w, newton);
    kernels::by_charts<double>(s, newton);
  };
  by_coordinates();
  MatrixXd information(m, m);
  for (int i = 0; i < m; ++i)
    for (int j = 0; j <= i; ++j) information(i, j) = information(j, i) = newton.x_hessian[kernels::triangle(i, j)];
  MatrixXd jacobian(m, m);  // coordinates x entries of T
  for (int i = 0; i < m; ++i) {
    std::fill(gradient.begin(), gradient.end(), 0.0);
    gradient[i] = 1;
    by_coordinates();
    for (int a = 0; a < m; ++a) jacobian(a, i) = newton.x_gradient[a];
  }
  information.diagonal() *= 1 + 1e-9;
  const Eigen::LLT<MatrixXd> factor(information);
  if (factor.info() != Eigen::Success) return nullptr;
  const MatrixXd step = factor.solve(jacobian);
  const VectorXd offset = -step * trace;
  if (!step.allFinite() || !offset.allFinite()) return nullptr;
  data->map_.resize(static_cast<std::size_t>(m) * m);
  Eigen::Map<Matrix>(data->map_.data(), m, m) = step;
  data->offset_.assign(offset.data(), offset.data() + m);
  data->l_.assign(newton.next.l, newton.next.l + s.lambdas);
  data->pivot_.assign(newton.next.pivot, newton.next.pivot + s.lambdas);
  data->w_.assign(newton.next.w, newton.next.w + s.terms);
  shared.map = data->map_.data();
  shared.offset = data->offset_.data();
  shared.l = data->l_.data();
  shared.pivot = data->pivot_.data();
  shared.w = data->w_.data();
  return data;
}

}  // namespace batchlmm
