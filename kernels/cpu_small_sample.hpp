/// @file
/// Fixed effects and their tests in every replicate, from optima that have been found: lanes side by side, on the CPU.
/// Replicates are drawn or read again, so that it does not matter where they were fitted.
#pragma once

#include "kernels/contrast_forms.hpp"
#include "kernels/cpu_strata.hpp"
#include "kernels/strata_contrasts.hpp"

namespace batchlmm::kernels {

/// Tests of one plan; a fit that is not used (batchlmm::is_used) has NaN.
struct TestJob {
  const TestPlan* plan = nullptr;
  std::uint64_t first = 0, count = 0;  ///< replicates
  bool full = false;                   ///< of the full model, else the null or the one that is refitted
  FitResults fits;                     ///< of `count` replicates
  /// On strata: count x plan.rows, in place of the plan's values; may be null.
  const double* contrast_values = nullptr;
  double* values = nullptr;  ///< count x plan.hypotheses x TestValues::values
};

/// Entry points of one instruction set.
struct SmallSampleKernels {
  /// Tests of fits: `job.results` has status and lambda.
  /// @param contrasts  null, or items x plan.rows x p, with `contrast_values` items x plan.rows, in place of the plan's
  void (*fits)(const FitJob& job, const TestPlan& plan, const double* contrasts, const double* contrast_values,
               double* values);
  /// Tests of the replicates of a streaming bootstrap.
  void (*replicates)(const BootstrapJob& job, const TestJob& tests);
  /// The same on strata. @param fixed  of the model that is tested
  void (*strata)(const StrataJob& job, const StrataFixed& fixed, const TestJob& tests);
  /// beta and x_factor of replicates on strata, from lambda; the results' other arrays are left alone.
  void (*strata_fixed)(const StrataJob& job, const StrataFixed& fixed, bool full, std::uint64_t first,
                       std::uint64_t count, const FitResults& fits);
};

struct CpuKernels;
/// Those of the same instruction set.
const SmallSampleKernels& small_sample_kernels(const CpuKernels& isa);

}  // namespace batchlmm::kernels
