/// @file
/// A tile of lanes on the CPU: fits item after item, refilling a finished lane with the next item, never waiting for
/// the slowest.
#pragma once

#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

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

  /// @param load     load(item, lane, response): puts the item's response vector into the lane; returns false when it
  /// is not finite
  /// @param start    start(item, lane, lambda): the first starting point into the lane
  /// @param limit    limit(item): a value that the optimum cannot exceed (else it is tried again from starts[0]); +inf
  /// where there is none
  template <class Load, class Start, class Limit>
  void fit(const Design<double>* designs, const int* design_of, std::uint64_t items, const Load& load,
           const Start& start, const Limit& limit, const double* starts, const NewtonOptions& options, bool parameters,
           const FitResults& results) {
    std::uint64_t item[width] = {}, next = 0;
    bool occupied[width] = {}, finishing[width] = {}, retried[width] = {};
    int alive = 0;
    Design<C> design{};
    if constexpr (std::is_same_v<C, double>)
      design = designs[0];
    else
      design = lane_design_;
    MaskOf<V> running = V(1.0) <= V(0.0);
    while (true) {
      for (int l = 0; l < width; ++l)
        while (!occupied[l] && next < items) {
          const std::uint64_t i = next++;
          if (!load(i, l, response_)) {
            record_failure(i, fit_non_finite, results);
            continue;
          }
          if constexpr (!std::is_same_v<C, double>) load_design(designs[design_of == nullptr ? 0 : design_of[i]], l);
          start(i, l, w_.lambda);
          begin_lane(n_, l);
          item[l] = i;
          occupied[l] = true;
          finishing[l] = retried[l] = false;
          set_lane(running, l, true);
          ++alive;
        }
      if (alive == 0) return;
      const V* response = response_;
      const Evaluation<V> e = evaluate<LK, V>(shape_, design, response, w_, true);
      for (int l = 0; l < width; ++l)
        if (occupied[l] && finishing[l]) {
          if (results.beta != nullptr)
            for (int i = 0; i < shape_.p; ++i) results.beta[item[l] * shape_.p + i] = lane(w_.beta[i], l);
          if (results.r2 != nullptr) results.r2[item[l]] = lane(e.r2, l);
          occupied[l] = false;
          --alive;
        }
      const auto done = newton_trip(shape_, w_, n_, e, running, options, starts);
      if (!any(done)) continue;
      to_coordinates<V>(shape_, n_.best_lambda, n_.next, n_.small);
      for (int l = 0; l < width; ++l) {
        if (!lane(done, l)) continue;
        const std::uint64_t i = item[l];
        if (!retried[l] && lane(n_.best, l) > limit(i) + 1e-9) {
          // A worse optimum than a point that is known: once more, from the shared starting point.
          retried[l] = true;
          for (int q = 0; q < shape_.lambdas; ++q) set_lane(w_.lambda[q], l, starts[q]);
          set_lane(n_.fresh, l, true);
          set_lane(n_.evaluations, l, 0.0);
          continue;
        }
        set_lane(running, l, false);
        record(i, l, results);
        if (parameters && lane(n_.best, l) < 1e300) {
          finishing[l] = true;
          for (int q = 0; q < shape_.lambdas; ++q) set_lane(w_.lambda[q], l, lane(n_.best_lambda[q], l));
        } else {
          occupied[l] = false;
          --alive;
        }
      }
    }
  }

private:
  void record(std::uint64_t i, int l, const FitResults& r) {
    std::uint32_t boundary = 0;
    for (int b = 0; b < shape_.terms; ++b)
      if (lane(singular_term<V>(shape_, n_, b), l)) boundary |= 1u << b;
    FitStatus status = boundary != 0 ? fit_boundary : fit_converged;
    if (!lane(n_.best_certified, l)) status = fit_iteration_limit;
    if (!(lane(n_.best, l) < 1e300)) status = fit_not_positive_definite;
    r.status[i] = status;
    r.deviance[i] = lane(n_.best, l);
    for (int q = 0; q < shape_.lambdas; ++q) r.lambda[i * shape_.lambdas + q] = lane(n_.best_lambda[q], l);
    if (r.boundary != nullptr) r.boundary[i] = boundary;
    if (r.evaluations != nullptr) r.evaluations[i] = static_cast<std::uint16_t>(lane(n_.total_evaluations, l));
  }
  void record_failure(std::uint64_t i, FitStatus status, const FitResults& r) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    r.status[i] = status;
    r.deviance[i] = nan;
    for (int q = 0; q < shape_.lambdas; ++q) r.lambda[i * shape_.lambdas + q] = nan;
    if (r.boundary != nullptr) r.boundary[i] = 0;
    if (r.evaluations != nullptr) r.evaluations[i] = 0;
    if (r.r2 != nullptr) r.r2[i] = nan;
    if (r.beta != nullptr)
      for (int q = 0; q < shape_.p; ++q) r.beta[i * shape_.p + q] = nan;
  }

  // Sizes of a design's arrays: streamed_c, streamed_r, x_e, own_e per stage.
  template <class F>
  void for_each_constant(F&& f) const {
    const std::size_t K = shape_.own[0], levels = shape_.nodes[0];
    f(&Design<double>::streamed_c, &Design<C>::streamed_c, -1, levels * K * K);
    f(&Design<double>::streamed_r, &Design<C>::streamed_r, -1, levels * K * (shape_.columns() - 1));
    f(&Design<double>::x_e, &Design<C>::x_e, -1, static_cast<std::size_t>(triangle_size(shape_.p)));
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
      for (std::size_t i = 0; i < n; ++i) set_lane(at[i], l, (from.*source)[i]);
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
