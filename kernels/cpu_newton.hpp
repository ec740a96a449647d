/// @file
/// Newton's iteration (newton.hpp) for one fit on doubles whose criterion is evaluated elsewhere.
#pragma once

#include "kernels/jobs.hpp"

namespace batchlmm::kernels {

/// One fit's iteration in the caller's memory. The same bits on every instruction set.
struct OneNewton {
  // In, by the caller, at `lambda`: derivatives by the entries of T.
  double* gradient = nullptr;     ///< m
  double* hessian = nullptr;      ///< packed m
  double* information = nullptr;  ///< packed m
  // Out: the next proposal (in: where to begin), and the best optimum so far.
  double* lambda = nullptr;       ///< all lambdas
  double* best_lambda = nullptr;  ///< all lambdas
  double best = 1e300;            ///< its deviance
  bool best_certified = false;
  // The base point; see Newton.
  bool fresh = true, certified = false;
  double f = 0, slope = 0, predicted = 0, t = 1, evaluations = 0, total_evaluations = 0, start = 0, bumps = 0;
  double* memory = nullptr;  ///< for the rest

  /// Starts anew; `lambda` holds the starting point.
  void begin() {
    best = 1e300;
    fresh = true;
    certified = best_certified = false;
    evaluations = total_evaluations = start = bumps = 0;
  }
};

/// Entry points of one instruction set.
struct NewtonKernels {
  /// Doubles of memory that `lay_out` needs.
  std::size_t (*doubles)(const Shape& shape);
  OneNewton (*lay_out)(const Shape& shape, double* memory);
  /// newton_trip. @return done
  bool (*trip)(const Shape& shape, OneNewton& newton, double deviance, double r2, bool ok, const NewtonOptions& options,
               const double* starts);
};

}  // namespace batchlmm::kernels
