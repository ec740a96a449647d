/// @file
/// A bootstrap's statistics counted in bins while they come, so that none is kept.
#pragma once

#include <cstdint>
#include <vector>

#include "host/batch/replicates.hpp"

namespace batchlmm {

/// Bins of equal width from 0 to a bound that is fixed before the first replicate: the larger one of the chi-square's
/// 99.9 % point and a little more than the observed statistic, but not more than four times the former.
class StatisticHistogram {
public:
  StatisticHistogram() = default;
  /// @param bins  at least 1
  /// @param df    of the chi-square, at least 1
  StatisticHistogram(int bins, int df, double observed);
  /// Counts the used replicates.
  void add(const ReplicateBlock& block);

  [[nodiscard]] const std::vector<double>& edges() const { return edges_; }  ///< bins + 1
  /// Statistics in the bins [edge i, edge i + 1); those that are exactly 0 are in `zeros` alone.
  [[nodiscard]] const std::vector<std::uint64_t>& counts() const { return counts_; }
  [[nodiscard]] std::uint64_t zeros() const { return zeros_; }
  [[nodiscard]] std::uint64_t above() const { return above_; }  ///< at or beyond the last edge
  [[nodiscard]] std::uint64_t total() const { return total_; }

private:
  std::vector<double> edges_;
  std::vector<std::uint64_t> counts_;
  std::uint64_t zeros_ = 0, above_ = 0, total_ = 0;
};

}  // namespace batchlmm
