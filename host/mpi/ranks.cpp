#include "host/mpi/ranks.hpp"

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace {

enum Tag { ask = 1, answer = 2 };

std::atomic<std::uint64_t> counter{0};
std::atomic<bool> serving{false};
std::thread service;
int rank = 0, size = 1;

/// Rank 0 answers the others between its own work. A blocking receive of MPI would keep a core busy.
void serve() {
  int open = size - 1;
  while (serving && open > 0) {
    int waiting = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, ask, MPI_COMM_WORLD, &waiting, &status);
    if (waiting == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    std::uint64_t number = 0;  // 1: the rank asks no more
    MPI_Recv(&number, 1, MPI_UINT64_T, status.MPI_SOURCE, ask, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (number == 1) {
      --open;
      continue;
    }
    number = counter++;
    MPI_Send(&number, 1, MPI_UINT64_T, status.MPI_SOURCE, answer, MPI_COMM_WORLD);
  }
}

std::uint64_t next() {
  if (rank == 0) return counter++;
  std::uint64_t number = 0;
  MPI_Send(&number, 1, MPI_UINT64_T, 0, ask, MPI_COMM_WORLD);
  MPI_Recv(&number, 1, MPI_UINT64_T, 0, answer, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  return number;
}

void wait() {
  if (rank == 0) {
    if (service.joinable()) service.join();
  } else {
    const std::uint64_t no_more = 1;
    MPI_Send(&no_more, 1, MPI_UINT64_T, 0, ask, MPI_COMM_WORLD);
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

void finish() {
  serving = false;
  if (service.joinable()) service.join();
  MPI_Finalize();
}

void abort_ranks(int code) { MPI_Abort(MPI_COMM_WORLD, code); }

}  // namespace

extern "C" int batchlmm_start_ranks(BatchlmmRanks* ranks) {
  // Only one thread of a rank calls MPI at a time: of rank 0 the service until `wait`, of the others who asks.
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS) return 1;
  if (provided < MPI_THREAD_SERIALIZED) return 2;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (rank == 0 && size > 1) {
    serving = true;
    service = std::thread(serve);
  }
  *ranks = {rank, size, next, wait, finish, abort_ranks};
  return 0;
}
