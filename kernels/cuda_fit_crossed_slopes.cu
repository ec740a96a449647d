// Fits by the texts for two crossed factors, the streamed one with two columns.
#include "kernels/cuda_fit_kernel.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template struct FitKernel<CrossedTermsText<2, 1>>;
template struct FitKernel<CrossedTermsText<2, 2>>;

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
