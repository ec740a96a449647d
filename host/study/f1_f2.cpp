#include "host/study/f1_f2.hpp"

#include <boost/math/distributions/fisher_f.hpp>
#include <cmath>
#include <limits>

namespace batchlmm::study {
namespace {

double upper_tail(double f, double df1, double df2) {
  if (!(df1 > 0) || !(df2 > 0) || !(f >= 0) || !std::isfinite(f)) return std::numeric_limits<double>::quiet_NaN();
  return boost::math::cdf(boost::math::complement(boost::math::fisher_f(df1, df2), f));
}

}  // namespace

MeansTest means_test(std::span<const double> y, const std::vector<std::int32_t>& unit, int units,
                     const std::vector<std::int32_t>& condition, int conditions,
                     const std::vector<std::size_t>& missing) {
  const auto cells = static_cast<std::size_t>(units) * static_cast<std::size_t>(conditions);
  std::vector<double> sum(cells, 0), count(cells, 0);
  auto gone = missing.begin();
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (gone != missing.end() && *gone == i) {
      ++gone;
      continue;
    }
    const std::size_t cell = static_cast<std::size_t>(unit[i]) * static_cast<std::size_t>(conditions) +
                             static_cast<std::size_t>(condition[i]);
    sum[cell] += y[i];
    ++count[cell];
  }
  const auto at = [&](int u, int c) {
    return static_cast<std::size_t>(u) * static_cast<std::size_t>(conditions) + static_cast<std::size_t>(c);
  };
  int within = 0, between = 0;
  for (int u = 0; u < units; ++u) {
    int seen = 0;
    for (int c = 0; c < conditions; ++c) seen += count[at(u, c)] > 0 ? 1 : 0;
    within += seen == conditions ? 1 : 0;
    between += seen == 1 ? 1 : 0;
  }
  MeansTest out;
  out.df1 = conditions - 1;
  if (within == 0 && between > 0) {
    std::vector<double> n(conditions, 0), total(conditions, 0);
    for (int u = 0; u < units; ++u)
      for (int c = 0; c < conditions; ++c)
        if (count[at(u, c)] > 0) {
          ++n[c];
          total[c] += sum[at(u, c)] / count[at(u, c)];
        }
    double all = 0, mean = 0, effect = 0, error = 0;
    int groups = 0;
    for (int c = 0; c < conditions; ++c) {
      all += n[c];
      mean += total[c];
      groups += n[c] > 0 ? 1 : 0;
    }
    mean /= all;
    for (int c = 0; c < conditions; ++c)
      if (n[c] > 0) effect += n[c] * (total[c] / n[c] - mean) * (total[c] / n[c] - mean);
    for (int u = 0; u < units; ++u)
      for (int c = 0; c < conditions; ++c)
        if (count[at(u, c)] > 0) {
          const double d = sum[at(u, c)] / count[at(u, c)] - total[c] / n[c];
          error += d * d;
        }
    out.df2 = all - groups;
    if (groups < conditions) out.df2 = 0;
    out.f = effect / out.df1 / (error / out.df2);
  } else {
    // Units by conditions, one mean each: the interaction is the error.
    std::vector<double> by_condition(conditions, 0);
    double grand = 0;
    for (int u = 0; u < units; ++u) {
      bool complete = true;
      for (int c = 0; c < conditions; ++c) complete = complete && count[at(u, c)] > 0;
      for (int c = 0; c < conditions; ++c) {
        if (!complete) {
          count[at(u, c)] = 0;
          continue;
        }
        sum[at(u, c)] /= count[at(u, c)];
        by_condition[c] += sum[at(u, c)] / within;
        grand += sum[at(u, c)] / within / conditions;
      }
    }
    double effect = 0, error = 0;
    for (int c = 0; c < conditions; ++c) effect += within * (by_condition[c] - grand) * (by_condition[c] - grand);
    for (int u = 0; u < units; ++u) {
      if (count[at(u, 0)] == 0) continue;
      double own = 0;
      for (int c = 0; c < conditions; ++c) own += sum[at(u, c)] / conditions;
      for (int c = 0; c < conditions; ++c) {
        const double d = sum[at(u, c)] - own - by_condition[c] + grand;
        error += d * d;
      }
    }
    out.df2 = static_cast<double>(within - 1) * out.df1;
    out.f = effect / out.df1 / (error / out.df2);
  }
  out.p = upper_tail(out.f, out.df1, out.df2);
  return out;
}

MeansTest min_f(const MeansTest& by_subjects, const MeansTest& by_items) {
  MeansTest out;
  const double f1 = by_subjects.f, f2 = by_items.f;
  out.df1 = by_subjects.df1;
  out.f = f1 * f2 / (f1 + f2);
  out.df2 = (f1 + f2) * (f1 + f2) / (f1 * f1 / by_items.df2 + f2 * f2 / by_subjects.df2);
  out.p = upper_tail(out.f, out.df1, out.df2);
  return out;
}

}  // namespace batchlmm::study
