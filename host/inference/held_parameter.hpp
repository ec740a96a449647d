/// @file
/// The ML deviance's minimum with one parameter held at a value: a point of its profile likelihood.
///
/// The deviance is log|L|^2 + n log(2 pi sigma^2) + r^2 / sigma^2 in T and sigma. What is held is put in so that the
/// rest is free, and the optimizer of ordinary fits, with its boundaries and its certificate, serves:
/// sigma as it is; a standard deviation c by sigma^2 = c^2 / T_ii; a fixed effect by a response and an X without its
/// column. A correlation makes two rows of a factor of T, (a) and b (rho, sqrt(1 - rho^2)); the deviance, sigma
/// profiled out, is minimized over the factors' other entries by Newton's method.
#pragma once

#include <memory>
#include <vector>

#include "host/inference/parameters.hpp"

namespace batchlmm {

/// Values of all parameters of a model.
struct ParameterState {
  std::vector<Eigen::MatrixXd> lambda;  ///< per term k x k, lower triangular, as Fit::random
  double sigma = 0;
  Eigen::VectorXd beta;
};

/// A constrained minimum.
struct HeldMinimum {
  double deviance = 0;
  double slope = 0;        ///< derivative of the minimal deviance by the held value; NaN where it has none
  bool certified = false;  ///< it is a minimum, as Optimum::certified says
  int evaluations = 0;
  ParameterState state;
};

/// One parameter, to be held at any value.
class HeldParameter {
public:
  virtual ~HeldParameter() = default;
  /// @param value  inside the parameter's range; 0 for a standard deviation, -1 and 1 for a correlation are allowed
  /// @param near   a minimum with the parameter held at a value near by
  virtual HeldMinimum minimum(double value, const ParameterState& near) = 0;
};

/// Holds parameters of one model. Keeps what they share.
class ParameterHolder {
public:
  /// @param matrices  checked by check_model
  explicit ParameterHolder(std::shared_ptr<const ModelMatrices> matrices);
  ParameterHolder(const ParameterHolder&) = delete;
  ParameterHolder& operator=(const ParameterHolder&) = delete;
  ~ParameterHolder();

  /// The minimum with no parameter held. @param near  where to start; null: as every fit
  HeldMinimum unconstrained(const ParameterState* near = nullptr);
  /// @throws ModelError where what is left is no model that can be fitted
  std::unique_ptr<HeldParameter> hold(const Parameter& parameter);

private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace batchlmm
