/// @file
/// What one thread of a device does on strata (tier 1): V = double, one replicate at a time, as one_lane.hpp.
#pragma once

#include "kernels/cpu_strata.hpp"
#include "kernels/one_lane.hpp"
#include "kernels/strata_derivatives.hpp"

namespace batchlmm::kernels {

/// Arguments of the draws of a chunk. All pointers are the device's.
struct StrataDrawArguments {
  static constexpr const char* kernel = "draw_strata_kernel";
  StrataSampler sampler;
  std::uint64_t seed = 0, first = 0, count = 0;
  double *null_record = nullptr, *full_record = nullptr;  ///< element by element, count replicates side by side
  double* memory = nullptr;                               ///< strata_draw_scratch() doubles a thread
  std::size_t threads = 0;
};

/// Arguments of many fits. In `fit` responses are records, and the design is not used.
struct StrataFitArguments {
  static constexpr const char* kernel = "fit_strata_kernel";
  FitArguments fit;
  StrataModel model;
  bool moments = false;  ///< items start from their moments
};

/// The kernels of a bootstrap on strata.
struct StrataFamily {};

inline namespace BATCHLMM_ISA {

/// Draws replicates `thread`, `thread` + a.threads, ... of the chunk.
BATCHLMM_FUNCTION inline void draw_strata_one_lane(const StrataDrawArguments& a, std::size_t thread) {
  const Strided scratch{a.memory + thread, a.threads};
  for (std::uint64_t i = thread; i < a.count; i += a.threads)
    draw_strata<double>(a.sampler, a.seed, a.first + i, Strided{a.null_record + i, a.count},
                        Strided{a.full_record + i, a.count}, scratch);
}

/// The arrays of a fit on strata.
template <class A>
struct StrataArrays {
  StrataPoint<A> w;
  Newton<double, A> n;
};
template <class A>
BATCHLMM_FUNCTION inline StrataArrays<A> make_strata_arrays(const Shape& s, const StrataModel& model, Arena<A>& arena) {
  StrataArrays<A> x;
  x.w.lambda = arena.take(s.lambdas);
  x.w.model = &model;
  x.w.record = arena.take(model.record);
  x.w.x = make_strata_workspace(s, model, arena);
  x.w.r2 = arena.take(1);
  x.n = make_newton<double>(s, arena);
  return x;
}
/// Doubles of memory that one thread needs to fit.
inline std::size_t strata_fit_memory(const Shape& s, const StrataModel& model) {
  Arena<Strided> count{};
  (void)make_strata_arrays(s, model, count);
  return count.used;
}

/// Where an item on strata starts: from the moments of its record, or false.
/// @param t  scratch: parameters
template <class S, class A>
BATCHLMM_FUNCTION inline bool start_from_moments(const S& s, const StrataFitArguments& a, const A& record,
                                                 const A& lambda, const A& t) {
  if (!a.moments) return false;
  moment_start<double>(s, a.model, record, a.fit.job.starts, lambda, t);
  return true;
}

/// Fits the items that `take` hands out.
template <class Take>
BATCHLMM_FUNCTION inline void fit_strata_one_lane(const StrataFitArguments& a, std::size_t thread, Take&& take) {
  const Shape& s = a.fit.shape;
  const FitJob& job = a.fit.job;
  Arena<Strided> arena{Strided{a.fit.memory + thread, a.fit.threads}};
  StrataArrays<Strided> x = make_strata_arrays(s, a.model, arena);
  for (std::size_t i = 0; i < arena.used; ++i) arena.base[i] = 0.0;
  const auto trip = [&](bool running) {
    converge_warp();
    const Evaluation<double> e = evaluate_strata<double>(s, a.model, x.w.record, x.w, x.w.x);
    x.w.r2[0] = e.r2;
    return Trip<double>{e.r2, newton_trip<double>(s, x.w, x.n, e, running, job.options, job.starts)};
  };
  const auto first_start = [&](const Strided& lambda) { return start_from_moments(s, a, x.w.record, lambda, x.w.x.t); };
  fit_items(
      s, a.fit, x.w, x.n, x.w.record, a.model.record, trip, take, [](std::uint64_t) {}, first_start);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
