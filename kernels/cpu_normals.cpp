// Compiled once for each instruction set.
#include "kernels/cpu_normals.hpp"

#include "kernels/lanes.hpp"
#include "kernels/normal.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

using V = Pack<1>;
constexpr std::uint64_t width = Lanes<V>::width;

void fill(std::uint64_t seed, std::uint64_t replicate, std::uint32_t stream, std::uint64_t count, double* out) {
  const IntOf<V> replicates(replicate);
  for (std::uint64_t first = 0; first < count; first += 2 * width) {
    // A lane a block of random numbers, two normals each.
    IntOf<V> block(0);
    for (std::uint64_t l = 0; l < width; ++l) set_lane(block, static_cast<int>(l), first / 2 + l);
    V even, odd;
    normal_pair<V>(philox<V>(seed, replicates, block, stream), even, odd);
    for (std::uint64_t l = 0; l < width && first + 2 * l < count; ++l) {
      out[first + 2 * l] = lane(even, static_cast<int>(l));
      if (first + 2 * l + 1 < count) out[first + 2 * l + 1] = lane(odd, static_cast<int>(l));
    }
  }
}

}  // namespace

/// In the table of cpu_lanes.cpp.
extern const NormalKernels normal_kernels_of_this_isa;
const NormalKernels normal_kernels_of_this_isa{fill};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
