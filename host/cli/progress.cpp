#include "host/cli/progress.hpp"

#include <unistd.h>

#include <cinttypes>
#include <cstdio>

namespace batchlmm::cli {

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1), start_(Clock::now()), last_(start_) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::update(std::uint64_t done, std::uint64_t total) {
  if (!terminal_) return;
  const auto now = Clock::now();
  if (now - last_ < std::chrono::milliseconds(200)) return;  // short work shows nothing
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = static_cast<double>(done) / seconds;
  const double left = rate > 0 ? static_cast<double>(total - done) / rate : 0;
  std::fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " replicates, %.0f per second, %.0f s left\033[K", done, total, rate,
               left);
  drawn_ = true;
}

}  // namespace batchlmm::cli
