#include "bench/ceiling.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "batchlmm/error.hpp"

namespace batchlmm::bench {

#define BATCHLMM_CEILING_OF(ISA)                  \
  namespace ISA {                                 \
  extern const int ceiling_chains;                \
  double run_ceiling_chains(std::uint64_t trips); \
  }
BATCHLMM_CEILING_OF(baseline)
#if defined(BATCHLMM_WITH_AVX2)
BATCHLMM_CEILING_OF(avx2)
#endif
#if defined(BATCHLMM_WITH_AVX512)
BATCHLMM_CEILING_OF(avx512)
#endif
#undef BATCHLMM_CEILING_OF

namespace {

struct Loop {
  const char* isa;
  int chains;
  double (*run)(std::uint64_t trips);
};

Loop loop_of(const std::string& isa) {
#if defined(BATCHLMM_WITH_AVX512)
  if (isa == "avx512") return {"avx512", avx512::ceiling_chains, avx512::run_ceiling_chains};
#endif
#if defined(BATCHLMM_WITH_AVX2)
  if (isa == "avx2") return {"avx2", avx2::ceiling_chains, avx2::run_ceiling_chains};
#endif
  if (isa == "baseline") return {"baseline", baseline::ceiling_chains, baseline::run_ceiling_chains};
  throw ModelError("the program was not built with the instruction set " + isa);
}

}  // namespace

Ceiling measure_ceiling(const std::string& isa) {
  using Clock = std::chrono::steady_clock;
  constexpr int rounds = 12;
  const Loop loop = loop_of(isa);
  volatile double sink = loop.run(1000);
  std::uint64_t trips = 1 << 16;
  double best = 0;
  for (int round = 0; round < rounds; ++round) {
    const auto start = Clock::now();
    sink = sink + loop.run(trips);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, static_cast<double>(trips) * loop.chains / seconds);
    // Rounds of about 20 ms: long beside the clock, short beside a time slice. The best is that of an undisturbed one.
    trips = static_cast<std::uint64_t>(std::clamp(static_cast<double>(trips) * 0.02 / seconds, 1e4, 1e9));
  }
  return {loop.isa, best};
}

}  // namespace batchlmm::bench
