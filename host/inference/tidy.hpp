/// @file
/// Results as one table with the columns of broom.mixed's `tidy`, for every command's `--csv`.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "host/data/table.hpp"

namespace batchlmm {

/// A row; NaN, an empty group and an empty level are missing values.
struct TidyRow {
  static constexpr double none = std::numeric_limits<double>::quiet_NaN();
  std::string effect;  ///< "fixed", "ran_pars", "ran_vals", ...
  std::string group;
  std::string term;
  double estimate = none, std_error = none, statistic = none, df = none, p_value = none;
  double conf_low = none, conf_high = none;
  std::string level = {};  ///< of the grouping factor, where a row is about one ("ran_vals")
};

/// CSV with the header `effect,group,term,estimate,std.error,statistic,df,p.value,conf.low,conf.high`; missing values
/// are NA, numbers have the digits that give back the same double, texts are quoted where they must be.
/// Where a row has a level, a column `level` stands after `group`, as in broom.mixed.
std::string tidy_csv(const std::vector<TidyRow>& rows);

/// A cell of a CSV file: quoted where it holds a comma, a quote or a line break.
std::string csv_text(const std::string& text);
/// The same of a number: "NA" for NaN, else the shortest digits that give back the same double.
std::string csv_number(double value);
/// A table as CSV, with a header; missing values are NA.
std::string table_csv(const Table& table);

}  // namespace batchlmm
