// Fits by teams of a block of four warps.
#include "kernels/cuda_team_kernel.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template struct TeamKernel<WholeBlockTeam, 0>;
template struct TeamKernel<WholeBlockTeam, 1>;

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
