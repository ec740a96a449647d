#include "host/inference/fit_bootstrap_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "host/batch/tier.hpp"
#include "host/inference/fit_notes.hpp"
#include "host/inference/r_format.hpp"
#include "host/inference/r_formula.hpp"
#include "host/inference/r_print.hpp"
#include "host/inference/svg.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm {
namespace {

using Json = nlohmann::ordered_json;

constexpr int digits = 4;

std::string title(const FitBootstrap& b) {
  switch (b.options.type) {
    case BootstrapType::parametric:
      return "Parametric bootstrap";
    case BootstrapType::use_u:
      return "Parametric bootstrap, conditional on the modes";
    case BootstrapType::residual:
      return "Residual bootstrap";
    case BootstrapType::wild:
      return "Wild bootstrap";
    case BootstrapType::cases:
      return "Case bootstrap";
    case BootstrapType::block:
      return fmt::format("Random-effect block bootstrap, type {}", b.options.resample.reb_type);
  }
  return {};
}

const char* weights_name(ResampleOptions::WildWeights weights) {
  switch (weights) {
    case ResampleOptions::WildWeights::mammen:
      return "mammen";
    case ResampleOptions::WildWeights::rademacher:
      return "rademacher";
    case ResampleOptions::WildWeights::webb:
      return "webb";
    case ResampleOptions::WildWeights::normal:
      break;
  }
  return "normal";
}
const char* correction_name(ResampleOptions::Correction correction) {
  return correction == ResampleOptions::Correction::hc2 ? "hc2" : "hc3";
}

/// What the replicates are made of, in words; empty where the title says it.
std::string resampled(const FitBootstrap& b) {
  switch (b.options.type) {
    case BootstrapType::wild:
      return fmt::format("  weights    {}, one a level of {}; residuals by {}\n",
                         weights_name(b.options.resample.weights), b.resampled,
                         correction_name(b.options.resample.correction));
    case BootstrapType::cases:
    case BootstrapType::block:
      return fmt::format("  resampled  {}\n", b.resampled);
    default:
      return {};
  }
}

/// "2.5 %" and "97.5 %" of 0.95.
std::pair<std::string, std::string> percent_names(double level) {
  return {r_number(50 * (1 - level), 3) + " %", r_number(50 * (1 + level), 3) + " %"};
}

std::vector<std::string> labels(const FitBootstrap& b) {
  std::vector<std::string> out;
  for (const BootstrappedQuantity& q : b.quantities) out.push_back(q.quantity.label);
  return out;
}

/// A column of numbers, each with its own decimals: quantities differ in units. NaN is NA.
template <class Value>
std::vector<std::string> numbers(const FitBootstrap& b, const Value& value, int significant = digits) {
  std::vector<std::string> out;
  for (const BootstrappedQuantity& q : b.quantities) {
    const double v = value(q);
    out.push_back(std::isnan(v) ? "NA" : r_number(v, significant));
  }
  return out;
}

std::string estimates_table(const FitBootstrap& b) {
  TextMatrix table;
  table.right = true;
  table.row_names = labels(b);
  table.column_names = {"Estimate", "Bias", "Std. Error"};
  table.columns = {numbers(
                       b, [](const auto& q) { return q.estimate; }, 5),
                   numbers(
                       b, [](const auto& q) { return q.bias; }, 3),
                   numbers(b, [](const auto& q) { return q.std_error; })};
  if (std::any_of(b.quantities.begin(), b.quantities.end(), [&](const auto& q) { return q.used != b.used; })) {
    table.column_names.emplace_back("Used");
    table.columns.push_back(numbers(
        b, [](const auto& q) { return static_cast<double>(q.used); }, 15));
  }
  return r_print(table);
}

std::string interval_table(const FitBootstrap& b, std::size_t kind) {
  const auto of = [&](auto member) {
    return [kind, member](const BootstrappedQuantity& q) { return q.intervals[kind].*member; };
  };
  const auto [low, high] = percent_names(b.options.level);
  TextMatrix table;
  table.right = true;
  table.row_names = labels(b);
  table.column_names = {low, high, "MC error", "MC error"};
  table.columns = {numbers(b, of(&Interval::low), 5), numbers(b, of(&Interval::high), 5),
                   numbers(b, of(&Interval::low_error), 2), numbers(b, of(&Interval::high_error), 2)};
  std::string out = fmt::format("\n{:g}% {} intervals, with Monte-Carlo errors of their ends:\n", 100 * b.options.level,
                                interval_kind_name(b.options.intervals[kind]));
  out += r_print(table);
  // Why some have none: a line for each reason.
  std::vector<std::string> reasons;
  for (const BootstrappedQuantity& q : b.quantities) {
    const std::string& why = q.intervals[kind].missing;
    if (!why.empty() && std::find(reasons.begin(), reasons.end(), why) == reasons.end()) reasons.push_back(why);
  }
  for (const std::string& why : reasons) {
    std::string names;
    for (const BootstrappedQuantity& q : b.quantities)
      if (q.intervals[kind].missing == why) names += (names.empty() ? "" : ", ") + q.quantity.label;
    out += fmt::format("  NA: {} ({})\n", why, names);
  }
  return out;
}

std::string spaced(const char* status) {
  std::string text(status);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

std::string term_text(const FitBootstrap& b, std::size_t t) {
  return "(" + r_formula(b.fit.model->random[t].text) + ")";
}

std::string counts(const FitBootstrap& b) {
  std::string out = "\n";
  if (!b.stopped.empty())
    out +=
        fmt::format("  stopped    after {} of {} replicates: {}\n", b.replicates_run, b.options.replicates, b.stopped);
  out += resampled(b);
  out += fmt::format("  used       {} of {}\n", b.used, b.replicates_run);
  if (b.used < b.replicates_run)
    out += fmt::format("  not used   {}: their fits failed (see status)\n", b.replicates_run - b.used);
  std::string by_term;
  for (std::size_t t = 0; t < b.singular_by_term.size(); ++t)
    by_term += fmt::format("{}{} {}", t == 0 ? "" : ", ", term_text(b, t), b.singular_by_term[t]);
  out += fmt::format("  singular   {}: {}\n", b.singular, by_term);
  std::string by_status;
  for (std::size_t i = 0; i < b.status.size(); ++i)
    by_status += fmt::format("{}{} {}", i == 0 ? "" : ", ", spaced(status_name(static_cast<Status>(i))), b.status[i]);
  out += fmt::format("  status     {}\n", by_status);
  out += fmt::format("  time       {:.3g} s, {:.0f} replicates per second ({}, {} {}{})\n", b.seconds,
                     b.replicates_per_second, b.backend, b.threads, b.threads == 1 ? "thread" : "threads",
                     b.tier ? fmt::format(", {} tier", tier_name(*b.tier)) : "");
  return out;
}

}  // namespace

std::string fit_bootstrap_text(const FitBootstrap& b, const std::string& data) {
  std::string out =
      fmt::format("{} of a fit by {}: {} replicates, seed {}\n", title(b),
                  b.fit.method == Method::reml ? "REML" : "maximum likelihood", b.replicates_run, b.options.seed);
  out += "Formula: " + r_formula(b.fit.model->formula) + "\n   Data: " + data + "\n\n";
  out += estimates_table(b);
  for (std::size_t kind = 0; kind < b.options.intervals.size(); ++kind) out += interval_table(b, kind);
  out += missing_rows_note(b.fit);
  out += fit_notes(b.fit, "");
  return out + counts(b);
}

std::string fit_bootstrap_json(const FitBootstrap& b) {
  Json json;
  json["formula"] = r_formula(b.fit.model->formula);
  json["method"] = b.fit.method == Method::reml ? "REML" : "ML";
  json["nobs"] = b.fit.model->y.size();
  json["dropped"] = b.fit.model->rows_dropped;
  json["singular_fit"] = b.fit.singular;
  json["converged"] = b.fit.converged;
  json["type"] = bootstrap_type_name(b.options.type);
  json["resampled"] = nullptr;
  if (!b.resampled.empty()) json["resampled"] = b.resampled;
  if (b.options.type == BootstrapType::wild) {
    json["weights"] = weights_name(b.options.resample.weights);
    json["correction"] = correction_name(b.options.resample.correction);
  }
  if (b.options.type == BootstrapType::block) json["reb_type"] = b.options.resample.reb_type;
  json["replicates"] = b.replicates_run;
  json["first"] = b.options.first;
  json["seed"] = b.options.seed;
  json["used"] = b.used;
  json["level"] = b.options.level;
  json["quantities"] = Json::array();
  for (const BootstrappedQuantity& q : b.quantities) {
    Json one{{"name", q.quantity.label}, {"effect", q.quantity.effect},
             {"group", nullptr},         {"term", q.quantity.term},
             {"estimate", q.estimate},   {"bias", q.bias},
             {"std_error", q.std_error}, {"used", q.used}};
    if (!q.quantity.group.empty()) one["group"] = q.quantity.group;
    one["intervals"] = Json::object();
    for (std::size_t i = 0; i < q.intervals.size(); ++i) {
      const Interval& interval = q.intervals[i];
      Json& to = one["intervals"][interval_kind_name(b.options.intervals[i])];
      to = {{"low", interval.low},
            {"high", interval.high},
            {"low_mc_error", interval.low_error},
            {"high_mc_error", interval.high_error}};
      if (b.options.intervals[i] == IntervalKind::bca) to["acceleration"] = q.acceleration;
      to["missing"] = nullptr;
      if (!interval.missing.empty()) to["missing"] = interval.missing;
    }
    json["quantities"].push_back(std::move(one));
  }
  json["covariance"] = {{"names", labels(b)}, {"replicates", b.jointly_finite}};
  json["covariance"]["values"] = Json::array();
  for (Eigen::Index i = 0; i < b.covariance.rows(); ++i) {
    const Eigen::RowVectorXd row = b.covariance.row(i);
    json["covariance"]["values"].push_back(std::vector<double>(row.begin(), row.end()));
  }
  json["status"] = Json::object();
  for (std::size_t i = 0; i < b.status.size(); ++i) json["status"][status_name(static_cast<Status>(i))] = b.status[i];
  json["singular"] = {{"any", b.singular}, {"by_term", Json::array()}};
  for (std::size_t t = 0; t < b.singular_by_term.size(); ++t)
    json["singular"]["by_term"].push_back(
        {{"term", r_formula(b.fit.model->random[t].text)}, {"replicates", b.singular_by_term[t]}});
  json["tier"] = nullptr;
  if (b.tier) json["tier"] = tier_name(*b.tier);
  json["backend"] = b.backend;
  json["threads"] = b.threads;
  json["seconds"] = b.seconds;
  json["replicates_per_second"] = b.replicates_per_second;
  json["stopped"] = nullptr;
  if (!b.stopped.empty()) json["stopped"] = b.stopped;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string fit_bootstrap_csv(const FitBootstrap& b) {
  std::vector<TidyRow> rows;
  for (const BootstrappedQuantity& q : b.quantities) {
    TidyRow row;
    row.effect = q.quantity.effect;
    row.group = q.quantity.group;
    row.term = q.quantity.term;
    row.estimate = q.estimate;
    row.std_error = q.std_error;
    if (!q.intervals.empty()) {
      row.conf_low = q.intervals.front().low;
      row.conf_high = q.intervals.front().high;
    }
    rows.push_back(std::move(row));
  }
  return tidy_csv(rows);
}

void write_fit_bootstrap_svg(const std::string& path, const FitBootstrap& b) {
  svg::Figure figure;
  figure.title = fmt::format("{}: {} replicates", title(b), b.used);
  figure.description = "Histograms of the replicates of " + r_formula(b.fit.model->formula) + ", a panel a quantity.";
  figure.columns = b.quantities.size() > 1 ? 2 : 1;
  figure.panel_width = 340;
  figure.panel_height = 200;
  for (std::size_t c = 0; c < b.quantities.size(); ++c) {
    const BootstrappedQuantity& q = b.quantities[c];
    const auto column = b.replicates.col(static_cast<Eigen::Index>(c));
    const ReplicateSample sample(std::vector<double>(column.begin(), column.end()));
    svg::Panel& panel = figure.panels.emplace_back(q.quantity.label, "", c % 2 == 0 ? "replicates" : "");
    if (sample.size() < 2 || !(sample.sorted().back() > sample.sorted().front())) continue;
    // Bins by Freedman and Diaconis (1981); what lies far out is left to the outermost bins.
    const std::vector<double>& sorted = sample.sorted();
    const double spread = sample.quantile(0.75) - sample.quantile(0.25);
    const double low = sample.quantile(0.0005), high = sample.quantile(0.9995);
    const double width = 2 * spread / std::cbrt(static_cast<double>(sample.size()));
    const auto bins = static_cast<std::size_t>(std::clamp(width > 0 ? (high - low) / width : 30.0, 10.0, 60.0));
    std::vector<double> edges(bins + 1), heights(bins, 0);
    for (std::size_t i = 0; i <= bins; ++i)
      edges[i] = low + (high - low) * static_cast<double>(i) / static_cast<double>(bins);
    for (const double v : sorted) {
      if (v < low || v > high) continue;
      const auto bin = static_cast<std::size_t>((v - low) / (high - low) * static_cast<double>(bins));
      heights[std::min(bin, bins - 1)] += 1;
    }
    panel.bars(edges, heights, {.color = svg::Color::muted, .opacity = 0.6});
    if (std::isfinite(q.estimate))
      panel.vertical_line(q.estimate, {.color = svg::Color::ink, .width = 1.5, .label = "estimate"});
    constexpr std::array<svg::Color, 4> colors{svg::Color::first, svg::Color::second, svg::Color::third,
                                               svg::Color::fourth};
    for (std::size_t i = 0; i < q.intervals.size(); ++i) {
      const Interval& interval = q.intervals[i];
      if (!interval.missing.empty()) continue;
      svg::Style style{.color = colors.at(i % colors.size()), .width = 1.5, .dashed = i >= colors.size()};
      style.label = interval_kind_name(b.options.intervals[i]);
      panel.vertical_line(interval.low, style);
      style.label.clear();
      panel.vertical_line(interval.high, style);
    }
  }
  svg::write_svg(path, figure);
}

}  // namespace batchlmm
