#include "host/study/series.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace batchlmm::study {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

double mean(const SeriesSums& s) { return s.n > 0 ? s.sum / s.n : nan; }
/// Of the numbers, divided by n - 1.
double variance(const SeriesSums& s) {
  return s.n > 1 ? std::max(0.0, (s.squares - s.sum * s.sum / s.n) / (s.n - 1)) : nan;
}
bool is_share(Measure measure) {
  return measure == Measure::rejected || measure == Measure::covered || measure == Measure::singular ||
         measure == Measure::chosen || measure == Measure::status;
}

/// What the mean of such a series is called.
const char* mean_name(Measure measure) {
  switch (measure) {
    case Measure::rejected:
      return "rejection_rate";
    case Measure::covered:
      return "coverage";
    case Measure::width:
      return "width";
    case Measure::singular:
      return "singular_share";
    case Measure::chosen:
      return "selection_rate";
    case Measure::status:
      return "status_share";
    default:
      return "mean";
  }
}

}  // namespace

double mean_error(const SeriesSums& sums) { return std::sqrt(variance(sums) / sums.n); }

std::vector<Estimand> estimands(const std::vector<SeriesName>& names, const std::vector<SeriesSums>& sums) {
  std::vector<Estimand> out;
  for_estimands(names, sums, [&](const SeriesName& of, const char* name, double value, double mcse, double n) {
    out.push_back({of.subject, of.term, name, value, mcse, static_cast<std::uint64_t>(n)});
  });
  return out;
}

void for_estimands(
    const std::vector<SeriesName>& names, const std::vector<SeriesSums>& sums,
    const std::function<void(const SeriesName& of, const char* name, double value, double mcse, double n)>& add) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    const SeriesName& name = names[i];
    const SeriesSums& s = sums[i];
    const double average = mean(s);
    const double error = is_share(name.measure) ? std::sqrt(average * (1 - average) / s.n) : mean_error(s);
    switch (name.measure) {
      case Measure::error: {
        const double deviation = std::sqrt(variance(s));
        add(name, "bias", average, error, s.n);
        add(name, "empirical_se", deviation, deviation / std::sqrt(2 * (s.n - 1)), s.n);
        break;
      }
      case Measure::squared_error:
      case Measure::variance: {
        const double root = std::sqrt(average);
        add(name, name.measure == Measure::variance ? "model_se" : "rmse", root, root > 0 ? error / (2 * root) : nan,
            s.n);
        break;
      }
      default:
        add(name, mean_name(name.measure), average, error, s.n);
    }
  }
}

}  // namespace batchlmm::study
