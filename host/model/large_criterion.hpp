/// @file
/// The criterion of models whose Schur complement is too large for the kernels: sparse streamed levels, dense LAPACK
/// for the rest.
#pragma once

#include <memory>

#include "host/model/criterion.hpp"

namespace batchlmm {

struct LargeOptions {
  /// The exact Hessian costs about 4 (s + 1) q^3 floating-point operations (q: columns of the Schur complement, s:
  /// parameters of the streamed terms). Beyond this many, `CriterionValue::hessian` is the average information:
  /// positive semidefinite, a good Newton matrix, about 2 q^3 operations. The gradient is exact either way.
  double largest_exact_hessian = 2.5e11;
  /// A streamed level that touches more than this share of the outer columns is added to the cross-products densely
  /// (BLAS, with others), not entry by entry.
  double dense_share = 0.15;
  /// Second derivatives by the streamed terms are sums over pairs of levels where that takes less than this share of
  /// the multiply-adds that products of dense matrices take.
  double sparse_product_share = 0.4;
};

/// @param model  with one streamed stage (shape().stages <= 1); must outlive the criterion
/// @param y      n, offset subtracted
/// @throws ModelError when the dense matrices need more memory than the machine has
std::unique_ptr<Criterion> make_large_criterion(const Model& model, const Eigen::VectorXd& y,
                                                const LargeOptions& options = {});

}  // namespace batchlmm
