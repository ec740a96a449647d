/// @file
/// Reading tables from files: CSV, Parquet, Arrow IPC / Feather.
#pragma once

#include <string>
#include <vector>

#include "host/data/table.hpp"

namespace batchlmm {

struct ReadOptions {
  /// Columns to be made factors whatever their type (`--factor a,b`); levels of a numeric column in numeric order.
  std::vector<std::string> factors;
};

/// Reads a table; the format follows the file's ending (.csv, .tsv, .parquet, .pq, .arrow, .arrows, .feather, .ipc)
/// and, failing that, its first bytes (PAR1, ARROW1; anything else is CSV).
///
/// String columns become factors with levels in byte order (as R's `read.csv(stringsAsFactors = TRUE)` in the C
/// locale); TRUE/FALSE become factors, dates and times factors of their text, Parquet's and Arrow's dictionaries
/// factors with their own order. Empty, NA and NaN (nan) are missing, quoted or not. In CSV an unnamed first column is
/// called X, and blanks around numbers are ignored; letters T and F stay text.
/// @throws DataError naming the file and, where known, line and column
Table read_table(const std::string& path, const ReadOptions& options = {});

}  // namespace batchlmm
