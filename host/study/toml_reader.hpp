/// @file
/// Reads a TOML table key by key: with line and column in every message, keys that nobody asked for reported, and
/// values of a grid standing in for the file's. For study_file.cpp alone: toml++ is heavy to compile.
#pragma once

#include <fmt/format.h>

#include <toml++/toml.h>
#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "batchlmm/error.hpp"
#include "host/data/nearest_name.hpp"
#include "host/data/one_line.hpp"

namespace batchlmm::study {

/// A grid's value for a path, and where its key stands.
struct Replacement {
  const toml::node* value = nullptr;
  toml::source_region key;
  mutable bool taken = false;
};
using Replacements = std::map<std::string, Replacement, std::less<>>;

/// "FILE:LINE:COLUMN"
inline std::string place_of(const std::string& file, const toml::source_region& source) {
  return fmt::format("{}:{}:{}", file, source.begin.line, source.begin.column);
}

class TomlReader {
public:
  /// @param table         may be null: no keys but those of replacements
  /// @param path          of the table, "design.units"; empty at the root
  /// @param replacements  by path
  TomlReader(const std::string& file, const toml::table* table, std::string path, const Replacements& replacements,
             toml::source_region source)
      : file_(file), table_(table), path_(std::move(path)), replacements_(replacements), source_(std::move(source)) {}

  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const toml::source_region& source() const { return source_; }

  /// @throws InputError with the place of `node`
  [[noreturn]] void fail(const toml::node& node, const std::string& message) const { fail(node.source(), message); }
  [[noreturn]] void fail(const toml::source_region& source, const std::string& message) const {
    throw InputError(place_of(file_, source) + ": " + message);
  }
  [[nodiscard]] std::string place(const toml::node& node) const { return place_of(file_, node.source()); }
  [[nodiscard]] std::string full(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }

  /// The value of a key, or null. The key counts as known.
  const toml::node* take(std::string_view key) {
    known_.emplace(key);
    const auto replaced = replacements_.find(full(key));
    if (replaced != replacements_.end()) {
      replaced->second.taken = true;
      return replaced->second.value;
    }
    return table_ != nullptr ? table_->get(key) : nullptr;
  }
  const toml::node& required(std::string_view key) {
    const toml::node* node = take(key);
    if (node == nullptr) fail(source_, fmt::format("expected the key '{}', found none", full(key)));
    return *node;
  }

  /// The table of a key, empty where there is none; grids may add keys to it.
  TomlReader table(std::string_view key) {
    const toml::node* node = take(key);
    if (node != nullptr && !node->is_table())
      fail(*node, fmt::format("'{}': expected a table, found {}", full(key), found(*node)));
    return {file_, node != nullptr ? node->as_table() : nullptr, full(key), replacements_,
            node != nullptr ? node->source() : source_};
  }
  [[nodiscard]] bool empty() const { return keys().empty(); }
  /// All keys in the file's order, then those that only the grid has.
  [[nodiscard]] std::vector<std::string> keys() const {
    std::vector<std::pair<toml::source_position, std::string>> placed;
    if (table_ != nullptr)
      for (const auto& [key, value] : *table_) placed.emplace_back(key.source().begin, std::string(key.str()));
    std::sort(placed.begin(), placed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<std::string> out;
    out.reserve(placed.size());
    for (auto& entry : placed) out.push_back(std::move(entry.second));
    const std::string prefix = path_ + ".";
    for (const auto& entry : replacements_)
      if (entry.first.starts_with(prefix)) {
        const std::string key = entry.first.substr(prefix.size());
        // A dot further on belongs to a key below this one, unless it stands in a name.
        if (std::find(out.begin(), out.end(), key) == out.end() &&
            std::none_of(out.begin(), out.end(), [&](const std::string& k) { return key.starts_with(k + "."); }))
          out.push_back(key);
      }
    return out;
  }

  std::string text(const toml::node& node, std::string_view key) const {
    const auto value = node.value_exact<std::string>();
    if (!value) fail(node, fmt::format("'{}': expected a text, found {}", full(key), found(node)));
    if (std::any_of(value->begin(), value->end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }))
      fail(node, fmt::format("'{}': expected a text on one line, found a control character", full(key)));
    return *value;
  }
  double number(const toml::node& node, std::string_view key, double least = -std::numeric_limits<double>::infinity(),
                double most = std::numeric_limits<double>::infinity()) const {
    const auto value = node.is_number() ? node.value<double>() : std::nullopt;
    if (!value || !std::isfinite(*value) || *value < least || *value > most)
      fail(node, fmt::format("'{}': expected a number{}, found {}", full(key), range(least, most), found(node)));
    return *value;
  }
  std::uint64_t whole(const toml::node& node, std::string_view key, std::int64_t least,
                      std::int64_t most = std::numeric_limits<std::int64_t>::max()) const {
    const auto value = node.value_exact<std::int64_t>();
    if (!value || *value < least || *value > most)
      fail(node,
           fmt::format("'{}': expected a whole number{}, found {}", full(key),
                       most == std::numeric_limits<std::int64_t>::max() ? fmt::format(" of at least {}", least)
                                                                        : fmt::format(" from {} to {}", least, most),
                       found(node)));
    return static_cast<std::uint64_t>(*value);
  }
  bool boolean(const toml::node& node, std::string_view key) const {
    const auto value = node.value_exact<bool>();
    if (!value) fail(node, fmt::format("'{}': expected true or false, found {}", full(key), found(node)));
    return *value;
  }
  const toml::array& list(const toml::node& node, std::string_view key) const {
    const toml::array* array = node.as_array();
    if (array == nullptr || array->empty())
      fail(node, fmt::format("'{}': expected a list with something in it, found {}", full(key), found(node)));
    return *array;
  }
  std::vector<std::string> texts(const toml::node& node, std::string_view key) const {
    std::vector<std::string> out;
    for (const toml::node& element : list(node, key)) out.push_back(text(element, key));
    return out;
  }
  std::vector<double> numbers(const toml::node& node, std::string_view key) const {
    std::vector<double> out;
    for (const toml::node& element : list(node, key)) out.push_back(number(element, key));
    return out;
  }
  /// One of several words. @return its index
  std::size_t choice(const toml::node& node, std::string_view key, const std::vector<std::string>& words) const {
    const std::string word = text(node, key);
    const auto at = std::find(words.begin(), words.end(), word);
    if (at == words.end())
      fail(node, fmt::format("'{}': unknown '{}'{}", full(key), detail::one_line(word, 60),
                             nearest_name_hint(word, words, "known")));
    return static_cast<std::size_t>(at - words.begin());
  }

  /// Before keys are taken: a key that is misspelt is told as such, not as one that lacks.
  /// @param keys  all that the table may have
  /// @throws InputError for the first key that is none of them
  void expect(std::initializer_list<const char*> keys) const { check_keys({keys.begin(), keys.end()}); }
  /// @throws InputError for the first key that was not taken
  void finish() const { check_keys(known_); }

  /// What a node is, for messages.
  static std::string found(const toml::node& node) {
    if (const auto value = node.value_exact<std::string>()) return "'" + detail::one_line(*value, 60) + "'";
    if (const auto value = node.value_exact<std::int64_t>()) return std::to_string(*value);
    if (const auto value = node.value_exact<double>()) return fmt::format("{}", *value);
    if (const auto value = node.value_exact<bool>()) return *value ? "true" : "false";
    if (const auto* array = node.as_array()) return array->empty() ? "an empty list" : "a list";
    return node.is_table() ? "a table" : "a date or a time";
  }

private:
  using Keys = std::set<std::string, std::less<>>;

  void check_keys(const Keys& keys) const {
    if (table_ == nullptr) return;
    const toml::key* first = nullptr;
    for (const auto& [key, value] : *table_)
      if (!keys.contains(key.str()) && (first == nullptr || key.source().begin < first->source().begin)) first = &key;
    if (first == nullptr) return;
    const std::vector<std::string> known(keys.begin(), keys.end());
    fail(first->source(), fmt::format("unknown key '{}'{}", detail::one_line(full(first->str()), 80),
                                      nearest_name_hint(first->str(), known, "known")));
  }
  static std::string range(double least, double most) {
    if (std::isfinite(least) && std::isfinite(most)) return fmt::format(" from {} to {}", least, most);
    if (std::isfinite(least)) return fmt::format(" of at least {}", least);
    if (std::isfinite(most)) return fmt::format(" of at most {}", most);
    return "";
  }

  const std::string& file_;
  const toml::table* table_;
  std::string path_;
  const Replacements& replacements_;
  toml::source_region source_;
  Keys known_;
};

}  // namespace batchlmm::study
