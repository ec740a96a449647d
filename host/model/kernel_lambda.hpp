/// @file
/// All terms' relative covariance factors as the kernels take them.
#pragma once

#include <Eigen/Core>
#include <vector>

#include "host/model/model.hpp"

namespace batchlmm {

/// @param lambda  per term of the model k x k, lower triangular, in the user's coordinates
/// @return shape().lambdas entries: in the kernels' order and gauge, row-major
std::vector<double> kernel_lambda(const Model& model, const std::vector<Eigen::MatrixXd>& lambda);

}  // namespace batchlmm
