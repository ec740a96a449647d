/// @file
/// Constants of kernels/shared_start.hpp for one model at one starting point.
#pragma once

#include <memory>
#include <vector>

#include "host/model/model.hpp"
#include "kernels/shared_start.hpp"

namespace batchlmm {

class SharedStartData {
public:
  /// @param lambda  the starting point, shape.lambdas
  /// @return none where the model's random effects are streamed in several stages, or its criterion cannot be evaluated
  /// at lambda
  static std::unique_ptr<const SharedStartData> make(const Model& model, const double* lambda);
  [[nodiscard]] const kernels::SharedStart& constants() const { return shared_; }

private:
  std::vector<double> streamed_, solve_, cross_, offset_, map_, l_, pivot_, w_;
  kernels::SharedStart shared_;
};

}  // namespace batchlmm
