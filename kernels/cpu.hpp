/// @file
/// The CPU backend: one object file an instruction set, chosen at run time.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu_newton.hpp"
#include "kernels/cpu_normals.hpp"
#include "kernels/cpu_responses.hpp"
#include "kernels/cpu_sparse_rows.hpp"
#include "kernels/cpu_strata.hpp"
#include "kernels/interpolant_job.hpp"
#include "kernels/jobs.hpp"

namespace batchlmm::kernels {

/// One evaluation for one response; pointers into the caller's memory.
struct ScalarEvaluation {
  double deviance = 0, r2 = 0;
  bool ok = false;
  const double* gradient = nullptr;     ///< m, by the entries of T
  const double* hessian = nullptr;      ///< packed m
  const double* information = nullptr;  ///< packed m
  const double* beta = nullptr;         ///< p
  const double* x_factor = nullptr;     ///< packed p: Cholesky factor of X'V^{-1}X
  const double* modes = nullptr;        ///< c = Z'Py by stage, node and column
};

/// Entry points of one instruction set.
struct CpuKernels {
  const char* name;  ///< "baseline", "avx2", "avx512"
  int lanes;         ///< replicates side by side in the widest tile
  void (*fit)(const FitJob& job);
  /// Doubles of scratch that `evaluate` needs.
  std::size_t (*scratch)(const Shape& shape);
  ScalarEvaluation (*evaluate)(const Shape& shape, const Design<double>& design, const double* response,
                               const double* lambda, double* scratch, bool derivatives);
  void (*bootstrap)(const BootstrapJob& job, BootstrapChunk& chunk);
  /// Draws a chunk's replicates and fits them on interpolants (interpolant.hpp).
  void (*interpolate)(const InterpolantJob& job, const InterpolantChunk& also, BootstrapChunk& chunk);
  /// `trips` multiply-adds in each of `ceiling_chains` independent chains (ceiling.hpp).
  double (*run_ceiling)(std::uint64_t trips);
  int ceiling_chains;
  const StrataKernels* strata;  ///< tier 1
  const NewtonKernels* newton;  ///< one fit, evaluated elsewhere
  const SparseRowKernels* sparse_rows;
  const ResponseKernels* responses;
  const NormalKernels* normals;
};

/// The widest that this processor has. BATCHLMM_ISA=baseline|avx2|avx512 in the environment asks for a narrower one.
const CpuKernels& cpu_kernels();
/// All that this processor has, narrowest first.
std::vector<const CpuKernels*> all_cpu_kernels();

}  // namespace batchlmm::kernels
