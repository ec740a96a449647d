/// @file
/// Linear contrasts of the fixed effects as users write them.
#pragma once

#include <Eigen/Core>
#include <string>
#include <vector>

namespace batchlmm {

/// The rows of a hypothesis, separated by ';'. A row is a linear expression of coefficient names with numbers, + - * /
/// and parentheses ("attitudepol - (genderM + `b c`) / 2"; a name may stand in backquotes), or one number a coefficient
/// ("0, 1, -0.5").
/// @param names  p: the coefficients, ModelMatrices::x_names
/// @return rows x p
/// @throws InputError with the place: an unknown name (and the nearest one), a product of names, a constant left over,
///                    a wrong number of numbers, a row of zeros
Eigen::MatrixXd contrast_matrix(const std::string& text, const std::vector<std::string>& names);

}  // namespace batchlmm
