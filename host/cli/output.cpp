#include "host/cli/output.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "batchlmm/error.hpp"
#include "host/cli/arguments.hpp"
#include "host/data/write.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm::cli {

bool write_standard_output(const std::string& text) {
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  const int write_error = errno;
  // Some file systems report a full disk only when the file is closed.
  const bool closed = std::fclose(stdout) == 0;
  if (written && closed) return true;
  const int error = written ? errno : write_error;
  std::fprintf(stderr, "batchlmm: cannot write to standard output: %s\n", std::strerror(error));
  return false;
}

void warn(const std::string& message) { std::fprintf(stderr, "batchlmm: warning: %s\n", on_one_line(message).c_str()); }

std::string put_table(const Table& table, const std::string& out) {
  if (out.empty()) return table_csv(table);
  write_table(out, table);
  return {};
}

namespace {

/// @throws OutputError where no file can be made under `path`
void check_writable(const std::string& option, const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) {
    throw OutputError(option + ": cannot write '" + path + "': it is a folder");
  }
  const std::string probe = path + ".probe-" + std::to_string(getpid());
  const int file = open(probe.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) throw OutputError(option + ": cannot write '" + path + "': " + std::strerror(errno));
  close(file);
  unlink(probe.c_str());
}

}  // namespace

void check_output_file(const std::string& path) {
  const bool known = path.ends_with(".parquet") || path.ends_with(".csv") || path.ends_with(".arrow");
  if (!known) throw OutputError("--out: expected a file ending in .parquet, .csv or .arrow, found '" + path + "'");
  check_writable("--out", path);
}

void check_plot_file(const std::string& path, const std::string& option) {
  if (!path.ends_with(".svg")) throw OutputError(option + ": expected a file ending in .svg, found '" + path + "'");
  check_writable(option, path);
}

}  // namespace batchlmm::cli
