/// @file
/// Many responses of one design reduced on a device: the vectors that the kernels take, by sparse products.
#pragma once

#include <memory>
#include <vector>

#include "host/model/model.hpp"
#include "kernels/large_device.hpp"

namespace batchlmm {

/// What Model::response does for one y, for a panel of them: with B the orthonormal bases of the streamed levels and O
/// = [outer Z, X], B'Y and O'(Y - BB'Y) by sparse times dense products, after the offset and the part on X have been
/// taken off. Results are Model::response's up to rounding, and have the same bits whatever else stands in the panel.
///
/// A response's n doubles go to the device once and are read seven times there: from pinned memory at 50 GB/s the copy
/// takes most of the time, 0.3 us for 1,800 rows.
class ResponseReduction {
public:
  /// @param model   must outlive this
  /// @param device  its queue, from now on
  /// @throws DeviceMemoryError
  ResponseReduction(const Model& model, std::shared_ptr<kernels::LargeDevice> device);

  /// Doubles of one result: the response vector, then the coefficients of X (gauge) that were taken off.
  [[nodiscard]] int length() const { return response_ + p_; }
  /// @param y      n x count, column-major, the offset not subtracted
  /// @param count  any
  /// @param out    length() x count
  void reduce(const double* y, std::size_t count, double* out);

  /// Responses that go through the device at a time: a function of n alone.
  [[nodiscard]] int panel() const { return panel_; }

private:
  std::shared_ptr<kernels::LargeDevice> device_;
  int n_, p_, response_, own_rows_, outer_rows_, panel_, pieces_;
  kernels::SparseMatrix own_, basis_, outer_;  ///< B', B and O'
  const double *x_ = nullptr, *offset_ = nullptr;
  double *y_ = nullptr, *out_ = nullptr, *again_ = nullptr, *partial_ = nullptr, *squares_ = nullptr;
  std::shared_ptr<std::byte> constants_, memory_, host_memory_;
  double *y_here_ = nullptr, *out_here_ = nullptr, *squares_here_ = nullptr;
};

}  // namespace batchlmm
