/// @file
/// The criterion of models whose streamed levels touch most of the outer columns, by dense matrix products throughout.
#pragma once

#include <memory>

#include "host/model/criterion.hpp"

namespace batchlmm {

/// Multiply-adds of one evaluation with the exact Hessian.
double dense_criterion_operations(const kernels::Shape& shape);

/// Where a term has many columns (kb07 with eight in each factor: 72 parameters) the exact Hessian costs little more
/// than the gradient here: Q = Z'PZ is formed once, and all traces tr(Q E_a Q E_b) are one symmetric product over pairs
/// of levels.
/// @param model  with one streamed stage (shape().stages <= 1); must outlive the criterion
/// @param y      n, offset subtracted
/// @throws ModelError when the matrices need more memory than is available
std::unique_ptr<Criterion> make_dense_criterion(const Model& model, const Eigen::VectorXd& y);

}  // namespace batchlmm
