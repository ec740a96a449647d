/// @file
/// From Arrow's tables to ours. Internal to host/data: the only header there that shows Arrow.
#pragma once

#include <arrow/type_fwd.h>

#include <memory>
#include <string>

#include "host/data/table.hpp"

namespace batchlmm::detail {

/// Whether a text column whose every value is a number becomes numeric: yes where the format has no types (CSV).
enum class NumbersInText { keep, convert };

/// Integers, decimals and floating point become numeric columns, and so does a column without any value; booleans
/// (levels FALSE, TRUE), text (levels in byte order), dates and times (levels their ISO 8601 text, in order of time)
/// and dictionaries (levels as the dictionary has them, `ordered` kept) become factors. So do integers beyond 2^53,
/// which doubles would confuse: they are identifiers. Columns of any other type go to `Table::unreadable`.
/// @throws DataError for a column without name, a name that occurs twice, or a table without rows
Table from_arrow(const std::string& source, const arrow::Table& table, NumbersInText numbers);

/// Opens Parquet, Arrow IPC file and stream; `file` is the whole content.
/// @throws DataError
std::shared_ptr<arrow::Table> read_parquet(const std::string& source, const std::shared_ptr<arrow::Buffer>& file);
std::shared_ptr<arrow::Table> read_ipc(const std::string& source, const std::shared_ptr<arrow::Buffer>& file);

/// Parses CSV (or tab-separated values). Dates and times stay text here, as the file has them.
/// @throws DataError
std::shared_ptr<arrow::Table> read_csv(const std::string& source, const std::shared_ptr<arrow::Buffer>& file,
                                       char delimiter);

}  // namespace batchlmm::detail
