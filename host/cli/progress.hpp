/// @file
/// A line of progress on the terminal.
#pragma once

#include <chrono>
#include <cstdint>

namespace batchlmm::cli {

/// Shows count, rate and time left on standard error while it lives, if that is a terminal; nothing otherwise.
/// Calls must not overlap.
class Progress {
public:
  Progress();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  Progress(Progress&&) = delete;
  Progress& operator=(Progress&&) = delete;

  [[nodiscard]] bool shown() const { return terminal_; }
  /// @param done  replicates finished so far, of `total`
  void update(std::uint64_t done, std::uint64_t total);

private:
  using Clock = std::chrono::steady_clock;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point start_;
  Clock::time_point last_;
};

}  // namespace batchlmm::cli
