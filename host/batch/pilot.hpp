/// @file
/// How many starting points the fits of a bootstrap need: one, unless the design has several minima.
#pragma once

#include <functional>

#include "kernels/jobs.hpp"

namespace batchlmm {

/// Replicates that a pilot fits: fewer where a fit is long.
std::uint64_t pilot_replicates(const kernels::Shape& shape);

/// Sets `job.null_options.starts` and `job.full_options.starts`: all where another starting point than the first finds
/// a lower minimum in a pilot; else 1, or 1 and the corners where several minima are known to be too rare for a pilot.
/// The pilot's replicates are the same whatever range is run later, so that a replicate stays a pure function of
/// models, seed and index.
/// @param null_starts, full_starts  starting points that there are
/// @param run                       draws and fits a chunk with the job's options
void choose_starts(kernels::BootstrapJob& job, bool refit, int null_starts, int full_starts,
                   const std::function<void(kernels::BootstrapChunk&)>& run);

}  // namespace batchlmm
