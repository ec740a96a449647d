#include "host/inference/fit.hpp"

#include <fmt/format.h>
#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <cmath>
#include <limits>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/batch/starts.hpp"
#include "host/inference/linear_fit.hpp"
#include "host/model/check_model.hpp"
#include "host/model/memory.hpp"
#include "host/model/model.hpp"
#include "host/model/moment_start.hpp"
#include "host/model/optimize.hpp"

namespace batchlmm {
namespace {

/// lme4's isSingular(tol = 1e-4).
constexpr double singular_theta = 1e-4;

/// Multiply-adds of an evaluation from which the user is told; those that a core makes in a second of matrix products.
constexpr double long_evaluation = 1e11, products_rate = 2e10;

TermCovariance term_covariance(const Eigen::MatrixXd& lambda, double sigma) {
  TermCovariance term;
  const Eigen::Index k = lambda.rows();
  term.lambda = lambda;
  term.sd = sigma * lambda.rowwise().norm();
  term.corr = Eigen::MatrixXd::Identity(k, k);
  for (Eigen::Index i = 0; i < k; ++i)
    for (Eigen::Index j = 0; j < k; ++j) {
      const double scale = lambda.row(i).norm() * lambda.row(j).norm();
      if (i != j)
        term.corr(i, j) =
            scale > 0 ? lambda.row(i).dot(lambda.row(j)) / scale : std::numeric_limits<double>::quiet_NaN();
    }
  term.boundary = (lambda.diagonal().array() < singular_theta).any();
  return term;
}

}  // namespace

Fit fit(std::shared_ptr<const ModelMatrices> matrices, Method method, const Warn& warn) {
  if (matrices->random.empty()) return linear_fit(std::move(matrices), method);
  check_model(*matrices);
  return fit(Model(std::move(matrices), method), warn);
}

Fit fit(const Model& model, const Warn& warn) {
  const ModelMatrices& m = model.matrices();
  const kernels::Shape& s = model.shape();
  const Eigen::Index n = m.y.size(), p = m.X.cols();

  // Large fitted values are taken off first, by ordinary least squares: the criterion does not change, and keeps its
  // digits.
  const Eigen::VectorXd y = m.y - m.offset;
  Eigen::VectorXd ols = Eigen::VectorXd::Zero(p);
  if (p > 0) ols = model.x_gauge().columns.householderQr().solve(y);
  const Eigen::VectorXd centered = y - model.x_gauge().columns * ols;

  const std::unique_ptr<Criterion> criterion = make_criterion(model, centered);
  if (const CriterionCost cost = criterion->cost(); warn && cost.operations > long_evaluation)
    warn(fmt::format(
        "\"{}\" takes {:.1e} multiply-adds an evaluation, some {:.0f} s on one core, and {} of memory; a fit "
        "takes 5 to 20 evaluations",
        m.formula, cost.operations, cost.operations / products_rate, format_bytes(cost.bytes)));
  std::vector<std::vector<double>> starts = default_starts(model);
  // Where one evaluation takes long, a start that knows the response.
  if (starts.size() == 1) starts.front() = moment_start(model, centered);
  const Optimum optimum = minimize(*criterion, model, starts);

  Fit fit;
  fit.model = model.matrices_pointer();
  fit.method = s.reml ? Method::reml : Method::ml;
  fit.criterion = optimum.value.deviance;
  fit.log_likelihood = -0.5 * fit.criterion;
  fit.evaluations = optimum.evaluations;
  fit.gradient_norm = optimum.gradient_norm;
  fit.converged = optimum.certified && optimum.value.ok;
  if (!optimum.value.ok)
    throw ComputationError("the criterion of \"" + m.formula +
                           "\" cannot be evaluated: the residual variance vanishes or a factorization failed");
  if (!fit.converged) fit.message = "the optimizer stopped at a point that is not certified as a minimum";
  fit.sigma = std::sqrt(optimum.value.r2 / s.degrees);

  const Eigen::MatrixXd& map = model.x_gauge().map;
  fit.beta = map.triangularView<Eigen::Upper>().solve(criterion->beta() + ols);
  const Eigen::MatrixXd inverse = criterion->x_information().llt().solve(Eigen::MatrixXd::Identity(p, p));
  const Eigen::MatrixXd half = map.triangularView<Eigen::Upper>().solve(inverse);
  fit.vcov = fit.sigma * fit.sigma * map.triangularView<Eigen::Upper>().solve(half.transpose());
  fit.vcov = (0.5 * (fit.vcov + fit.vcov.transpose())).eval();

  fit.random.resize(m.random.size());
  fit.modes.resize(m.random.size());
  fit.fitted = m.offset + m.X * fit.beta;
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k, t = model.term_of(b);
    Eigen::MatrixXd lambda(k, k);
    for (int i = 0; i < k; ++i)
      for (int j = 0; j < k; ++j) lambda(i, j) = optimum.lambda[s.term[b].lambda + i * k + j];
    fit.random[t] = term_covariance(model.to_user_lambda(b, lambda), fit.sigma);
    // b = T Z'Py, in the term's gauge; then b_user = map^{-1} b.
    const Eigen::MatrixXd modes = criterion->modes(b) * lambda * lambda.transpose();
    fit.modes[t] = model.z_gauge(t).map.triangularView<Eigen::Upper>().solve(modes.transpose()).transpose();
    const RandomTerm& term = m.random[t];
    for (Eigen::Index i = 0; i < n; ++i) fit.fitted[i] += term.z.row(i).dot(fit.modes[t].row(term.level_of_row[i]));
  }
  fit.scaled_residuals = (m.y - fit.fitted) / fit.sigma;

  std::vector<double> theta;
  for (const TermCovariance& term : fit.random)
    for (Eigen::Index j = 0; j < term.lambda.cols(); ++j)
      for (Eigen::Index i = j; i < term.lambda.rows(); ++i) theta.push_back(term.lambda(i, j));
  fit.theta = Eigen::Map<const Eigen::VectorXd>(theta.data(), static_cast<Eigen::Index>(theta.size()));
  for (const TermCovariance& term : fit.random) fit.singular = fit.singular || term.boundary;
  fit.parameters = static_cast<int>(p + fit.theta.size() + 1);
  fit.aic = fit.criterion + 2.0 * fit.parameters;
  fit.bic = fit.criterion + std::log(static_cast<double>(n)) * fit.parameters;
  return fit;
}

Fit::operator FittedModel() const {
  FittedModel fitted{model.get(), method, model->y - model->offset, {}, beta, sigma};
  for (const TermCovariance& term : random) fitted.lambda.push_back(term.lambda);
  return fitted;
}

}  // namespace batchlmm
