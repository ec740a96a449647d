#include "host/inference/profile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/special_functions/erf.hpp>
#include <boost/math/special_functions/gamma.hpp>
#include <chrono>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>

#include "batchlmm/error.hpp"
#include "host/model/check_model.hpp"

namespace batchlmm {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Points a profile has on each side of its estimate, about.
constexpr double points_a_side = 8;
/// A deviance this much below the estimates' is a lower minimum, not rounding.
constexpr double lower = 1e-6;

/// The range of a parameter, open at infinities and at sigma = 0.
struct Range {
  double low = -infinity, high = infinity;
};
Range range_of(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::sd:
      return {0, infinity};
    case ParameterKind::correlation:
      return {-1, 1};
    case ParameterKind::sigma:
    case ParameterKind::fixed:
      break;
  }
  return {};
}

double value_of(const Parameter& parameter, const ParameterState& state) {
  return parameter_value(parameter, state.beta, state.lambda, state.sigma);
}

/// A minimum below the estimates' was found on the way.
struct LowerMinimum {
  ParameterState state;
};

/// Walks along one parameter.
class Walk {
public:
  Walk(const Parameter& parameter, HeldParameter& held, const HeldMinimum& estimate, double quantile, double cutoff,
       double first_step)
      : held_(held),
        smallest_(estimate.deviance),
        quantile_(quantile),
        cutoff_(cutoff),
        spacing_(cutoff / points_a_side),
        range_(range_of(parameter.kind)),
        positive_(parameter.kind == ParameterKind::sigma),
        longest_step_(parameter.kind == ParameterKind::correlation ? 0.1 : infinity),
        first_step_(first_step) {
    result_.parameter = parameter;
    result_.estimate = value_of(parameter, estimate.state);
    origin_ = {result_.estimate, 0, nan, estimate.deviance, estimate.certified, estimate.state};
  }

  ParameterProfile run(int& evaluations) {
    if (std::isnan(result_.estimate)) {
      unidentified();
    } else {
      points_ = {origin_};
      for (const int side : {-1, 1}) walk(side);
      result_.low = limit(-1);
      result_.high = limit(1);
    }
    std::sort(points_.begin(), points_.end(),
              [](const ProfilePoint& a, const ProfilePoint& b) { return a.value < b.value; });
    result_.points = std::move(points_);
    evaluations += evaluations_;
    return std::move(result_);
  }

private:
  /// The deviance is the same for every value: one of the standard deviations is 0.
  void unidentified() {
    for (const double value : {range_.low, 0.0, range_.high}) {
      ProfilePoint point = origin_;
      point.value = value;
      points_.push_back(point);
    }
    result_.low = {range_.low, true, origin_.certified};
    result_.high = {range_.high, true, origin_.certified};
  }

  const ProfilePoint& evaluate(double value, const ProfilePoint& near) {
    const ParameterState from = near.state;  // `near` may move as points are added
    HeldMinimum at = held_.minimum(value, from);
    evaluations_ += at.evaluations;
    if (at.certified && at.deviance < smallest_ - lower) throw LowerMinimum{at.state};
    ProfilePoint point{value, 0, nan, at.deviance, at.certified, std::move(at.state)};
    const double sign = value < result_.estimate ? -1 : 1, root = std::sqrt(std::max(0.0, at.deviance - smallest_));
    point.zeta = sign * root;
    if (root > 0 && value != range_.low && value != range_.high) point.slope = 0.5 * at.slope / point.zeta;
    points_.push_back(std::move(point));
    return points_.back();
  }

  /// Points out to `cutoff_`, or to the end of the range.
  void walk(int side) {
    const double bound = side < 0 ? range_.low : range_.high;
    if (result_.estimate == bound) return;
    ProfilePoint last = origin_;
    double step = std::min(first_step_, longest_step_);
    constexpr int most_points = 200;
    for (int i = 0; i < most_points && std::abs(last.zeta) < cutoff_; ++i) {
      double value = last.value + side * step;
      if (side * (value - bound) >= 0) value = bound;
      // Half the way to zero at most: the deviance grows beyond all bounds there.
      if (positive_ && value < 0.5 * last.value) value = 0.5 * last.value;
      const ProfilePoint next = evaluate(value, last);
      const double gain = std::abs(next.zeta) - std::abs(last.zeta);
      if (gain > 2 * spacing_ && std::abs(value - last.value) > 1e-10 * (std::abs(value) + first_step_)) {
        step = std::abs(value - last.value) * spacing_ / gain;  // too far, but a point all the same
        if (std::abs(next.zeta) > 1.5 * cutoff_) points_.pop_back();
        continue;
      }
      if (value == bound) return;
      const double taken = std::abs(value - last.value), slope = std::abs(next.slope);
      const double foreseen = slope > 0 ? spacing_ / slope : infinity;  // NaN: infinity
      step = std::min(std::clamp(foreseen, 0.3 * taken, 3 * taken), longest_step_);
      last = next;
    }
  }

  /// Where zeta is side * quantile.
  ProfileLimit limit(int side) {
    const double bound = side < 0 ? range_.low : range_.high;
    // Outward from the estimate: the first pair of neighbours with the quantile between them.
    std::vector<std::size_t> outward;
    for (std::size_t i = 0; i < points_.size(); ++i)
      if (side * (points_[i].value - result_.estimate) >= 0) outward.push_back(i);
    std::sort(outward.begin(), outward.end(),
              [&](std::size_t a, std::size_t b) { return side * (points_[a].value - points_[b].value) < 0; });
    std::size_t i = 0;
    while (i < outward.size() && side * points_[outward[i]].zeta < quantile_) ++i;
    if (i == outward.size()) {
      if (!std::isfinite(bound)) return {side * infinity, true, false};
      return {bound, true, points_[outward.back()].certified};
    }
    ProfilePoint inner = points_[outward[i - 1]], outer = points_[outward[i]];
    const double target = side * quantile_;
    constexpr double tolerance = 1e-9;
    constexpr int most_steps = 100;
    ProfilePoint best = std::abs(outer.zeta - target) < std::abs(inner.zeta - target) ? outer : inner;
    double gap = std::abs(best.zeta - target);
    for (int n = 0; n < most_steps && gap > tolerance; ++n) {
      const double width = outer.value - inner.value;
      if (std::abs(width) <= 1e-14 * (std::abs(outer.value) + std::abs(inner.value))) break;
      // Newton's step where it stays inside, else the secant's; now and then the middle, so that it ends.
      double value = best.value + (target - best.zeta) / best.slope;
      const auto inside = [&](double x) { return (x - inner.value) / width > 0 && (x - inner.value) / width < 1; };
      if (!inside(value)) value = inner.value + width * (target - inner.zeta) / (outer.zeta - inner.zeta);
      constexpr int patience = 8;
      if (!inside(value) || n % patience == patience - 1) value = inner.value + 0.5 * width;
      const ProfilePoint at = evaluate(value, best);
      (side * at.zeta < quantile_ ? inner : outer) = at;
      best = at;
      gap = std::abs(at.zeta - target);
    }
    return {best.value, false, best.certified};
  }

  HeldParameter& held_;
  double smallest_, quantile_, cutoff_, spacing_;
  Range range_;
  bool positive_;
  double longest_step_;  ///< a correlation's zeta may hardly change over all its range
  double first_step_;
  ProfilePoint origin_;
  std::vector<ProfilePoint> points_;
  ParameterProfile result_;
  int evaluations_ = 0;
};

/// A first step along a parameter: about a standard error's share. What is off is seen at the first point.
double first_step(const Parameter& parameter, const ParameterState& state, const ModelMatrices& m, double spacing) {
  const auto n = static_cast<double>(m.y.size());
  switch (parameter.kind) {
    case ParameterKind::sigma:
      return spacing * state.sigma / std::sqrt(2 * n);
    case ParameterKind::sd: {
      const RandomTerm& term = m.random[parameter.term];
      const auto levels = static_cast<double>(term.levels.size());
      const double error = state.sigma * std::sqrt(levels / std::max(term.z.col(parameter.row).squaredNorm(), 1e-300));
      const double sd = value_of(parameter, state);
      return 0.5 * spacing * std::hypot(sd, error) / std::sqrt(2 * levels);
    }
    case ParameterKind::correlation: {
      const auto levels = static_cast<double>(m.random[parameter.term].levels.size());
      const double correlation = value_of(parameter, state);
      return std::min(0.2, spacing * std::max(0.1, 1 - correlation * correlation) / std::sqrt(levels));
    }
    case ParameterKind::fixed: {
      const double norm = m.X.col(parameter.row).norm();
      return spacing * state.sigma / std::max(norm, 1e-300);
    }
  }
  return spacing;
}

Profile walk_all(ParameterHolder& holder, const std::shared_ptr<const ModelMatrices>& matrices,
                 const HeldMinimum& estimate, const std::vector<std::size_t>& asked, const ProfileOptions& options) {
  Profile out;
  out.model = matrices;
  out.parameters = model_parameters(*matrices);
  out.level = options.level;
  out.quantile = std::numbers::sqrt2 * boost::math::erf_inv(options.level);
  constexpr double lme4_alphamax = 0.01;
  out.cutoff =
      std::sqrt(2 * boost::math::gamma_p_inv(0.5 * static_cast<double>(out.parameters.size()), 1 - lme4_alphamax));
  out.cutoff = std::max(out.cutoff, 1.1 * out.quantile);
  out.deviance = estimate.deviance;
  out.estimates = estimate.state;
  out.certified = estimate.certified;
  out.evaluations = estimate.evaluations;
  for (const std::size_t i : asked) {
    const Parameter& parameter = out.parameters[i];
    const std::unique_ptr<HeldParameter> held = holder.hold(parameter);
    Walk walk(parameter, *held, estimate, out.quantile, out.cutoff,
              first_step(parameter, estimate.state, *matrices, out.cutoff / points_a_side));
    out.profiles.push_back(walk.run(out.evaluations));
  }
  return out;
}

}  // namespace

Profile profile(const std::shared_ptr<const ModelMatrices>& matrices, const ProfileOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  if (!(options.level > 0 && options.level < 1))
    throw InputError(fmt::format("expected a level between 0 and 1, found {}", options.level));
  const std::vector<Parameter> parameters = model_parameters(*matrices);
  std::vector<std::size_t> asked;
  for (const std::string& label : options.parameters) asked.push_back(find_parameter(parameters, label));
  if (asked.empty())
    for (std::size_t i = 0; i < parameters.size(); ++i) asked.push_back(i);
  std::sort(asked.begin(), asked.end());
  asked.erase(std::unique(asked.begin(), asked.end()), asked.end());
  check_model(*matrices);
  ParameterHolder holder(matrices);
  HeldMinimum estimate = holder.unconstrained();
  // A profile that comes below the estimates has found a better minimum: everything anew from there.
  constexpr int most_times = 5;
  for (int time = 0; time < most_times; ++time) {
    try {
      Profile out = walk_all(holder, matrices, estimate, asked, options);
      out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      return out;
    } catch (const LowerMinimum& found) {
      estimate = holder.unconstrained(&found.state);
    }
  }
  throw ComputationError("the deviance of \"" + matrices->formula +
                         "\" has lower minima wherever its profile is followed: no best one was found");
}

}  // namespace batchlmm
