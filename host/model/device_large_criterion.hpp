/// @file
/// The criterion of models with a large dense Schur complement, evaluated on a device.
///
/// With O = q + p columns beside y, an evaluation with derivatives takes O^3 / 6 multiply-adds for the Cholesky
/// factorization, O^3 / 2 for the inverse of the factor and O^3 / 2 for the inverse of the system by it, and the
/// streamed levels' pairs of columns twice. InstEval (O = 1158, 2972 levels, 2.1 million pairs): 1.8 G multiply-adds,
/// 55 us at the 33 T/s that an H100 has with its tensor cores, 105 us at the 17 T/s without; three matrices of 11 MB
/// are written once and read twice or three times, and 8 bytes a pair are read: 120 MB, 36 us at 3.35 TB/s. So 4
/// evaluations a refit have a floor of 0.4 ms; what a single queue takes is mostly the latency of some hundred small
/// kernels inside the factorization and the solve, which several queues at a time hide.
#pragma once

#include <memory>
#include <vector>

#include "host/model/criterion.hpp"
#include "kernels/large_device.hpp"

namespace batchlmm {

struct DeviceLargeOptions {
  /// A streamed level that touches more than this share of the outer columns is added by matrix products.
  double dense_share = 0.15;
  /// Pairs of columns of the other levels, which are listed: 8 bytes each. Where there are more, levels with many
  /// columns are added by matrix products, too.
  double most_pairs = 1 << 26;
  int panel_levels = 256;  ///< levels that are added by one matrix product
  /// As LargeOptions'.
  double largest_exact_hessian = 2.5e11;
};

/// What is constant of a model, in a device's memory. All criteria on the device share it.
class DeviceLargeModel {
public:
  /// @param model   with one streamed stage (shape().stages <= 1); must outlive this
  /// @throws DeviceMemoryError
  DeviceLargeModel(const Model& model, kernels::LargeDevice& device, const DeviceLargeOptions& options = {});
  [[nodiscard]] const Model& model() const { return model_; }
  [[nodiscard]] const kernels::LargeConstants& constants() const { return constants_; }
  [[nodiscard]] int segments() const { return segments_; }                  ///< of pairs
  [[nodiscard]] int response_segment() const { return response_segment_; }  ///< the first one of y's row
  [[nodiscard]] int column_segments() const { return column_segments_; }
  /// Levels that are added by matrix products, panel_levels() at a time; the borders of their entries, empty where
  /// there are none.
  [[nodiscard]] int wide_levels() const { return wide_levels_; }
  [[nodiscard]] int panel_levels() const { return panel_levels_; }
  [[nodiscard]] const std::vector<int>& panels() const { return panels_; }
  /// Exact Hessians are affordable.
  [[nodiscard]] bool exact() const { return exact_; }
  /// Bytes of device memory that a criterion takes.
  [[nodiscard]] double criterion_bytes() const;

private:
  const Model& model_;
  kernels::LargeConstants constants_;
  std::shared_ptr<std::byte> memory_;
  int segments_ = 0, response_segment_ = 0, column_segments_ = 0, wide_levels_ = 0, panel_levels_ = 0;
  bool exact_ = false;
  std::vector<int> panels_;
};

/// Deviance and derivatives as LargeCriterion's. An exact Hessian takes O^3 multiply-adds more for each parameter of
/// the streamed terms.
/// @param device  its queue for this criterion, which other criteria may share: one thread at a time
/// @throws DeviceMemoryError
std::unique_ptr<Criterion> make_device_large_criterion(std::shared_ptr<const DeviceLargeModel> model,
                                                       std::shared_ptr<kernels::LargeDevice> device,
                                                       const Eigen::VectorXd& y);

}  // namespace batchlmm
