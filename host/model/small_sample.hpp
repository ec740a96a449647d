/// @file
/// Tests of fixed effects with denominator degrees of freedom for small samples: Satterthwaite's (as lmerTest has them,
/// Kuznetsova, Brockhoff and Christensen 2017) and Kenward and Roger's (1997, as pbkrtest has them, Halekoh and
/// Højsgaard 2014), from exact derivatives.
#pragma once

#include <Eigen/Core>

#include "host/model/variance_components.hpp"

namespace batchlmm {

enum class SmallSample { satterthwaite, kenward_roger };

/// A contrast of the fixed effects.
struct ContrastTest {
  double estimate = 0, se = 0, df = 0, t = 0, p = 0;  ///< p: two-sided
};
/// Several contrasts together.
struct FTest {
  double f = 0, df1 = 0, df2 = 0, p = 0;
  double scaling = 1;  ///< Kenward and Roger's factor, in `f` already
};

/// Tests of one fit.
class SmallSampleTests {
public:
  /// @throws ModelError for Kenward-Roger of a fit by ML
  SmallSampleTests(const FittedModel& fit, SmallSample method);

  [[nodiscard]] SmallSample method() const { return method_; }
  /// Covariance of the fixed effects that the tests use: adjusted by Kenward-Roger.
  [[nodiscard]] const Eigen::MatrixXd& covariance() const { return covariance_; }
  /// @param l  p: the contrast l'beta - value
  [[nodiscard]] ContrastTest test(const Eigen::VectorXd& l, double value = 0) const;
  /// @param l  rows are contrasts, rows x p; some may depend on others
  /// @param value  rows: L beta - value is tested; empty: 0
  /// @throws InputError where no contrast is left
  [[nodiscard]] FTest test(const Eigen::MatrixXd& l, const Eigen::VectorXd& value = {}) const;

private:
  [[nodiscard]] double satterthwaite_df(const Eigen::VectorXd& l) const;
  [[nodiscard]] FTest satterthwaite_f(const Eigen::MatrixXd& l, const Eigen::VectorXd& estimate) const;
  [[nodiscard]] FTest kenward_roger_f(const Eigen::MatrixXd& l, const Eigen::VectorXd& estimate) const;

  SmallSample method_;
  Eigen::VectorXd beta_;
  VarianceComponents components_;
  Eigen::MatrixXd covariance_;
  Eigen::MatrixXd jacobian_;              ///< Satterthwaite: of gamma by (theta, sigma)
  Eigen::MatrixXd parameter_covariance_;  ///< of (theta, sigma), or Kenward-Roger: of gamma
};

}  // namespace batchlmm
