/// @file
/// The profiled criterion of one model and one response, whatever the model's size: value, gradient, Hessian.
#pragma once

#include <Eigen/Core>
#include <memory>
#include <vector>

#include "host/model/model.hpp"

namespace batchlmm {

/// All derivatives are by the entries of the terms' T = lambda lambda', packed by the kernels' parameters, in the
/// kernels' gauge; off-diagonal entries count both places.
struct CriterionValue {
  double deviance = 0;          ///< ML deviance or REML criterion
  double r2 = 0;                ///< penalized residual sum of squares
  bool ok = false;              ///< every pivot was positive
  Eigen::VectorXd gradient;     ///< m
  Eigen::MatrixXd hessian;      ///< m x m: exact, or the average information where `exact` is false
  Eigen::MatrixXd information;  ///< m x m, average information
  Eigen::VectorXd forms;        ///< m: c'E_a c with c = Z'Py; not by every criterion
  bool exact = true;            ///< of `hessian`
};

/// What one evaluation takes, known before it is made.
struct CriterionCost {
  double operations = 0;  ///< multiply-adds, with derivatives
  double bytes = 0;       ///< all that the criterion holds
};

class Criterion {
public:
  virtual ~Criterion() = default;
  [[nodiscard]] virtual CriterionCost cost() const = 0;
  /// @param lambda  all terms' k x k factors, row-major, at the shape's offsets
  virtual CriterionValue evaluate(const std::vector<double>& lambda, bool derivatives) = 0;
  /// With derivatives, but the average information in place of the exact Hessian where that costs much less
  /// (CriterionValue::exact says which).
  virtual CriterionValue evaluate_with_information(const std::vector<double>& lambda) { return evaluate(lambda, true); }
  /// The exact Hessian costs little more than the average information.
  [[nodiscard]] virtual bool exact_is_cheap() const { return false; }
  /// Exchanges the response. @param response  shape().response entries, as Model::response gives them
  virtual void set_response(const std::vector<double>& response) = 0;
  /// Of the last evaluation with derivatives: fixed effects in X's gauge (p).
  [[nodiscard]] virtual Eigen::VectorXd beta() const = 0;
  /// (X'V^{-1}X) in X's gauge, p x p.
  [[nodiscard]] virtual Eigen::MatrixXd x_information() const = 0;
  /// c = Z'Py of a kernel term, levels of its grouping factor (in the factor's own order) x k, in the term's gauge.
  [[nodiscard]] virtual Eigen::MatrixXd modes(int kernel_term) const = 0;
};

/// Multiply-adds of one evaluation with derivatives by the kernels' text.
double kernel_operations(const Model& model);
/// Seconds of one evaluation by matrix products, on one core of a machine with AVX-512: by dense ones throughout or by
/// sparse streamed levels with a dense node, whatever needs less. Infinite where there is more than one streamed stage.
double matrix_seconds(const Model& model);

/// By the kernels' text, by dense matrix products (dense_criterion.hpp), by sparse streamed levels with a dense node
/// (large_criterion.hpp) or with a sparse one (sparse_criterion.hpp), whatever needs least time.
/// @param y  n, offset subtracted
std::unique_ptr<Criterion> make_criterion(const Model& model, const Eigen::VectorXd& y);

}  // namespace batchlmm
