#include "host/inference/diagnostic_plots.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <numeric>

#include "batchlmm/error.hpp"
#include "host/data/nearest_name.hpp"
#include "host/inference/diagnostics.hpp"
#include "host/inference/r_formula.hpp"

namespace batchlmm {
namespace {

using svg::Color;
using svg::Panel;
using Values = std::vector<double>;

constexpr std::array<std::pair<const char*, DiagnosticPlot>, 7> names = {{
    {"caterpillar", DiagnosticPlot::caterpillar},
    {"qq-ranef", DiagnosticPlot::qq_ranef},
    {"residuals", DiagnosticPlot::residuals},
    {"qq", DiagnosticPlot::qq},
    {"scale-location", DiagnosticPlot::scale_location},
    {"leverage", DiagnosticPlot::leverage},
    {"diagnostics", DiagnosticPlot::diagnostics},
}};

Values copied(const Eigen::VectorXd& x) { return {x.begin(), x.end()}; }

double normal_quantile(double p) { return boost::math::quantile(boost::math::normal(), p); }

/// R's ppoints(n)[i].
double plotting_position(std::size_t i, std::size_t n) {
  const double a = n <= 10 ? 0.375 : 0.5;
  return (static_cast<double>(i) + 1 - a) / (static_cast<double>(n) + 1 - 2 * a);
}

/// Quantile of type 7 of sorted values.
double quantile_of(const Values& sorted, double p) {
  const double at = p * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  if (below + 1 >= sorted.size()) return sorted.back();
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[below + 1] - sorted[below]);
}

/// The line through the quartiles of sample and normal law (R's qqline).
void add_quartile_line(Panel& panel, const Values& sorted) {
  if (sorted.size() < 2) return;
  const double low = quantile_of(sorted, 0.25), high = quantile_of(sorted, 0.75), q = normal_quantile(0.75);
  panel.straight_line((low + high) / 2, (high - low) / (2 * q), {.color = Color::muted, .dashed = true});
}

/// Many points are smaller, and let others show through.
svg::Style dots(std::size_t count) {
  svg::Style style;
  style.radius = count > 5000 ? 1.2 : count > 500 ? 1.8 : 2.5;
  style.opacity = count > 5000 ? 0.35 : count > 500 ? 0.5 : 0.75;
  return style;
}

svg::Style reference_line() { return {.color = Color::muted, .width = 1, .dashed = true}; }

Panel trend_panel(const std::string& title, const std::string& x_label, const std::string& y_label, const Values& x,
                  const Values& y) {
  Panel panel(title, x_label, y_label);
  panel.points(x, y, dots(x.size()));
  const Trend trend = local_trend(x, y);
  panel.line(trend.x, trend.y, {.color = Color::second, .width = 2});
  return panel;
}

Panel residuals_panel(const RowDiagnostics& rows) {
  Panel panel =
      trend_panel("Residuals against fitted values", "fitted", "residual", copied(rows.fitted), copied(rows.residual));
  panel.horizontal_line(0, reference_line());
  return panel;
}

Panel qq_panel(const RowDiagnostics& rows) {
  Values sorted;
  for (const double r : rows.standardized)
    if (std::isfinite(r)) sorted.push_back(r);
  std::sort(sorted.begin(), sorted.end());
  Values quantiles;
  for (std::size_t i = 0; i < sorted.size(); ++i)
    quantiles.push_back(normal_quantile(plotting_position(i, sorted.size())));
  Panel panel("Normal Q-Q of residuals", "normal quantile", "standardized residual");
  add_quartile_line(panel, sorted);
  panel.points(quantiles, sorted, dots(sorted.size()));
  return panel;
}

Panel scale_location_panel(const RowDiagnostics& rows) {
  Values root;
  for (const double r : rows.standardized) root.push_back(std::sqrt(std::abs(r)));
  return trend_panel("Scale against location", "fitted", "√|standardized residual|", copied(rows.fitted), root);
}

Panel leverage_panel(const RowDiagnostics& rows) {
  Panel panel = trend_panel("Residuals against leverages", "leverage", "standardized residual", copied(rows.hat),
                            copied(rows.standardized));
  panel.horizontal_line(0, reference_line());
  return panel;
}

/// Modes of one coefficient in ascending order, with their intervals.
struct OrderedModes {
  std::vector<std::string> levels;
  Values mode, low, high;
};

OrderedModes ordered_modes(const RandomTerm& term, const Eigen::VectorXd& modes, const Eigen::VectorXd& sd,
                           double level) {
  std::vector<Eigen::Index> order(static_cast<std::size_t>(modes.size()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](Eigen::Index a, Eigen::Index b) { return modes[a] < modes[b]; });
  const double q = normal_quantile(0.5 + 0.5 * level);
  OrderedModes out;
  for (const Eigen::Index l : order) {
    out.levels.push_back(term.levels[static_cast<std::size_t>(l)]);
    out.mode.push_back(modes[l]);
    out.low.push_back(modes[l] - q * sd[l]);
    out.high.push_back(modes[l] + q * sd[l]);
  }
  return out;
}

std::string mode_label(double level) { return fmt::format("conditional mode, {:g} % interval", 100 * level); }

Panel caterpillar_panel(const std::string& title, const std::string& group, const OrderedModes& modes, double level) {
  const std::size_t n = modes.mode.size();
  Panel panel(title, mode_label(level), group);
  // The largest mode stands on top, where the first name is.
  Values at;
  for (std::size_t i = 0; i < n; ++i) at.push_back(static_cast<double>(n - 1 - i));
  panel.y_categories({modes.levels.rbegin(), modes.levels.rend()});
  panel.vertical_line(0, reference_line());
  const bool many = n > 100;
  panel.x_intervals(at, modes.low, modes.high, {.width = many ? 0.8 : 1.5, .opacity = many ? 0.6 : 1});
  panel.points(modes.mode, at, {.color = many ? Color::ink : Color::first, .radius = many ? 1.2 : 2.8});
  return panel;
}

Panel qq_ranef_panel(const std::string& title, const OrderedModes& modes, double level) {
  const std::size_t n = modes.mode.size();
  Values quantiles;
  for (std::size_t i = 0; i < n; ++i) quantiles.push_back(normal_quantile(plotting_position(i, n)));
  Panel panel(title, "normal quantile", mode_label(level));
  panel.horizontal_line(0, {.color = Color::muted, .width = 1});
  add_quartile_line(panel, modes.mode);
  const bool many = n > 100;
  panel.y_intervals(quantiles, modes.low, modes.high, {.width = many ? 0.8 : 1.5, .opacity = many ? 0.4 : 1});
  panel.points(quantiles, modes.mode, {.color = many ? Color::ink : Color::first, .radius = many ? 1.5 : 2.8});
  return panel;
}

void add_mode_panels(svg::Figure& figure, const Fit& fit, DiagnosticPlot kind, const DiagnosticPlotOptions& options) {
  std::vector<std::string> groups;
  for (const RandomTerm& term : fit.model->random) groups.push_back(term.group);
  for (const std::string& group : options.groups)
    if (std::find(groups.begin(), groups.end(), group) == groups.end())
      throw InputError("expected a grouping factor of the model, found '" + group + "'" +
                       nearest_name_hint(group, groups, "grouping factors"));
  const JointCovariance joint(fit);
  for (std::size_t t = 0; t < groups.size(); ++t) {
    if (!options.groups.empty() &&
        std::find(options.groups.begin(), options.groups.end(), groups[t]) == options.groups.end())
      continue;
    const RandomTerm& term = fit.model->random[t];
    const Eigen::MatrixXd sd = joint.conditional_sd(static_cast<int>(t));
    for (std::size_t c = 0; c < term.names.size(); ++c) {
      const auto column = static_cast<Eigen::Index>(c);
      const OrderedModes modes = ordered_modes(term, fit.modes[t].col(column), sd.col(column), options.level);
      const std::string title = term.names[c] + " by " + term.group;
      figure.panels.push_back(kind == DiagnosticPlot::caterpillar
                                  ? caterpillar_panel(title, term.group, modes, options.level)
                                  : qq_ranef_panel(title, modes, options.level));
    }
  }
  figure.columns = figure.panels.size() > 1 ? 2 : 1;
  if (figure.columns > 1) figure.panel_width = 340;
}

}  // namespace

DiagnosticPlot diagnostic_plot_of_name(const std::string& name) {
  std::string all;
  for (const auto& [known, kind] : names) {
    if (name == known) return kind;
    all += (all.empty() ? "" : kind == names.back().second ? " or " : ", ") + std::string(known);
  }
  throw InputError("--kind: expected " + all + ", found '" + name + "'");
}

svg::Figure diagnostic_figure(const Fit& fit, DiagnosticPlot kind, const DiagnosticPlotOptions& options) {
  svg::Figure figure;
  figure.title = r_formula(fit.model->formula);
  if (kind == DiagnosticPlot::caterpillar || kind == DiagnosticPlot::qq_ranef) {
    add_mode_panels(figure, fit, kind, options);
    figure.description = fmt::format(
        "Conditional modes of the random effects with {:g} % intervals from their conditional standard deviations{}.",
        100 * options.level,
        kind == DiagnosticPlot::caterpillar ? ", levels ordered by the mode" : ", against quantiles of the normal law");
    return figure;
  }
  const RowDiagnostics rows = row_diagnostics(fit, JointCovariance(fit));
  const bool all = kind == DiagnosticPlot::diagnostics;
  if (all || kind == DiagnosticPlot::residuals) figure.panels.push_back(residuals_panel(rows));
  if (all || kind == DiagnosticPlot::qq) figure.panels.push_back(qq_panel(rows));
  if (all || kind == DiagnosticPlot::scale_location) figure.panels.push_back(scale_location_panel(rows));
  if (all || kind == DiagnosticPlot::leverage) figure.panels.push_back(leverage_panel(rows));
  figure.description = fmt::format(
      "Residuals of the {} rows of the fit{}.", fit.model->y.size(),
      kind == DiagnosticPlot::qq ? " against quantiles of the normal law" : ", with a trend by local regression");
  figure.columns = all ? 2 : 1;
  if (all) figure.panel_width = 340;
  return figure;
}

Trend local_trend(std::span<const double> x, std::span<const double> y, int places) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < x.size(); ++i)
    if (std::isfinite(x[i]) && std::isfinite(y[i])) order.push_back(i);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return x[a] < x[b]; });
  Trend trend;
  const std::size_t n = order.size();
  if (n < 3 || x[order.front()] == x[order.back()]) return trend;
  const std::size_t near = std::min(n, std::max<std::size_t>(3, (2 * n + 2) / 3));
  const double low = x[order.front()], high = x[order.back()];
  std::size_t first = 0;  // of the nearest ones; moves up with the place
  for (int i = 0; i < places; ++i) {
    const double at = low + (high - low) * i / (places - 1);
    while (first + near < n && at - x[order[first]] > x[order[first + near]] - at) ++first;
    const double width =
        std::max(at - x[order[first]], x[order[first + near - 1]] - at) * (1 + 1e-9) + 1e-12 * (high - low);
    double s = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (std::size_t j = first; j < first + near; ++j) {
      const double d = (x[order[j]] - at) / width, cube = 1 - std::abs(d * d * d), w = cube * cube * cube;
      s += w;
      sx += w * d;
      sxx += w * d * d;
      sy += w * y[order[j]];
      sxy += w * d * y[order[j]];
    }
    const double determinant = s * sxx - sx * sx;
    trend.x.push_back(at);
    trend.y.push_back(determinant > 1e-9 * s * s ? (sxx * sy - sx * sxy) / determinant : sy / s);
  }
  return trend;
}

}  // namespace batchlmm
