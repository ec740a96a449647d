#include "host/inference/r_format.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

namespace batchlmm {
namespace {

/// What a number needs to be shown to a given count of significant digits.
struct Needs {
  bool negative = false;
  int power = 0;        ///< decimal exponent after rounding
  int significant = 1;  ///< digits left once trailing zeros are gone
  bool widens =
      false;  ///< rounding carries into a new leading digit (9996 at 3 digits), which fixed notation may not show
};

Needs needs_of(double x, int digits) {
  Needs needs;
  if (x == 0) return needs;
  needs.negative = x < 0;
  const double magnitude = std::abs(x);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*e", digits - 1, magnitude);
  const std::string_view view(text.data());
  const auto e = view.find('e');
  needs.power = std::atoi(text.data() + e + 1);
  needs.significant = digits;
  for (auto i = e; i-- > 0 && needs.significant > 1;) {
    if (view[i] == '.') continue;
    if (view[i] != '0') break;
    --needs.significant;
  }
  if (needs.power > 0 && needs.power <= 22) {
    const int places = std::max(0, digits - needs.power);
    needs.widens = magnitude < std::pow(10.0, needs.power) - 0.5 * std::pow(10.0, -places);
  }
  return needs;
}

std::string special(double x) {
  if (std::isnan(x)) return "NaN";
  return x > 0 ? "Inf" : "-Inf";
}

std::string print_number(const char* pattern, int places, double x) {
  std::array<char, 400> text{};
  const int size = std::snprintf(text.data(), text.size(), pattern, places, x == 0 ? 0.0 : x);  // no "-0"
  return {text.data(), static_cast<std::size_t>(size)};
}

}  // namespace

std::vector<std::string> r_format(const std::vector<double>& x, int digits, int nsmall) {
  bool any = false;
  bool negative = false;
  int left = 1;   // columns before the decimal point, sign included
  int right = 0;  // decimals
  int highest = std::numeric_limits<int>::min();
  int lowest = std::numeric_limits<int>::max();
  int significant = 1;
  for (const double value : x) {
    if (!std::isfinite(value)) continue;
    const Needs needs = needs_of(value, digits);
    any = true;
    negative = negative || needs.negative;
    const int before = std::max(1, needs.power + 1 - static_cast<int>(needs.widens)) + static_cast<int>(needs.negative);
    left = std::max(left, before);
    right = std::max(right, needs.significant - needs.power - 1);
    highest = std::max(highest, needs.power);
    lowest = std::min(lowest, needs.power);
    significant = std::max(significant, needs.significant);
  }
  const int fixed_width = left + right + static_cast<int>(right > 0);
  const int exponent_width = any && (highest >= 100 || lowest <= -99) ? 5 : 4;
  const int scientific_width = static_cast<int>(negative) + 1 + (significant > 1 ? significant : 0) + exponent_width;
  const bool fixed = fixed_width <= scientific_width;
  const int places = fixed ? std::max(right, nsmall) : significant - 1;

  std::vector<std::string> texts;
  texts.reserve(x.size());
  // R reserves the columns that rounding to `digits` would need, even where more decimals are shown (" 99.98").
  int width = !any ? 0 : fixed ? left + places + static_cast<int>(places > 0) : scientific_width;
  for (const double value : x) {
    texts.push_back(!std::isfinite(value) ? special(value) : print_number(fixed ? "%.*f" : "%.*e", places, value));
    width = std::max(width, static_cast<int>(texts.back().size()));
  }
  for (auto& text : texts) text.insert(0, static_cast<std::size_t>(width) - text.size(), ' ');
  return texts;
}

std::string r_number(double x, int digits) { return r_format(std::vector<double>{x}, digits).front(); }

double r_round(double x, int places) {
  if (!std::isfinite(x) || x == 0) return x;
  if (x < 0) return -r_round(-x, places);
  if (places == 0) return std::nearbyint(x);
  if (places + std::ceil(std::log10(x)) > std::numeric_limits<double>::digits10) return x;
  const double scale = std::pow(10.0, places);
  const double below = std::floor(scale * x);
  const double low = below / scale;
  const double high = std::ceil(scale * x) / scale;
  const double to_low = x - low;
  const double to_high = high - x;
  return to_low < to_high || (to_low == to_high && std::fmod(below, 2.0) == 0) ? low : high;
}

std::vector<double> r_zapsmall(std::vector<double> x, int digits) {
  double largest = 0;
  for (const double value : x) {
    if (!std::isnan(value)) largest = std::max(largest, std::abs(value));
  }
  const double wanted = largest > 0 ? std::max(0.0, digits - std::log10(largest)) : digits;
  const int places = static_cast<int>(std::floor(std::min(wanted, 400.0) + 0.5));
  for (double& value : x) value = r_round(value, places);
  return x;
}

std::string r_format_p_value(double p, int digits) {
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  if (std::isnan(p)) return "NA";
  if (p >= epsilon) return r_number(p, digits);
  const int fewer = std::max(1, digits - 2);
  return (fewer == 1 ? "<" : "< ") + r_number(epsilon, fewer);
}

std::vector<std::string> r_format_p_values(const std::vector<double>& p, int digits) {
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  std::vector<std::string> texts(p.size(), "NA");
  std::vector<std::size_t> fixed, scientific, tiny;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (std::isnan(p[i])) continue;
    const double exponent = std::floor(std::log10(p[i]));
    if (p[i] < epsilon)
      tiny.push_back(i);
    else if (exponent >= -3 || (exponent == -4 && digits > 1))
      fixed.push_back(i);
    else
      scientific.push_back(i);
  }
  int widest = 0;
  for (const auto* group : {&fixed, &scientific}) {
    std::vector<double> values;
    for (const std::size_t i : *group) values.push_back(p[i]);
    const std::vector<std::string> formatted = r_format(values, digits);
    for (std::size_t i = 0; i < group->size(); ++i) {
      texts[(*group)[i]] = formatted[i];
      widest = std::max(widest, text_width(formatted[i]));
    }
  }
  if (tiny.empty()) return texts;
  int fewer = std::max(1, digits - 2);
  bool blank = fewer > 1;
  if (widest > 0) {
    if (fewer > 1 && fewer + 6 > widest) fewer = std::max(1, widest - 7);
    blank = !(fewer == 1 && widest <= 6);
  }
  for (const std::size_t i : tiny) texts[i] = (blank ? "< " : "<") + r_number(epsilon, fewer);
  return texts;
}

std::string r_stars(double p) {
  if (std::isnan(p)) return "";
  return p <= 0.001 ? "***" : p <= 0.01 ? "**" : p <= 0.05 ? "*" : p <= 0.1 ? "." : " ";
}

int text_width(std::string_view text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string pad_left(std::string_view text, int width) {
  return std::string(static_cast<std::size_t>(std::max(0, width - text_width(text))), ' ').append(text);
}

std::string pad_right(std::string_view text, int width) {
  return std::string(text).append(static_cast<std::size_t>(std::max(0, width - text_width(text))), ' ');
}

}  // namespace batchlmm
