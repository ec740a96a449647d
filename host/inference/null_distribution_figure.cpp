#include "host/inference/null_distribution_figure.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace batchlmm {
namespace {

/// Density of the chi-square with df >= 1.
double chi_square_density(int df, double x) {
  const double half = 0.5 * df;
  return std::exp((half - 1) * std::log(x) - 0.5 * x - half * std::log(2.0) - std::lgamma(half));
}

/// Density of the law's continuous part: that of a mixture's atom at 0 is left out.
double law_density(const ReferenceLaw& law, double x) {
  if (law.kind != LawKind::mixture) return chi_square_density(law.df, x);
  return 0.5 * chi_square_density(law.df + 1, x) + (law.df > 0 ? 0.5 * chi_square_density(law.df, x) : 0.0);
}

std::string law_label(const ReferenceLaw& law) {
  if (law.kind != LawKind::mixture) return fmt::format("χ² with {} df", law.df);
  return fmt::format("50:50 mixture of χ² with {} and {} df", law.df, law.df + 1);
}

svg::Panel panel_of(const LikelihoodRatioTest& test, const std::string& name) {
  const StatisticHistogram& histogram = test.bootstrap->histogram;
  const std::vector<double>& edges = histogram.edges();
  const double width = edges[1] - edges[0], bound = edges.back();
  const auto total = static_cast<double>(std::max<std::uint64_t>(histogram.total(), 1));
  std::vector<double> density;
  for (const std::uint64_t count : histogram.counts()) density.push_back(static_cast<double>(count) / total / width);

  svg::Panel panel(name, "likelihood-ratio statistic", "density");
  // Densities without bound at 0 are cut at twice the highest bar.
  const double zero_height = static_cast<double>(histogram.zeros()) / total / width;
  const double highest = std::max(*std::max_element(density.begin(), density.end()), zero_height);
  const double top = highest > 0 ? highest : 1;
  const bool zeros = histogram.zeros() > 0;
  panel.x_range(zeros ? -2 * width : 0.0, std::max(bound, 1.02 * test.statistic)).y_range(0, 1.08 * top);
  panel.bars(edges, density, {.color = svg::Color::first, .label = "bootstrap replicates"});
  if (zeros) {
    const std::array<double, 2> left{-1.5 * width, -0.5 * width};
    const std::array<double, 1> height{zero_height};
    panel.bars(left, height,
               {.color = svg::Color::third,
                .label = fmt::format("exactly 0: {:.3g}%", 100 * static_cast<double>(histogram.zeros()) / total)});
  }
  std::vector<double> x, y;
  constexpr int points = 400;
  for (int i = 0; i < points; ++i) {
    // Denser towards 0, where the density of one degree of freedom is steep.
    const double share = (i + 0.5) / points, at = bound * share * share, value = law_density(test.law, at);
    if (value > 1.08 * top) continue;
    x.push_back(at);
    y.push_back(value);
  }
  panel.line(x, y, {.color = svg::Color::second, .width = 2, .label = law_label(test.law)});
  panel.vertical_line(
      test.statistic,
      {.color = svg::Color::ink, .width = 2, .dashed = true, .label = fmt::format("observed {:.4g}", test.statistic)});
  return panel;
}

}  // namespace

svg::Figure null_distribution_figure(const std::vector<LikelihoodRatioTest>& tests,
                                     const std::vector<std::string>& names) {
  svg::Figure figure;
  figure.title = "Parametric bootstrap of the likelihood-ratio statistic";
  figure.columns = std::clamp(static_cast<int>(tests.size()), 1, 2);
  for (std::size_t i = 0; i < tests.size(); ++i) {
    const BootstrapTest& bootstrap = *tests[i].bootstrap;
    figure.panels.push_back(panel_of(tests[i], names[i]));
    figure.description += fmt::format(
        "{}{}: {} replicates, observed statistic {:.4g}, bootstrap p-value {:.4g}, {} beyond the axis.",
        i == 0 ? "" : " ", names[i], bootstrap.used, tests[i].statistic, bootstrap.p, bootstrap.histogram.above());
  }
  return figure;
}

}  // namespace batchlmm
