#include "host/batch/replicates.hpp"

namespace batchlmm {

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
