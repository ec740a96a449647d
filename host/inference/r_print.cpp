#include "host/inference/r_print.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <functional>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "host/inference/r_format.hpp"

namespace batchlmm {
namespace {

std::string aligned(const std::string& text, int width, bool right) {
  return right ? pad_left(text, width) : pad_right(text, width);
}

/// One code point a string, so that shortening never cuts a character in two.
std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> result;
  for (const char c : text) {
    if ((c & 0xC0) == 0x80 && !result.empty()) {
      result.back() += c;
    } else {
      result.emplace_back(1, c);
    }
  }
  return result;
}

bool is_space(const std::string& c) { return c.size() == 1 && std::isspace(static_cast<unsigned char>(c[0])) != 0; }
bool is_lower(const std::string& c) { return c.size() == 1 && c[0] >= 'a' && c[0] <= 'z'; }
/// The vowels that R removes first: those of ASCII, and accented ones.
bool is_vowel(const std::string& c) {
  return std::string_view("aeiouàáãäåèéêëìíîïòóôõöøùúûüāēīōū").find(c) != std::string_view::npos;
}

/// One name shortened towards `minimum_length` characters, blanks between words not counted.
std::string abbreviated(const std::string& name, std::size_t minimum_length) {
  auto text = characters(name);
  std::size_t spaces = static_cast<std::size_t>(std::count_if(text.begin(), text.end(), is_space));
  const auto starts_word = [&](std::size_t i) { return is_space(text[i - 1]); };
  const auto ends_word = [&](std::size_t i) {
    return !is_space(text[i - 1]) && (i + 1 == text.size() || is_space(text[i + 1]));
  };
  const std::array<std::function<bool(std::size_t)>, 5> passes{
      [&](std::size_t i) { return is_vowel(text[i]) && ends_word(i); },
      [&](std::size_t i) { return is_vowel(text[i]) && !starts_word(i); },
      [&](std::size_t i) { return is_lower(text[i]) && ends_word(i); },
      [&](std::size_t i) { return is_lower(text[i]) && !starts_word(i); },
      [&](std::size_t i) { return !starts_word(i) && !is_space(text[i]); },
  };
  const auto short_enough = [&] { return text.size() - spaces <= minimum_length; };
  if (text.size() > minimum_length && !short_enough()) {
    for (const auto& removable : passes) {
      for (std::size_t i = text.size(); i-- > 1;) {
        if (i < text.size() && removable(i)) text.erase(text.begin() + static_cast<std::ptrdiff_t>(i));
        if (short_enough()) break;
      }
      if (short_enough()) break;
    }
  }
  std::string result;
  const bool drop_spaces = text.size() > minimum_length;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == 0 || !drop_spaces || !is_space(text[i])) result += text[i];
  }
  return result;
}

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

const std::set<std::string, std::less<>>& reserved_words() {
  static const std::set<std::string, std::less<>> words{
      "if",   "else", "repeat", "while", "function",    "for",      "next",          "break",       "TRUE", "FALSE",
      "NULL", "Inf",  "NaN",    "NA",    "NA_integer_", "NA_real_", "NA_character_", "NA_complex_", "in"};
  return words;
}

bool is_name_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || (c & 0x80) != 0;
}

bool starts_name(const std::string& name) {
  if (name.empty()) return false;
  if (name[0] == '.') return name.size() == 1 || std::isdigit(static_cast<unsigned char>(name[1])) == 0;
  return std::isalpha(static_cast<unsigned char>(name[0])) != 0 || (name[0] & 0x80) != 0;
}

}  // namespace

std::string r_print(const TextMatrix& matrix) {
  const std::size_t rows = matrix.row_names.size();
  const std::size_t columns = matrix.columns.size();
  int label_width = 0;
  for (const auto& name : matrix.row_names) label_width = std::max(label_width, text_width(name));
  std::vector<int> widths(columns);
  for (std::size_t j = 0; j < columns; ++j) {
    widths[j] = text_width(matrix.column_names[j]);
    for (const auto& cell : matrix.columns[j]) widths[j] = std::max(widths[j], text_width(cell));
  }

  std::string out;
  std::size_t first = 0;
  while (first < columns) {
    std::size_t last = first;
    int used = label_width;
    do {
      used += 1 + widths[last++];
    } while (last < columns && used + 1 + widths[last] < line_width);
    out.append(static_cast<std::size_t>(label_width), ' ');
    for (std::size_t j = first; j < last; ++j) out += ' ' + aligned(matrix.column_names[j], widths[j], matrix.right);
    out += '\n';
    for (std::size_t i = 0; i < rows; ++i) {
      out += pad_right(matrix.row_names[i], label_width);
      for (std::size_t j = first; j < last; ++j) out += ' ' + aligned(matrix.columns[j][i], widths[j], matrix.right);
      out += '\n';
    }
    first = last;
  }
  return out;
}

std::string add_stars(TextMatrix& table, const std::vector<double>& p) {
  if (std::none_of(p.begin(), p.end(), [](double value) { return value < 0.1; })) return {};
  std::vector<std::string> stars;
  stars.reserve(p.size());
  int widest = 0;
  for (const double value : p) {
    stars.push_back(r_stars(value));
    widest = std::max(widest, text_width(stars.back()));
  }
  for (std::string& star : stars) star = pad_right(star, widest);
  table.column_names.emplace_back();
  table.columns.push_back(std::move(stars));
  return r_stars_legend;
}

std::string r_print_named(const std::vector<std::string>& names, const std::vector<std::string>& values) {
  int width = 0;
  for (const auto& name : names) width = std::max(width, text_width(name));
  for (const auto& value : values) width = std::max(width, text_width(value));
  const auto per_line = static_cast<std::size_t>(std::max(1, line_width / (width + 1)));
  std::string out;
  for (std::size_t first = 0; first < values.size(); first += per_line) {
    const std::size_t last = std::min(values.size(), first + per_line);
    for (std::size_t i = first; i < last; ++i) out += pad_left(names[i], width) + ' ';
    out += '\n';
    for (std::size_t i = first; i < last; ++i) out += pad_left(values[i], width) + ' ';
    out += '\n';
  }
  return out;
}

std::string r_cat_fill(const std::vector<std::string>& pieces) {
  std::string out;
  int used = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (i > 0) out += ' ';
    const int width = text_width(pieces[i]);
    if (i > 0 && used + width + 1 > line_width) {
      out += '\n';
      used = 0;
    }
    out += pieces[i];
    used += width + 1;
  }
  return out + '\n';
}

std::vector<std::string> r_abbreviate(const std::vector<std::string>& names, int minimum_length) {
  std::vector<std::string> distinct;
  for (const auto& name : names) {
    const std::string text = trimmed(name);
    if (std::find(distinct.begin(), distinct.end(), text) == distinct.end()) distinct.push_back(text);
  }
  std::vector<std::string> shortened(distinct.size());
  std::vector<bool> again(distinct.size(), true);
  for (int length = minimum_length;; ++length) {
    for (std::size_t i = 0; i < distinct.size(); ++i) {
      if (again[i]) shortened[i] = abbreviated(distinct[i], static_cast<std::size_t>(length));
    }
    std::map<std::string, int> count;
    for (const auto& text : shortened) ++count[text];
    bool clash = false;
    for (std::size_t i = 0; i < distinct.size(); ++i) {
      again[i] = count[shortened[i]] > 1;
      clash = clash || again[i];
    }
    if (!clash) break;
  }
  std::vector<std::string> result;
  result.reserve(names.size());
  for (const auto& name : names) {
    const auto found = std::find(distinct.begin(), distinct.end(), trimmed(name));
    result.push_back(shortened[static_cast<std::size_t>(found - distinct.begin())]);
  }
  return result;
}

std::vector<std::string> r_make_names(const std::vector<std::string>& names) {
  std::vector<std::string> result;
  for (const auto& name : names) {
    std::string made = starts_name(name) || (!name.empty() && name[0] == '.') ? name : "X" + name;
    if (!starts_name(made)) made.insert(0, 1, 'X');
    for (char& c : made) {
      if (!is_name_character(c)) c = '.';
    }
    if (reserved_words().count(made) > 0) made += '.';
    result.push_back(made);
  }
  std::set<std::string> taken(result.begin(), result.end());
  std::set<std::string> seen;
  std::map<std::string, int> next;
  for (auto& name : result) {
    if (seen.insert(name).second) continue;
    const std::string base = name;
    int& number = next[base];
    do {
      name = base;
      name.append(".").append(std::to_string(++number));
    } while (taken.count(name) > 0);
    taken.insert(name);
    seen.insert(name);
  }
  return result;
}

bool r_is_syntactic(const std::string& name) {
  return starts_name(name) && std::all_of(name.begin(), name.end(), is_name_character) &&
         reserved_words().count(name) == 0;
}

}  // namespace batchlmm
