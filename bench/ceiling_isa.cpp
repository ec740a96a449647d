// The loop behind measure_ceiling; compiled once for each instruction set.
#include <cstdint>

#include "kernels/lanes.hpp"

namespace batchlmm::bench {
inline namespace BATCHLMM_ISA {

extern const int ceiling_chains;
const int ceiling_chains = 12 * kernels::native_width;

double run_ceiling_chains(std::uint64_t trips);

/// `trips` multiply-adds in each of `ceiling_chains` chains. A chain waits for its last result: twelve vectors hide the
/// latency of two units of four or five cycles, and leave registers for the factors.
double run_ceiling_chains(std::uint64_t trips) {
  using V = kernels::Pack<1>;
  V a0(1.0), a1(1.1), a2(1.2), a3(1.3), a4(1.4), a5(1.5), a6(1.6), a7(1.7), a8(1.8), a9(1.9), a10(2.0), a11(2.1);
  V factor(0.9999999), term(1e-7);
  for (std::uint64_t i = 0; i < trips; ++i) {
    a0 = kernels::fma(a0, factor, term);
    a1 = kernels::fma(a1, factor, term);
    a2 = kernels::fma(a2, factor, term);
    a3 = kernels::fma(a3, factor, term);
    a4 = kernels::fma(a4, factor, term);
    a5 = kernels::fma(a5, factor, term);
    a6 = kernels::fma(a6, factor, term);
    a7 = kernels::fma(a7, factor, term);
    a8 = kernels::fma(a8, factor, term);
    a9 = kernels::fma(a9, factor, term);
    a10 = kernels::fma(a10, factor, term);
    a11 = kernels::fma(a11, factor, term);
    // The factors could be anything in the next trip: the compiler may not turn the loop into a closed form.
    asm volatile("" : "+m"(factor), "+m"(term));
  }
  const V sum = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
  double total = 0;
  for (int l = 0; l < kernels::native_width; ++l) total += kernels::lane(sum, l);
  return total;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::bench
