/// @file
/// Hypotheses as the kernels take them: contrasts in X's gauge.
#pragma once

#include <Eigen/Core>
#include <span>
#include <vector>

#include "host/batch/hypotheses.hpp"
#include "kernels/contrast_forms.hpp"

namespace batchlmm {

static_assert(sizeof(HypothesisTest) == kernels::TestValues::values * sizeof(double));

/// A plan for one number of fixed effects; contrasts may be given for each item anew.
class TestPlanData {
public:
  /// @throws as check_hypotheses
  TestPlanData(const Hypotheses& hypotheses, Method method, Eigen::Index p, const std::string& what);

  /// Contrasts and values for the plan itself, all items alike.
  /// @param map     p x p, column by column, upper triangular: X = columns * map
  /// @param offset  p, in the gauge: taken off the fixed effects that the kernels find
  /// @param sigma   what the kernels' units are multiplied with to give the user's
  void set_gauge(const double* map, const double* offset, double sigma);
  /// The same into the caller's arrays. @param l, value  plan().rows x p and plan().rows
  void in_gauge(const double* map, const double* offset, double sigma, double* l, double* value) const;

  [[nodiscard]] const kernels::TestPlan& plan() const { return plan_; }

private:
  kernels::TestPlan plan_;
  std::vector<int> first_;
  Eigen::MatrixXd l_;      ///< rows x p, the user's columns
  Eigen::VectorXd value_;  ///< rows
  std::vector<double> gauge_l_, gauge_value_;
};

/// The tests of one fit by dense matrices over all random effects, for models that the kernels' text does not take.
/// @param used  whether the fit is used; else NaN
std::vector<HypothesisTest> dense_tests(const Hypotheses& hypotheses, const FittedModel& fit, bool used);

/// The kernels' numbers as tests. @param sigma  their unit
void read_tests(std::span<const double> values, double sigma, std::span<HypothesisTest> tests);

}  // namespace batchlmm
