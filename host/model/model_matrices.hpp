/// @file
/// From a formula and a table to the response, X and the random-effects terms' model matrices.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "host/data/table.hpp"
#include "host/formula/formula.hpp"
#include "host/model/contrasts.hpp"

namespace batchlmm {

struct ModelOptions {
  Contrast unordered = Contrast::treatment;
  Contrast ordered = Contrast::polynomial;
  /// Per-factor choices from `--contrasts name=sum,...`; they win over the two above. The name is a column's, or that
  /// of the factor in the formula, "factor(x)". A column that this formula does not use, or that is no factor in it,
  /// may be named too, so that one choice serves both models of a comparison.
  std::vector<std::pair<std::string, Contrast>> contrasts;
  bool without_random_effects = false;  ///< a formula that has no random-effects term is taken, too
};

/// One random-effects term: k coefficients for each level of a grouping factor.
struct RandomTerm {
  std::string group;                       ///< grouping factor as lme4 names it: "subject", "cask:batch"
  std::vector<std::string> names;          ///< k coefficient names: "(Intercept)", "Days"
  std::vector<std::string> levels;         ///< of the grouping factor, those that occur, in order
  std::vector<std::int32_t> level_of_row;  ///< n, 0-based
  Eigen::MatrixXd z;                       ///< n x k, the term's model matrix (not yet spread over the levels)
  std::string text;                        ///< the term as lme4 names it: "Days | Subject", "0 + Days | Subject"
};

/// What a formula and a table make: complete cases only.
struct ModelMatrices {
  std::string formula;               ///< as R deparses it, on one line, with `(x || g)` written out as lme4 does
  std::string response;              ///< the response as written, e.g. "log(y)"
  Eigen::VectorXd y;                 ///< n, offset not yet subtracted
  Eigen::VectorXd offset;            ///< n, zeros where there is none
  Eigen::MatrixXd X;                 ///< n x p, full column rank: collinear columns dropped
  std::vector<std::string> x_names;  ///< p
  std::vector<std::string> x_terms;  ///< labels of the fixed-effects terms, as R's "term.labels"
  std::vector<int> x_assign;         ///< p: 0 for the intercept's column, t + 1 for one of x_terms[t]
  std::vector<std::string> dropped_columns;  ///< names of the collinear columns left out, in the formula's order
  /// In lme4's order, decreasing number of levels: the formula's order where that is so already, else the reverse of a
  /// stable sort by increasing number, so that terms with as many levels come in the reverse of the formula's order.
  std::vector<RandomTerm> random;
  std::vector<std::size_t> rows;  ///< n, the rows of the table that were used (ascending)
  std::size_t rows_dropped = 0;   ///< rows left out because of a missing value in a used column
};

/// Variables are evaluated over all rows of the table, then rows with a missing value in a used column are left out and
/// factor levels that no longer occur are dropped, as in lme4.
/// @throws FormulaError  with the place, where the formula does not fit the table: unknown column or function, a factor
///                       where a number is expected, a factor as response
/// @throws DataError     where a variable is infinite or not a number in a complete row
/// @throws ModelError    without random-effects term (unless the options allow it), with a constant response, with no
///                       complete row, with a factor of one level among the effects
ModelMatrices model_matrices(const Formula& formula, const Table& table, const ModelOptions& options = {});

}  // namespace batchlmm
