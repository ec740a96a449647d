/// @file
/// The criterion of models whose Schur complement has thousands of columns and stays sparse: a sparse Cholesky factor,
/// traces by the selected inverse on its pattern.
#pragma once

#include <memory>

#include "host/model/criterion.hpp"

namespace batchlmm {

/// What the symbolic analysis of the Schur complement after the streamed factor predicts.
struct SparseAnalysis {
  double operations = 0;  ///< multiply-adds of one evaluation with derivatives
  double bytes = 0;       ///< of the matrices
};

/// Analyzes the pattern of the Schur complement (approximate minimum degree ordering; Amestoy, Davis and Duff 1996) and
/// decides by it.
/// @param model           with one streamed stage (shape().stages <= 1); must outlive the criterion
/// @param y               n, offset subtracted
/// @param most_operations  the criterion is made only where one evaluation takes fewer multiply-adds
/// @param[out] analysis   what was predicted; may be null
/// @return null where an evaluation would take more, or the pattern more memory than is available
std::unique_ptr<Criterion> make_sparse_criterion(const Model& model, const Eigen::VectorXd& y, double most_operations,
                                                 SparseAnalysis* analysis = nullptr);

}  // namespace batchlmm
