#include "host/inference/tidy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace batchlmm {

std::string csv_text(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string csv_number(double value) { return std::isnan(value) ? "NA" : fmt::format("{}", value); }

std::string tidy_csv(const std::vector<TidyRow>& rows) {
  const bool levels = std::any_of(rows.begin(), rows.end(), [](const TidyRow& row) { return !row.level.empty(); });
  std::string out = std::string("effect,group,") + (levels ? "level," : "") +
                    "term,estimate,std.error,statistic,df,p.value,conf.low,conf.high\n";
  for (const TidyRow& row : rows) {
    out += csv_text(row.effect) + "," + (row.group.empty() ? "NA" : csv_text(row.group)) +
           (!levels ? "," : "," + (row.level.empty() ? "NA" : csv_text(row.level)) + ",") + csv_text(row.term);
    for (const double value :
         {row.estimate, row.std_error, row.statistic, row.df, row.p_value, row.conf_low, row.conf_high})
      out += "," + csv_number(value);
    out += "\n";
  }
  return out;
}

std::string table_csv(const Table& table) {
  std::string out;
  for (std::size_t c = 0; c < table.columns.size(); ++c) out += (c > 0 ? "," : "") + csv_text(table.columns[c].name);
  out += "\n";
  for (std::size_t row = 0; row < table.rows; ++row) {
    for (std::size_t c = 0; c < table.columns.size(); ++c) {
      if (c > 0) out += ",";
      if (const auto* factor = std::get_if<Factor>(&table.columns[c].data)) {
        const std::int32_t code = factor->codes[row];
        out += code < 0 ? "NA" : csv_text(factor->levels[static_cast<std::size_t>(code)]);
      } else {
        out += csv_number(std::get<Numeric>(table.columns[c].data)[row]);
      }
    }
    out += "\n";
  }
  return out;
}

}  // namespace batchlmm
