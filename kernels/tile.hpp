/// @file
/// A tile of lanes on the CPU: the memory of fit_lanes, aligned for native vectors.
#pragma once

#include <cmath>
#include <cstdlib>
#include <memory>
#include <type_traits>
#include <vector>

#include "kernels/deviance.hpp"
#include "kernels/replicate.hpp"

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

/// Fits of one shape, `Lanes<V>::width` at a time.
/// @tparam LK  K of the streamed factor where known at compile time, else 0
/// @tparam C   double where all items share one design, V where each lane has its own
template <class V, int LK, class C>
class Tile {
public:
  static constexpr int width = Lanes<V>::width;

  explicit Tile(const Shape& shape) : shape_(shape) {
    Arena<V*> count{nullptr};
    (void)make_workspace(shape_, count);
    (void)make_newton<V>(shape_, count);
    memory_ = aligned_array<V>(count.used + shape_.response);
    Arena<V*> arena{memory_.get()};
    w_ = make_workspace(shape_, arena);
    n_ = make_newton<V>(shape_, arena);
    response_ = arena.take(shape_.response);
    for (std::size_t i = 0; i < arena.used; ++i) memory_[i] = V(0.0);
    if constexpr (!std::is_same_v<C, double>) allocate_design();
  }

  /// @param load  load(item, lane, response): puts the item's response vector into the lane; false when it is not
  /// finite
  /// @param start, limit  as fit_lanes takes them
  template <class Load, class Start, class Limit>
  void fit(const Design<double>* designs, const int* design_of, std::uint64_t items, const Load& load,
           const Start& start, const Limit& limit, const double* starts, const NewtonOptions& options, bool parameters,
           const FitResults& results) {
    std::uint64_t next = 0;
    const auto take = [&](std::uint64_t& i) {
      if (next == items) return false;
      i = next++;
      return true;
    };
    const auto load_item = [&](std::uint64_t i, int l) {
      if (!load(i, l, response_)) return false;
      if constexpr (!std::is_same_v<C, double>) load_design(designs[design_of == nullptr ? 0 : design_of[i]], l);
      return true;
    };
    const auto evaluate_lanes = [&] {
      if constexpr (std::is_same_v<C, double>)
        return evaluate<LK, V>(shape_, designs[0], response_, w_, true);
      else
        return evaluate<LK, V>(shape_, lane_design_, response_, w_, true);
    };
    fit_lanes<V>(shape_, w_, n_, evaluate_lanes, take, load_item, start, limit, starts, options, parameters, results);
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
  Aligned<V> memory_, design_memory_;
  Workspace<V*> w_;
  Newton<V, V*> n_;
  V* response_ = nullptr;
  Design<C> lane_design_{};
};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
