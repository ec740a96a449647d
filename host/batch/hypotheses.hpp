/// @file
/// Hypotheses about the fixed effects that are tested in every fit of a batch and in every bootstrap replicate, for
/// small samples: Satterthwaite's or Kenward and Roger's degrees of freedom.
#pragma once

#include <Eigen/Core>
#include <string>
#include <vector>

#include "host/model/method.hpp"
#include "host/model/small_sample.hpp"

namespace batchlmm {

/// L beta = value.
struct Hypothesis {
  Eigen::MatrixXd l;      ///< rows x p, in the user's columns of X; rows may depend on others
  Eigen::VectorXd value;  ///< rows; empty: 0
};

struct Hypotheses {
  SmallSample method = SmallSample::satterthwaite;
  std::vector<Hypothesis> list;
};

/// The test of one hypothesis in one fit: a t test where it has one row, else an F test; what a test of the fit by
/// itself gives (host/model/small_sample.hpp). NaN everywhere where the fit is not used (is_used).
struct HypothesisTest {
  double estimate = 0;   ///< t: L beta - value, in the response's units; F: NaN
  double std_error = 0;  ///< t: Kenward and Roger's is adjusted; F: NaN
  double df1 = 0;        ///< 1, or F's numerator degrees of freedom
  double df = 0;         ///< of t, or F's denominator
  double statistic = 0;  ///< t or F
  double p = 0;          ///< two-sided, or the upper tail
  double scaling = 1;    ///< Kenward and Roger's factor, in F already
};

/// @param what  of the model, for the message
/// @throws ModelError for Kenward-Roger by ML, a hypothesis whose columns are not the model's p, or a `value` of
/// another length; InputError where a hypothesis has no row that is not zero
void check_hypotheses(const Hypotheses& hypotheses, Method method, Eigen::Index p, const std::string& what);

}  // namespace batchlmm
