/// @file
/// The constants of the exact law of a likelihood-ratio statistic (spectral.hpp).
#pragma once

namespace batchlmm::kernels {

/// Arrays of the caller. Ratios are to mu_1.
struct SpectralLaw {
  int groups = 0;                         ///< distinct eigenvalues mu
  const double* ratio = nullptr;          ///< groups, ascending from 1
  const double* multiplicity = nullptr;   ///< groups
  double residual = 0;                    ///< degrees of freedom of C, above 0
  double dropped = 0;                     ///< of U
  double n = 0;                           ///< N
  int logs = 0;                           ///< distinct eigenvalues xi
  const double* log_ratio = nullptr;      ///< logs
  const double* log_count = nullptr;      ///< logs
  bool shared = false;                    ///< xi and mu are the same
  bool closed = false;                    ///< one mu and one xi, equal: the minimum has a closed form
  int nodes = 0;                          ///< 2 or more, unless closed
  const double* x = nullptr;              ///< nodes, ascending from 0
  const double* terms = nullptr;          ///< nodes x groups x 3: f = 1 / (1 + lambda mu), -f', f''
  const double* slope = nullptr;          ///< nodes: first derivative of the log-determinants
  const double* curvature = nullptr;      ///< nodes: second derivative
  const double* slope_low = nullptr;      ///< nodes: least slope between this node and the next (the last: beyond it)
  const double* slope_high = nullptr;     ///< nodes - 1: largest
  const double* curvature_low = nullptr;  ///< nodes - 1: no larger than the curvature anywhere between
};

}  // namespace batchlmm::kernels
