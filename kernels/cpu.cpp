#include "kernels/cpu.hpp"

#include <cstdlib>

#include "kernels/cpu_small_sample.hpp"
#include "kernels/cpu_spectral.hpp"

namespace batchlmm::kernels {

namespace baseline {
extern const CpuKernels kernels_of_this_isa;
extern const SmallSampleKernels small_sample_kernels_of_this_isa;
extern const SpectralKernels spectral_kernels_of_this_isa;
}  // namespace baseline
#if defined(BATCHLMM_WITH_AVX2)
namespace avx2 {
extern const CpuKernels kernels_of_this_isa;
extern const SmallSampleKernels small_sample_kernels_of_this_isa;
extern const SpectralKernels spectral_kernels_of_this_isa;
}  // namespace avx2
#endif
#if defined(BATCHLMM_WITH_AVX512)
namespace avx512 {
extern const CpuKernels kernels_of_this_isa;
extern const SmallSampleKernels small_sample_kernels_of_this_isa;
extern const SpectralKernels spectral_kernels_of_this_isa;
}  // namespace avx512
#endif

std::vector<const CpuKernels*> all_cpu_kernels() {
  std::vector<const CpuKernels*> all{&baseline::kernels_of_this_isa};
#if defined(BATCHLMM_WITH_AVX2)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    all.push_back(&avx2::kernels_of_this_isa);
#endif
#if defined(BATCHLMM_WITH_AVX512)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd"))
    all.push_back(&avx512::kernels_of_this_isa);
#endif
  return all;
}

const CpuKernels& cpu_kernels() {
  static const CpuKernels& chosen = [&]() -> const CpuKernels& {
    const auto all = all_cpu_kernels();
    if (const char* wanted = std::getenv("BATCHLMM_ISA"))
      for (const CpuKernels* k : all)
        if (std::string(wanted) == k->name) return *k;
    return *all.back();
  }();
  return chosen;
}

const SpectralKernels& spectral_kernels([[maybe_unused]] const CpuKernels& kernels) {
#if defined(BATCHLMM_WITH_AVX2)
  if (&kernels == &avx2::kernels_of_this_isa) return avx2::spectral_kernels_of_this_isa;
#endif
#if defined(BATCHLMM_WITH_AVX512)
  if (&kernels == &avx512::kernels_of_this_isa) return avx512::spectral_kernels_of_this_isa;
#endif
  return baseline::spectral_kernels_of_this_isa;
}

const SmallSampleKernels& small_sample_kernels([[maybe_unused]] const CpuKernels& isa) {
#if defined(BATCHLMM_WITH_AVX512)
  if (&isa == &avx512::kernels_of_this_isa) return avx512::small_sample_kernels_of_this_isa;
#endif
#if defined(BATCHLMM_WITH_AVX2)
  if (&isa == &avx2::kernels_of_this_isa) return avx2::small_sample_kernels_of_this_isa;
#endif
  return baseline::small_sample_kernels_of_this_isa;
}

}  // namespace batchlmm::kernels
