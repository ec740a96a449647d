/// @file
/// A fit in one row: what broom.mixed's `glance` and performance's `model_performance` give.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "host/inference/diagnostics.hpp"

namespace batchlmm {

struct Glance {
  std::string formula;
  Method method = Method::reml;
  std::size_t nobs = 0, dropped = 0;
  std::vector<std::pair<std::string, std::size_t>> groups;  ///< grouping factors and their numbers of levels
  double sigma = 0, log_likelihood = 0, aic = 0, aicc = 0, bic = 0;
  double criterion = 0;    ///< REML criterion or deviance
  double df_residual = 0;  ///< nobs - npar, as broom.mixed
  int npar = 0;
  double effective_parameters = 0;  ///< trace of the hat matrix
  double rmse = 0;                  ///< of the residuals
  std::vector<std::string> terms;   ///< "(1 + Days | Subject)", as ExplainedVariance::random
  ExplainedVariance explained;
  bool singular = false, converged = false;
};

/// @throws ModelError where the leverages find no room in memory
Glance glance(const Fit& fit);

std::string glance_text(const Glance& glance, const std::string& data);
std::string glance_json(const Glance& glance);
/// One row under broom.mixed's names: nobs, sigma, logLik, AIC, BIC, REMLcrit or deviance, df.residual; then npar,
/// AICc, RMSE, R2_conditional, R2_marginal, ICC_adjusted, ICC_unadjusted, effective.parameters.
std::string glance_csv(const Glance& glance);

}  // namespace batchlmm
