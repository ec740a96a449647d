/// @file
/// What one thread of a device does: V = double, one replicate at a time, its arrays strided through memory that all
/// threads share. Plain text of the kernels: a test runs it on the CPU, thread after thread.
#pragma once

#include "kernels/replicate.hpp"
#include "kernels/shared_start.hpp"
#include "kernels/texts.hpp"

namespace batchlmm::kernels {

/// Arguments of the draws of a chunk. All pointers are the device's.
struct DrawArguments {
  static constexpr const char* kernel = "draw_kernel";  ///< on a device, for messages
  Shape shape;                                          ///< of the full model
  Design<double> design;
  Sampler sampler;
  std::uint64_t seed = 0, first = 0, count = 0;
  double *full_response = nullptr, *null_response = nullptr;  ///< element by element, count replicates side by side
  double* memory = nullptr;                                   ///< draw_memory() doubles a thread, element by element
  std::size_t threads = 0;
};

/// Who fits a replicate on a device: a thread, or a team of threads (mapping.hpp).
enum class Mapping : std::uint8_t { thread, lanes, warp, block };

/// Arguments of many fits. All pointers are the device's; `job.shape` is not used.
struct FitArguments {
  static constexpr const char* kernel = "fit_kernel";
  Shape shape;
  FitJob job;
  /// Element e of item i's response stands at i * response_item + e * response_element.
  std::size_t response_item = 0, response_element = 1;
  /// The full fit of a bootstrap: it starts from the null's optimum, which its own cannot exceed.
  const BootstrapJob* bootstrap = nullptr;
  const SharedStart* shared = nullptr;  ///< items start a scoring step from its point, if not null
  FitResults null;
  const TracedTrip* trip = nullptr;  ///< the host's: run its code in place of the text, if not null (traced_fit.hpp)
  Mapping mapping = Mapping::thread;
  std::size_t fast = 0, slow = 0;  ///< doubles of a team (team_fit.hpp)
  double* memory = nullptr;        ///< fit_memory() doubles a thread, element by element; `slow` a team, one by one
  std::size_t threads = 0;         ///< or teams
};

/// The kernels that run FitArguments of a shape.
struct FitFamily {
  TextKind text = TextKind::general;
  Mapping mapping = Mapping::thread;
  std::size_t fast = 0;  ///< doubles of a team
};

inline namespace BATCHLMM_ISA {

/// Threads of a warp part where some of them record a fit and take the next item: they wait for each other here, so
/// that the trip that follows is one for all of them.
BATCHLMM_INLINE void converge_warp() {
#if defined(__CUDA_ARCH__)
  __syncwarp();
#endif
}

/// Doubles of memory that one thread needs to draw.
BATCHLMM_FUNCTION inline std::size_t draw_memory(const Shape& full, const Sampler& sampler) {
  return static_cast<std::size_t>(full.columns()) + sampler.rows;
}
/// Doubles of memory that one thread needs to fit.
inline std::size_t fit_memory(const Shape& shape) {
  return with_text(text_kind(shape), [&](auto text) {
    const typename decltype(text)::Sizes sizes(shape);
    Arena<Strided> count{};
    (void)make_workspace(sizes, count);
    (void)make_newton<double>(sizes, count);
    (void)make_shared_start_scratch(shape, count);
    return count.used + shape.response;
  });
}

/// Draws replicates `thread`, `thread` + a.threads, ... of the chunk.
BATCHLMM_FUNCTION inline void draw_one_lane(const DrawArguments& a, std::size_t thread) {
  const Strided b{a.memory + thread, a.threads}, eta = b + a.shape.columns();
  for (std::uint64_t i = thread; i < a.count; i += a.threads)
    draw_replicate<double>(a.shape, a.design, a.sampler, a.seed, a.first + i, Strided{a.full_response + i, a.count},
                           Strided{a.null_response + i, a.count}, b, eta);
}

/// Fits the items that `take` hands out, whatever evaluates them. All members of a team call; what is given by a
/// function gives all of them the same.
/// @param response     where an item's response vector goes, `entries` of it
/// @param trip         as in fit_trips
/// @param take         take(item): the next item, false where there is none left
/// @param set_design   set_design(item), after its response is there
/// @param first_start  first_start(lambda): the first starting point from the response; false where that is not how it
/// is found
template <class S, class W, class A, class OneTrip, class Take, class SetDesign, class FirstStart>
BATCHLMM_FUNCTION inline void fit_items(const S& s, const FitArguments& a, const W& w, Newton<double, A>& n,
                                        const A& response, int entries, const OneTrip& trip, Take&& take,
                                        const SetDesign& set_design, const FirstStart& first_start) {
  const FitJob& job = a.job;
  const auto team = team_of(s);
  const auto load = [&](std::uint64_t i, int) {
    const double* from = job.response + i * a.response_item;
    bool finite = true;
    for (int e = 0; e < entries; ++e) {
      const double x = from[e * a.response_element];
      finite = finite && absolute(x) <= 1.7976931348623157e308;  // false for a NaN too
      if (is_mine(team, e)) response[e] = x;
    }
    set_design(i);
    return finite;
  };
  const auto start = [&](std::uint64_t i, int, const A& lambda) {
    if (first_start(lambda) || !is_first(team)) return;
    if (a.bootstrap != nullptr) {
      full_start(*a.bootstrap, a.null.lambda + i * a.bootstrap->null->lambdas, lambda);
      return;
    }
    const double* from = job.first_start + (job.one_start ? 0 : i * s.lambdas);
    for (int q = 0; q < s.lambdas; ++q) lambda[q] = from[q];
  };
  const auto runs = [&](std::uint64_t i) {
    return a.bootstrap != nullptr ? full_runs(a.null, i, job.options) : job.options.starts;
  };
  const auto limit = [&](std::uint64_t i) {
    return a.bootstrap != nullptr ? a.null.deviance[i] : std::numeric_limits<double>::infinity();
  };
  fit_trips<double>(s, w, n, trip, take, load, start, runs, limit, job.starts, job.parameters, job.results);
}

/// Fits the items that `take` hands out.
/// @param take  take(item): the next item, false where there is none left
/// @tparam Text  the one of text_kind(a.shape)
template <class Text, class Take>
BATCHLMM_FUNCTION inline void fit_one_lane(const FitArguments& a, std::size_t thread, Take&& take) {
  const typename Text::Sizes s(a.shape);
  const FitJob& job = a.job;
  Arena<Strided> arena{Strided{a.memory + thread, a.threads}};
  const auto w = make_workspace(s, arena);
  Newton<double, Strided> n = make_newton<double>(s, arena);
  const Strided response = arena.take(s.response);
  const auto start_scratch = make_shared_start_scratch(a.shape, arena);
  for (std::size_t i = 0; i < arena.used; ++i) arena.base[i] = 0.0;

  Design<double> design = job.design[0];
  const auto trip = [&](bool running) {
    converge_warp();
    const Evaluation<double> e = Text::template evaluate_lanes<double>(s, design, response, w);
    return Trip<double>{e.r2, newton_trip<double>(s, w, n, e, running, job.options, job.starts)};
  };
  const auto set_design = [&](std::uint64_t i) {
    if (job.design_of != nullptr) design = job.design[job.design_of[i]];
  };
  const auto first_start = [&](const Strided& lambda) {
    if (a.shared == nullptr) return false;
    shared_start<double>(a.shape, *a.shared, response, start_scratch, lambda);
    return true;
  };
  fit_items(s, a, w, n, response, s.response, trip, take, set_design, first_start);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
