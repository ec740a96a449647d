/// @file
/// Writing large tables to files, batch by batch: Parquet, CSV, Arrow IPC.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "host/data/table.hpp"

namespace batchlmm {

enum class OutputType { int64, float64, text, factor };

struct OutputColumn {
  std::string name;
  OutputType type = OutputType::float64;
};

/// Rows of a factor: written as the text of their levels, missing ones as missing values.
struct FactorValues {
  const std::vector<std::string>* levels = nullptr;
  std::span<const std::int32_t> codes;  ///< -1 where missing
  [[nodiscard]] std::size_t size() const { return codes.size(); }
};

/// Values of one column for some rows; the alternative must be that of the column's type.
using OutputValues =
    std::variant<std::span<const std::int64_t>, std::span<const double>, std::span<const std::string>, FactorValues>;

/// Writes rows as they come, in the format of the path's ending: .parquet, .csv or .arrow.
///
/// Rows are gathered and written in groups of `kRowsPerGroup`, so that memory stays bounded and the file is the same
/// byte for byte however the rows were divided between calls of `append`. NaN is a missing value: null in Parquet and
/// Arrow, NA in CSV. Numbers in CSV have the digits that give back the same double.
///
/// The rows go to a temporary file in the same folder, which `close` renames to `path`; without `close` it is removed
/// and an earlier file at `path` stays as it was. Not thread-safe.
class TableWriter {
public:
  static constexpr std::int64_t kRowsPerGroup = 65536;

  /// Creates the temporary file, so that an unwritable path is known before any work is done.
  /// @throws OutputError with the path and the system's reason; for an unknown ending
  /// @throws std::invalid_argument for columns without name or with the same name
  TableWriter(std::string path, std::vector<OutputColumn> columns);
  TableWriter(TableWriter&&) noexcept;
  TableWriter& operator=(TableWriter&&) noexcept;
  ~TableWriter();

  /// @param[in] values  one entry a column, in the constructor's order and of its types, all of one length
  /// @throws OutputError where the disk refuses (full, gone); the writer can then only be destroyed
  /// @throws std::invalid_argument for a wrong number of columns, type or length
  void append(std::span<const OutputValues> values);

  /// Writes what is left: after it `close` only renames. A second call does nothing.
  /// @throws OutputError
  void finish();

  /// `finish`, and puts the file in its place. A second call does nothing.
  /// @throws OutputError
  void close();

private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// Writes a whole table. @throws OutputError
void write_table(const std::string& path, const Table& table);

}  // namespace batchlmm
