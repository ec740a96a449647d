/// @file
/// A table in memory: named columns, each numeric or a factor. Missing values are NaN (numeric) and -1 (factor).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace batchlmm {

/// A categorical column.
struct Factor {
  std::vector<std::string> levels;   ///< distinct levels, in order
  std::vector<std::int32_t> codes;   ///< per row: index into `levels`, or -1 where missing
  bool ordered = false;              ///< an ordered factor (polynomial contrasts by default)
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
  /// @return the column of that name, or nullptr
  [[nodiscard]] const Column* find(std::string_view name) const;
};

}  // namespace batchlmm
