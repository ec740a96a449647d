/// @file
/// Tier 1 on the CPU: replicates drawn and fitted on strata, lanes side by side.
#pragma once

#include "kernels/jobs.hpp"
#include "kernels/strata.hpp"
#include "kernels/strata_sampler.hpp"

namespace batchlmm::kernels {

/// A parametric bootstrap on strata.
struct StrataJob {
  BootstrapJob job;  ///< shapes, starting points, embedding, options and seed; its designs and sampler are not used
  StrataModel null, full;
  StrataSampler sampler;
  bool null_moments = false, full_moments = false;  ///< start from moments, not from the generating value or the null
};

/// One evaluation of a record; arrays of the caller.
struct StrataEvaluation {
  double deviance = 0, r2 = 0;
  bool ok = false;
};

/// Entry points of one instruction set (CpuKernels::strata).
struct StrataKernels {
  void (*bootstrap)(const StrataJob& job, BootstrapChunk& chunk);
  /// @param gradient, hessian, information  m, packed m, packed m; may be null together
  StrataEvaluation (*evaluate)(const Shape& shape, const StrataModel& model, const double* record, const double* lambda,
                               double* gradient, double* hessian, double* information);
  /// Coordinates and records of one replicate, as a lane has them.
  /// @param scratch  strata_draw_scratch() doubles; the coordinates stand first
  void (*draw)(const StrataSampler& sampler, std::uint64_t seed, std::uint64_t replicate, double* null, double* full,
               double* scratch);
};

}  // namespace batchlmm::kernels
