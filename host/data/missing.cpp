#include "host/data/missing.hpp"

#include <cmath>

namespace batchlmm {

bool is_missing(const Column& column, std::size_t row) {
  if (const auto* factor = std::get_if<Factor>(&column.data)) return factor->codes[row] < 0;
  return std::isnan(std::get<Numeric>(column.data)[row]);
}

std::vector<std::size_t> complete_cases(const Table& table, const std::vector<std::string>& columns) {
  std::vector<const Column*> checked;
  checked.reserve(columns.size());
  for (const std::string& name : columns) checked.push_back(&table.at(name));
  std::vector<std::size_t> rows;
  rows.reserve(table.rows);
  for (std::size_t row = 0; row < table.rows; ++row) {
    bool complete = true;
    for (const Column* column : checked) complete = complete && !is_missing(*column, row);
    if (complete) rows.push_back(row);
  }
  return rows;
}

}  // namespace batchlmm
