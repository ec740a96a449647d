#include "host/data/read.hpp"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <arrow/ipc/writer.h>
#include <gtest/gtest.h>
#include <parquet/arrow/writer.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <thread>

#include "batchlmm/error.hpp"
#include "tests/temporary_folder.hpp"

namespace batchlmm {
namespace {

using Codes = std::vector<std::int32_t>;
using Levels = std::vector<std::string>;
using testing::TemporaryFolder;

const Numeric& numbers(const Table& table, const std::string& name) { return std::get<Numeric>(table.at(name).data); }
const Factor& factor(const Table& table, const std::string& name) { return std::get<Factor>(table.at(name).data); }

/// The message of the DataError that `read_table` throws, without the folder's name.
std::string error_of(const std::string& path, const ReadOptions& options = {}) {
  std::string message;
  try {
    static_cast<void>(read_table(path, options));
    return "no error";
  } catch (const DataError& e) {
    message = e.what();
  }
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  const std::string folder = std::filesystem::path(path).parent_path().string() + "/";
  if (const auto at = message.find(folder); at != std::string::npos) message.erase(at, folder.size());
  return message;
}

Table read_csv_text(const std::string& text, const ReadOptions& options = {}) {
  const TemporaryFolder folder;
  return read_table(folder.file("t.csv", text), options);
}

std::string csv_error(const std::string& text, const ReadOptions& options = {}) {
  const TemporaryFolder folder;
  return error_of(folder.file("t.csv", text), options);
}

std::shared_ptr<arrow::Table> arrow_table(
    const std::vector<std::pair<std::string, std::shared_ptr<arrow::ChunkedArray>>>& columns) {
  arrow::FieldVector fields;
  arrow::ChunkedArrayVector arrays;
  for (const auto& [name, array] : columns) {
    fields.push_back(arrow::field(name, array->type()));
    arrays.push_back(array);
  }
  return arrow::Table::Make(arrow::schema(fields), arrays);
}

template <typename Builder, typename Value>
std::shared_ptr<arrow::ChunkedArray> chunk(std::shared_ptr<arrow::DataType> type,
                                           const std::vector<std::optional<Value>>& values) {
  Builder builder(std::move(type), arrow::default_memory_pool());
  for (const auto& value : values) EXPECT_TRUE((value ? builder.Append(*value) : builder.AppendNull()).ok());
  return std::make_shared<arrow::ChunkedArray>(builder.Finish().ValueOrDie());
}

std::shared_ptr<arrow::Array> dictionary(const std::vector<std::string>& levels,
                                         const std::vector<std::optional<std::int8_t>>& codes, bool ordered) {
  arrow::StringBuilder text;
  EXPECT_TRUE(text.AppendValues(levels).ok());
  return arrow::DictionaryArray::FromArrays(arrow::dictionary(arrow::int8(), arrow::utf8(), ordered),
                                            chunk<arrow::Int8Builder>(arrow::int8(), codes)->chunk(0),
                                            text.Finish().ValueOrDie())
      .ValueOrDie();
}

void write_parquet(const std::string& path, const arrow::Table& table) {
  const auto out = arrow::io::FileOutputStream::Open(path).ValueOrDie();
  const auto keep_types = parquet::ArrowWriterProperties::Builder().store_schema()->build();
  const auto status = parquet::arrow::WriteTable(table, arrow::default_memory_pool(), out, 2,
                                                 parquet::default_writer_properties(), keep_types);
  ASSERT_TRUE(status.ok()) << status.ToString();
  ASSERT_TRUE(out->Close().ok());
}

void write_ipc(const std::string& path, const arrow::Table& table, bool stream = false) {
  const auto out = arrow::io::FileOutputStream::Open(path).ValueOrDie();
  auto options = arrow::ipc::IpcWriteOptions::Defaults();
  options.unify_dictionaries = true;
  const auto writer = (stream ? arrow::ipc::MakeStreamWriter(out, table.schema(), options)
                              : arrow::ipc::MakeFileWriter(out, table.schema(), options))
                          .ValueOrDie();
  const auto status = writer->WriteTable(table);
  ASSERT_TRUE(status.ok()) << status.ToString();
  ASSERT_TRUE(writer->Close().ok());
  ASSERT_TRUE(out->Close().ok());
}

TEST(ReadCsv, Politeness) {
  const Table table = read_table(BATCHLMM_TEST_DATA "/politeness.csv");

  EXPECT_EQ(table.source, BATCHLMM_TEST_DATA "/politeness.csv");
  EXPECT_EQ(table.rows, 84U);
  ASSERT_EQ(table.columns.size(), 5U);
  EXPECT_EQ(factor(table, "subject").levels, (Levels{"F1", "F2", "F3", "M3", "M4", "M7"}));
  EXPECT_EQ(factor(table, "gender").levels, (Levels{"F", "M"}));
  EXPECT_EQ(factor(table, "attitude").levels, (Levels{"inf", "pol"}));
  EXPECT_EQ(factor(table, "attitude").codes[0], 1);
  EXPECT_EQ(numbers(table, "scenario")[2], 2);
  EXPECT_EQ(numbers(table, "frequency")[0], 213.3);
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < table.rows; ++i)
    if (std::isnan(numbers(table, "frequency")[i])) missing.push_back(i);
  EXPECT_EQ(missing, std::vector<std::size_t>{38});
}

TEST(ReadCsv, FactorsOnRequest) {
  const Table table = read_table(BATCHLMM_TEST_DATA "/politeness.csv", {{"scenario", "subject"}});

  EXPECT_EQ(factor(table, "scenario").levels, (Levels{"1", "2", "3", "4", "5", "6", "7"}));
  EXPECT_EQ(factor(table, "scenario").codes[2], 1);
  EXPECT_EQ(factor(table, "subject").levels.size(), 6U);
}

TEST(ReadCsv, FactorsOnRequestInNumericOrder) {
  const Table table = read_csv_text("g\n10\n9\n1.5\nNA\n", {{"g"}});

  EXPECT_EQ(factor(table, "g").levels, (Levels{"1.5", "9", "10"}));
  EXPECT_EQ(factor(table, "g").codes, (Codes{2, 1, 0, -1}));
}

TEST(ReadCsv, FactorThatIsNotThere) {
  EXPECT_EQ(csv_error("subject,y\na,1\n", {{"subjct"}}),
            "cannot make a factor: no column 'subjct' in t.csv; did you mean 'subject'? (columns: subject, y)");
}

TEST(ReadCsv, MissingValues) {
  const Table table = read_csv_text("x,g\n1,a\nNA,NA\n,\nNaN,NaN\nnan,nan\n\"NA\",\"NA\"\n-2e-3,b\n");

  ASSERT_EQ(table.rows, 7U);
  for (std::size_t i = 1; i < 6; ++i) EXPECT_TRUE(std::isnan(numbers(table, "x")[i])) << i;
  EXPECT_EQ(numbers(table, "x")[6], -0.002);
  EXPECT_EQ(factor(table, "g").codes, (Codes{0, -1, -1, -1, -1, -1, 1}));
}

TEST(ReadCsv, ColumnWithoutValuesIsNumeric) {
  const Table table = read_csv_text("x,y\nNA,1\n,2\n");

  EXPECT_TRUE(std::isnan(numbers(table, "x")[0]));
  EXPECT_TRUE(std::isnan(numbers(table, "x")[1]));
}

TEST(ReadCsv, QuotesByteOrderMarkAndLineEnds) {
  const Table table =
      read_csv_text("\xEF\xBB\xBF\"my y\",\"g,h\"\r\n\"1.5\",\"a \"\"b\"\", c\"\r\n2,\"two\r\nlines\"\r\n");

  EXPECT_EQ(numbers(table, "my y"), (Numeric{1.5, 2}));
  EXPECT_EQ(factor(table, "g,h").levels, (Levels{"a \"b\", c", "two\r\nlines"}));
}

TEST(ReadCsv, NoLineEndAtTheEndAndEmptyLines) {
  EXPECT_EQ(numbers(read_csv_text("x,y\n\n1,2\n\n3,4"), "y"), (Numeric{2, 4}));
  EXPECT_EQ(numbers(read_csv_text("x,y\r1,2\r3,4\r"), "y"), (Numeric{2, 4}));
}

TEST(ReadCsv, BlanksAroundNumbersDoNotMakeThemText) {
  const Table table = read_csv_text("x,y,z\n 1, NA,+3\n2 ,4 ,-1\nNA , 1e3,\n");

  EXPECT_EQ(numbers(table, "x")[1], 2);
  EXPECT_TRUE(std::isnan(numbers(table, "x")[2]));
  EXPECT_TRUE(std::isnan(numbers(table, "y")[0]));
  EXPECT_EQ(numbers(table, "y")[2], 1000);
  EXPECT_EQ(numbers(table, "z")[0], 3);
}

TEST(ReadCsv, TextThatOnlyBeginsAsANumberStaysText) {
  const Table table = read_csv_text("a,b,c\n1,1e,1 2\n2b,2,3\n");

  EXPECT_EQ(factor(table, "a").levels, (Levels{"1", "2b"}));
  EXPECT_EQ(factor(table, "b").levels, (Levels{"1e", "2"}));
  EXPECT_EQ(factor(table, "c").levels, (Levels{"1 2", "3"}));
}

TEST(ReadCsv, Booleans) {
  const Table table = read_csv_text("a,b,c\nTRUE,true,T\nFALSE,true,F\nNA,,T\n");

  EXPECT_EQ(factor(table, "a").levels, (Levels{"FALSE", "TRUE"}));
  EXPECT_EQ(factor(table, "a").codes, (Codes{1, 0, -1}));
  EXPECT_EQ(factor(table, "b").levels, (Levels{"FALSE", "TRUE"}));
  EXPECT_EQ(factor(table, "b").codes, (Codes{1, 1, -1}));
  EXPECT_EQ(factor(table, "c").levels, (Levels{"F", "T"}));
}

TEST(ReadCsv, DatesAndTimesAreFactorsOfTheirText) {
  const Table table =
      read_csv_text("d,t,s\n2024-02-01,12:30,2024-01-01 10:00:00\n2023-12-31,09:15,2024-01-01T09:00\nNA,,\n");

  EXPECT_EQ(factor(table, "d").levels, (Levels{"2023-12-31", "2024-02-01"}));
  EXPECT_EQ(factor(table, "d").codes, (Codes{1, 0, -1}));
  EXPECT_EQ(factor(table, "t").levels, (Levels{"09:15", "12:30"}));
  EXPECT_EQ(factor(table, "s").levels, (Levels{"2024-01-01 10:00:00", "2024-01-01T09:00"}));
}

TEST(ReadCsv, LevelsAreInByteOrder) {
  EXPECT_EQ(factor(read_csv_text("g,y\nb,1\nä,1\nB,1\na,1\n10,1\n9,1\n"), "g").levels,
            (Levels{"10", "9", "B", "a", "b", "ä"}));
}

TEST(ReadCsv, UnnamedFirstColumnOfRowNumbers) {
  const Table table = read_csv_text("\"\",\"y\"\n\"1\",5\n\"2\",6\n");

  EXPECT_EQ(numbers(table, "X"), (Numeric{1, 2}));
  EXPECT_EQ(numbers(table, "y"), (Numeric{5, 6}));
}

TEST(ReadCsv, IdentifiersBeyondDoublesStayApart) {
  const Table table = read_csv_text("id,y\n9007199254740993,1\n9007199254740992,2\n9007199254740993,3\n");

  EXPECT_EQ(factor(table, "id").levels, (Levels{"9007199254740992", "9007199254740993"}));
  EXPECT_EQ(factor(table, "id").codes, (Codes{1, 0, 1}));
}

TEST(ReadCsv, NumbersAreReadToTheLastBit) {
  const Table table = read_csv_text("x\n0.1\n2.2250738585072014e-308\n9007199254740993.0\n1e400\n-Inf\n");

  const Numeric& x = numbers(table, "x");
  EXPECT_EQ(x[0], 0.1);
  EXPECT_EQ(x[1], 2.2250738585072014e-308);
  EXPECT_EQ(x[2], 9007199254740992.0);
  EXPECT_EQ(x[3], INFINITY);
  EXPECT_EQ(x[4], -INFINITY);
}

TEST(ReadCsv, TextAfterManyNumbersMakesAFactor) {
  // More than one block of the parser, and large enough to be read by several threads.
  std::string text = "id,x\n";
  constexpr int n = 6000000;
  text.reserve(std::size_t{n} * 12);
  for (int i = 0; i < n; ++i) text += std::to_string(i % 7) + ",3.25e1\n";
  text += "late,1\n";

  const Table table = read_csv_text(text);

  ASSERT_EQ(table.rows, std::size_t{n} + 1);
  EXPECT_EQ(factor(table, "id").levels, (Levels{"0", "1", "2", "3", "4", "5", "6", "late"}));
  EXPECT_EQ(factor(table, "id").codes.back(), 7);
  EXPECT_EQ(factor(table, "id").codes[12], 5);
  EXPECT_EQ(numbers(table, "x")[0], 32.5);
}

TEST(ReadCsv, TabsByEnding) {
  const TemporaryFolder folder;

  const Table table = read_table(folder.file("t.tsv", "x\tg\n1\ta,b\n"));

  EXPECT_EQ(factor(table, "g").levels, Levels{"a,b"});
}

TEST(ReadCsv, FromAPipe) {
  const TemporaryFolder folder;
  const std::string path = folder / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(path) << "x,g\n1,a\n2,b\n"; });

  const Table table = read_table(path);
  writer.join();

  EXPECT_EQ(numbers(table, "x"), (Numeric{1, 2}));
}

TEST(ReadCsv, RaggedRowsSayTheLine) {
  EXPECT_EQ(csv_error("a,b,c\n1,2,3\n1,2\n"), "t.csv, line 3: expected 3 fields as in the header, found 2");
  EXPECT_EQ(csv_error("a,b\n1,2\n\n1,2,3\n"), "t.csv, line 4: expected 2 fields as in the header, found 3");
  EXPECT_EQ(csv_error("a,b,c\n1,2,3\n1,2"), "t.csv, line 3: expected 3 fields as in the header, found 2");
  EXPECT_EQ(csv_error("a,b\r\n\"x\r\ny\",2\r\n1,2,3\r\n"),
            "t.csv, line 4: expected 2 fields as in the header, found 3");
  EXPECT_EQ(csv_error("y\n1\n2,3\n"), "t.csv, line 3: expected 1 field as in the header, found 2");
}

TEST(ReadCsv, RaggedRowOfALargeFileSaysTheLine) {
  std::string text = "a,b\n";
  for (int i = 0; i < 3000000; ++i) text += "12,34\n";
  text += "12\n";

  EXPECT_EQ(csv_error(text), "t.csv, line 3000002: expected 2 fields as in the header, found 1");
}

TEST(ReadCsv, HeaderFaults) {
  EXPECT_EQ(csv_error("a,b,a\n1,2,3\n"), "t.csv: two columns have the name 'a'");
  EXPECT_EQ(csv_error("a,,b\n1,2,3\n"), "t.csv: column 2 has no name");
  EXPECT_EQ(csv_error(",X\n1,2\n"), "t.csv: two columns have the name 'X'");
  EXPECT_EQ(csv_error("a,b\n"), "t.csv has column names but no rows of data");
  EXPECT_EQ(csv_error("a,b\r\n\r\n"), "t.csv has column names but no rows of data");
  EXPECT_EQ(csv_error("a,b"), "t.csv has column names but no rows of data");
  EXPECT_EQ(csv_error("a;b\n1;2\n"), "t.csv: expected columns separated by commas, found the one column 'a;b'");
}

TEST(ReadCsv, NothingInTheFile) {
  EXPECT_EQ(csv_error(""), "t.csv is empty");
  EXPECT_EQ(csv_error("\n \r\n"), "t.csv is empty");
  EXPECT_EQ(csv_error("\xEF\xBB\xBF"), "t.csv is empty");
}

TEST(ReadCsv, NotText) {
  EXPECT_EQ(csv_error("g,y\na,1\ncaf\xE9,2\n"), "t.csv, line 3: expected text in UTF-8, found bytes that are not");
  EXPECT_EQ(csv_error(std::string("\xFF\xFEg\0,\0y\0\n\0", 10)),
            "t.csv: expected text in UTF-8, found UTF-16 (save it as UTF-8)");
  EXPECT_EQ(csv_error("PAR1xxxx"), "t.csv is not text: it begins as Parquet");
}

TEST(ReadCsv, QuoteThatIsNeverClosed) {
  EXPECT_EQ(csv_error("g,y\n\"a,1\nb,2\n"), "t.csv, line 2: expected 2 fields as in the header, found 1");
  EXPECT_EQ(csv_error("g,y\na,1\nb,\"2\n"), "t.csv: a quotation mark is never closed");
  EXPECT_EQ(csv_error("y,g\n1,a\n2,\"b\n3,c"), "t.csv: a quotation mark is never closed");
  EXPECT_EQ(csv_error("g\na\n\"b\nc\n"), "t.csv: a quotation mark is never closed");
}

TEST(ReadCsv, QuotesInsideAFieldAreItsText) {
  EXPECT_EQ(factor(read_csv_text("g,y\n5\" pipe,1\n3 pipe,2\n"), "g").levels, (Levels{"3 pipe", "5\" pipe"}));
  EXPECT_EQ(factor(read_csv_text("y,g\n1,5\"\n2,3"), "g").levels, (Levels{"3", "5\""}));
  EXPECT_EQ(factor(read_csv_text("y,g\n1,3\n2,5\""), "g").levels, (Levels{"3", "5\""}));
  EXPECT_EQ(factor(read_csv_text("g\n5\"\nb"), "g").levels, (Levels{"5\"", "b"}));
}

TEST(ReadCsv, LineBreaksInNamesDoNotBreakMessages) {
  EXPECT_EQ(csv_error("\"a\nb\",y\n1,2\n", {{"g"}}), "cannot make a factor: no column 'g' in t.csv (columns: a b, y)");
}

TEST(Read, FilesThatCannotBeOpened) {
  const TemporaryFolder folder;

  EXPECT_EQ(error_of(folder / "absent.csv"), "cannot read absent.csv: No such file or directory");
  ASSERT_EQ(::mkdir((folder / "dir.csv").c_str(), 0700), 0);
  EXPECT_EQ(error_of(folder / "dir.csv"), "cannot read dir.csv: it is a directory");
}

TEST(Read, FileWithoutPermission) {
  const TemporaryFolder folder;
  const std::string secret = folder.file("secret.csv", "x\n1\n");
  ASSERT_EQ(::chmod((folder / ".").c_str(), 0755), 0);
  ASSERT_EQ(::chmod(secret.c_str(), 0), 0);

  std::string message;
  {
    const testing::WithoutPrivileges rights;
    if (!rights.hold()) GTEST_SKIP() << "the superuser's rights cannot be given up here";
    message = error_of(secret);
  }

  EXPECT_EQ(message, "cannot read secret.csv: Permission denied");
}

/// A table with a column of each type that files in these formats can have.
std::shared_ptr<arrow::Table> all_types() {
  using arrow::TimeUnit;
  const auto chunked = [](const std::shared_ptr<arrow::Array>& a) { return std::make_shared<arrow::ChunkedArray>(a); };
  auto list_values = std::make_shared<arrow::DoubleBuilder>();
  arrow::ListBuilder list(arrow::default_memory_pool(), list_values);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(list.Append().ok() && list_values->Append(i).ok());
  return arrow_table({
      {"i8", chunk<arrow::Int8Builder, std::int8_t>(arrow::int8(), {-1, std::nullopt, 3})},
      {"u16", chunk<arrow::UInt16Builder, std::uint16_t>(arrow::uint16(), {1, 2, 65535})},
      {"i64", chunk<arrow::Int64Builder, std::int64_t>(arrow::int64(), {1, -2, std::nullopt})},
      {"id", chunk<arrow::UInt64Builder, std::uint64_t>(arrow::uint64(), {18446744073709551615U, 5, std::nullopt})},
      {"f32", chunk<arrow::FloatBuilder, float>(arrow::float32(), {0.5F, std::nullopt, 2.0F})},
      {"f64", chunk<arrow::DoubleBuilder, double>(arrow::float64(), {0.1, NAN, std::nullopt})},
      {"decimal", chunk<arrow::Decimal128Builder, arrow::Decimal128>(
                      arrow::decimal128(10, 2), {arrow::Decimal128(12345), arrow::Decimal128(-5), std::nullopt})},
      {"flag", chunk<arrow::BooleanBuilder, bool>(arrow::boolean(), {true, false, std::nullopt})},
      {"text", chunk<arrow::StringBuilder, std::string>(arrow::utf8(), {"2", "10", ""})},
      {"large", chunk<arrow::LargeStringBuilder, std::string>(arrow::large_utf8(), {"b", std::nullopt, "a"})},
      {"date", chunk<arrow::Date32Builder, std::int32_t>(arrow::date32(), {19754, std::nullopt, 19722})},
      {"time", chunk<arrow::TimestampBuilder, std::int64_t>(arrow::timestamp(TimeUnit::MILLI),
                                                            {1704103200000, 1704099600000, std::nullopt})},
      {"size", chunked(dictionary({"small", "large", "unused", "huge"}, {1, std::nullopt, 3}, false))},
      {"grade", chunked(dictionary({"low", "mid", "high"}, {2, 0, 1}, true))},
      {"nothing", chunked(arrow::MakeArrayOfNull(arrow::null(), 3).ValueOrDie())},
      {"traces", chunked(list.Finish().ValueOrDie())},
  });
}

void expect_all_types(const Table& table) {
  ASSERT_EQ(table.rows, 3U);
  EXPECT_EQ(numbers(table, "i8")[0], -1);
  EXPECT_TRUE(std::isnan(numbers(table, "i8")[1]));
  EXPECT_EQ(numbers(table, "u16")[2], 65535);
  EXPECT_EQ(numbers(table, "i64")[1], -2);
  EXPECT_EQ(factor(table, "id").levels, (Levels{"5", "18446744073709551615"}));
  EXPECT_EQ(factor(table, "id").codes, (Codes{1, 0, -1}));
  EXPECT_EQ(numbers(table, "f32")[0], 0.5);
  EXPECT_EQ(numbers(table, "f64")[0], 0.1);
  EXPECT_TRUE(std::isnan(numbers(table, "f64")[1]));
  EXPECT_TRUE(std::isnan(numbers(table, "f64")[2]));
  EXPECT_EQ(numbers(table, "decimal")[0], 123.45);
  EXPECT_EQ(numbers(table, "decimal")[1], -0.05);
  EXPECT_TRUE(std::isnan(numbers(table, "decimal")[2]));
  EXPECT_EQ(factor(table, "flag").levels, (Levels{"FALSE", "TRUE"}));
  EXPECT_EQ(factor(table, "flag").codes, (Codes{1, 0, -1}));
  EXPECT_EQ(factor(table, "text").levels, (Levels{"10", "2"}));  // text by its type: not numbers
  EXPECT_EQ(factor(table, "text").codes, (Codes{1, 0, -1}));
  EXPECT_EQ(factor(table, "large").levels, (Levels{"a", "b"}));
  EXPECT_EQ(factor(table, "date").levels, (Levels{"2023-12-31", "2024-02-01"}));
  EXPECT_EQ(factor(table, "date").codes, (Codes{1, -1, 0}));
  EXPECT_EQ(factor(table, "time").levels, (Levels{"2024-01-01 09:00:00.000", "2024-01-01 10:00:00.000"}));
  EXPECT_EQ(factor(table, "size").levels, (Levels{"small", "large", "unused", "huge"}));
  EXPECT_EQ(factor(table, "size").codes, (Codes{1, -1, 3}));
  EXPECT_FALSE(factor(table, "size").ordered);
  EXPECT_EQ(factor(table, "grade").levels, (Levels{"low", "mid", "high"}));
  EXPECT_EQ(factor(table, "grade").codes, (Codes{2, 0, 1}));
  EXPECT_TRUE(factor(table, "grade").ordered);
  EXPECT_TRUE(std::isnan(numbers(table, "nothing")[0]));
  EXPECT_EQ(table.find("traces"), nullptr);
  ASSERT_EQ(table.unreadable.size(), 1U);
  EXPECT_EQ(table.unreadable[0].first, "traces");
}

TEST(ReadParquet, EveryType) {
  const TemporaryFolder folder;
  write_parquet(folder / "t.parquet", *all_types());

  expect_all_types(read_table(folder / "t.parquet"));
}

TEST(ReadIpc, EveryType) {
  const TemporaryFolder folder;
  write_ipc(folder / "t.arrow", *all_types());
  write_ipc(folder / "t.feather", *all_types());
  write_ipc(folder / "t.arrows", *all_types(), true);

  expect_all_types(read_table(folder / "t.arrow"));
  expect_all_types(read_table(folder / "t.feather"));
  expect_all_types(read_table(folder / "t.arrows"));
}

TEST(Read, FormatByFirstBytes) {
  const TemporaryFolder folder;
  write_parquet(folder / "one", *all_types());
  write_ipc(folder / "two", *all_types());
  write_ipc(folder / "three", *all_types(), true);

  expect_all_types(read_table(folder / "one"));
  expect_all_types(read_table(folder / "two"));
  expect_all_types(read_table(folder / "three"));
  EXPECT_EQ(numbers(read_table(folder.file("four", "x\n1\n")), "x"), Numeric{1});
}

TEST(ReadParquet, EndingWithoutRegardToCase) {
  const TemporaryFolder folder;
  write_parquet(folder / "T.PARQUET", *all_types());

  expect_all_types(read_table(folder / "T.PARQUET"));
}

TEST(ReadIpc, DictionariesThatDifferBetweenBatchesAreJoined) {
  const TemporaryFolder folder;
  const auto column = std::make_shared<arrow::ChunkedArray>(
      arrow::ArrayVector{dictionary({"b", "a"}, {0, 1}, false), dictionary({"c", "a"}, {0, 1}, false)});
  write_ipc(folder / "t.arrow", *arrow_table({{"g", column}}));

  const Table table = read_table(folder / "t.arrow");

  EXPECT_EQ(factor(table, "g").levels, (Levels{"b", "a", "c"}));
  EXPECT_EQ(factor(table, "g").codes, (Codes{0, 1, 2, 1}));
}

TEST(Read, TablesWithoutRowsOrWithEqualNames) {
  const TemporaryFolder folder;
  write_parquet(folder / "empty.parquet", *all_types()->Slice(0, 0));
  const auto x = chunk<arrow::DoubleBuilder, double>(arrow::float64(), {1.0});
  write_ipc(folder / "twice.arrow", *arrow_table({{"x", x}, {"x", x}}));

  EXPECT_EQ(error_of(folder / "empty.parquet"), "empty.parquet has column names but no rows of data");
  EXPECT_EQ(error_of(folder / "twice.arrow"), "twice.arrow: two columns have the name 'x'");
}

TEST(Read, FilesThatAreNotWhatTheirEndingSays) {
  const TemporaryFolder folder;
  const std::string csv = "x\n1\n";

  EXPECT_EQ(error_of(folder.file("t.parquet", csv)),
            "t.parquet is not a Parquet file: expected the bytes PAR1 at its start");
  EXPECT_EQ(error_of(folder.file("t.arrow", csv)),
            "t.arrow is not an Arrow IPC file: expected the bytes ARROW1 at its start");
  EXPECT_EQ(
      error_of(folder.file("old.feather", "FEA1....")),
      "old.feather is Feather version 1: expected version 2 or Arrow IPC (write it again with a current library)");
}

/// Every damage gives a DataError or, where it hit unimportant bytes, a table; never anything else.
void expect_damage_is_survived(const std::string& good, const std::string& name) {
  const TemporaryFolder folder;
  int refused = 0;
  const auto try_bytes = [&](const std::string& bytes) {
    try {
      static_cast<void>(read_table(folder.file(name, bytes)));
    } catch (const DataError& e) {
      ++refused;
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    }
  };
  for (std::size_t cut = 4; cut < good.size(); cut += 1 + good.size() / 60) try_bytes(good.substr(0, cut));
  EXPECT_GT(refused, 50) << "a file cut short is refused";
  for (std::size_t at = 8; at < good.size(); at += 1 + good.size() / 400) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x5A);
    try_bytes(bytes);
  }
}

TEST(ReadParquet, DamagedFiles) {
  const TemporaryFolder folder;
  write_parquet(folder / "t.parquet", *all_types());

  expect_damage_is_survived(testing::content_of(folder / "t.parquet"), "t.parquet");
}

TEST(ReadIpc, DamagedFiles) {
  const TemporaryFolder folder;
  write_ipc(folder / "t.arrow", *all_types());

  expect_damage_is_survived(testing::content_of(folder / "t.arrow"), "t.arrow");
}

TEST(ReadCsv, InstEval) {
  const std::string path = BATCHLMM_SHARED "/reference/insteval.csv";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";

  const Table table = read_table(path, {{"s", "d"}});

  EXPECT_EQ(table.rows, 73421U);
  EXPECT_EQ(factor(table, "s").levels.size(), 2972U);
  EXPECT_EQ(factor(table, "d").levels.size(), 1128U);
}

}  // namespace
}  // namespace batchlmm
