/// @file
/// The size at which a power curve reaches its target, and how uncertain it is.
#pragma once

#include <optional>
#include <span>

namespace batchlmm::study {

struct PowerPoint {
  double x = 0, rate = 0, mcse = 0;
};

struct RequiredSize {
  double x = 0;  ///< where the curve reaches the target
  double low = 0,
         high = 0;  ///< 95 %: where the curve shifted by 1.96 standard errors up and down does; infinite where not
  bool at_first = false;  ///< the first point is above the target already: x is an upper bound
};

/// By interpolation on the probit scale between the neighbours where the curve first crosses the target.
/// @param points  by ascending x
/// @return none where no point reaches the target
std::optional<RequiredSize> required_size(std::span<const PowerPoint> points, double target);

}  // namespace batchlmm::study
