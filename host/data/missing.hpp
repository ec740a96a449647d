/// @file
/// Missing values: which rows are complete.
#pragma once

#include <string>
#include <vector>

#include "host/data/table.hpp"

namespace batchlmm {

/// Whether a row of the column is missing: NaN in a numeric column, -1 in a factor.
bool is_missing(const Column& column, std::size_t row);

/// Rows (ascending) in which none of the named columns is missing; every row where no column is named.
/// @throws DataError for a name that the table lacks
std::vector<std::size_t> complete_cases(const Table& table, const std::vector<std::string>& columns);

}  // namespace batchlmm
