/// @file
/// What it means to test a fixed-effects term: the hypotheses of sums of squares of type I, II and III.
#pragma once

#include <Eigen/Core>
#include <string>
#include <vector>

#include "host/data/table.hpp"
#include "host/formula/formula.hpp"
#include "host/model/model_matrices.hpp"

namespace batchlmm {

/// I: each term after those before it. II: each term after all that do not contain it. III: each term with all others
/// in the model, in the sense of SAS (Goodnight 1978): main effects are means over the cells with equal weights. With a
/// full coding of balanced cells all agree.
enum class TermTestType { one = 1, two = 2, three = 3 };

struct TermHypothesis {
  std::string term;      ///< R's label: "recipe:temperature"
  Eigen::MatrixXd rows;  ///< hypotheses on beta, rows x p; no rows where no column of the term is left in X
};

/// The hypotheses that lmerTest 3.1-3 tests (`anova(model, type = )`), row by row, so that Satterthwaite's degrees of
/// freedom of several rows agree, too. A term contains another one where it has all of its variables and more, and the
/// same numeric ones; what is in no other is tested by its own coefficients in type II. A numeric variable of several
/// columns (poly) counts as numeric, where lmerTest takes it for a factor.
/// @param formula, table, options  those that `model` was made of
/// @return one entry a term, in the model's order
std::vector<TermHypothesis> term_hypotheses(const Formula& formula, const Table& table, const ModelOptions& options,
                                            const ModelMatrices& model, TermTestType type);

}  // namespace batchlmm
