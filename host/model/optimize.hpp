/// @file
/// The optimum of one model's criterion: the kernels' Newton iteration for a single lane, from several starting points.
#pragma once

#include <vector>

#include "host/model/criterion.hpp"

namespace batchlmm {

struct Optimum {
  std::vector<double> lambda;  ///< all kernel terms' factors at the optimum, row-major
  CriterionValue value;        ///< there, with derivatives
  bool certified =
      false;  ///< the Hessian is positive definite on the free coordinates, the bounds' multipliers are not negative
  int evaluations = 0;
  double gradient_norm = 0;  ///< largest |gradient| over the free coordinates, each on the scale of its standard error
};

/// @param starts  at least one
Optimum minimize(Criterion& criterion, const Model& model, const std::vector<std::vector<double>>& starts);

}  // namespace batchlmm
