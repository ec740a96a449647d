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

}  // namespace

double mean_error(const SeriesSums& sums) { return std::sqrt(variance(sums) / sums.n); }

std::vector<Estimand> estimands(const std::vector<SeriesName>& names, const std::vector<SeriesSums>& sums) {
  std::vector<Estimand> out;
  const auto add = [&](const SeriesName& of, const char* name, double value, double mcse, double n) {
    out.push_back({of.subject, of.term, name, value, mcse, static_cast<std::uint64_t>(n)});
  };
  for (std::size_t i = 0; i < names.size(); ++i) {
    const SeriesName& name = names[i];
    const SeriesSums& s = sums[i];
    const double average = mean(s);
    const double error = is_share(name.measure) ? std::sqrt(average * (1 - average) / s.n) : mean_error(s);
    switch (name.measure) {
      case Measure::rejected:
        add(name, "rejection_rate", average, error, s.n);
        break;
      case Measure::covered:
        add(name, "coverage", average, error, s.n);
        break;
      case Measure::width:
        add(name, "width", average, error, s.n);
        break;
      case Measure::estimate:
        add(name, "mean", average, error, s.n);
        break;
      case Measure::error: {
        const double deviation = std::sqrt(variance(s));
        add(name, "bias", average, error, s.n);
        add(name, "empirical_se", deviation, deviation / std::sqrt(2 * (s.n - 1)), s.n);
        break;
      }
      case Measure::squared_error: {
        const double root = std::sqrt(average);
        add(name, "rmse", root, root > 0 ? error / (2 * root) : nan, s.n);
        break;
      }
      case Measure::variance: {
        const double root = std::sqrt(average);
        add(name, "model_se", root, root > 0 ? error / (2 * root) : nan, s.n);
        break;
      }
      case Measure::singular:
        add(name, "singular_share", average, error, s.n);
        break;
      case Measure::chosen:
        add(name, "selection_rate", average, error, s.n);
        break;
      case Measure::status:
        add(name, "status_share", average, error, s.n);
        break;
    }
  }
  return out;
}

}  // namespace batchlmm::study
