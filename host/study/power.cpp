#include "host/study/power.hpp"

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <limits>

namespace batchlmm::study {
namespace {

double probit(double p) {
  constexpr double edge = 1e-6;
  return boost::math::quantile(boost::math::normal(), std::clamp(p, edge, 1 - edge));
}

/// Where the curve, shifted by so many standard errors, first reaches the target.
double crossing(std::span<const PowerPoint> points, double target, double shift) {
  const auto rate = [&](std::size_t i) { return std::clamp(points[i].rate + shift * points[i].mcse, 0.0, 1.0); };
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (rate(i) < target) continue;
    if (i == 0) return points[0].x;
    const double a = probit(rate(i - 1)), b = probit(rate(i));
    return points[i - 1].x + (points[i].x - points[i - 1].x) * (b > a ? (probit(target) - a) / (b - a) : 1.0);
  }
  return std::numeric_limits<double>::infinity();
}

}  // namespace

std::optional<RequiredSize> required_size(std::span<const PowerPoint> points, double target) {
  constexpr double z = 1.959963984540054;
  RequiredSize out;
  out.x = crossing(points, target, 0);
  if (out.x == std::numeric_limits<double>::infinity()) return {};
  out.low = crossing(points, target, z);
  out.high = crossing(points, target, -z);
  out.at_first = points.front().rate >= target;
  return out;
}

}  // namespace batchlmm::study
