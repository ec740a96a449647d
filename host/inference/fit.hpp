/// @file
/// One fitted linear mixed model, in the user's coordinates.
#pragma once

#include <Eigen/Core>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "host/model/fitted_model.hpp"
#include "host/model/method.hpp"
#include "host/model/model_matrices.hpp"

namespace batchlmm {

class Model;

/// The covariance parameters of one random-effects term.
struct TermCovariance {
  Eigen::MatrixXd lambda;  ///< k x k, lower triangular template of the relative covariance factor
  Eigen::VectorXd
      sd;  ///< k standard deviations (response units per unit of the term's column): sigma * row norms of lambda
  Eigen::MatrixXd corr;  ///< k x k correlations; NaN where a standard deviation is 0 (as lme4 prints NaN)
  bool boundary =
      false;  ///< lambda is singular (relative tolerance 1e-4 on a diagonal entry of theta, as lme4's isSingular)
};

struct Fit {
  std::shared_ptr<const ModelMatrices> model;
  Method method = Method::reml;
  double criterion = 0;       ///< REML criterion or ML deviance (-2 log-likelihood)
  double log_likelihood = 0;  ///< -criterion / 2 (restricted for REML, as lme4)
  int parameters = 0;         ///< p + length(theta) + 1: lme4's npar
  double aic = 0, bic = 0;    ///< BIC with log(n), as lme4
  Eigen::VectorXd theta;      ///< lme4's order
  double sigma = 0;
  Eigen::VectorXd beta;                ///< p
  Eigen::MatrixXd vcov;                ///< p x p
  std::vector<TermCovariance> random;  ///< as model->random
  std::vector<Eigen::MatrixXd> modes;  ///< per term: levels x k, conditional modes b (ranef)
  Eigen::VectorXd fitted;              ///< n, conditional fitted values (offset included)
  Eigen::VectorXd scaled_residuals;    ///< n, (y - fitted) / sigma
  bool singular = false;
  bool converged = false;
  int evaluations = 0;
  double gradient_norm = 0;  ///< largest violation of the optimality conditions in scaled coordinates (dimensionless)
  std::string message;       ///< why not converged; empty when it is

  /// The estimates alone, as tests and derivatives take them. The model must outlive it.
  operator FittedModel() const;  // NOLINT(google-explicit-constructor): a fit is a fitted model
};

/// Takes one line for the user.
using Warn = std::function<void(const std::string& message)>;

/// Fits by REML or ML: the optimum is certified (section "Boundary" of the design) and searched from several starts.
/// A model without random effects is fitted in closed form.
/// @throws ModelError (more random effects than rows, a constant response, ...), ComputationError
/// @param warn  called before the work starts where it is long; may be empty
Fit fit(std::shared_ptr<const ModelMatrices> model, Method method, const Warn& warn = {});
/// The same for a model that is assembled already (and was checked).
Fit fit(const Model& model, const Warn& warn = {});

}  // namespace batchlmm
