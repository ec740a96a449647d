/// @file
/// A table in memory: named columns, each numeric or a factor. Missing values are NaN (numeric) and -1 (factor).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace batchlmm {

/// A categorical column.
struct Factor {
  std::vector<std::string> levels;  ///< distinct levels, in order
  std::vector<std::int32_t> codes;  ///< per row: index into `levels`, or -1 where missing
  bool ordered = false;             ///< an ordered factor (polynomial contrasts by default)
};

/// Values of a numeric column; NaN where missing.
using Numeric = std::vector<double>;

struct Column {
  std::string name;
  std::variant<Numeric, Factor> data;
  [[nodiscard]] bool is_factor() const { return std::holds_alternative<Factor>(data); }
};

/// Columns of equal length. `source` is the path (for messages).
struct Table {
  std::string source;
  std::size_t rows = 0;
  std::vector<Column> columns;
  /// Columns of the file that are neither numbers nor categories (lists, binary, ...): name and type. They are left
  /// out.
  std::vector<std::pair<std::string, std::string>> unreadable;

  /// @return the column of that name, or nullptr
  [[nodiscard]] const Column* find(std::string_view name) const;
  /// @throws DataError with `missing_column_message` where there is no such column
  [[nodiscard]] const Column& at(std::string_view name) const;
};

/// One line on why `find(name)` gave nullptr: the nearest name if one is close, and the columns that there are; or, for
/// a column that was left out, its type.
std::string missing_column_message(const Table& table, std::string_view name);

}  // namespace batchlmm
