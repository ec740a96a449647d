// The loop behind the measured ceiling; compiled once for each instruction set.
#include "kernels/ceiling.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

double run_ceiling(std::uint64_t trips) {
  using V = Pack<1>;
  V a0(1.0), a1(1.1), a2(1.2), a3(1.3), a4(1.4), a5(1.5), a6(1.6), a7(1.7), a8(1.8), a9(1.9), a10(2.0), a11(2.1);
  V factor(0.9999999), term(1e-7);
  for (std::uint64_t i = 0; i < trips; ++i) {
    a0 = fma(a0, factor, term);
    a1 = fma(a1, factor, term);
    a2 = fma(a2, factor, term);
    a3 = fma(a3, factor, term);
    a4 = fma(a4, factor, term);
    a5 = fma(a5, factor, term);
    a6 = fma(a6, factor, term);
    a7 = fma(a7, factor, term);
    a8 = fma(a8, factor, term);
    a9 = fma(a9, factor, term);
    a10 = fma(a10, factor, term);
    a11 = fma(a11, factor, term);
    // The factors could be anything in the next trip: the compiler may not turn the loop into a closed form.
    asm volatile("" : "+m"(factor), "+m"(term));
  }
  const V sum = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
  double total = 0;
  for (int l = 0; l < native_width; ++l) total += lane(sum, l);
  return total;
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
