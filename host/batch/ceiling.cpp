#include "host/batch/ceiling.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "batchlmm/error.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm {

Ceiling measure_ceiling(const std::string& isa, int rounds, double seconds) {
  using Clock = std::chrono::steady_clock;
  for (const kernels::CpuKernels* k : kernels::all_cpu_kernels()) {
    if (isa != k->name) continue;
    volatile double sink = k->run_ceiling(1000);
    std::uint64_t trips = 1 << 12;
    double best = 0;
    for (int round = 0; round < rounds; ++round) {
      const auto start = Clock::now();
      sink = sink + k->run_ceiling(trips);
      const double took = std::chrono::duration<double>(Clock::now() - start).count();
      best = std::max(best, static_cast<double>(trips) * k->ceiling_chains / took);
      trips = static_cast<std::uint64_t>(std::clamp(static_cast<double>(trips) * seconds / took, 1e3, 1e9));
    }
    return {k->name, best};
  }
  throw InputError("expected an instruction set of this program and processor, found '" + isa + "'");
}

}  // namespace batchlmm
