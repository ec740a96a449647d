#include "host/inference/diagnostics.hpp"

#include <cmath>
#include <limits>

namespace batchlmm {

using Eigen::Index;
using Eigen::VectorXd;

RowDiagnostics row_diagnostics(const Fit& fit, const JointCovariance& joint) {
  const ModelMatrices& m = *fit.model;
  const double missing = std::numeric_limits<double>::quiet_NaN(), p = static_cast<double>(m.X.cols());
  RowDiagnostics d;
  d.fitted = fit.fitted;
  d.fixed = m.offset + m.X * fit.beta;
  d.residual = m.y - fit.fitted;
  d.scaled = fit.scaled_residuals;
  d.hat = joint.leverages();
  d.effective_parameters = d.hat.sum();
  d.standardized.resize(d.hat.size());
  d.cooks_distance.resize(d.hat.size());
  for (Index i = 0; i < d.hat.size(); ++i) {
    const double left = 1 - d.hat[i];
    d.standardized[i] = left > 0 ? d.scaled[i] / std::sqrt(left) : missing;
    d.cooks_distance[i] = left > 0 && p > 0 ? d.scaled[i] * d.scaled[i] * d.hat[i] / (left * left * p) : missing;
  }
  return d;
}

ExplainedVariance explained_variance(const Fit& fit) {
  const ModelMatrices& m = *fit.model;
  const auto n = static_cast<double>(m.y.size());
  ExplainedVariance v;
  const VectorXd mean = m.X * fit.beta;
  v.fixed = n > 1 ? (mean.array() - mean.mean()).square().sum() / (n - 1) : 0;
  double random = 0;
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    v.random.push_back(fit.sigma * fit.sigma * (m.random[t].z * fit.random[t].lambda).squaredNorm() / n);
    random += v.random.back();
  }
  v.residual = fit.sigma * fit.sigma;
  const double all = v.fixed + random + v.residual;
  v.r2_marginal = v.fixed / all;
  v.r2_conditional = (v.fixed + random) / all;
  v.icc_adjusted = random / (random + v.residual);
  v.icc_unadjusted = random / all;
  return v;
}

}  // namespace batchlmm
