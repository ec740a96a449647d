#include "host/data/from_arrow.hpp"

#include <arrow/array.h>
#include <arrow/chunked_array.h>
#include <arrow/scalar.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/data/factor.hpp"
#include "host/data/one_line.hpp"

namespace batchlmm::detail {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr std::int64_t kExactIntegers = std::int64_t{1} << 53;

/// Gathers levels in order of appearance.
class Levels {
public:
  std::int32_t code(std::string_view level) {
    const auto found = codes_.find(level);
    if (found != codes_.end()) return found->second;
    const auto code = static_cast<std::int32_t>(levels_.size());
    levels_.push_back(std::make_unique<std::string>(level));
    codes_.emplace(*levels_.back(), code);
    return code;
  }
  [[nodiscard]] std::vector<std::string> take() {
    std::vector<std::string> result;
    result.reserve(levels_.size());
    for (const auto& level : levels_) result.push_back(std::move(*level));
    return result;
  }

private:
  std::vector<std::unique_ptr<std::string>> levels_;  // each in its own place: the map's keys point there
  std::unordered_map<std::string_view, std::int32_t> codes_;
};

/// Puts the levels in byte order.
void sort_levels(Factor& factor) {
  std::vector<std::int32_t> order(factor.levels.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  const auto level = [&](std::int32_t i) -> const std::string& { return factor.levels[static_cast<std::size_t>(i)]; };
  std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return level(a) < level(b); });
  std::vector<std::int32_t> rank(order.size());
  std::vector<std::string> sorted(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    rank[static_cast<std::size_t>(order[i])] = static_cast<std::int32_t>(i);
    sorted[i] = std::move(factor.levels[static_cast<std::size_t>(order[i])]);
  }
  factor.levels = std::move(sorted);
  for (std::int32_t& code : factor.codes)
    if (code >= 0) code = rank[static_cast<std::size_t>(code)];
}

/// Text is missing where it is empty, NA or NaN, whatever the file's format.
bool is_missing_text(std::string_view text) { return text.empty() || text == "NA" || text == "NaN" || text == "nan"; }

/// A number with blanks around it or a sign before it, as R reads them; nullopt where the text is no number.
std::optional<double> parse_number(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return kNaN;
  const std::string_view trimmed = text.substr(first, text.find_last_not_of(" \t") + 1 - first);
  if (is_missing_text(trimmed)) return kNaN;
  const char* begin = trimmed.data() + (trimmed[0] == '+' ? 1 : 0);
  const char* end = trimmed.data() + trimmed.size();
  double value = 0;
  const auto parsed = std::from_chars(begin, end, value);
  if (parsed.ec != std::errc{} || parsed.ptr != end) return std::nullopt;
  return value;
}

template <typename ArrayType, typename Value>
void append_numbers(const arrow::Array& chunk, Numeric& out, Value value) {
  const auto& array = static_cast<const ArrayType&>(chunk);
  for (std::int64_t i = 0; i < array.length(); ++i) out.push_back(array.IsNull(i) ? kNaN : value(array, i));
}

template <typename ArrayType>
void append_numbers(const arrow::Array& chunk, Numeric& out) {
  append_numbers<ArrayType>(chunk, out,
                            [](const ArrayType& a, std::int64_t i) { return static_cast<double>(a.Value(i)); });
}

/// Appends a chunk of numbers; false where the type is none of numbers.
bool append_numbers(const arrow::Array& chunk, Numeric& out) {
  using arrow::Type;
  switch (chunk.type_id()) {
    case Type::NA:
      out.insert(out.end(), static_cast<std::size_t>(chunk.length()), kNaN);
      return true;
    case Type::INT8:
      append_numbers<arrow::Int8Array>(chunk, out);
      return true;
    case Type::INT16:
      append_numbers<arrow::Int16Array>(chunk, out);
      return true;
    case Type::INT32:
      append_numbers<arrow::Int32Array>(chunk, out);
      return true;
    case Type::INT64:
      append_numbers<arrow::Int64Array>(chunk, out);
      return true;
    case Type::UINT8:
      append_numbers<arrow::UInt8Array>(chunk, out);
      return true;
    case Type::UINT16:
      append_numbers<arrow::UInt16Array>(chunk, out);
      return true;
    case Type::UINT32:
      append_numbers<arrow::UInt32Array>(chunk, out);
      return true;
    case Type::UINT64:
      append_numbers<arrow::UInt64Array>(chunk, out);
      return true;
    case Type::FLOAT:
      append_numbers<arrow::FloatArray>(chunk, out);
      return true;
    case Type::DOUBLE:
      append_numbers<arrow::DoubleArray>(chunk, out);
      return true;
    case Type::HALF_FLOAT:
      append_numbers<arrow::HalfFloatArray>(chunk, out, [](const arrow::HalfFloatArray& a, std::int64_t i) {
        return arrow::util::Float16::FromBits(a.Value(i)).ToDouble();
      });
      return true;
    default:
      break;
  }
  if (!arrow::is_decimal(chunk.type_id())) return false;
  // Through the text: exact to the last digit, and the same for every width of decimal.
  for (std::int64_t i = 0; i < chunk.length(); ++i) {
    if (chunk.IsNull(i)) {
      out.push_back(kNaN);
      continue;
    }
    const std::string text = chunk.GetScalar(i).ValueOrDie()->ToString();
    const std::optional<double> value = parse_number(text);
    if (!value) throw DataError("expected a decimal number, found \"" + text + "\"; is the file damaged?");
    out.push_back(*value);
  }
  return true;
}

/// Calls `use(i, text)` for every row that is not null; false where the type is not text.
template <typename Use>
bool for_each_text(const arrow::Array& chunk, Use use) {
  const auto visit = [&](const auto& array) {
    for (std::int64_t i = 0; i < array.length(); ++i)
      if (!array.IsNull(i)) use(i, array.GetView(i));
    return true;
  };
  switch (chunk.type_id()) {
    case arrow::Type::STRING:
      return visit(static_cast<const arrow::StringArray&>(chunk));
    case arrow::Type::LARGE_STRING:
      return visit(static_cast<const arrow::LargeStringArray&>(chunk));
    case arrow::Type::STRING_VIEW:
      return visit(static_cast<const arrow::StringViewArray&>(chunk));
    default:
      return false;
  }
}

bool is_text(arrow::Type::type type) {
  return type == arrow::Type::STRING || type == arrow::Type::LARGE_STRING || type == arrow::Type::STRING_VIEW;
}

Factor factor_of_text(const arrow::ChunkedArray& column) {
  Factor factor;
  Levels levels;
  factor.codes.assign(static_cast<std::size_t>(column.length()), -1);
  std::size_t start = 0;
  for (const auto& chunk : column.chunks()) {
    for_each_text(*chunk, [&](std::int64_t i, std::string_view text) {
      if (!is_missing_text(text)) factor.codes[start + static_cast<std::size_t>(i)] = levels.code(text);
    });
    start += static_cast<std::size_t>(chunk->length());
  }
  factor.levels = levels.take();
  sort_levels(factor);
  return factor;
}

Factor factor_of_booleans(const arrow::ChunkedArray& column) {
  Factor factor;
  factor.levels = {"FALSE", "TRUE"};
  factor.codes.reserve(static_cast<std::size_t>(column.length()));
  for (const auto& chunk : column.chunks()) {
    const auto& array = static_cast<const arrow::BooleanArray&>(*chunk);
    for (std::int64_t i = 0; i < array.length(); ++i) factor.codes.push_back(array.IsNull(i) ? -1 : array.Value(i));
  }
  return factor;
}

/// Level texts for the values of a dictionary; nullopt where they are of a type that makes no levels.
std::optional<std::vector<std::string>> texts_of_dictionary(const arrow::Array& values) {
  std::vector<std::string> texts(static_cast<std::size_t>(values.length()));
  if (for_each_text(values, [&](std::int64_t i, std::string_view text) { texts[static_cast<std::size_t>(i)] = text; }))
    return texts;
  if (values.type_id() == arrow::Type::BOOL) {
    const auto& array = static_cast<const arrow::BooleanArray&>(values);
    for (std::int64_t i = 0; i < array.length(); ++i)
      texts[static_cast<std::size_t>(i)] = array.Value(i) ? "TRUE" : "FALSE";
    return texts;
  }
  if (arrow::is_integer(values.type_id()) || arrow::is_temporal(values.type_id()) ||
      arrow::is_decimal(values.type_id())) {
    for (std::int64_t i = 0; i < values.length(); ++i)
      texts[static_cast<std::size_t>(i)] = values.GetScalar(i).ValueOrDie()->ToString();
    return texts;
  }
  Numeric numbers;
  if (!append_numbers(values, numbers)) return std::nullopt;
  std::transform(numbers.begin(), numbers.end(), texts.begin(), format_number);
  return texts;
}

/// Chunks may have dictionaries of their own: levels are those of the first, then what the others add.
std::optional<Factor> factor_of_dictionary(const arrow::ChunkedArray& column) {
  Factor factor;
  factor.ordered = static_cast<const arrow::DictionaryType&>(*column.type()).ordered();
  factor.codes.reserve(static_cast<std::size_t>(column.length()));
  Levels levels;
  for (const auto& chunk : column.chunks()) {
    const auto& array = static_cast<const arrow::DictionaryArray&>(*chunk);
    const arrow::Array& values = *array.dictionary();
    const auto texts = texts_of_dictionary(values);
    if (!texts) return std::nullopt;
    std::vector<std::int32_t> level_of(texts->size(), -1);
    for (std::size_t i = 0; i < texts->size(); ++i)
      if (!values.IsNull(static_cast<std::int64_t>(i)) && !is_missing_text((*texts)[i]))
        level_of[i] = levels.code((*texts)[i]);
    for (std::int64_t i = 0; i < array.length(); ++i)
      factor.codes.push_back(array.IsNull(i) ? -1 : level_of[static_cast<std::size_t>(array.GetValueIndex(i))]);
  }
  factor.levels = levels.take();
  return factor;
}

/// Integers, dates and times by value: levels in order of the value, printed once each.
template <typename ArrayType, typename Print>
Factor factor_by_value(const arrow::ChunkedArray& column, Print print) {
  using Value = decltype(std::declval<const ArrayType&>().Value(0));
  std::map<Value, std::pair<std::int32_t, std::string>> values;
  for (const auto& chunk : column.chunks()) {
    const auto& array = static_cast<const ArrayType&>(*chunk);
    for (std::int64_t i = 0; i < array.length(); ++i) {
      if (array.IsNull(i)) continue;
      auto& [code, text] = values[array.Value(i)];
      if (text.empty()) text = print(array, i);
    }
  }
  Factor factor;
  for (auto& [value, entry] : values) {
    entry.first = static_cast<std::int32_t>(factor.levels.size());
    factor.levels.push_back(entry.second);
  }
  factor.codes.reserve(static_cast<std::size_t>(column.length()));
  for (const auto& chunk : column.chunks()) {
    const auto& array = static_cast<const ArrayType&>(*chunk);
    for (std::int64_t i = 0; i < array.length(); ++i)
      factor.codes.push_back(array.IsNull(i) ? -1 : values.find(array.Value(i))->second.first);
  }
  return factor;
}

std::optional<Factor> factor_of_times(const arrow::ChunkedArray& column) {
  const auto iso = [](const arrow::Array& array, std::int64_t i) {
    return array.GetScalar(i).ValueOrDie()->ToString();
  };
  switch (column.type()->id()) {
    case arrow::Type::DATE32:
      return factor_by_value<arrow::Date32Array>(column, iso);
    case arrow::Type::DATE64:
      return factor_by_value<arrow::Date64Array>(column, iso);
    case arrow::Type::TIME32:
      return factor_by_value<arrow::Time32Array>(column, iso);
    case arrow::Type::TIME64:
      return factor_by_value<arrow::Time64Array>(column, iso);
    case arrow::Type::TIMESTAMP:
      return factor_by_value<arrow::TimestampArray>(column, iso);
    default:
      return std::nullopt;
  }
}

/// Whether some integer is too large for doubles to tell it from its neighbours.
template <typename ArrayType>
bool beyond_doubles(const arrow::ChunkedArray& column) {
  for (const auto& chunk : column.chunks()) {
    const auto& array = static_cast<const ArrayType&>(*chunk);
    for (std::int64_t i = 0; i < array.length(); ++i) {
      if (array.IsNull(i)) continue;
      const auto value = array.Value(i);
      if (std::cmp_greater(value, kExactIntegers) || std::cmp_less(value, -kExactIntegers)) return true;
    }
  }
  return false;
}

template <typename ArrayType>
std::optional<Factor> factor_of_identifiers(const arrow::ChunkedArray& column) {
  if (!beyond_doubles<ArrayType>(column)) return std::nullopt;
  return factor_by_value<ArrayType>(column,
                                    [](const ArrayType& a, std::int64_t i) { return std::to_string(a.Value(i)); });
}

/// Text whose every level is a number once blanks are stripped (" NA", "+3") is a numeric column, as in R.
std::optional<Numeric> numbers_in_text(const Factor& factor) {
  Numeric of_level(factor.levels.size());
  for (std::size_t i = 0; i < of_level.size(); ++i) {
    const auto value = parse_number(factor.levels[i]);
    if (!value) return std::nullopt;
    of_level[i] = *value;
  }
  Numeric numbers;
  numbers.reserve(factor.codes.size());
  for (const std::int32_t code : factor.codes)
    numbers.push_back(code < 0 ? kNaN : of_level[static_cast<std::size_t>(code)]);
  return numbers;
}

std::optional<std::variant<Numeric, Factor>> convert(const arrow::ChunkedArray& column, NumbersInText numbers_option) {
  const arrow::Type::type type = column.type()->id();
  if (is_text(type)) {
    Factor factor = factor_of_text(column);
    if (numbers_option == NumbersInText::convert)
      if (auto numbers = numbers_in_text(factor)) return *std::move(numbers);
    return factor;
  }
  if (type == arrow::Type::BOOL) return factor_of_booleans(column);
  if (type == arrow::Type::DICTIONARY) {
    if (auto factor = factor_of_dictionary(column)) return *std::move(factor);
    return std::nullopt;
  }
  if (auto factor = factor_of_times(column)) return *std::move(factor);
  if (type == arrow::Type::INT64) {
    if (auto factor = factor_of_identifiers<arrow::Int64Array>(column)) return *std::move(factor);
  } else if (type == arrow::Type::UINT64) {
    if (auto factor = factor_of_identifiers<arrow::UInt64Array>(column)) return *std::move(factor);
  }
  Numeric numbers;
  numbers.reserve(static_cast<std::size_t>(column.length()));
  for (const auto& chunk : column.chunks())
    if (!append_numbers(*chunk, numbers)) return std::nullopt;
  return numbers;
}

void check_names(const std::string& source, const arrow::Table& table) {
  const std::vector<std::string> names = table.ColumnNames();
  if (const auto empty = std::find(names.begin(), names.end(), ""); empty != names.end())
    throw DataError(source + ": column " + std::to_string(empty - names.begin() + 1) + " has no name");
  std::set<std::string_view> seen;
  const auto twice =
      std::find_if(names.begin(), names.end(), [&](const auto& name) { return !seen.insert(name).second; });
  if (twice != names.end()) throw DataError(source + ": two columns have the name '" + one_line(*twice, 60) + "'");
}

}  // namespace

Table from_arrow(const std::string& source, const arrow::Table& table, NumbersInText numbers) {
  Table result;
  result.source = source;
  result.rows = static_cast<std::size_t>(table.num_rows());
  check_names(source, table);
  for (int i = 0; i < table.num_columns(); ++i) {
    const std::string& name = table.field(i)->name();
    if (auto data = convert(*table.column(i), numbers))
      result.columns.push_back({name, *std::move(data)});
    else
      result.unreadable.emplace_back(name, table.field(i)->type()->ToString());
  }
  if (table.num_columns() == 0) throw DataError(source + " has no columns");
  if (result.rows == 0) throw DataError(source + " has column names but no rows of data");
  return result;
}

}  // namespace batchlmm::detail
