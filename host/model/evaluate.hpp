/// @file
/// The value of a formula's variable on a table: columns, arithmetic, and the functions that formulas know.
#pragma once

#include <Eigen/Core>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "host/data/table.hpp"
#include "host/formula/formula.hpp"
#include "host/model/orthogonal_polynomials.hpp"

namespace batchlmm {

/// A numeric value with one or more columns; NaN where missing.
struct NumericValue {
  Eigen::MatrixXd values;                 ///< rows x columns
  std::vector<std::string> column_names;  ///< as R appends them to the variable's name; empty where there is one column
};

/// What a variable of a formula is: numbers, or a factor.
using Value = std::variant<NumericValue, Factor>;

/// What functions that look at all values found in one table, by the call as it is deparsed, for use with another: new
/// data are scaled by the mean and standard deviation of the data that a model was fitted to (R's "safe prediction").
struct Transforms {
  struct Scaling {
    double center = 0, divisor = 1;
  };
  std::map<std::string, Scaling> scale;              ///< (x - center) / divisor
  std::map<std::string, PolynomialRecurrence> poly;  ///< of calls that are not raw
};

/// Evaluates a variable over all rows of the table, as R's `model.frame` does before it drops incomplete rows: the mean
/// in `scale(x)` is that of all values of x that there are.
///
/// Known are + - * / ^ %% %/% and I, log (base), log2, log10, log1p, exp, expm1, sqrt, abs, sin, cos, tan, floor,
/// ceiling, round, scale, poly, offset, factor, as.factor, ordered. Missing values stay missing; a result may be NaN or
/// infinite where its arguments are not.
/// @throws FormulaError with the place: unknown column or function, a factor where a number is expected, ...
Value evaluate(const Expression& expression, const Table& table, const Formula& formula);
/// The same; scale() and poly() take what `transforms` has for them, and else leave there what they find.
Value evaluate(const Expression& expression, const Table& table, const Formula& formula, Transforms& transforms);

/// Adds the names of the table's columns that the expression uses.
void collect_columns(const Expression& expression, std::vector<std::string>& names);

}  // namespace batchlmm
