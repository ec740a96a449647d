#include "host/data/table.hpp"

#include <algorithm>
#include <cctype>
#include <numeric>

#include "batchlmm/error.hpp"
#include "host/data/one_line.hpp"

namespace batchlmm {
namespace {

char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

/// Levenshtein distance without regard to ASCII case.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t substituted = diagonal + (lower(a[i]) == lower(b[j]) ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

/// The column that `name` was probably meant to be, or nullptr.
const Column* nearest(const Table& table, std::string_view name) {
  const Column* best = nullptr;
  std::size_t best_distance = name.size() <= 2 ? 1 : 1 + name.size() / 3;  // at most a third of the letters wrong
  for (const Column& column : table.columns) {
    const std::size_t distance = edit_distance(name, column.name);
    if (distance < best_distance) {
      best_distance = distance;
      best = &column;
    }
  }
  return best;
}

}  // namespace

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
  if (const Column* column = nearest(table, name))
    message += "; did you mean '" + detail::one_line(column->name, kNameLength) + "'?";
  constexpr std::size_t kListed = 20;
  message += " (columns: ";
  for (std::size_t i = 0; i < std::min(kListed, table.columns.size()); ++i) {
    if (i > 0) message += ", ";
    message += detail::one_line(table.columns[i].name, kNameLength);
  }
  if (table.columns.size() > kListed) message += ", and " + std::to_string(table.columns.size() - kListed) + " more";
  return message + ")";
}

}  // namespace batchlmm
