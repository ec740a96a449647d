#include "host/inference/held_criterion.hpp"

#include <cmath>
#include <numbers>
#include <utility>

#include "kernels/shape.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr double log_two_pi = 1.8378770664093454836;

}  // namespace

DevianceParts deviance_parts(const kernels::Shape& s, const Criterion& criterion, const CriterionValue& value,
                             double degrees) {
  DevianceParts parts;
  parts.r2 = value.r2;
  parts.log_determinant = value.deviance - degrees * (1 + log_two_pi + std::log(value.r2 / degrees));
  parts.forms.resize(s.parameters);
  for (int b = 0; b < s.terms; ++b) {
    const MatrixXd modes = criterion.modes(b);
    const MatrixXd products = modes.transpose() * modes;
    for (int i = 0; i < s.term[b].k; ++i)
      for (int j = 0; j <= i; ++j)
        parts.forms[s.term[b].parameter + kernels::triangle(i, j)] = (i == j ? 1 : 2) * products(i, j);
  }
  const MatrixXd squares = parts.forms * parts.forms.transpose();
  const double precision = degrees / value.r2;
  parts.cross = value.information / precision + squares / value.r2;
  parts.log_determinant_gradient = value.gradient + precision * parts.forms;
  if (value.exact)
    parts.log_determinant_hessian = value.hessian - 2 * precision * parts.cross + (precision / value.r2) * squares;
  return parts;
}

CriterionValue HeldCriterion::evaluate(const std::vector<double>& lambda, bool derivatives) {
  CriterionValue value = inner_.evaluate(lambda, derivatives);
  if (derivatives) return compose(lambda, std::move(value));
  const double degrees = model_.shape().degrees;
  const Residual sigma = residual(lambda);
  value.ok = value.ok && sigma.variance > 0;
  if (value.ok)
    value.deviance += degrees * (std::log(sigma.variance * degrees / value.r2) - 1) + value.r2 / sigma.variance;
  return value;
}

CriterionValue HeldCriterion::evaluate_with_information(const std::vector<double>& lambda) {
  return compose(lambda, inner_.evaluate_with_information(lambda));
}

CriterionValue HeldCriterion::compose(const std::vector<double>& lambda, CriterionValue value) const {
  const double n = model_.shape().degrees;
  const Residual sigma = residual(lambda);
  value.ok = value.ok && sigma.variance > 0;
  if (!value.ok) return value;
  const DevianceParts parts = deviance_parts(model_.shape(), inner_, value, n);
  value.forms.resize(0);  // traces are not carried: the forms' place in the Hessian is another one
  const double precision = 1 / sigma.variance;
  value.deviance = parts.log_determinant + n * (log_two_pi + std::log(sigma.variance)) + parts.r2 * precision;
  value.gradient = parts.log_determinant_gradient - precision * parts.forms;
  value.information = precision * parts.cross;
  if (value.exact) value.hessian = parts.log_determinant_hessian + 2 * precision * parts.cross;
  if (sigma.gradient != nullptr) {
    // sigma^2 = constant / u: 1 / sigma^2 is linear in T, and so is what r^2 is multiplied with.
    const VectorXd u = *sigma.gradient / sigma.form;
    const MatrixXd mixed = precision * (parts.forms * u.transpose() + u * parts.forms.transpose());
    const MatrixXd squares = u * u.transpose();
    value.gradient += (parts.r2 * precision - n) * u;
    if (value.exact) value.hessian += n * squares - mixed;
    // Average information (Gilmour, Thompson and Cullis 1995) of T and sigma^2, along the surface: a sum of squares.
    value.information += parts.r2 * precision * squares - mixed;
  }
  if (!value.exact) value.hessian = value.information;
  return value;
}

HeldCriterion::Residual HeldSigmaCriterion::residual(const std::vector<double>&) const {
  return {variance_, 1, nullptr};
}

HeldSdCriterion::HeldSdCriterion(const Model& model, Criterion& inner, int kernel_term, int row)
    : HeldCriterion(model, inner), term_(kernel_term), gradient_(VectorXd::Zero(model.shape().parameters)) {
  const kernels::TermShape& term = model.shape().term[kernel_term];
  const MatrixXd& map = model.z_gauge(model.term_of(kernel_term)).map;
  weights_ = map.triangularView<Eigen::Upper>().transpose().solve(VectorXd::Unit(term.k, row));
  for (int i = 0; i < term.k; ++i)
    for (int j = 0; j <= i; ++j)
      gradient_[term.parameter + kernels::triangle(i, j)] = (i == j ? 1 : 2) * weights_[i] * weights_[j];
}

double HeldSdCriterion::sigma(const std::vector<double>& lambda) const { return std::sqrt(residual(lambda).variance); }

HeldCriterion::Residual HeldSdCriterion::residual(const std::vector<double>& lambda) const {
  const kernels::TermShape& term = model().shape().term[term_];
  double form = 0;
  for (int j = 0; j < term.k; ++j) {
    double entry = 0;
    for (int i = 0; i < term.k; ++i) entry += weights_[i] * lambda[term.lambda + i * term.k + j];
    form += entry * entry;
  }
  return {form > 0 ? variance_ / form : 0, form, &gradient_};
}

}  // namespace batchlmm
