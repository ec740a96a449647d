/// @file
/// When a bootstrap test has seen enough: rules that look at the counts after each replicate, in the replicates' order,
/// so that the last replicate does not depend on how the work is divided.
#pragma once

#include <cstdint>

namespace batchlmm {

/// Both rules may be set: the first that is met ends the run.
struct StoppingRule {
  /// Besag & Clifford (1991, Biometrika 78): ends with the replicate that makes the count of extreme ones this; 0: no
  /// such rule.
  std::uint64_t extremes = 0;
  /// Ends with the first replicate, not before `fewest_used`, at which the relative standard error of the p-value
  /// p = (1 + extreme) / (1 + used), sqrt((1 - p) / (p used)), is below this; 0: no such rule.
  double precision = 0;
  static constexpr std::uint64_t fewest_used = 100;

  [[nodiscard]] bool is_set() const { return extremes > 0 || precision > 0; }
  [[nodiscard]] bool enough_extremes(std::uint64_t extreme) const { return extremes > 0 && extreme >= extremes; }
  /// @param used, extreme  counts up to and with a replicate
  [[nodiscard]] bool met(std::uint64_t used, std::uint64_t extreme) const {
    if (enough_extremes(extreme)) return true;
    if (precision <= 0 || used < fewest_used) return false;
    // (1 - p) / (p used) = (used - extreme) / ((1 + extreme) used)
    const auto n = static_cast<double>(used), x = static_cast<double>(extreme);
    return n - x < precision * precision * (1 + x) * n;
  }
};

}  // namespace batchlmm
