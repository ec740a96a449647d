#include "host/inference/profile_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "host/data/write.hpp"
#include "host/inference/r_format.hpp"
#include "host/inference/r_formula.hpp"
#include "host/inference/r_print.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm {
namespace {

using Json = nlohmann::ordered_json;

std::string percent(double share) { return fmt::format("{} %", r_number(100 * share, 4)); }

/// What a reader must know about one parameter, a line each.
std::string notes(const Profile& profile, const ParameterProfile& one) {
  std::string out;
  const std::string& label = one.parameter.label;
  if (std::isnan(one.estimate))
    out += fmt::format("{}: a standard deviation is estimated as 0, where every correlation is as good\n", label);
  else
    for (const auto& [limit, point] : {std::pair(&one.low, &one.points.front()), {&one.high, &one.points.back()}})
      if (limit->bound)
        out += std::isfinite(limit->value)
                   ? fmt::format("{}: the interval reaches {}, the end of the range, where zeta is {:.4g}\n", label,
                                 r_number(limit->value), point->zeta)
                   : fmt::format("{}: no {} limit was found, zeta is {:.4g} at {}\n", label,
                                 limit == &one.low ? "lower" : "upper", point->zeta, r_number(point->value));
  std::string doubtful;
  int count = 0;
  for (const ProfilePoint& point : one.points)
    if (!point.certified) {
      ++count;
      doubtful += (doubtful.empty() ? "" : ", ") + r_number(point.value, 5);
    }
  if (count > 0)
    out +=
        fmt::format("{}: {} of {} points not certified as minima, at {}\n", label, count, one.points.size(), doubtful);
  (void)profile;
  return out;
}

Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

/// Values at `x` of the cubic polynomials between neighbours, their slopes where they are known (Hermite's), else the
/// mean of the neighbouring secants'.
void smooth_curve(const std::vector<ProfilePoint>& points, std::vector<double>& x, std::vector<double>& y) {
  const auto secant = [&](std::size_t i) {
    return (points[i + 1].zeta - points[i].zeta) / (points[i + 1].value - points[i].value);
  };
  const std::size_t n = points.size();
  std::vector<double> slope(n);
  for (std::size_t i = 0; i < n; ++i) {
    slope[i] = points[i].slope;
    if (std::isfinite(slope[i]) || n == 1) continue;
    slope[i] = i == 0 ? secant(0) : i + 1 == n ? secant(n - 2) : 0.5 * (secant(i - 1) + secant(i));
  }
  constexpr int pieces = 8;
  for (std::size_t i = 0; i + 1 < n; ++i) {
    const double width = points[i + 1].value - points[i].value, chord = secant(i);
    // Steeper than thrice the chord a cubic swings over (Fritsch and Carlson 1980).
    const auto tame = [&](double s) {
      return chord * s > 0 ? std::copysign(std::min(std::abs(s), 3 * std::abs(chord)), s) : 0;
    };
    const double left = tame(slope[i]), right = tame(slope[i + 1]);
    for (int q = 0; q < pieces; ++q) {
      const double t = static_cast<double>(q) / pieces;
      x.push_back(points[i].value + t * width);
      y.push_back(points[i].zeta * (1 + 2 * t) * (1 - t) * (1 - t) + points[i + 1].zeta * t * t * (3 - 2 * t) +
                  width * (left * t * (1 - t) * (1 - t) - right * t * t * (1 - t)));
    }
  }
  x.push_back(points.back().value);
  y.push_back(points.back().zeta);
}

}  // namespace

std::string profile_text(const Profile& profile, const std::string& data) {
  std::string out = "Profile likelihood of the fit by maximum likelihood\n";
  out += "Formula: " + r_formula(profile.model->formula) + "\n";
  out += "   Data: " + data + "\n\n";
  out += fmt::format("deviance {:.5f} at the estimates (ML also where a fit is by REML, as in lme4)\n\n",
                     profile.deviance);
  std::vector<double> estimate, low, high;
  TextMatrix table;
  table.right = true;
  std::string below;
  for (const ParameterProfile& one : profile.profiles) {
    table.row_names.push_back(one.parameter.label);
    estimate.push_back(one.estimate);
    low.push_back(one.low.value);
    high.push_back(one.high.value);
    below += notes(profile, one);
  }
  constexpr int digits = 4;
  table.column_names = {"Estimate", percent(0.5 * (1 - profile.level)), percent(0.5 * (1 + profile.level))};
  table.columns = {r_format(estimate, digits), r_format(low, digits), r_format(high, digits)};
  out += r_print(table);
  if (!profile.certified) below += "the estimates are not certified as a minimum\n";
  if (profile.model->rows_dropped > 0)
    below += fmt::format("{} {} deleted due to missingness\n", profile.model->rows_dropped,
                         profile.model->rows_dropped == 1 ? "observation" : "observations");
  if (!below.empty()) out += "\n" + below;
  std::size_t points = 0;
  for (const ParameterProfile& one : profile.profiles) points += one.points.size();
  out += fmt::format("\n{} points, {} evaluations, {:.3g} s\n", points, profile.evaluations, profile.seconds);
  return out;
}

std::string profile_json(const Profile& profile) {
  Json json;
  json["formula"] = r_formula(profile.model->formula);
  json["nobs"] = profile.model->y.size();
  json["dropped"] = profile.model->rows_dropped;
  json["method"] = "ML";
  json["deviance"] = profile.deviance;
  json["certified"] = profile.certified;
  json["level"] = profile.level;
  json["quantile"] = profile.quantile;
  json["cutoff"] = profile.cutoff;
  json["parameters"] = Json::array();
  for (const ParameterProfile& one : profile.profiles) {
    Json points = Json::array();
    for (const ProfilePoint& point : one.points)
      points.push_back({{"value", number(point.value)},
                        {"zeta", number(point.zeta)},
                        {"slope", number(point.slope)},
                        {"deviance", number(point.deviance)},
                        {"certified", point.certified}});
    const auto limit = [](const ProfileLimit& l) {
      return Json{{"value", number(l.value)}, {"end_of_range", l.bound}, {"certified", l.certified}};
    };
    json["parameters"].push_back({{"label", one.parameter.label},
                                  {"effect", one.parameter.effect},
                                  {"group", one.parameter.group},
                                  {"term", one.parameter.tidy_term},
                                  {"estimate", number(one.estimate)},
                                  {"low", limit(one.low)},
                                  {"high", limit(one.high)},
                                  {"points", std::move(points)}});
  }
  json["evaluations"] = profile.evaluations;
  json["seconds"] = profile.seconds;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string profile_csv(const Profile& profile) {
  std::vector<TidyRow> rows;
  for (const ParameterProfile& one : profile.profiles) {
    TidyRow row;
    row.effect = one.parameter.effect;
    row.group = one.parameter.group;
    row.term = one.parameter.tidy_term;
    row.estimate = one.estimate;
    row.conf_low = one.low.value;
    row.conf_high = one.high.value;
    rows.push_back(std::move(row));
  }
  return tidy_csv(rows);
}

void write_profile_points(const Profile& profile, const std::string& path) {
  // Names of columns are unique; labels need not be: a term may stand twice.
  std::vector<OutputColumn> columns{{"parameter", OutputType::text},
                                    {"value", OutputType::float64},
                                    {"zeta", OutputType::float64},
                                    {"deviance", OutputType::float64},
                                    {"certified", OutputType::int64}};
  for (const Parameter& parameter : profile.parameters) {
    std::string name = parameter.label;
    for (int copy = 2; std::any_of(columns.begin(), columns.end(), [&](const auto& c) { return c.name == name; });
         ++copy)
      name = fmt::format("{}.{}", parameter.label, copy);
    columns.push_back({name, OutputType::float64});
  }
  std::vector<std::string> labels;
  std::vector<std::int64_t> certified;
  std::array<std::vector<double>, 3> numbers;
  std::vector<std::vector<double>> values(profile.parameters.size());
  for (const ParameterProfile& one : profile.profiles)
    for (const ProfilePoint& point : one.points) {
      labels.push_back(one.parameter.label);
      certified.push_back(point.certified ? 1 : 0);
      numbers[0].push_back(point.value);
      numbers[1].push_back(point.zeta);
      numbers[2].push_back(point.deviance);
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i].push_back(
            parameter_value(profile.parameters[i], point.state.beta, point.state.lambda, point.state.sigma));
    }
  TableWriter writer(path, columns);
  std::vector<OutputValues> all{std::span<const std::string>(labels), std::span<const double>(numbers[0]),
                                std::span<const double>(numbers[1]), std::span<const double>(numbers[2]),
                                std::span<const std::int64_t>(certified)};
  for (const std::vector<double>& column : values) all.emplace_back(std::span<const double>(column));
  writer.append(all);
  writer.close();
}

svg::Figure profile_figure(const Profile& profile) {
  svg::Figure figure;
  figure.title = "Profile ζ: " + profile.model->formula;
  figure.description = fmt::format(
      "For each parameter the signed square root of the change of the ML deviance against the parameter's value; "
      "dashed "
      "lines cut out the {} intervals.",
      percent(profile.level));
  constexpr int most_columns = 3;
  figure.columns = std::min<int>(most_columns, static_cast<int>(profile.profiles.size()));
  figure.panel_width = 260;
  figure.panel_height = 200;
  for (const ParameterProfile& one : profile.profiles) {
    svg::Panel panel(one.parameter.label, "", "ζ");
    std::vector<double> x, y, at, zeta, doubtful, doubtful_zeta;
    smooth_curve(one.points, x, y);
    for (const ProfilePoint& point : one.points) {
      (point.certified ? at : doubtful).push_back(point.value);
      (point.certified ? zeta : doubtful_zeta).push_back(point.zeta);
    }
    panel.y_range(-1.05 * profile.cutoff, 1.05 * profile.cutoff);
    // The curve within the panel.
    std::vector<double> inside_x, inside_y;
    for (std::size_t i = 0; i < x.size(); ++i)
      if (std::abs(y[i]) <= 1.05 * profile.cutoff) {
        inside_x.push_back(x[i]);
        inside_y.push_back(y[i]);
      }
    const svg::Style muted{svg::Color::muted, 1, 2, 1, true, {}};
    panel.horizontal_line(0, {svg::Color::muted, 1, 2, 1, false, {}});
    panel.horizontal_line(-profile.quantile, muted).horizontal_line(profile.quantile, muted);
    for (const ProfileLimit* limit : {&one.low, &one.high})
      if (std::isfinite(limit->value)) panel.vertical_line(limit->value, muted);
    panel.line(inside_x, inside_y);
    const auto keep = [&](std::vector<double>& a, std::vector<double>& b) {
      std::size_t n = 0;
      for (std::size_t i = 0; i < a.size(); ++i)
        if (std::abs(b[i]) <= 1.05 * profile.cutoff) {
          a[n] = a[i];
          b[n++] = b[i];
        }
      a.resize(n);
      b.resize(n);
    };
    keep(at, zeta);
    keep(doubtful, doubtful_zeta);
    panel.points(at, zeta);
    if (!doubtful.empty())
      panel.points(doubtful, doubtful_zeta, {svg::Color::second, 1.5, 3, 1, false, "not certified"});
    figure.panels.push_back(std::move(panel));
  }
  return figure;
}

}  // namespace batchlmm
