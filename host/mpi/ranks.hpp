/// @file
/// What the program and its MPI module say to each other. The module is a library of its own, opened where the program
/// runs under mpirun: without it neither MPI nor its start are needed.
#pragma once

#include <cstdint>

extern "C" {

/// This process among those that mpirun has started. Functions are called from one thread at a time.
struct BatchlmmRanks {
  int rank;
  int size;
  /// The next number of 0, 1, ... that no rank has had; each rank asks for one after the other.
  std::uint64_t (*next)();
  /// Returns when all ranks have called it.
  void (*wait)();
  /// Ends MPI; to be called last.
  void (*finish)();
  /// Ends all ranks with this exit code, after a failure of this one.
  void (*abort)(int code);
};

/// Starts MPI. @return not 0 where that fails
int batchlmm_start_ranks(BatchlmmRanks* ranks);
using BatchlmmStartRanks = int (*)(BatchlmmRanks*);
}
