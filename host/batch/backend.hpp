/// @file
/// Where the kernels run: the CPU's lanes and threads, or a CUDA device.
#pragma once

#include <cstdint>
#include <string>

namespace batchlmm {

enum class BackendChoice { automatic, cpu, cuda };

struct Backend {
  bool cuda = false;
  [[nodiscard]] const char* name() const { return cuda ? "cuda" : "cpu"; }
};

/// @param items  how many there are to do: a device does not pay for a few
/// @throws BackendUnavailable when cuda is asked for and cannot be used here
Backend choose_backend(BackendChoice choice, std::uint64_t items);

/// @param threads  as asked for; 0: all cores
int thread_count(int threads);

}  // namespace batchlmm
