/// @file
/// The inverses of the dense terms' T, where they serve.
#pragma once

#include <Eigen/Core>
#include <functional>
#include <vector>

#include "kernels/shape.hpp"

namespace batchlmm {

/// Whether T of every dense term is so far from singular that T^{-1} - T^{-1} K T^{-1} costs at most four digits.
/// @param lambda   factors of the terms, k x k
/// @param mean     mean(b): of the cross-products' diagonal on the columns of term b
/// @param inverse  T^{-1} per dense term, where it is
bool invert_dense_t(const kernels::Shape& shape, const std::vector<Eigen::MatrixXd>& lambda,
                    const std::function<double(int b)>& mean, std::vector<Eigen::MatrixXd>& inverse);

}  // namespace batchlmm
