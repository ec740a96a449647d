// Fits by the texts for any shape.
#include "kernels/cuda_fit_kernel.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template struct FitKernel<StreamingText<0>>;
template struct FitKernel<StreamingText<1>>;

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
