/// @file
/// The profiled ML deviance's minimum over all factors of T with one correlation held.
#pragma once

#include <vector>

#include "host/model/criterion.hpp"

namespace batchlmm {

struct HeldCorrelationMinimum {
  double deviance = 0;
  double slope = 0;        ///< by the correlation; NaN at -1 and 1
  bool certified = false;  ///< the Hessian is positive definite, the gradient vanishes, both variances are positive
  bool at_zero = false;    ///< one of the two variances went to 0, where the correlation says nothing: no minimum
  int evaluations = 0;
  std::vector<Eigen::MatrixXd> lambda;  ///< per model term k x k, lower triangular
  double r2 = 0;
};

/// Newton's method with exact Hessians on the entries of the factors, the two rows of the correlation's coefficients
/// foremost in its term's: (a, 0, ...) and (b rho, b sqrt(1 - rho^2), 0, ...), a, b > 0. Where the Hessian is
/// indefinite its eigenvalues are taken by modulus, so that saddles (a factor's column of zeros, where the gradient
/// always vanishes) are left.
/// @param row, column  of the term's coefficients
/// @param start        per model term, lower triangular; the correlation may be another one
HeldCorrelationMinimum minimize_at_correlation(const Model& model, Criterion& criterion, int kernel_term, int row,
                                               int column, double correlation,
                                               const std::vector<Eigen::MatrixXd>& start);

}  // namespace batchlmm
