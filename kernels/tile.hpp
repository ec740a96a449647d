/// @file
/// A tile of lanes on the CPU: the memory of fit_lanes, aligned for native vectors.
#pragma once

#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "kernels/replicate.hpp"
#include "kernels/texts.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

struct AlignedFree {
  void operator()(void* p) const { std::free(p); }
};
template <class V>
using Aligned = std::unique_ptr<V[], AlignedFree>;
template <class V>
Aligned<V> aligned_array(std::size_t n) {
  const std::size_t bytes = ((n ? n : 1) * sizeof(V) + 127) / 128 * 128;
  void* p = std::aligned_alloc(128, bytes);
  if (p == nullptr) throw std::bad_alloc();
  return Aligned<V>(static_cast<V*>(p));
}
/// An array that the thread keeps for its next chunk: given back to the system it would be paged in anew each time.
/// @tparam use  each has an array of its own
template <class V, int use>
V* kept_array(std::size_t n) {
  thread_local Aligned<V> memory;
  thread_local std::size_t size = 0;
  if (n > size || memory == nullptr) {
    size = 0;
    memory = aligned_array<V>(n);
    size = n;
  }
  return memory.get();
}

/// Responses of many items: element e of item i stands at at[i / lanes * tile + e * lanes + i % lanes].
struct TiledResponses {
  const double* at = nullptr;
  std::size_t tile = 0;
  int lanes = 1;
};

/// Many fits of one shape, wherever the items come from.
struct FitItems {
  const Design<double>* designs = nullptr;
  const int* design_of = nullptr;  ///< as in FitJob
  std::uint64_t items = 0;
  TiledResponses responses;
  const double* first_start = nullptr;  ///< items x lambdas, or one for all
  bool one_start = true;
  const double* limit = nullptr;  ///< items: a value that the optimum cannot exceed; null where there is none
  const double* starts = nullptr;
  const FitResults* null = nullptr;  ///< of a full fit: decides how many starting points an item tries
  NewtonOptions options;
  bool parameters = false;
  FitResults results;
};

/// Fits of one shape, `Lanes<V>::width` at a time.
/// @tparam C     double where all items share one design, V where each lane has its own
/// @tparam Text  the text of the evaluation (texts.hpp)
template <class V, class C, class Text>
class Tile {
public:
  static constexpr int width = Lanes<V>::width;
  using Sizes = typename Text::Sizes;

  explicit Tile(const Shape& shape) : shape_(shape), sizes_(shape) {
    Arena<V*> count{nullptr};
    (void)make_workspace(sizes_, count);
    (void)make_newton<V>(sizes_, count);
    memory_ = aligned_array<V>(count.used + shape_.response);
    Arena<V*> arena{memory_.get()};
    w_ = make_workspace(sizes_, arena);
    n_ = make_newton<V>(sizes_, arena);
    response_ = arena.take(shape_.response);
    for (std::size_t i = 0; i < arena.used; ++i) memory_[i] = V(0.0);
    if constexpr (!std::is_same_v<C, double>) allocate_design();
  }

  void fit(const FitItems& job) {
    std::uint64_t next = 0;
    const auto take = [&](std::uint64_t& i) {
      if (next == job.items) return false;
      i = next++;
      return true;
    };
    const auto load = [&](std::uint64_t i, int l) {
      const TiledResponses& r = job.responses;
      const double* from = r.at + i / r.lanes * r.tile + i % r.lanes;
      double bad = 0;  // x - x: 0, or NaN where x is not finite
      for (int e = 0; e < shape_.response; ++e) {
        const double x = from[static_cast<std::size_t>(e) * r.lanes];
        bad += x - x;
        set_lane(response_[e], l, x);
      }
      if constexpr (!std::is_same_v<C, double>)
        if (bad == 0) load_design(job.designs[job.design_of == nullptr ? 0 : job.design_of[i]], l);
      return bad == 0;
    };
    const auto start = [&](std::uint64_t i, int l, V* lambda) {
      const double* from = job.first_start + (job.one_start ? 0 : i * shape_.lambdas);
      for (int e = 0; e < shape_.lambdas; ++e) set_lane(lambda[e], l, from[e]);
    };
    const auto runs = [&](std::uint64_t i) {
      return job.null == nullptr ? job.options.starts : full_runs(*job.null, i, job.options);
    };
    const auto limit = [&](std::uint64_t i) {
      return job.limit == nullptr ? std::numeric_limits<double>::infinity() : job.limit[i];
    };
    const auto evaluate_lanes = [&] {
      if constexpr (std::is_same_v<C, double>)
        return Text::template evaluate_lanes<V>(sizes_, job.designs[0], response_, w_);
      else
        return Text::template evaluate_lanes<V>(sizes_, lane_design_, response_, w_);
    };
    fit_lanes<V>(sizes_, w_, n_, evaluate_lanes, take, load, start, runs, limit, job.starts, job.options,
                 job.parameters, job.results);
  }

private:
  // Sizes of a design's arrays: streamed_c, streamed_r, x_e, degrees; own_e per stage follows.
  template <class F>
  void for_each_constant(F&& f) const {
    const std::size_t K = shape_.own[0], levels = shape_.nodes[0];
    f(&Design<double>::streamed_c, &Design<C>::streamed_c, -1, levels * K * K);
    f(&Design<double>::streamed_r, &Design<C>::streamed_r, -1, levels * K * (shape_.columns() - 1));
    f(&Design<double>::x_e, &Design<C>::x_e, -1, static_cast<std::size_t>(triangle_size(shape_.p)));
    f(&Design<double>::degrees, &Design<C>::degrees, -1, std::size_t{1});
  }
  [[nodiscard]] std::size_t own_e_entries(int t) const {
    return static_cast<std::size_t>(shape_.nodes[t]) * own_e_size(shape_.own[t], shape_.outer[t]);
  }
  void allocate_design() {
    std::size_t total = 0;
    for_each_constant([&](auto, auto, int, std::size_t n) { total += n; });
    for (int t = 1; t <= shape_.stages; ++t) total += own_e_entries(t);
    design_memory_ = aligned_array<V>(total);
    for (std::size_t i = 0; i < total; ++i) design_memory_[i] = V(0.0);
    V* at = design_memory_.get();
    for_each_constant([&](auto, auto to, int, std::size_t n) {
      lane_design_.*to = reinterpret_cast<const C*>(at);
      at += n;
    });
    for (int t = 1; t <= shape_.stages; ++t) {
      lane_design_.own_e[t] = reinterpret_cast<const C*>(at);
      at += own_e_entries(t);
    }
  }
  void load_design(const Design<double>& from, int l) {
    V* at = design_memory_.get();
    for_each_constant([&](auto source, auto, int, std::size_t n) {
      const double* values = from.*source != nullptr ? from.*source : &shape_.degrees;  // only degrees may be null
      for (std::size_t i = 0; i < n; ++i) set_lane(at[i], l, values[i]);
      at += n;
    });
    for (int t = 1; t <= shape_.stages; ++t) {
      const std::size_t n = own_e_entries(t);
      for (std::size_t i = 0; i < n; ++i) set_lane(at[i], l, from.own_e[t][i]);
      at += n;
    }
  }

  Shape shape_;
  Sizes sizes_;
  Aligned<V> memory_, design_memory_;
  decltype(make_workspace(std::declval<const Sizes&>(), std::declval<Arena<V*>&>())) w_;
  Newton<V, V*> n_;
  V* response_ = nullptr;
  Design<C> lane_design_{};
};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
