/// @file
/// Where the kernels run: the CPU's lanes and threads, or CUDA devices.
#pragma once

#include <cstdint>
#include <string>

namespace batchlmm {

enum class BackendChoice { automatic, cpu, cuda };

struct Backend {
  bool cuda = false;
  [[nodiscard]] const char* name() const { return cuda ? "cuda" : "cpu"; }
};

/// What `--backend auto` weighs a device by. bench/gpu.sh measures them on a machine with a card.
struct BackendRates {
  /// Multiply-adds a second of one CPU thread in the kernels, for each replicate of its widest tile. On one AVX-512
  /// core (16 lanes) 1.5e10 were measured for politeness and sleepstudy by the streaming tier, 2.6e10 for slopes; 6e9
  /// by the symmetry tier, whose draws are not counted.
  double cpu_lane_rate = 1.25e9;
  /// Multiply-adds a second of one device. An estimate, a twentieth of an H100's peak in double precision: not yet
  /// measured.
  double device_rate = 1e12;
  /// Seconds until a device has a context and memory. An estimate, too.
  double device_start = 0.3;
  /// Multiply-adds of a replicate whose cost is not known.
  double unknown_multiply_adds = 3e5;
};

/// Seconds that work takes on each backend, as far as the rates tell.
struct BackendSeconds {
  double cpu = 0, cuda = 0;
};
/// @param multiply_adds  of one item; 0: not known
/// @param threads, lanes  of the CPU
/// @param devices  at least 1
BackendSeconds predict_seconds(double multiply_adds, std::uint64_t items, int threads, int lanes, int devices,
                               const BackendRates& rates = {});

/// The backend for so much work. `automatic` takes a device where one is usable and is predicted to be done before the
/// CPU; a device is only asked for where the CPU takes longer than a device's start. What is fitted does not depend on
/// it.
/// @param multiply_adds  of one item; 0: not known
/// @param threads        of the CPU
/// @throws BackendUnavailable when cuda is asked for and cannot be used here
Backend choose_backend(BackendChoice choice, double multiply_adds, std::uint64_t items, int threads);

/// @throws BackendUnavailable when cuda is asked for and cannot be used here
void require_backend(BackendChoice choice);

/// @param threads  as asked for; 0: all cores
int thread_count(int threads);

}  // namespace batchlmm
