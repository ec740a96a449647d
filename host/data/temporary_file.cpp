#include "host/data/temporary_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

std::string system_reason(int error) { return std::generic_category().message(error); }

}  // namespace

void cannot_write(const std::string& path, const std::string& reason) {
  throw OutputError("cannot write " + path + ": " + reason);
}

TemporaryFile::TemporaryFile(std::string target) : target_(std::move(target)) {
  std::error_code ignored;
  if (const auto real = std::filesystem::canonical(target_, ignored); !ignored)
    resolved_ = real;
  else
    resolved_ = target_;
  if (std::filesystem::is_directory(resolved_, ignored)) cannot_write(target_, "it is a directory");
  if (std::filesystem::exists(resolved_, ignored) && ::faccessat(AT_FDCWD, resolved_.c_str(), W_OK, AT_EACCESS) != 0)
    cannot_write(target_, system_reason(errno));
  const std::string stem = (resolved_.parent_path() / ("." + resolved_.filename().string())).string();
  for (int attempt = 0; fd_ < 0; ++attempt) {
    name_ = stem + ".part" + std::to_string(::getpid()) + "-" + std::to_string(attempt);
    fd_ = ::open(name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno != EEXIST) cannot_write(target_, system_reason(errno));
  }
}

TemporaryFile::~TemporaryFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!committed_) ::unlink(name_.c_str());
}

void TemporaryFile::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) cannot_write(target_, system_reason(errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

int TemporaryFile::release() { return std::exchange(fd_, -1); }

void TemporaryFile::finish() {
  // Some file systems report a full disk only when the file is closed.
  if (fd_ >= 0 && ::close(std::exchange(fd_, -1)) != 0) cannot_write(target_, system_reason(errno));
}

void TemporaryFile::commit() {
  finish();
  if (::rename(name_.c_str(), resolved_.c_str()) != 0) cannot_write(target_, system_reason(errno));
  committed_ = true;
}

void write_text_file(const std::string& path, std::string_view text) {
  TemporaryFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace batchlmm
