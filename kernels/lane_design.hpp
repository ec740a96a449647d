/// @file
/// Designs of their own for the lanes of a tile: one shape, each lane its constants.
#pragma once

#include "kernels/shape.hpp"
#include "kernels/tile.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

template <class V>
class LaneDesign {
public:
  explicit LaneDesign(const Shape& shape) : shape_(shape) {
    std::size_t total = 0;
    for_each_constant([&](auto, auto, std::size_t n) { total += n; });
    for (int t = 1; t <= shape_.stages; ++t) total += own_e_entries(t);
    memory_ = aligned_array<V>(total);
    for (std::size_t i = 0; i < total; ++i) memory_[i] = V(0.0);
    V* at = memory_.get();
    for_each_constant([&](auto, auto to, std::size_t n) {
      design_.*to = at;
      at += n;
    });
    for (int t = 1; t <= shape_.stages; ++t) {
      design_.own_e[t] = at;
      at += own_e_entries(t);
    }
  }
  void load(const Design<double>& from, int l) {
    V* at = memory_.get();
    for_each_constant([&](auto source, auto, std::size_t n) {
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
  [[nodiscard]] const Design<V>& design() const { return design_; }

private:
  // Sizes of a design's arrays: streamed_c, streamed_r, x_e, degrees; own_e per stage follows.
  template <class F>
  void for_each_constant(F&& f) const {
    const std::size_t K = shape_.own[0], levels = shape_.nodes[0];
    f(&Design<double>::streamed_c, &Design<V>::streamed_c, levels * K * K);
    f(&Design<double>::streamed_r, &Design<V>::streamed_r, levels * K * (shape_.columns() - 1));
    f(&Design<double>::x_e, &Design<V>::x_e, static_cast<std::size_t>(triangle_size(shape_.p)));
    f(&Design<double>::degrees, &Design<V>::degrees, std::size_t{1});
  }
  [[nodiscard]] std::size_t own_e_entries(int t) const {
    return static_cast<std::size_t>(shape_.nodes[t]) * own_e_size(shape_.own[t], shape_.outer[t]);
  }

  const Shape& shape_;
  Aligned<V> memory_;
  Design<V> design_{};
};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
