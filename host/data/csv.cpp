#include <arrow/buffer.h>
#include <arrow/csv/api.h>
#include <arrow/io/memory.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/utf8.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

#include "batchlmm/error.hpp"
#include "host/data/from_arrow.hpp"
#include "host/data/one_line.hpp"

namespace batchlmm::detail {
namespace {

/// Files up to this size are parsed by one thread in one block: starting Arrow's thread pool would take longer.
constexpr std::int64_t kSmall = std::int64_t{8} << 20;
/// Larger ones in blocks of this size, which also bounds the length of a line.
constexpr std::int32_t kBlock = 32 << 20;

/// 1-based number of the line that holds `offset`; lines end in LF, CR LF or CR.
std::size_t line_number(std::string_view text, std::size_t offset) {
  std::size_t line = 1;
  for (std::size_t i = 0; i < offset; ++i)
    if (text[i] == '\n' || (text[i] == '\r' && text.substr(i + 1, 1) != "\n")) ++line;
  return line;
}

/// Byte offset of a whole line (without its end) in `text`.
std::optional<std::size_t> find_line(std::string_view text, std::string_view line) {
  const auto is_end = [](char c) { return c == '\n' || c == '\r'; };
  while (!line.empty() && is_end(line.back())) line.remove_suffix(1);
  for (std::size_t at = text.find(line); at != std::string_view::npos; at = text.find(line, at + 1)) {
    const std::size_t end = at + line.size();
    if ((at == 0 || is_end(text[at - 1])) && (end == text.size() || is_end(text[end]))) return at;
  }
  return std::nullopt;
}

void check_utf8(const std::string& source, std::string_view text) {
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF"))
    throw DataError(source + ": expected text in UTF-8, found UTF-16 (save it as UTF-8)");
  arrow::util::InitializeUTF8();
  if (arrow::util::ValidateUTF8(text)) return;
  // Only now look for the place, line by line (no character of more than one byte holds a line feed).
  std::size_t line = 1;
  for (std::size_t start = 0; start < text.size(); ++line) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    if (!arrow::util::ValidateUTF8(text.substr(start, end - start))) break;
    start = end + 1;
  }
  throw DataError(source + ", line " + std::to_string(line) + ": expected text in UTF-8, found bytes that are not");
}

struct Fault {
  int expected = 0;
  int found = 0;
  std::string row;
};

std::string fields(int n) { return std::to_string(n) + (n == 1 ? " field" : " fields"); }

[[noreturn]] void cannot_parse(const std::string& source, const arrow::Status& status) {
  const bool too_long = status.message().find("straddling") != std::string::npos;
  throw DataError(
      source + " cannot be read as CSV: " +
      (too_long ? "a row is longer than 32 MiB (is a quotation mark never closed?)" : one_line(status.message())));
}

arrow::csv::ReadOptions read_options(std::int64_t size) {
  auto options = arrow::csv::ReadOptions::Defaults();
  options.use_threads = size > kSmall;
  options.block_size = size > kSmall ? kBlock : static_cast<std::int32_t>(std::max<std::int64_t>(size, 1));
  return options;
}

arrow::csv::ConvertOptions convert_options() {
  auto options = arrow::csv::ConvertOptions::Defaults();
  options.null_values = {"", "NA", "NaN", "nan"};
  options.true_values = {"TRUE", "true"};
  options.false_values = {"FALSE", "false"};
  options.strings_can_be_null = true;
  options.check_utf8 = false;  // checked for the whole file
  return options;
}

/// R's `write.csv` leaves the name of the column of row numbers empty, and its `read.csv` calls it X.
std::shared_ptr<arrow::Table> name_row_numbers(const std::shared_ptr<arrow::Table>& table) {
  if (table->num_columns() == 0 || !table->field(0)->name().empty()) return table;
  std::vector<std::string> names = table->ColumnNames();
  names[0] = "X";
  return table->RenameColumns(names).ValueOrDie();
}

}  // namespace

std::shared_ptr<arrow::Table> read_csv(const std::string& source, const std::shared_ptr<arrow::Buffer>& file,
                                       char delimiter) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  std::shared_ptr<arrow::Buffer> content = file;
  if (std::string_view(*file).starts_with(kByteOrderMark))
    content = arrow::SliceBuffer(file, static_cast<std::int64_t>(kByteOrderMark.size()));
  const std::string_view text(*content);
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) throw DataError(source + " is empty");
  check_utf8(source, text);
  if (text.find_first_of("\r\n") == std::string_view::npos)
    throw DataError(source + " has column names but no rows of data");

  std::optional<Fault> fault;
  auto parse = arrow::csv::ParseOptions::Defaults();
  parse.delimiter = delimiter;
  parse.newlines_in_values = text.find('"') != std::string_view::npos;  // costs time: only where it can matter
  parse.invalid_row_handler = [&fault](const arrow::csv::InvalidRow& row) {
    fault = Fault{row.expected_columns, row.actual_columns, std::string(row.text)};
    return arrow::csv::InvalidRowResult::Error;
  };
  auto convert = convert_options();

  const auto read = [&](const std::shared_ptr<arrow::Buffer>& from) {
    auto reader =
        arrow::csv::TableReader::Make(arrow::io::default_io_context(), std::make_shared<arrow::io::BufferReader>(from),
                                      read_options(from->size()), parse, convert);
    return reader.ok() ? (*reader)->Read() : reader.status();
  };
  arrow::Result<std::shared_ptr<arrow::Table>> table = read(content);
  if (fault) {
    const auto at = find_line(text, fault->row);
    throw DataError(source + (at ? ", line " + std::to_string(line_number(text, *at)) : std::string()) + ": expected " +
                    fields(fault->expected) + " as in the header, found " + std::to_string(fault->found));
  }
  if (!table.ok()) cannot_parse(source, table.status());

  // The parser takes the end of the file for the end of a quoted field. With a line feed and a quotation mark more an
  // open field is closed and the rows are as many as before; otherwise they would be a row more, or a fault.
  if (std::count(text.begin(), text.end(), '"') % 2 == 1) {
    const auto closed = read(arrow::Buffer::FromString(std::string(text) + "\n\""));
    if (closed.ok() && (*closed)->num_rows() == (*table)->num_rows())
      throw DataError(source + ": a quotation mark is never closed");
  }

  // Dates and times stay the text that they are in the file: the reader takes "12:30" for a time of day.
  for (const auto& field : (*table)->schema()->fields())
    if (arrow::is_temporal(field->type()->id())) convert.column_types[field->name()] = arrow::utf8();
  if (!convert.column_types.empty()) table = read(content);
  if (!table.ok()) cannot_parse(source, table.status());

  if ((*table)->num_columns() == 1) {
    const std::string& header = (*table)->field(0)->name();
    if (header.find_first_of(";\t") != std::string::npos)
      throw DataError(source + ": expected columns separated by commas, found the one column '" + one_line(header) +
                      "'");
  }
  return name_row_numbers(*table);
}

}  // namespace batchlmm::detail
