/// @file
/// Tier 1 on the CPU: replicates drawn, or responses given, and fitted on strata, lanes side by side.
#pragma once

#include "kernels/jobs.hpp"
#include "kernels/strata.hpp"
#include "kernels/strata_responses.hpp"
#include "kernels/strata_sampler.hpp"

namespace batchlmm::kernels {

/// A parametric bootstrap on strata.
struct StrataJob {
  BootstrapJob job;  ///< shapes, starting points, embedding, options and seed; its designs and sampler are not used
  StrataModel null, full;
  StrataSampler sampler;
  StrataResponses given;                            ///< replicate i is response i in place of a draw; on the CPU alone
  bool null_moments = false, full_moments = false;  ///< start from moments, not from the generating value or the null
};

/// One evaluation of a record; arrays of the caller.
struct StrataEvaluation {
  double deviance = 0, r2 = 0;
  bool ok = false;
};

inline namespace BATCHLMM_ISA {

BATCHLMM_INLINE std::size_t strata_record_scratch(const StrataJob& job) {
  return job.given.response == nullptr ? strata_draw_scratch(job.sampler)
                                       : strata_response_scratch(job.sampler, job.given);
}

/// The records of replicates first .. first + count - 1, one a lane, drawn or given.
/// @param count    1 .. the lanes
/// @param full     left alone where one model is refitted
/// @param scratch  strata_record_scratch(job) entries; the coordinates stand first
template <class V>
inline void strata_records(const StrataJob& job, bool refit, std::uint64_t first, std::uint64_t count, V* null, V* full,
                           V* scratch) {
  StrataSampler sampler = job.sampler;
  if (refit) sampler.full.record = 0;
  if (job.given.response != nullptr) {
    read_strata<V>(sampler, job.given, first, count, null, full, scratch);
    return;
  }
  IntOf<V> replicate(0);
  for (int l = 0; l < Lanes<V>::width; ++l) set_lane(replicate, l, first + static_cast<std::uint64_t>(l));
  draw_strata<V>(sampler, job.job.seed, replicate, null, full, scratch);
}

}  // namespace BATCHLMM_ISA

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
