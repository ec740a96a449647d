#include "host/batch/replicates.hpp"

#include "kernels/statistic.hpp"

namespace batchlmm {

// This header is installed, the kernels' are not.
static_assert(zero_statistic == kernels::zero_statistic);
static_assert(status_count == kernels::fit_status_count);

const char* status_name(Status status) {
  switch (status) {
    case Status::converged:
      return "converged";
    case Status::boundary:
      return "boundary";
    case Status::iteration_limit:
      return "iteration_limit";
    case Status::not_positive_definite:
      return "not_positive_definite";
    case Status::non_finite:
      return "non_finite";
  }
  return "unknown";
}

}  // namespace batchlmm
