#include "host/data/table.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "batchlmm/error.hpp"
#include "host/data/missing.hpp"

namespace batchlmm {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Table politeness_like() {
  Table table;
  table.source = "politeness.csv";
  table.rows = 4;
  table.columns.push_back({"subject", Factor{{"F1", "M2"}, {0, 0, 1, -1}}});
  table.columns.push_back({"frequency", Numeric{213.3, kNaN, 204.5, 190}});
  table.columns.push_back({"scenario", Numeric{1, 2, 3, 4}});
  table.unreadable.emplace_back("recordings", "list<item: double>");
  return table;
}

std::string message_for(const std::string& name) {
  try {
    static_cast<void>(politeness_like().at(name));
  } catch (const DataError& e) {
    return e.what();
  }
  return "found";
}

TEST(Table, FindsColumnsByName) {
  const Table table = politeness_like();

  ASSERT_NE(table.find("frequency"), nullptr);
  EXPECT_EQ(table.find("frequency"), &table.columns[1]);
  EXPECT_EQ(&table.at("subject"), table.columns.data());
  EXPECT_TRUE(table.at("subject").is_factor());
  EXPECT_FALSE(table.at("frequency").is_factor());
  EXPECT_EQ(table.find("Frequency"), nullptr);
}

TEST(Table, MissingColumnNamesTheNearestAndAll) {
  EXPECT_EQ(
      message_for("frequncy"),
      "no column 'frequncy' in politeness.csv; did you mean 'frequency'? (columns: subject, frequency, scenario)");
  EXPECT_EQ(message_for("SUBJECT"),
            "no column 'SUBJECT' in politeness.csv; did you mean 'subject'? (columns: subject, frequency, scenario)");
  EXPECT_EQ(message_for("weight"), "no column 'weight' in politeness.csv (columns: subject, frequency, scenario)");
}

TEST(Table, MissingColumnThatWasLeftOutSaysItsType) {
  EXPECT_EQ(
      message_for("recordings"),
      "column 'recordings' of politeness.csv is neither numeric nor categorical (its type is list<item: double>)");
}

TEST(Table, MissingColumnAmongManyListsTwenty) {
  Table table;
  table.source = "wide.csv";
  for (int i = 0; i < 23; ++i) table.columns.push_back({"gene" + std::to_string(i), Numeric{}});

  const std::string message = missing_column_message(table, "y");

  EXPECT_NE(message.find("gene19, and 3 more)"), std::string::npos) << message;
  EXPECT_EQ(message.find("gene20"), std::string::npos) << message;
}

TEST(CompleteCases, AreRowsWithoutMissingValues) {
  const Table table = politeness_like();
  using Rows = std::vector<std::size_t>;

  EXPECT_EQ(complete_cases(table, {"frequency", "subject"}), (Rows{0, 2}));
  EXPECT_EQ(complete_cases(table, {"subject"}), (Rows{0, 1, 2}));
  EXPECT_EQ(complete_cases(table, {"scenario"}), (Rows{0, 1, 2, 3}));
  EXPECT_EQ(complete_cases(table, {}), (Rows{0, 1, 2, 3}));
  EXPECT_THROW(complete_cases(table, {"weight"}), DataError);
}

}  // namespace
}  // namespace batchlmm
