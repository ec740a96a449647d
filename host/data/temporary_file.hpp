/// @file
/// Files that are there whole or not at all: written under another name and renamed.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace batchlmm {

/// A file of its own beside the target, renamed to it by `commit` and removed without.
class TemporaryFile {
public:
  /// Creates the file. Through a symbolic link the file that it points to will be replaced, not the link.
  /// @throws OutputError with the target's path and the system's reason
  explicit TemporaryFile(std::string target);
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile();

  /// Writes all of `text`. @throws OutputError
  void write(std::string_view text);

  /// Hands the descriptor over: whoever gets it closes it.
  [[nodiscard]] int release();

  /// Closes the file where that was not handed over: after it `commit` only renames. @throws OutputError
  void finish();

  /// `finish`, and puts the file in its place. @throws OutputError
  void commit();

private:
  std::string target_;
  std::filesystem::path resolved_;
  std::string name_;
  int fd_ = -1;
  bool committed_ = false;
};

/// Writes a text file at once. @throws OutputError; what was at `path` before then stays
void write_text_file(const std::string& path, std::string_view text);

/// @throws OutputError "cannot write PATH: REASON"
[[noreturn]] void cannot_write(const std::string& path, const std::string& reason);

}  // namespace batchlmm
