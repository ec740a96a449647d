#include "host/data/table.hpp"

#include <algorithm>

#include "batchlmm/error.hpp"
#include "host/data/nearest_name.hpp"
#include "host/data/one_line.hpp"

namespace batchlmm {

const Column* Table::find(std::string_view name) const {
  const auto it = std::find_if(columns.begin(), columns.end(), [&](const Column& c) { return c.name == name; });
  return it == columns.end() ? nullptr : &*it;
}

const Column& Table::at(std::string_view name) const {
  if (const Column* column = find(name)) return *column;
  throw DataError(missing_column_message(*this, name));
}

std::string missing_column_message(const Table& table, std::string_view name) {
  constexpr std::size_t kNameLength = 60;
  const std::string quoted = "'" + detail::one_line(std::string(name), kNameLength) + "'";
  const auto left_out = std::find_if(table.unreadable.begin(), table.unreadable.end(),
                                     [&](const auto& column) { return column.first == name; });
  if (left_out != table.unreadable.end())
    return "column " + quoted + " of " + table.source + " is neither numeric nor categorical (its type is " +
           left_out->second + ")";
  std::string message = "no column " + quoted + " in " + table.source;
  std::vector<std::string> names;
  for (const Column& column : table.columns) names.push_back(column.name);
  return message + nearest_name_hint(name, names, "columns");
}

}  // namespace batchlmm
