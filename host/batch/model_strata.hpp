/// @file
/// The strata of one or two nested models, found, certified and compared with the rows: what the engines of tier 1
/// stand on.
#pragma once

#include <Eigen/Core>
#include <memory>
#include <string>
#include <vector>

#include "host/batch/engine.hpp"
#include "host/batch/strata_data.hpp"
#include "host/model/symmetry.hpp"

namespace batchlmm {

class ModelStrata {
public:
  /// @param why  where there are none: one line for people
  /// @return nothing where the design has no strata or where they were not certified
  static std::unique_ptr<const ModelStrata> make(const BootstrapModels& models, std::string* why);

  [[nodiscard]] const Strata& strata() const { return strata_; }
  [[nodiscard]] const StrataData& data() const { return *data_; }
  /// Rows with those that were filled in.
  [[nodiscard]] int rows() const { return rows_; }
  /// Places of the others, in order.
  [[nodiscard]] const std::vector<int>& observed() const { return observed_; }
  /// Rows that were filled in.
  [[nodiscard]] int missing() const { return rows_ - static_cast<int>(observed_.size()); }
  /// The record of a response. @param y  n, the observed rows; the offset and large fitted values taken off
  [[nodiscard]] std::vector<double> record(bool full, const Eigen::VectorXd& y) const;
  /// Largest difference of the criterion from an evaluation by rows, over both models and three T and y without
  /// structure; relative to 1 + n / 1000. Infinite where one of them cannot be evaluated.
  [[nodiscard]] double verify(const BootstrapModels& models) const;

private:
  ModelStrata() = default;

  std::unique_ptr<const Model> complete_;  ///< where rows were filled in
  Strata strata_;
  std::unique_ptr<const StrataData> data_;
  int rows_ = 0;
  std::vector<int> observed_;
};

/// Strata may differ from the rows by so much (ModelStrata::verify).
inline constexpr double strata_tolerance = 1e-8;

/// Fixed numbers without structure around 0, in place of random ones.
double structureless(double i);

}  // namespace batchlmm
