/// @file
/// A model with its parameters' estimates, whatever found them.
#pragma once

#include <Eigen/Core>
#include <vector>

#include "host/model/method.hpp"
#include "host/model/model_matrices.hpp"

namespace batchlmm {

struct FittedModel {
  const ModelMatrices* model = nullptr;
  Method method = Method::reml;
  Eigen::VectorXd y;                    ///< n, the offset subtracted
  std::vector<Eigen::MatrixXd> lambda;  ///< per term, as model->random: lower triangular, the user's units
  Eigen::VectorXd beta;                 ///< p
  double sigma = 0;
};

}  // namespace batchlmm
