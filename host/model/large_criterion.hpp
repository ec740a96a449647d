/// @file
/// The criterion of models whose Schur complement is too large for the kernels: sparse streamed levels, dense LAPACK
/// for the rest.
#pragma once

#include <memory>

#include "host/model/criterion.hpp"

namespace batchlmm {

/// @param model  with is_large()
std::unique_ptr<Criterion> make_large_criterion(const Model& model, const Eigen::VectorXd& y);

}  // namespace batchlmm
