// Fits by the texts for two crossed factors, the streamed one with a single column.
#include "kernels/cuda_fit_kernel.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template struct FitKernel<CrossedText>;
template struct FitKernel<CrossedTermsText<1, 2>>;

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
