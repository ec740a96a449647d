/// @file
/// The part of the exact Hessian that does not depend on the response, computed once and carried to factors near by.
#pragma once

#include <vector>

#include "host/model/criterion.hpp"

namespace batchlmm {

/// t_ab = tr(Q E_a Q E_b), Q = Z'PZ (ML: Z'V^{-1}Z), is what tells the exact Hessian 2 AI + (N / r^4) s s' - t from the
/// average information AI, with s_a = c'E_a c; it depends on the factors alone. About a factor A of T + I / (rows a
/// level), Q is near A^{-T} W A^{-1} with a W that hardly changes: that carries t from one T to another. Newton's
/// method with it converges almost as with the exact Hessian, at the price of the average information.
class CarriedTraces {
public:
  explicit CarriedTraces(const kernels::Shape& shape) : shape_(&shape) {}
  /// @param value  an exact evaluation at lambda with `forms`
  void take(const std::vector<double>& lambda, const CriterionValue& value);
  [[nodiscard]] bool empty() const { return traces_.size() == 0; }
  /// Every variance at lambda, the part of the error in a level's mean included, is within a factor of two of the one
  /// that was taken.
  [[nodiscard]] bool near(const std::vector<double>& lambda) const;
  /// Makes value.hessian the exact one, up to the carrying, and says so in value.exact.
  /// @param value  at lambda, with `information` and `forms`
  void apply(const std::vector<double>& lambda, CriterionValue& value) const;

private:
  /// Cholesky factor of T + I / scale of a term.
  [[nodiscard]] Eigen::MatrixXd factor(int term, const std::vector<double>& lambda) const;

  const kernels::Shape* shape_;
  std::vector<Eigen::MatrixXd> factor_;  ///< per term, where the traces were taken
  Eigen::MatrixXd traces_;
};

}  // namespace batchlmm
