/// @file
/// A design's rows laid out for the reduction of many responses (kernels/cpu_responses.hpp).
#pragma once

#include <vector>

#include "host/model/model.hpp"
#include "kernels/cpu_responses.hpp"

namespace batchlmm {

/// Owns what kernels::ResponseRows points to.
class ResponseRows {
public:
  explicit ResponseRows(const Model& model);
  ResponseRows(const ResponseRows&) = delete;
  ResponseRows& operator=(const ResponseRows&) = delete;

  [[nodiscard]] const kernels::ResponseRows& rows() const { return rows_; }
  /// Doubles of a reduced response: the response vector and the coefficients of X (gauge) that were taken off.
  [[nodiscard]] int length() const { return rows_.length + rows_.p; }

private:
  kernels::ResponseRows rows_;
  std::vector<int> first_, row_, target_;
  std::vector<double> offset_, basis_, x_, z_;
};

}  // namespace batchlmm
