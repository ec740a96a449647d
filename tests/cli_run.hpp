/// @file
/// Runs the program as a user does, in a folder of its own.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace batchlmm::tests {

namespace fs = std::filesystem;
using nlohmann::json;
using Strings = std::vector<std::string>;

inline const std::string politeness = BATCHLMM_TEST_DATA "/politeness.csv";
inline const std::string model_1 = "frequency ~ attitude + (1|subject) + (1|scenario)";
inline const std::string model_2 = "frequency ~ attitude + gender + (1|subject) + (1|scenario)";
inline const std::string model_0 = "frequency ~ gender + (1|subject) + (1|scenario)";

struct Outcome {
  int code = -1;
  std::string out;
  std::string err;
};

inline std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

/// Every test has a folder of its own, which is also the working directory of the program.
class Cli : public testing::Test {
protected:
  void SetUp() override {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    std::string pattern = fs::temp_directory_path() / (std::string("batchlmm-") + info->name() + "-XXXXXX");
    std::replace(pattern.begin() + static_cast<std::ptrdiff_t>(fs::temp_directory_path().string().size()) + 1,
                 pattern.end(), '/', '-');
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    fs::create_directory(folder_ / "work");
  }
  void TearDown() override { fs::remove_all(folder_); }

  Outcome run(const Strings& arguments, const std::string& redirection = "") const {
    std::string command = "cd " + quoted((folder_ / "work").string()) + " && " + quoted(BATCHLMM_CLI);
    for (const auto& argument : arguments) command += " " + quoted(argument);
    const fs::path out = folder_ / "out";
    const fs::path err = folder_ / "err";
    command += (redirection.empty() ? " >" + quoted(out.string()) : " " + redirection) + " 2>" + quoted(err.string());
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, redirection.empty() ? contents(out) : "", contents(err)};
  }

  /// Runs and expects success. @return standard output
  std::string good(const Strings& arguments) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  }

  /// Bad usage or bad input: exit code 2, one line on standard error (a fault in a formula adds the formula and a
  /// caret under the place), nothing on standard output, no file. @return standard error
  std::string refused(const Strings& arguments) const {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.err << outcome.out;
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(outcome.err.starts_with("batchlmm: ")) << outcome.err;
    EXPECT_TRUE(outcome.err.ends_with("\n")) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), has_caret(outcome.err) ? 3 : 1) << outcome.err;
    EXPECT_TRUE(fs::is_empty(folder_ / "work"));
    return outcome.err;
  }

  static bool has_caret(const std::string& err) {
    if (!err.ends_with("^\n")) return false;
    const auto line = err.rfind('\n', err.size() - 2);
    return line != std::string::npos && err.find_first_not_of(' ', line + 1) == err.size() - 2;
  }

  /// A fault in a formula, shown with a caret under the byte at `position`.
  void refused_at(const std::string& formula, std::size_t position) const {
    const std::string err = refused({"fit", formula, politeness});
    EXPECT_TRUE(err.ends_with("\n" + formula + "\n" + std::string(position, ' ') + "^\n")) << err;
  }

  std::string table(const std::string& text) const {
    const fs::path path = folder_ / "table.csv";
    std::ofstream(path) << text;
    return path.string();
  }
  fs::path work() const { return folder_ / "work"; }

private:
  fs::path folder_;
};

inline void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "expected: " << part << "\nin:\n" << text;
}

}  // namespace batchlmm::tests
