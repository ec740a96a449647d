#include "host/inference/tidy.hpp"

#include <fmt/format.h>

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
  std::string out = "effect,group,term,estimate,std.error,statistic,df,p.value,conf.low,conf.high\n";
  for (const TidyRow& row : rows) {
    out += csv_text(row.effect) + "," + (row.group.empty() ? "NA" : csv_text(row.group)) + "," + csv_text(row.term);
    for (const double value :
         {row.estimate, row.std_error, row.statistic, row.df, row.p_value, row.conf_low, row.conf_high})
      out += "," + csv_number(value);
    out += "\n";
  }
  return out;
}

}  // namespace batchlmm
