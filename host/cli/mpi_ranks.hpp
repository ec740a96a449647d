/// @file
/// The processes that mpirun has started, where it has.
#pragma once

#include <optional>

#include "host/mpi/ranks.hpp"

namespace batchlmm::cli {

/// Starts MPI where this process was started by mpirun with others. @return none where it was not
/// @throws InputError where the MPI module, libbatchlmm_mpi.so beside the program, is missing or does not start
std::optional<BatchlmmRanks> start_ranks();

}  // namespace batchlmm::cli
