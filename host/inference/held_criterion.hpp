/// @file
/// The ML deviance with the residual standard deviation, or that of a random effect, held at a value, as a criterion of
/// T for the optimizer.
#pragma once

#include <memory>

#include "host/model/criterion.hpp"

namespace batchlmm {

/// The two functions of T that make the deviance log|L|^2 + n log(2 pi sigma^2) + r^2 / sigma^2, with derivatives by
/// the entries of T as CriterionValue has them.
struct DevianceParts {
  double log_determinant = 0;                ///< log|L|^2
  double r2 = 0;                             ///< penalized residual sum of squares
  Eigen::VectorXd forms;                     ///< m: c'E_a c = -d r^2 / dT_a
  Eigen::VectorXd log_determinant_gradient;  ///< m
  Eigen::MatrixXd cross;                     ///< m x m: q_ab = (E_a c)'Z'PZ(E_b c), half of r^2's Hessian
  Eigen::MatrixXd log_determinant_hessian;   ///< m x m; only where the value's Hessian was exact
};

/// @param value      of `criterion`, by ML, with derivatives, the last that it evaluated
/// @param degrees    n
DevianceParts deviance_parts(const kernels::Shape& shape, const Criterion& criterion, const CriterionValue& value,
                             double degrees);

/// A criterion made from another's parts. All but the value and its derivatives is the other's.
class HeldCriterion : public Criterion {
public:
  HeldCriterion(const Model& model, Criterion& inner) : model_(model), inner_(inner) {}
  [[nodiscard]] CriterionCost cost() const override { return inner_.cost(); }
  CriterionValue evaluate(const std::vector<double>& lambda, bool derivatives) override;
  CriterionValue evaluate_with_information(const std::vector<double>& lambda) override;
  [[nodiscard]] bool exact_is_cheap() const override { return inner_.exact_is_cheap(); }
  void set_response(const std::vector<double>& response) override { inner_.set_response(response); }
  [[nodiscard]] Eigen::VectorXd beta() const override { return inner_.beta(); }
  [[nodiscard]] Eigen::MatrixXd x_information() const override { return inner_.x_information(); }
  [[nodiscard]] Eigen::MatrixXd modes(int kernel_term) const override { return inner_.modes(kernel_term); }

protected:
  [[nodiscard]] const Model& model() const { return model_; }
  /// sigma^2 = factor / T-form, and the form's gradient by the entries of T (constant: the form is linear).
  struct Residual {
    double variance = 0;                        ///< sigma^2
    double form = 1;                            ///< u, with sigma^2 = constant / u
    const Eigen::VectorXd* gradient = nullptr;  ///< of u; null: sigma^2 does not depend on T
  };
  /// @return variance <= 0 where T allows none
  [[nodiscard]] virtual Residual residual(const std::vector<double>& lambda) const = 0;

private:
  CriterionValue compose(const std::vector<double>& lambda, CriterionValue value) const;

  const Model& model_;
  Criterion& inner_;
};

/// sigma is held.
class HeldSigmaCriterion final : public HeldCriterion {
public:
  using HeldCriterion::HeldCriterion;
  void hold(double sigma) { variance_ = sigma * sigma; }

private:
  [[nodiscard]] Residual residual(const std::vector<double>& lambda) const override;
  double variance_ = 1;
};

/// The standard deviation of a coefficient is held at a value above 0.
class HeldSdCriterion final : public HeldCriterion {
public:
  /// @param row  of the term's coefficients
  HeldSdCriterion(const Model& model, Criterion& inner, int kernel_term, int row);
  void hold(double sd) { variance_ = sd * sd; }
  /// sigma where the factors are `lambda`.
  [[nodiscard]] double sigma(const std::vector<double>& lambda) const;

private:
  [[nodiscard]] Residual residual(const std::vector<double>& lambda) const override;
  int term_;
  double variance_ = 1;
  Eigen::VectorXd weights_;   ///< k: T_ii in the user's units is weights' T weights
  Eigen::VectorXd gradient_;  ///< m: of that
};

}  // namespace batchlmm
