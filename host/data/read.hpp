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

/// Reads a table; the format follows the file's ending and, failing that, its first bytes.
/// String columns become factors with sorted levels (as R's `read.csv(stringsAsFactors = TRUE)`); empty, NA and NaN are
/// missing.
/// @throws DataError naming the file and, where known, line and column
Table read_table(const std::string& path, const ReadOptions& options = {});

}  // namespace batchlmm
