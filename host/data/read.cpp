#include "host/data/read.hpp"

#include <arrow/buffer.h>
#include <arrow/io/file.h>
#include <arrow/table.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "batchlmm/error.hpp"
#include "host/data/factor.hpp"
#include "host/data/from_arrow.hpp"
#include "host/data/one_line.hpp"

namespace batchlmm {
namespace {

enum class Format { csv, tsv, parquet, ipc };

struct Ending {
  std::string_view text;
  Format format;
};
constexpr Ending kEndings[] = {
    {".csv", Format::csv},   {".tsv", Format::tsv},    {".parquet", Format::parquet}, {".pq", Format::parquet},
    {".arrow", Format::ipc}, {".arrows", Format::ipc}, {".feather", Format::ipc},     {".ipc", Format::ipc},
};

Format format_of(const std::string& path, std::string_view content) {
  std::string ending = std::filesystem::path(path).extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  for (const Ending& known : kEndings)
    if (ending == known.text) return known.format;
  if (content.starts_with("PAR1")) return Format::parquet;
  if (content.starts_with("ARROW1") || content.starts_with("FEA1") || content.starts_with("\xFF\xFF\xFF\xFF"))
    return Format::ipc;
  return Format::csv;
}

[[noreturn]] void cannot_read(const std::string& path, const std::string& reason) {
  throw DataError("cannot read " + path + ": " + reason);
}

class FileDescriptor {
public:
  explicit FileDescriptor(const std::string& path) : value_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (value_ >= 0) ::close(value_);
  }
  [[nodiscard]] int get() const { return value_; }

private:
  int value_;
};

/// The whole content: a file is mapped, a pipe (`<(zcat table.csv.gz)`) is read to its end.
std::shared_ptr<arrow::Buffer> content_of(const std::string& path) {
  const FileDescriptor file(path);
  struct stat status {};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) cannot_read(path, std::generic_category().message(errno));
  if (S_ISDIR(status.st_mode)) cannot_read(path, "it is a directory");
  if (S_ISREG(status.st_mode)) {
    if (status.st_size == 0) throw DataError(path + " is empty");
    auto mapped = arrow::io::MemoryMappedFile::Open(path, arrow::io::FileMode::READ);
    if (!mapped.ok()) cannot_read(path, detail::one_line(mapped.status().message()));
    auto buffer = (*mapped)->ReadAt(0, status.st_size);
    if (!buffer.ok()) cannot_read(path, detail::one_line(buffer.status().message()));
    return *buffer;
  }
  std::string content;
  std::vector<char> block(std::size_t{1} << 16);
  for (;;) {
    const ssize_t n = ::read(file.get(), block.data(), block.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) cannot_read(path, std::generic_category().message(errno));
    if (n == 0) break;
    content.append(block.data(), static_cast<std::size_t>(n));
  }
  if (content.empty()) throw DataError(path + " is empty");
  return arrow::Buffer::FromString(std::move(content));
}

/// A file that is not what its ending says.
void check_magic(const std::string& path, Format format, std::string_view content) {
  const bool parquet = content.starts_with("PAR1");
  const bool ipc = content.starts_with("ARROW1");
  if (format == Format::parquet && !parquet)
    throw DataError(path + " is not a Parquet file: expected the bytes PAR1 at its start" +
                    (ipc ? ", found Arrow IPC" : ""));
  if (format == Format::ipc && !ipc && !content.starts_with("FEA1") && !content.starts_with("\xFF\xFF\xFF\xFF"))
    throw DataError(path + " is not an Arrow IPC file: expected the bytes ARROW1 at its start" +
                    (parquet ? ", found Parquet" : ""));
  if ((format == Format::csv || format == Format::tsv) && (parquet || ipc))
    throw DataError(path + " is not text: it begins as " + (parquet ? "Parquet" : "Arrow IPC"));
}

Table read_formatted(const std::string& path, const std::shared_ptr<arrow::Buffer>& file) {
  const Format format = format_of(path, std::string_view(*file));
  check_magic(path, format, std::string_view(*file));
  using detail::NumbersInText;
  switch (format) {
    case Format::parquet:
      return detail::from_arrow(path, *detail::read_parquet(path, file), NumbersInText::keep);
    case Format::ipc:
      return detail::from_arrow(path, *detail::read_ipc(path, file), NumbersInText::keep);
    case Format::tsv:
      return detail::from_arrow(path, *detail::read_csv(path, file, '\t'), NumbersInText::convert);
    case Format::csv:
      break;
  }
  return detail::from_arrow(path, *detail::read_csv(path, file, ','), NumbersInText::convert);
}

}  // namespace

Table read_table(const std::string& path, const ReadOptions& options) {
  Table table = read_formatted(path, content_of(path));
  for (const std::string& name : options.factors) {
    auto column =
        std::find_if(table.columns.begin(), table.columns.end(), [&](const Column& c) { return c.name == name; });
    if (column == table.columns.end()) throw DataError("cannot make a factor: " + missing_column_message(table, name));
    if (auto* numbers = std::get_if<Numeric>(&column->data)) column->data = make_factor(*numbers);
  }
  return table;
}

}  // namespace batchlmm
