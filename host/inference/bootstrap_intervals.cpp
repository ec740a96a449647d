#include "host/inference/bootstrap_intervals.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/math/distributions/normal.hpp>
#include <cmath>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

constexpr std::array<const char*, 6> kind_names{"percentile", "basic", "normal", "studentized", "bca", "shortest"};
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

double normal_quantile(double p) { return boost::math::quantile(boost::math::normal(), p); }
double normal_share(double z) { return boost::math::cdf(boost::math::normal(), z); }
double normal_density(double z) { return boost::math::pdf(boost::math::normal(), z); }

/// The sum with the rounding errors of its steps (Neumaier 1974).
template <class Term>
double sum(const std::vector<double>& values, const Term& term) {
  double total = 0, lost = 0;
  for (const double value : values) {
    const double t = term(value), next = total + t;
    lost += std::abs(total) >= std::abs(t) ? (total - next) + t : (t - next) + total;
    total = next;
  }
  return total + lost;
}

/// The shortest of the intervals that hold `count` of the values in order.
std::array<double, 2> shortest(const std::vector<double>& sorted, std::size_t count) {
  std::size_t best = 0;
  for (std::size_t i = 1; i + count <= sorted.size(); ++i)
    if (sorted[i + count - 1] - sorted[i] < sorted[best + count - 1] - sorted[best]) best = i;
  return {sorted[best], sorted[best + count - 1]};
}

std::size_t covering(std::size_t replicates, double level) {
  return static_cast<std::size_t>(std::ceil(static_cast<double>(replicates) * level));
}

Interval too_few(const ReplicateSample& sample, double level) {
  Interval out;
  out.missing = fmt::format("{} replicates of {} needed", sample.size(), fewest_replicates(level));
  return out;
}

}  // namespace

const char* interval_kind_name(IntervalKind kind) { return kind_names.at(static_cast<std::size_t>(kind)); }

IntervalKind interval_kind_of_name(const std::string& name) {
  const std::string known = name == "perc"   ? "percentile"
                            : name == "norm" ? "normal"
                            : name == "stud" ? "studentized"
                                             : name;
  for (std::size_t i = 0; i < kind_names.size(); ++i)
    if (known == kind_names.at(i)) return static_cast<IntervalKind>(i);
  throw InputError("--interval: expected percentile, basic, normal, studentized, bca, shortest or all, found '" + name +
                   "'");
}

std::size_t fewest_replicates(double level) {
  // As `reaches` has it, rounding included.
  return static_cast<std::size_t>(std::ceil(2 / (1 - level) * (1 - 1e-12))) - 1;
}

ReplicateSample::ReplicateSample(std::vector<double> values) : sorted_(std::move(values)) {
  sorted_.erase(std::remove_if(sorted_.begin(), sorted_.end(), [](double v) { return !std::isfinite(v); }),
                sorted_.end());
  const auto n = static_cast<double>(sorted_.size());
  mean_ = sum(sorted_, [](double v) { return v; }) / n;
  const auto moment = [&](int power) {
    return sum(sorted_, [&](double v) {
      const double d = v - mean_;
      return power == 2 ? d * d : power == 3 ? d * d * d : d * d * d * d;
    });
  };
  const double second = moment(2) / n;
  variance_ = second * n / (n - 1);
  skewness_ = moment(3) / n / (second * std::sqrt(second));
  kurtosis_ = moment(4) / n / (second * second);
  if (!std::is_sorted(sorted_.begin(), sorted_.end())) std::sort(sorted_.begin(), sorted_.end());
}

bool ReplicateSample::reaches(double p) const {
  const double rank = static_cast<double>(size() + 1) * p, slack = 1e-9;
  return rank >= 1 - slack && rank <= static_cast<double>(size()) + slack;
}

double ReplicateSample::quantile(double p) const {
  if (sorted_.empty()) return not_a_number;
  const auto n = static_cast<double>(size());
  const double rank = (n + 1) * p, whole = std::floor(rank + 1e-9);
  if (whole < 1) return sorted_.front();
  if (whole >= n) return sorted_.back();
  const auto k = static_cast<std::size_t>(whole);
  const double below = sorted_[k - 1], above = sorted_[k];
  if (rank - whole <= 1e-9 || below == above) return below;
  const double a = normal_quantile(whole / (n + 1)), b = normal_quantile((whole + 1) / (n + 1));
  return below + (normal_quantile(p) - a) / (b - a) * (above - below);
}

double ReplicateSample::quantile_slope(double p) const {
  const auto n = static_cast<double>(size());
  if (n < 2) return not_a_number;
  // At least one rank to each side, as far as there are ranks.
  const double half = std::max(std::sqrt(p * (1 - p) / n), 1 / (n + 1));
  const double low = std::max(p - half, 1 / (n + 1)), high = std::min(p + half, n / (n + 1));
  return high > low ? (quantile(high) - quantile(low)) / (high - low) : not_a_number;
}

double ReplicateSample::quantile_error(double p) const {
  return std::sqrt(p * (1 - p) / static_cast<double>(size())) * quantile_slope(p);
}

double ReplicateSample::share_below(double value) const {
  const auto [first, last] = std::equal_range(sorted_.begin(), sorted_.end(), value);
  return (static_cast<double>(first - sorted_.begin()) + 0.5 * static_cast<double>(last - first)) /
         static_cast<double>(size());
}

Interval percentile_interval(const ReplicateSample& sample, double level) {
  const double tail = 0.5 * (1 - level);
  if (!sample.reaches(tail)) return too_few(sample, level);
  return {sample.quantile(tail),
          sample.quantile(1 - tail),
          sample.quantile_error(tail),
          sample.quantile_error(1 - tail),
          {}};
}

Interval basic_interval(const ReplicateSample& sample, double estimate, double level) {
  Interval p = percentile_interval(sample, level);
  if (!p.missing.empty()) return p;
  return {2 * estimate - p.high, 2 * estimate - p.low, p.high_error, p.low_error, {}};
}

Interval normal_interval(const ReplicateSample& sample, double estimate, double level) {
  if (sample.size() < 2) return too_few(sample, level);
  const double z = normal_quantile(0.5 * (1 + level)), sd = std::sqrt(sample.variance()),
               center = 2 * estimate - sample.mean();
  // Of mean and standard deviation together: var(s) = s^2 (kurtosis - 1) / 4B, cov(mean, s) = s^2 skewness / 2B.
  const auto error = [&](double side) {
    const double v = 1 + 0.25 * z * z * (sample.kurtosis() - 1) - side * z * sample.skewness();
    return sd * std::sqrt(std::max(v, 0.0) / static_cast<double>(sample.size()));
  };
  return {center - z * sd, center + z * sd, error(-1), error(1), {}};
}

Interval studentized_interval(const ReplicateSample& studentized, double estimate, double se, double level) {
  Interval p = percentile_interval(studentized, level);
  if (!p.missing.empty()) return p;
  return {estimate - se * p.high, estimate - se * p.low, se * p.high_error, se * p.low_error, {}};
}

Interval bca_interval(const ReplicateSample& sample, double estimate, double acceleration, double level) {
  Interval out;
  const double below = sample.share_below(estimate), n = static_cast<double>(sample.size());
  if (!(below > 0 && below < 1)) {
    out.missing = "all replicates lie on one side of the estimate";
    return out;
  }
  if (!std::isfinite(acceleration)) {
    out.missing = "no acceleration at this estimate";
    return out;
  }
  const double z0 = normal_quantile(below);
  double ends[2] = {0, 0}, errors[2] = {0, 0};
  for (int side = 0; side < 2; ++side) {
    const double z = z0 + normal_quantile(side == 0 ? 0.5 * (1 - level) : 0.5 * (1 + level)),
                 scale = 1 - acceleration * z, adjusted = z0 + z / scale, p = normal_share(adjusted);
    if (!(scale > 0) || !sample.reaches(p)) {
      const double tail = std::min(p, 1 - p);
      out.missing = scale > 0 && tail > 1e-9 ? fmt::format("its ends need {:.0f} replicates, found {}",
                                                           std::ceil(1 / tail) - 1, sample.size())
                                             : "the acceleration is too large";
      return out;
    }
    ends[side] = sample.quantile(p);
    // The end moves with the replicates' quantile and, through z0, with their share below the estimate.
    const double by_share = (1 + 1 / (scale * scale)) * normal_density(adjusted) / normal_density(z0);
    const double variance =
        by_share * by_share * below * (1 - below) + p * (1 - p) - 2 * by_share * (std::min(below, p) - below * p);
    errors[side] = sample.quantile_slope(p) * std::sqrt(std::max(variance, 0.0) / n);
  }
  return {ends[0], ends[1], errors[0], errors[1], {}};
}

Interval shortest_interval(const ReplicateSample& sample, const std::vector<double>& values, double level) {
  constexpr std::size_t parts = 20;
  if (!sample.reaches(0.5 * (1 - level))) return too_few(sample, level);
  const auto [low, high] = shortest(sample.sorted(), covering(sample.size(), level));
  Interval out{low, high, Interval::none, Interval::none, {}};
  std::vector<double> finite;
  for (const double v : values)
    if (std::isfinite(v)) finite.push_back(v);
  const std::size_t length = finite.size() / parts;
  if (length < 2 || covering(length, level) >= length) return out;
  std::vector<double> lows, highs;
  for (std::size_t part = 0; part < parts; ++part) {
    const auto begin = finite.begin() + static_cast<std::ptrdiff_t>(part * length);
    const ReplicateSample some(std::vector<double>(begin, begin + static_cast<std::ptrdiff_t>(length)));
    const auto ends = shortest(some.sorted(), covering(length, level));
    lows.push_back(ends[0]);
    highs.push_back(ends[1]);
  }
  const double rate = std::cbrt(static_cast<double>(parts));
  out.low_error = std::sqrt(ReplicateSample(lows).variance()) / rate;
  out.high_error = std::sqrt(ReplicateSample(highs).variance()) / rate;
  return out;
}

}  // namespace batchlmm
