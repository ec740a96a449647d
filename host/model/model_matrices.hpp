/// @file
/// From a formula and a table to the response, X and the random-effects terms' model matrices.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <string>
#include <vector>

#include "host/data/table.hpp"
#include "host/formula/formula.hpp"

namespace batchlmm {

enum class Contrast { treatment, sum, helmert, polynomial };

struct ModelOptions {
  Contrast unordered = Contrast::treatment;
  Contrast ordered = Contrast::polynomial;
  /// Per-factor choices from `--contrasts name=sum,...`; they win over the two above.
  std::vector<std::pair<std::string, Contrast>> contrasts;
};

/// One random-effects term: k coefficients for each level of a grouping factor.
struct RandomTerm {
  std::string group;                       ///< grouping factor as lme4 names it: "subject", "cask:batch"
  std::vector<std::string> names;          ///< k coefficient names: "(Intercept)", "Days"
  std::vector<std::string> levels;         ///< of the grouping factor, those that occur, in order
  std::vector<std::int32_t> level_of_row;  ///< n, 0-based
  Eigen::MatrixXd z;                       ///< n x k, the term's model matrix (not yet spread over the levels)
};

/// What a formula and a table make: complete cases only.
struct ModelMatrices {
  std::string formula;                  ///< as R deparses it would be nice; as given is right
  std::string response;                 ///< the response as written, e.g. "log(y)"
  Eigen::VectorXd y;                    ///< n, offset not yet subtracted
  Eigen::VectorXd offset;               ///< n, zeros where there is none
  Eigen::MatrixXd X;                    ///< n x p, full column rank: collinear columns dropped
  std::vector<std::string> x_names;     ///< p
  std::vector<std::string> dropped_columns;  ///< names of the collinear columns left out, in the formula's order
  std::vector<RandomTerm> random;       ///< in order of decreasing number of levels, ties in the formula's order
  std::vector<std::size_t> rows;        ///< n, the rows of the table that were used (ascending)
  std::size_t rows_dropped = 0;         ///< rows left out because of a missing value in a used column
};

/// @throws FormulaError, DataError, ModelError
ModelMatrices model_matrices(const Formula& formula, const Table& table, const ModelOptions& options = {});

}  // namespace batchlmm
