#include "host/data/write.hpp"

#include <arrow/builder.h>
#include <arrow/csv/writer.h>
#include <arrow/io/file.h>
#include <arrow/ipc/writer.h>
#include <arrow/record_batch.h>
#include <arrow/table.h>
#include <arrow/type.h>
#include <arrow/util/compression.h>
#include <arrow/util/io_util.h>
#include <parquet/arrow/writer.h>
#include <parquet/exception.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "host/data/temporary_file.hpp"

namespace batchlmm {
namespace {

/// The system's reason where Arrow knows it, else Arrow's message.
std::string reason_of(const arrow::Status& status) {
  const int error = arrow::internal::ErrnoFromStatus(status);
  return error != 0 ? std::generic_category().message(error) : status.message();
}

/// One row group after another, in one of the formats.
class GroupSink {
public:
  virtual ~GroupSink() = default;
  virtual arrow::Status write(const std::shared_ptr<arrow::RecordBatch>& rows) = 0;
  virtual arrow::Status finish() = 0;
};

class ParquetSink : public GroupSink {
public:
  static arrow::Result<std::unique_ptr<GroupSink>> open(const std::shared_ptr<arrow::Schema>& schema,
                                                        const std::shared_ptr<arrow::io::OutputStream>& out) {
    parquet::WriterProperties::Builder properties;
    properties.max_row_group_length(TableWriter::kRowsPerGroup);
    if (arrow::util::Codec::IsAvailable(arrow::Compression::SNAPPY)) properties.compression(arrow::Compression::SNAPPY);
    // Distinct doubles in a dictionary take more space than by themselves.
    for (const auto& field : schema->fields())
      if (field->type()->id() != arrow::Type::STRING) properties.disable_dictionary(field->name());
    auto sink = std::make_unique<ParquetSink>();
    ARROW_ASSIGN_OR_RAISE(sink->writer_, parquet::arrow::FileWriter::Open(*schema, arrow::default_memory_pool(), out,
                                                                          properties.build()));
    return sink;
  }
  arrow::Status write(const std::shared_ptr<arrow::RecordBatch>& rows) override {
    ARROW_ASSIGN_OR_RAISE(const auto table, arrow::Table::FromRecordBatches({rows}));
    return writer_->WriteTable(*table, TableWriter::kRowsPerGroup);
  }
  arrow::Status finish() override { return writer_->Close(); }

private:
  std::unique_ptr<parquet::arrow::FileWriter> writer_;
};

/// CSV and Arrow IPC have the same interface in Arrow.
class BatchSink : public GroupSink {
public:
  explicit BatchSink(std::shared_ptr<arrow::ipc::RecordBatchWriter> writer) : writer_(std::move(writer)) {}
  static arrow::Result<std::unique_ptr<GroupSink>> open_ipc(const std::shared_ptr<arrow::Schema>& schema,
                                                            const std::shared_ptr<arrow::io::OutputStream>& out) {
    auto options = arrow::ipc::IpcWriteOptions::Defaults();
    options.use_threads = false;
    ARROW_ASSIGN_OR_RAISE(auto writer, arrow::ipc::MakeFileWriter(out, schema, options));
    return std::make_unique<BatchSink>(std::move(writer));
  }
  static arrow::Result<std::unique_ptr<GroupSink>> open_csv(const std::shared_ptr<arrow::Schema>& schema,
                                                            const std::shared_ptr<arrow::io::OutputStream>& out) {
    auto options = arrow::csv::WriteOptions::Defaults();
    options.null_string = "NA";
    ARROW_ASSIGN_OR_RAISE(auto writer, arrow::csv::MakeCSVWriter(out, schema, options));
    return std::make_unique<BatchSink>(std::move(writer));
  }
  arrow::Status write(const std::shared_ptr<arrow::RecordBatch>& rows) override {
    return writer_->WriteRecordBatch(*rows);
  }
  arrow::Status finish() override { return writer_->Close(); }

private:
  std::shared_ptr<arrow::ipc::RecordBatchWriter> writer_;
};

using OpenSink = arrow::Result<std::unique_ptr<GroupSink>> (*)(const std::shared_ptr<arrow::Schema>&,
                                                               const std::shared_ptr<arrow::io::OutputStream>&);

OpenSink format_of(const std::string& path) {
  const std::string ending = std::filesystem::path(path).extension().string();
  if (ending == ".parquet") return &ParquetSink::open;
  if (ending == ".csv") return &BatchSink::open_csv;
  if (ending == ".arrow") return &BatchSink::open_ipc;
  cannot_write(path, "its name must end in .parquet, .csv or .arrow");
}

std::shared_ptr<arrow::DataType> arrow_type(OutputType type) {
  switch (type) {
    case OutputType::int64:
      return arrow::int64();
    case OutputType::text:
    case OutputType::factor:
      return arrow::utf8();
    case OutputType::float64:
      break;
  }
  return arrow::float64();
}

std::shared_ptr<arrow::Schema> arrow_schema(const std::vector<OutputColumn>& columns) {
  std::set<std::string> names;
  arrow::FieldVector fields;
  for (const OutputColumn& column : columns) {
    if (column.name.empty()) throw std::invalid_argument("TableWriter: a column without name");
    if (!names.insert(column.name).second)
      throw std::invalid_argument("TableWriter: two columns have the name '" + column.name + "'");
    fields.push_back(arrow::field(column.name, arrow_type(column.type)));
  }
  return arrow::schema(std::move(fields));
}

std::int64_t length_of(const OutputValues& values) {
  return std::visit([](const auto& span) { return static_cast<std::int64_t>(span.size()); }, values);
}

/// Appends the rows [begin, end) of `values`.
arrow::Status append_to(arrow::ArrayBuilder& builder, const OutputValues& values, std::int64_t begin,
                        std::int64_t end) {
  const auto at = static_cast<std::size_t>(begin);
  const auto n = static_cast<std::size_t>(end - begin);
  if (const auto* integers = std::get_if<std::span<const std::int64_t>>(&values))
    return static_cast<arrow::Int64Builder&>(builder).AppendValues(integers->data() + at, end - begin);
  if (const auto* text = std::get_if<std::span<const std::string>>(&values)) {
    for (const std::string& value : text->subspan(at, n))
      ARROW_RETURN_NOT_OK(static_cast<arrow::StringBuilder&>(builder).Append(value));
    return arrow::Status::OK();
  }
  if (const auto* factor = std::get_if<FactorValues>(&values)) {
    auto& texts = static_cast<arrow::StringBuilder&>(builder);
    for (const std::int32_t code : factor->codes.subspan(at, n))
      ARROW_RETURN_NOT_OK(code < 0 ? texts.AppendNull()
                                   : texts.Append((*factor->levels)[static_cast<std::size_t>(code)]));
    return arrow::Status::OK();
  }
  auto& doubles = static_cast<arrow::DoubleBuilder&>(builder);
  ARROW_RETURN_NOT_OK(doubles.Reserve(end - begin));
  for (const double value : std::get<std::span<const double>>(values).subspan(at, n)) {
    if (std::isnan(value))
      doubles.UnsafeAppendNull();
    else
      doubles.UnsafeAppend(value);
  }
  return arrow::Status::OK();
}

}  // namespace

class TableWriter::Impl {
public:
  Impl(std::string path, std::vector<OutputColumn> columns)
      : path_(std::move(path)), columns_(std::move(columns)), schema_(arrow_schema(columns_)) {
    const OpenSink open = format_of(path_);
    file_ = std::make_unique<TemporaryFile>(path_);
    auto out = arrow::io::FileOutputStream::Open(file_->release());
    check(out.status());
    out_ = *out;
    auto sink = open(schema_, out_);
    check(sink.status());
    sink_ = *std::move(sink);
    builders_.resize(columns_.size());
    for (std::size_t i = 0; i < columns_.size(); ++i)
      check(arrow::MakeBuilder(arrow::default_memory_pool(), arrow_type(columns_[i].type), &builders_[i]));
  }

  void append(std::span<const OutputValues> values) {
    if (sink_ == nullptr) throw std::invalid_argument("TableWriter: append after close or after an error");
    if (values.size() != columns_.size())
      throw std::invalid_argument("TableWriter: expected " + std::to_string(columns_.size()) + " columns, found " +
                                  std::to_string(values.size()));
    const std::int64_t rows = values.empty() ? 0 : length_of(values[0]);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i].index() != static_cast<std::size_t>(columns_[i].type))
        throw std::invalid_argument("TableWriter: column '" + columns_[i].name + "' got values of another type");
      if (length_of(values[i]) != rows)
        throw std::invalid_argument("TableWriter: column '" + columns_[i].name + "' got " +
                                    std::to_string(length_of(values[i])) + " values, expected " + std::to_string(rows));
    }
    for (std::int64_t begin = 0; begin < rows;) {
      const std::int64_t end = std::min(rows, begin + kRowsPerGroup - gathered_);
      for (std::size_t i = 0; i < values.size(); ++i) check(append_to(*builders_[i], values[i], begin, end));
      gathered_ += end - begin;
      begin = end;
      if (gathered_ == kRowsPerGroup) write_group();
    }
  }

  void finish() {
    if (finished_) return;
    if (sink_ == nullptr) throw std::invalid_argument("TableWriter: close after an error");
    if (gathered_ > 0) write_group();
    guarded([&] { return sink_->finish(); });
    check(out_->Close());
    sink_.reset();
    finished_ = true;
  }

  void close() {
    if (file_ == nullptr) return;
    finish();
    file_->commit();
    file_.reset();
  }

private:
  void check(const arrow::Status& status) {
    if (status.ok()) return;
    sink_.reset();
    cannot_write(path_, reason_of(status));
  }

  /// The Parquet library throws what the others return.
  template <typename Write>
  void guarded(Write write) {
    arrow::Status status;
    try {
      status = write();
    } catch (const parquet::ParquetStatusException& e) {
      status = e.status();
    } catch (const parquet::ParquetException& e) {
      status = arrow::Status::IOError(e.what());
    }
    check(status);
  }

  void write_group() {
    arrow::ArrayVector arrays(builders_.size());
    for (std::size_t i = 0; i < builders_.size(); ++i) check(builders_[i]->Finish(&arrays[i]));
    const auto rows = arrow::RecordBatch::Make(schema_, gathered_, std::move(arrays));
    gathered_ = 0;
    guarded([&] { return sink_->write(rows); });
  }

  std::string path_;
  std::vector<OutputColumn> columns_;
  std::shared_ptr<arrow::Schema> schema_;
  std::unique_ptr<TemporaryFile> file_;  // null once closed
  std::shared_ptr<arrow::io::OutputStream> out_;
  std::unique_ptr<GroupSink> sink_;  // null once closed or failed
  std::vector<std::unique_ptr<arrow::ArrayBuilder>> builders_;
  std::int64_t gathered_ = 0;  // rows in the builders
  bool finished_ = false;
};

static_assert(static_cast<std::size_t>(OutputType::int64) == 0 && static_cast<std::size_t>(OutputType::float64) == 1 &&
                  static_cast<std::size_t>(OutputType::text) == 2 && static_cast<std::size_t>(OutputType::factor) == 3,
              "the order of OutputType is that of OutputValues");

TableWriter::TableWriter(std::string path, std::vector<OutputColumn> columns)
    : impl_(std::make_unique<Impl>(std::move(path), std::move(columns))) {}
TableWriter::TableWriter(TableWriter&&) noexcept = default;
TableWriter& TableWriter::operator=(TableWriter&&) noexcept = default;
TableWriter::~TableWriter() = default;

void TableWriter::append(std::span<const OutputValues> values) { impl_->append(values); }
void TableWriter::finish() { impl_->finish(); }
void TableWriter::close() { impl_->close(); }

void write_table(const std::string& path, const Table& table) {
  std::vector<OutputColumn> columns;
  std::vector<OutputValues> values;
  for (const Column& column : table.columns) {
    columns.push_back({column.name, column.is_factor() ? OutputType::factor : OutputType::float64});
    if (const auto* factor = std::get_if<Factor>(&column.data))
      values.emplace_back(FactorValues{&factor->levels, factor->codes});
    else
      values.emplace_back(std::span<const double>(std::get<Numeric>(column.data)));
  }
  TableWriter writer(path, std::move(columns));
  writer.append(values);
  writer.close();
}

}  // namespace batchlmm
