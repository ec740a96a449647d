/// @file
/// Tests of fixed effects with denominator degrees of freedom for small samples: Satterthwaite's (as lmerTest has them,
/// Kuznetsova, Brockhoff and Christensen 2017) and Kenward and Roger's (1997, as pbkrtest has them, Halekoh and
/// Højsgaard 2014), from exact derivatives.
#pragma once

#include <Eigen/Core>

#include "host/batch/hypotheses.hpp"
#include "host/inference/variance_components.hpp"

namespace batchlmm {

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
  SmallSampleTests(const Fit& fit, SmallSample method);

  [[nodiscard]] SmallSample method() const { return method_; }
  /// Covariance of the fixed effects that the tests use: adjusted by Kenward-Roger.
  [[nodiscard]] const Eigen::MatrixXd& covariance() const { return covariance_; }
  /// @param l  p: the contrast l'beta
  [[nodiscard]] ContrastTest test(const Eigen::VectorXd& l) const;
  /// @param l  rows are contrasts, rows x p; some may depend on others
  /// @throws InputError where no contrast is left
  [[nodiscard]] FTest test(const Eigen::MatrixXd& l) const;

private:
  [[nodiscard]] double satterthwaite_df(const Eigen::VectorXd& l) const;
  [[nodiscard]] FTest satterthwaite_f(const Eigen::MatrixXd& l) const;
  [[nodiscard]] FTest kenward_roger_f(const Eigen::MatrixXd& l) const;

  SmallSample method_;
  Eigen::VectorXd beta_;
  VarianceComponents components_;
  Eigen::MatrixXd covariance_;
  Eigen::MatrixXd jacobian_;              ///< Satterthwaite: of gamma by (theta, sigma)
  Eigen::MatrixXd parameter_covariance_;  ///< of (theta, sigma), or Kenward-Roger: of gamma
};

}  // namespace batchlmm
