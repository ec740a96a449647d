#include "host/data/nearest_name.hpp"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <vector>

#include "host/data/one_line.hpp"

namespace batchlmm {
namespace {

constexpr std::size_t name_length = 60, listed = 20;

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

}  // namespace

std::optional<std::size_t> nearest_name(std::string_view name, std::span<const std::string> known) {
  std::optional<std::size_t> best;
  std::size_t best_distance = name.size() <= 2 ? 1 : 1 + name.size() / 3;
  for (std::size_t i = 0; i < known.size(); ++i) {
    const std::size_t distance = edit_distance(name, known[i]);
    if (distance < best_distance) {
      best_distance = distance;
      best = i;
    }
  }
  return best;
}

std::string nearest_name_hint(std::string_view name, std::span<const std::string> known, std::string_view what) {
  std::string message;
  if (const auto near = nearest_name(name, known))
    message += "; did you mean '" + detail::one_line(known[*near], name_length) + "'?";
  message.append(" (").append(what).append(": ");
  for (std::size_t i = 0; i < std::min(listed, known.size()); ++i)
    message.append(i > 0 ? ", " : "").append(detail::one_line(known[i], name_length));
  if (known.size() > listed) message += ", and " + std::to_string(known.size() - listed) + " more";
  return message + ")";
}

}  // namespace batchlmm
