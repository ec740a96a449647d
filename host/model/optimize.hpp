/// @file
/// The optimum of one model's criterion: the kernels' Newton iteration for a single lane, from several starting points.
#pragma once

#include <cstdint>
#include <vector>

#include "host/model/carried_traces.hpp"
#include "host/model/criterion.hpp"

namespace batchlmm {

struct Optimum {
  std::vector<double> lambda;  ///< all kernel terms' factors at the optimum, row-major
  CriterionValue value;        ///< there, with derivatives
  bool certified =
      false;  ///< the Hessian is positive definite on the free coordinates, the bounds' multipliers are not negative
  std::uint32_t boundary = 0;  ///< bit b: the kernels' term b is singular
  int evaluations = 0;
  double gradient_norm = 0;  ///< largest |gradient| over the free coordinates, each on the scale of its standard error
};

struct MinimizeOptions {
  double finish = 1e-13;  ///< the last step predicts less than this decrease of the deviance
  /// Not 0: the error of the deviance that is found. The last step may then predict more than `finish`, where the steps
  /// before it foretell that it is that good.
  double error = 0;
  /// Once an exact Hessian has been taken its traces serve near by, also where another one would be cheap.
  bool carry = false;
  /// Not null: the criterion at the first starting point, already evaluated.
  const CriterionValue* first = nullptr;
  /// Not null: used near where they were taken, in place of exact Hessians.
  const CarriedTraces* traces = nullptr;
  bool final_evaluation = true;  ///< Optimum::value and gradient_norm are wanted; else value holds the deviance only
};

/// @param starts  at least one
Optimum minimize(Criterion& criterion, const Model& model, const std::vector<std::vector<double>>& starts,
                 const MinimizeOptions& options = {});

}  // namespace batchlmm
