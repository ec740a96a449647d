#include "host/batch/design_variant.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

/// "a:x:b" is made of "x".
bool is_made_of(const std::string& column, const std::string& name) {
  for (std::size_t at = column.find(name); at != std::string::npos; at = column.find(name, at + 1)) {
    const std::size_t end = at + name.size();
    const bool begins = at == 0 || column[at - 1] == ':', ends = end == column.size() || column[end] == ':';
    if (begins && ends) return true;
  }
  return false;
}

}  // namespace

ExchangedColumns find_columns(const ModelMatrices& design, const DesignVariant& variant) {
  ExchangedColumns found;
  std::vector<int> used(variant.columns.size(), 0);
  const auto look = [&](int term, const std::vector<std::string>& names) {
    for (std::size_t c = 0; c < names.size(); ++c) {
      int source = -1, part = -1;
      for (std::size_t v = 0; v < variant.columns.size(); ++v) {
        if (names[c] == variant.columns[v].name)
          source = static_cast<int>(v);
        else if (is_made_of(names[c], variant.columns[v].name))
          part = static_cast<int>(v);
      }
      if (source < 0 && part >= 0)
        throw ModelError(
            fmt::format("a variant exchanges column '{}', and '{}' is made of it; expected new values for "
                        "both",
                        variant.columns[part].name, names[c]));
      if (source < 0) continue;
      ++used[source];
      found.places.push_back({term, static_cast<int>(c), source});
    }
  };
  look(-1, design.x_names);
  for (std::size_t t = 0; t < design.random.size(); ++t) look(static_cast<int>(t), design.random[t].names);
  for (std::size_t v = 0; v < used.size(); ++v)
    if (used[v] == 0)
      throw ModelError(
          fmt::format("a variant exchanges column '{}', which neither X nor a random-effects term of \"{}\" has",
                      variant.columns[v].name, design.formula));
  return found;
}

void check_sizes(const ModelMatrices& design, const DesignVariant& variant) {
  const Eigen::Index n = design.y.size();
  for (const DesignVariant::Column& column : variant.columns)
    if (column.values.size() != n)
      throw ModelError(fmt::format("column '{}' of a variant must have the design's {} rows; found {}", column.name, n,
                                   column.values.size()));
  if (variant.y.size() != 0 && variant.y.size() != n)
    throw ModelError(
        fmt::format("the response of a variant must have the design's {} rows; found {}", n, variant.y.size()));
  for (const std::size_t row : variant.missing)
    if (row >= static_cast<std::size_t>(n))
      throw ModelError(fmt::format("a variant leaves out row {}; the design has rows 0 to {}", row, n - 1));
}

ModelMatrices variant_matrices(const ModelMatrices& design, const DesignVariant& variant) {
  check_sizes(design, variant);
  const ExchangedColumns exchanged = find_columns(design, variant);
  ModelMatrices full = design;
  if (variant.y.size() != 0) full.y = variant.y;
  for (const auto& place : exchanged.places)
    (place.term < 0 ? full.X : full.random[place.term].z).col(place.column) = variant.columns[place.source].values;
  if (variant.missing.empty()) return full;

  std::vector<std::uint8_t> present(design.y.size(), 1);
  for (const std::size_t row : variant.missing) present[row] = 0;
  std::vector<Eigen::Index> keep;
  for (std::size_t i = 0; i < present.size(); ++i)
    if (present[i] != 0) keep.push_back(static_cast<Eigen::Index>(i));
  ModelMatrices m = full;
  m.y = full.y(keep);
  m.offset = full.offset(keep);
  m.X = full.X(keep, Eigen::all);
  m.rows.clear();
  for (const Eigen::Index i : keep) m.rows.push_back(full.rows.empty() ? i : full.rows[i]);
  m.rows_dropped += present.size() - keep.size();
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    RandomTerm& term = m.random[t];
    const RandomTerm& from = full.random[t];
    term.z = from.z(keep, Eigen::all);
    std::vector<std::int32_t> number(from.levels.size(), -1);
    for (const Eigen::Index i : keep) number[from.level_of_row[i]] = 0;
    term.levels.clear();
    for (std::size_t l = 0; l < number.size(); ++l)
      if (number[l] == 0) {
        number[l] = static_cast<std::int32_t>(term.levels.size());
        term.levels.push_back(from.levels[l]);
      }
    term.level_of_row.clear();
    for (const Eigen::Index i : keep) term.level_of_row.push_back(number[from.level_of_row[i]]);
  }
  return m;
}

}  // namespace batchlmm
