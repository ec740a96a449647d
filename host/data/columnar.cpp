#include <arrow/buffer.h>
#include <arrow/io/memory.h>
#include <arrow/ipc/reader.h>
#include <arrow/table.h>
#include <arrow/util/config.h>
#include <parquet/arrow/reader.h>

#include <cstring>
#include <exception>
#include <string_view>

#include "batchlmm/error.hpp"
#include "host/data/from_arrow.hpp"
#include "host/data/one_line.hpp"

namespace batchlmm::detail {
namespace {

arrow::Result<std::shared_ptr<arrow::Table>> parquet_table(const std::shared_ptr<arrow::Buffer>& file) {
  parquet::arrow::FileReaderBuilder builder;
  ARROW_RETURN_NOT_OK(builder.Open(std::make_shared<arrow::io::BufferReader>(file)));
  std::unique_ptr<parquet::arrow::FileReader> reader;
  ARROW_RETURN_NOT_OK(builder.Build(&reader));
#if ARROW_VERSION_MAJOR >= 24
  return reader->ReadTable();
#else
  std::shared_ptr<arrow::Table> table;
  ARROW_RETURN_NOT_OK(reader->ReadTable(&table));
  return table;
#endif
}

arrow::Result<std::shared_ptr<arrow::Table>> ipc_table(const std::shared_ptr<arrow::Buffer>& file) {
  const auto input = std::make_shared<arrow::io::BufferReader>(file);
  auto options = arrow::ipc::IpcReadOptions::Defaults();
  options.use_threads = false;
  if (std::string_view(*file).starts_with("\xFF\xFF\xFF\xFF")) {  // the stream format has no magic bytes but this mark
    ARROW_ASSIGN_OR_RAISE(auto stream, arrow::ipc::RecordBatchStreamReader::Open(input, options));
    return stream->ToTable();
  }
  ARROW_ASSIGN_OR_RAISE(auto reader, arrow::ipc::RecordBatchFileReader::Open(input, options));
  arrow::RecordBatchVector batches;
  for (int i = 0; i < reader->num_record_batches(); ++i) {
    ARROW_ASSIGN_OR_RAISE(auto batch, reader->ReadRecordBatch(i));
    batches.push_back(std::move(batch));
  }
  return arrow::Table::FromRecordBatches(reader->schema(), batches);
}

/// Both libraries report by status, but exceptions escape from damaged Parquet files.
template <typename Read>
std::shared_ptr<arrow::Table> table_or_error(const std::string& source, const char* format, Read read) {
  std::string reason;
  try {
    auto table = read();
    // A damaged file must not be followed to wild offsets or dictionary indices.
    const arrow::Status status = table.ok() ? (*table)->ValidateFull() : table.status();
    if (status.ok()) return *table;
    reason = status.message();
  } catch (const std::exception& e) {
    reason = e.what();
  }
  throw DataError(source + " cannot be read as " + format + ": " + one_line(reason));
}

}  // namespace

std::shared_ptr<arrow::Table> read_parquet(const std::string& source, const std::shared_ptr<arrow::Buffer>& file) {
  return table_or_error(source, "Parquet", [&] { return parquet_table(file); });
}

std::shared_ptr<arrow::Table> read_ipc(const std::string& source, const std::shared_ptr<arrow::Buffer>& file) {
  if (std::string_view(*file).starts_with("FEA1"))
    throw DataError(source +
                    " is Feather version 1: expected version 2 or Arrow IPC (write it again with a current library)");
  return table_or_error(source, "Arrow IPC", [&] { return ipc_table(file); });
}

}  // namespace batchlmm::detail
