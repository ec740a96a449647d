// Fits by teams of a warp.
#include "kernels/cuda_team_kernel.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template struct TeamKernel<WholeWarpTeam, 0>;
template struct TeamKernel<WholeWarpTeam, 1>;

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
