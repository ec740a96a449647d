#include "host/inference/linear_fit.hpp"

#include <Eigen/QR>
#include <cmath>
#include <numbers>

#include "batchlmm/error.hpp"
#include "host/model/check_model.hpp"

namespace batchlmm {

Fit linear_fit(std::shared_ptr<const ModelMatrices> matrices, Method method) {
  check_model(*matrices);
  const ModelMatrices& m = *matrices;
  const Eigen::Index n = m.y.size(), p = m.X.cols();
  const Eigen::VectorXd y = m.y - m.offset;
  Fit fit;
  fit.method = method;
  fit.beta = Eigen::VectorXd::Zero(p);
  fit.vcov = Eigen::MatrixXd::Zero(p, p);
  double log_determinant = 0;  // of X'X
  if (p > 0) {
    const Eigen::HouseholderQR<Eigen::MatrixXd> qr(m.X);
    const Eigen::MatrixXd r = qr.matrixQR().topRows(p).triangularView<Eigen::Upper>();
    fit.beta = qr.solve(y);
    fit.beta += qr.solve(y - m.X * fit.beta);
    const Eigen::MatrixXd inverse = r.triangularView<Eigen::Upper>().solve(Eigen::MatrixXd::Identity(p, p));
    fit.vcov = inverse * inverse.transpose();
    log_determinant = 2 * r.diagonal().cwiseAbs().array().log().sum();
  }
  const Eigen::VectorXd residuals = y - m.X * fit.beta;
  const double rss = residuals.squaredNorm();
  const auto degrees = static_cast<double>(method == Method::reml ? n - p : n);
  if (!(rss > 0))
    throw ComputationError("the criterion of \"" + m.formula +
                           "\" cannot be evaluated: the residual variance vanishes");
  fit.criterion = degrees * (1 + std::log(2 * std::numbers::pi * rss / degrees));
  if (method == Method::reml) fit.criterion += log_determinant;
  fit.log_likelihood = -0.5 * fit.criterion;
  fit.sigma = std::sqrt(rss / degrees);
  fit.vcov *= fit.sigma * fit.sigma;
  fit.fitted = m.offset + m.X * fit.beta;
  fit.scaled_residuals = (m.y - fit.fitted) / fit.sigma;
  fit.parameters = static_cast<int>(p) + 1;
  fit.aic = fit.criterion + 2.0 * fit.parameters;
  fit.bic = fit.criterion + std::log(static_cast<double>(n)) * fit.parameters;
  fit.converged = true;
  fit.evaluations = 1;
  fit.model = std::move(matrices);
  return fit;
}

}  // namespace batchlmm
