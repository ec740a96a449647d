/// @file
/// What one thread does with a trip that was recorded for its model (traced_fit.hpp). Included after the trip's source,
/// which defines
///     trip_stride            threads of a block: element e of a thread's on-chip arrays stands at e * trip_stride
///     trip_response          length of the response vector or record
///     trip_state             length of the state
///     aside_stride           step from one value that finds no register to the next
///     trip_local             how many of them are in the thread's own memory; 0: they are on the chip
///     trip_scratch           doubles that a fit's beginning and end need
///     trip_strata            responses are records
///     TripSizes              the shape's sizes: terms, parameters, lambdas
///     struct TripConstants   the model's constants
///     trip(c, y, x, m, flag, alive, r2, done)
/// Compiled at run time for a device; a test compiles it for the CPU.
#pragma once

#include "kernels/one_lane_strata.hpp"
#include "kernels/trip_state.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Fits the items that `take` hands out.
/// @param on_chip  this thread's first element; so much as traced_block_bytes says a block
/// @param strata   a's own, where responses are records: items may start from their moments
template <class Take>
BATCHLMM_FUNCTION inline void fit_by_trips(const FitArguments& a, const StrataFitArguments* strata,
                                           const TripConstants& c, double* on_chip, Take&& take) {
  // Sizes known at compile time: where an array stands takes no register.
  const Shape& s = a.shape;
  const Strided y{on_chip, trip_stride}, x = y + trip_response;
  Newton<double, Strided> n;
  Arena<Strided> state{x};
  struct {
    Strided lambda, beta, x_factor;
  } w;
  for_each_state_array(TripSizes{}, n, w.lambda, [&](Strided& array, int size) { array = state.take(size); });
  const Strided numbers = state.base + state.used;
  // What is only needed when a fit begins or ends.
  double memory[trip_scratch];
  for (int i = 0; i < trip_scratch; ++i) memory[i] = 0.0;
  Arena<Strided> arena{Strided{memory, 1}};
  n.next = {arena.take(TripSizes::lambdas), arena.take(TripSizes::lambdas), arena.take(TripSizes::terms)};
  n.small = arena.take(TripSizes::lambdas + TripSizes::parameters);
  SharedStartScratch<Strided> scratch;
  if constexpr (!trip_strata) scratch = make_shared_start_scratch(s, arena);
  for (int i = 0; i < trip_state; ++i) x[i] = 0.0;
  n.f = n.slope = n.predicted = n.best = n.evaluations = n.total_evaluations = n.start = n.bumps = 0.0;
  n.t = n.runs = 1.0;
  n.worst = -1e300;
  n.fresh = true;
  n.certified = n.best_certified = false;

  double local[trip_local > 0 ? trip_local : 1];
  volatile double* const aside = trip_local > 0 ? local : on_chip + (trip_response + trip_state) * trip_stride;

  const auto one_trip = [&](bool running) {
    converge_warp();
    int at = 0;
    for_each_state_number(n, [&](const double& number) { numbers[at++] = number; });
    bool flag[3] = {n.fresh, n.certified, n.best_certified};
    Trip<double> result;
    trip(c.c, on_chip, on_chip + trip_response * trip_stride, aside, flag, running, result.r2, result.done);
    at = 0;
    for_each_state_number(n, [&](double& number) { number = numbers[at++]; });
    n.fresh = flag[0];
    n.certified = flag[1];
    n.best_certified = flag[2];
    return result;
  };
  const auto first_start = [&](const Strided& lambda) {
    if constexpr (trip_strata) {
      return start_from_moments(s, *strata, y, lambda, n.small);
    } else {
      if (a.shared == nullptr) return false;
      shared_start<double>(s, *a.shared, y, scratch, lambda);
      return true;
    }
  };
  fit_items(
      s, a, w, n, y, trip_response, one_trip, take, [](std::uint64_t) {}, first_start);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

// The entry points; the kernel that the source needs is one of them.
#if defined(__CUDACC_RTC__)
namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

/// Hands out the items, one by one, to all threads.
struct NextItem {
  unsigned long long* next;
  std::uint64_t items;
  __device__ bool operator()(std::uint64_t& item) const {
    item = atomicAdd(next, 1ULL);
    return item < items;
  }
};

extern __shared__ double block_memory[];

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels

#define BATCHLMM_TRACED_ENTRY                                                                                     \
  extern "C" __global__ void __launch_bounds__(batchlmm::kernels::trip_stride)                                    \
      fit(const __grid_constant__ batchlmm::kernels::FitArguments a,                                              \
          const __grid_constant__ batchlmm::kernels::TripConstants c, unsigned long long* next) {                 \
    using namespace batchlmm::kernels;                                                                            \
    const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;                   \
    if (thread < a.threads) fit_by_trips(a, nullptr, c, block_memory + threadIdx.x, NextItem{next, a.job.items}); \
  }
#define BATCHLMM_TRACED_STRATA_ENTRY                                                              \
  extern "C" __global__ void __launch_bounds__(batchlmm::kernels::trip_stride)                    \
      fit(const __grid_constant__ batchlmm::kernels::StrataFitArguments a,                        \
          const __grid_constant__ batchlmm::kernels::TripConstants c, unsigned long long* next) { \
    using namespace batchlmm::kernels;                                                            \
    const std::size_t thread = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;   \
    if (thread < a.fit.threads)                                                                   \
      fit_by_trips(a.fit, &a, c, block_memory + threadIdx.x, NextItem{next, a.fit.job.items});    \
  }
#else
namespace batchlmm::kernels {

/// Hands out the items, one by one.
struct CountedItems {
  std::uint64_t next, items;
  bool operator()(std::uint64_t& item) {
    item = next++;
    return item < items;
  }
};

}  // namespace batchlmm::kernels

#define BATCHLMM_TRACED_ENTRY                                                                                 \
  extern "C" void fit(const batchlmm::kernels::FitArguments& a, const batchlmm::kernels::TripConstants& c,    \
                      double* on_chip) {                                                                      \
    batchlmm::kernels::fit_by_trips(a, nullptr, c, on_chip, batchlmm::kernels::CountedItems{0, a.job.items}); \
  }
#define BATCHLMM_TRACED_STRATA_ENTRY                                                                             \
  extern "C" void fit(const batchlmm::kernels::StrataFitArguments& a, const batchlmm::kernels::TripConstants& c, \
                      double* on_chip) {                                                                         \
    batchlmm::kernels::fit_by_trips(a.fit, &a, c, on_chip, batchlmm::kernels::CountedItems{0, a.fit.job.items}); \
  }
#endif
