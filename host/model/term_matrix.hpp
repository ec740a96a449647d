/// @file
/// The columns that terms make, as R's `model.matrix`.
#pragma once

#include <Eigen/Core>
#include <string>
#include <vector>

#include "host/formula/terms.hpp"
#include "host/model/model_frame.hpp"
#include "host/model/model_matrices.hpp"

namespace batchlmm {

struct TermMatrix {
  Eigen::MatrixXd values;          ///< n x columns
  std::vector<std::string> names;  ///< per column, R's: "(Intercept)", "genderM:attitudepol"
  std::vector<int> assign;         ///< per column, R's: 0 for the intercept, t + 1 for terms.terms[t]
};

/// @param where  what the columns are for, in messages: "fixed effects", "random-effects term (Days | Subject)"
/// @throws ModelError  for a factor with one level, or for a matrix too large to be held
TermMatrix term_matrix(Terms terms, const ModelFrame& frame, const ModelOptions& options, const std::string& where);

}  // namespace batchlmm
