#include "host/data/factor.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <unordered_map>

namespace batchlmm {
namespace {

constexpr double kExactIntegers = 9007199254740992.0;  // 2^53

/// Drops the levels that no code uses.
void drop_unused_levels(Factor& factor) {
  std::vector<std::int32_t> renumbered(factor.levels.size(), -1);
  for (const std::int32_t code : factor.codes)
    if (code >= 0) renumbered[static_cast<std::size_t>(code)] = 0;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < factor.levels.size(); ++i) {
    if (renumbered[i] < 0) continue;
    renumbered[i] = static_cast<std::int32_t>(kept);
    if (kept != i) factor.levels[kept] = std::move(factor.levels[i]);
    ++kept;
  }
  factor.levels.resize(kept);
  for (std::int32_t& code : factor.codes)
    if (code >= 0) code = renumbered[static_cast<std::size_t>(code)];
}

}  // namespace

std::string format_number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Inf" : "Inf";
  if (value == 0) return "0";
  // The fewest significant digits that still give the value to 15 digits: print 15 and strip zeros.
  // std::to_chars, because printf's decimal point follows the locale.
  std::array<char, 400> buffer{};
  const auto print = [&](std::chars_format format, int precision) {
    return std::string(buffer.data(),
                       std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, format, precision).ptr);
  };
  std::string scientific = print(std::chars_format::scientific, 14);
  const std::size_t e = scientific.find('e');
  const int exponent = std::atoi(scientific.c_str() + e + 1);
  std::string mantissa = scientific.substr(0, e);
  mantissa.erase(mantissa.find_last_not_of('0') + 1);
  if (mantissa.back() == '.') mantissa.pop_back();
  scientific = mantissa + scientific.substr(e);  // the exponent has two digits at least, as R's
  const auto digits = static_cast<int>(
      std::count_if(mantissa.begin(), mantissa.end(), [](unsigned char c) { return std::isdigit(c) != 0; }));

  // R takes fixed notation where it is no wider than scientific.
  const int decimals = std::max(0, digits - 1 - exponent);
  const int fixed_width = (value < 0 ? 1 : 0) + std::max(1, exponent + 1) + (decimals > 0 ? 1 + decimals : 0);
  if (fixed_width > static_cast<int>(scientific.size())) return scientific;
  return print(std::chars_format::fixed, decimals);
}

Factor make_factor(const Numeric& values) {
  std::vector<double> distinct;
  distinct.reserve(values.size());
  for (const double v : values)
    if (!std::isnan(v)) distinct.push_back(v + 0.0);  // -0 becomes 0
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  const bool whole = std::all_of(distinct.begin(), distinct.end(),
                                 [](double v) { return std::abs(v) <= kExactIntegers && v == std::trunc(v); });

  Factor factor;
  std::vector<std::int32_t> level_of(distinct.size());
  for (std::size_t i = 0; i < distinct.size(); ++i) {
    std::string level = whole ? std::to_string(static_cast<std::int64_t>(distinct[i])) : format_number(distinct[i]);
    // Rounding to 15 digits keeps the order, so equal texts are neighbours.
    if (factor.levels.empty() || factor.levels.back() != level) factor.levels.push_back(std::move(level));
    level_of[i] = static_cast<std::int32_t>(factor.levels.size() - 1);
  }
  factor.codes.reserve(values.size());
  for (const double v : values) {
    if (std::isnan(v)) {
      factor.codes.push_back(-1);
      continue;
    }
    const auto at = std::lower_bound(distinct.begin(), distinct.end(), v) - distinct.begin();
    factor.codes.push_back(level_of[static_cast<std::size_t>(at)]);
  }
  return factor;
}

Factor make_factor(const std::vector<std::string>& values) {
  Factor factor;
  factor.levels = values;
  std::sort(factor.levels.begin(), factor.levels.end());
  factor.levels.erase(std::unique(factor.levels.begin(), factor.levels.end()), factor.levels.end());
  factor.codes.reserve(values.size());
  for (const std::string& v : values)
    factor.codes.push_back(static_cast<std::int32_t>(std::lower_bound(factor.levels.begin(), factor.levels.end(), v) -
                                                     factor.levels.begin()));
  return factor;
}

Factor interaction(const Factor& a, const Factor& b) {
  if (a.codes.size() != b.codes.size()) throw std::invalid_argument("interaction: the factors differ in length");
  const auto width = static_cast<std::int64_t>(b.levels.size());
  std::vector<std::int64_t> cells(a.codes.size(), -1);  // a's level * width + b's level
  for (std::size_t i = 0; i < cells.size(); ++i)
    if (a.codes[i] >= 0 && b.codes[i] >= 0) cells[i] = a.codes[i] * width + b.codes[i];

  std::vector<std::int64_t> occurring;
  for (const std::int64_t cell : cells)
    if (cell >= 0) occurring.push_back(cell);
  std::sort(occurring.begin(), occurring.end());
  occurring.erase(std::unique(occurring.begin(), occurring.end()), occurring.end());

  Factor factor;
  factor.levels.reserve(occurring.size());
  for (const std::int64_t cell : occurring)
    factor.levels.push_back(a.levels[static_cast<std::size_t>(cell / width)] + ":" +
                            b.levels[static_cast<std::size_t>(cell % width)]);
  factor.codes.reserve(cells.size());
  for (const std::int64_t cell : cells)
    factor.codes.push_back(cell < 0
                               ? -1
                               : static_cast<std::int32_t>(std::lower_bound(occurring.begin(), occurring.end(), cell) -
                                                           occurring.begin()));
  return factor;
}

Factor subset(const Factor& factor, const std::vector<std::size_t>& rows) {
  Factor result;
  result.levels = factor.levels;
  result.ordered = factor.ordered;
  result.codes.reserve(rows.size());
  for (const std::size_t row : rows) result.codes.push_back(factor.codes.at(row));
  drop_unused_levels(result);
  return result;
}

}  // namespace batchlmm
