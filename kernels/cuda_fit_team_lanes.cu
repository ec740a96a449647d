// Fits by teams of eight lanes of a warp.
#include "kernels/cuda_team_kernel.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template struct TeamKernel<LanesTeam, 0>;
template struct TeamKernel<LanesTeam, 1>;

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
