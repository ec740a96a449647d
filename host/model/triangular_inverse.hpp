/// @file
/// The inverse from a Cholesky factor of hundreds or thousands of columns.
#pragma once

namespace batchlmm {

/// (LL')^{-1} in place of L, lower triangles, as LAPACK's dpotri. The triangle is inverted by halves, so that nearly
/// all work is in products of large matrices: dtrtri solves with narrow panels and takes nearly twice the time.
/// @param a  n x n, column-major with leading dimension ld; its diagonal is positive
void invert_from_cholesky(int n, double* a, int ld);

}  // namespace batchlmm
