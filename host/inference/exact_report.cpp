#include "host/inference/exact_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "host/data/write.hpp"
#include "host/inference/fit_notes.hpp"
#include "host/inference/parameters.hpp"
#include "host/inference/r_formula.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm {
namespace {

using Json = nlohmann::ordered_json;

const char* statistic_name(const ExactTest& test) { return test.full.method == Method::reml ? "RLRT" : "LRT"; }

double share_of_zeros(const ExactTest& test) {
  return test.draws > 0 ? static_cast<double>(test.zeros) / static_cast<double>(test.draws) : 0;
}

double chi_square_density(int df, double x) {
  return std::exp((0.5 * df - 1) * std::log(x) - 0.5 * x - 0.5 * df * std::log(2.0) - std::lgamma(0.5 * df));
}

}  // namespace

std::string exact_text(const ExactTest& test, const std::string& data) {
  const RandomTerm& term = test.full.model->random[0];
  std::string out = fmt::format("Exact {} test of the variance of ({})\nData: {}\nModels:\n",
                                test.full.method == Method::reml ? "restricted likelihood-ratio" : "likelihood-ratio",
                                term.text, data);
  out += fmt::format("m0: {}\nm1: {}\n", test.null, r_formula(test.full.model->formula));
  out += missing_rows_note(test.full) + fit_notes(test.full, "m1: ");
  out += fmt::format("\n  {:<9}  {:.5g}\n", statistic_name(test), test.statistic);
  out += fmt::format("  p-value    {:.4g}, 95% Monte-Carlo interval {:.4g} to {:.4g}\n", test.p, test.interval[0],
                     test.interval[1]);
  if (!std::isnan(test.p_closed))
    out += fmt::format("  F law      p {:.6g}, probability of 0 {:.6g} (all eigenvalues are equal)\n", test.p_closed,
                       test.zero_closed);
  out += fmt::format("  mixture    p {:.4g} (half chi-square with {} and half with {} df, for large samples)\n",
                     test.p_mixture, test.dropped, test.dropped + 1);
  if (test.dropped > 0)
    out += fmt::format("  dropped    {} fixed {} tested together with the variance\n", test.dropped,
                       test.dropped == 1 ? "effect" : "effects");
  out += fmt::format("  draws      {}, seed {}; {} extreme, mean {:.4g}, share of zeros {:.4g}\n", test.draws,
                     test.seed, test.extreme, test.mean, share_of_zeros(test));
  if (!std::isnan(test.quantiles[0]))
    out += fmt::format("  quantiles  90% {:.4g}, 95% {:.4g}, 99% {:.4g}\n", test.quantiles[0], test.quantiles[1],
                       test.quantiles[2]);
  int count = 0;
  for (const Eigenvalue& e : test.eigenvalues) count += e.count;
  out += fmt::format("  spectrum   {} {}, {} distinct; {} draws searched for several minima\n", count,
                     count == 1 ? "eigenvalue" : "eigenvalues", test.eigenvalues.size(), test.searched);
  out += fmt::format("  time       {:.3g} s, {:.0f} draws per second ({} {})\n", test.seconds, test.draws_per_second,
                     test.threads, test.threads == 1 ? "thread" : "threads");
  return out;
}

std::string exact_json(const ExactTest& test) {
  const auto number = [](double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); };
  Json json;
  json["null"] = test.null;
  json["formula"] = r_formula(test.full.model->formula);
  json["nobs"] = test.full.model->y.size();
  json["dropped_rows"] = test.full.model->rows_dropped;
  json["method"] = test.full.method == Method::reml ? "REML" : "ML";
  json["converged"] = test.full.converged;
  json["criterion"] = {{"null", test.null_criterion}, {"full", test.full.criterion}};
  json["statistic"] = test.statistic;
  json["dropped_effects"] = test.dropped;
  json["p"] = test.p;
  json["p_interval"] = test.interval;
  json["p_f_law"] = number(test.p_closed);
  json["p_mixture"] = test.p_mixture;
  json["zero_f_law"] = number(test.zero_closed);
  json["draws"] = test.draws;
  json["extreme"] = test.extreme;
  json["zeros"] = test.zeros;
  json["searched"] = test.searched;
  json["mean"] = test.mean;
  json["quantiles"] = {
      {"90%", number(test.quantiles[0])}, {"95%", number(test.quantiles[1])}, {"99%", number(test.quantiles[2])}};
  json["eigenvalues"] = Json::array();
  for (const Eigenvalue& e : test.eigenvalues) json["eigenvalues"].push_back({{"value", e.value}, {"count", e.count}});
  json["seed"] = test.seed;
  json["threads"] = test.threads;
  json["seconds"] = test.seconds;
  json["draws_per_second"] = test.draws_per_second;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string exact_csv(const ExactTest& test) {
  const Parameter sd = model_parameters(*test.full.model).front();
  TidyRow row;
  row.effect = sd.effect;
  row.group = sd.group;
  row.term = sd.tidy_term;
  row.estimate = parameter_value(sd, test.full);
  row.statistic = test.statistic;
  row.p_value = test.p;
  return tidy_csv({row});
}

void write_draws(const ExactTest& test, const std::string& path) {
  TableWriter writer(path, {{"draw", OutputType::int64}, {"statistic", OutputType::float64}});
  constexpr std::size_t rows = 65536;
  std::vector<std::int64_t> index;
  for (std::size_t first = 0; first < test.statistics.size(); first += rows) {
    const std::size_t count = std::min(rows, test.statistics.size() - first);
    index.resize(count);
    for (std::size_t i = 0; i < count; ++i) index[i] = static_cast<std::int64_t>(first + i);
    const std::vector<OutputValues> values{std::span<const std::int64_t>(index),
                                           std::span<const double>(test.statistics.data() + first, count)};
    writer.append(values);
  }
  writer.close();
}

svg::Figure exact_figure(const ExactTest& test) {
  constexpr int bins = 60, curve = 240;
  const double end = std::max({1.1 * test.statistic, 1.5 * test.quantiles[2], 1.0});
  std::vector<double> edges(bins + 1), heights(bins, 0.0);
  for (int i = 0; i <= bins; ++i) edges[i] = end * i / bins;
  for (const double s : test.statistics)
    if (s > 0 && s < end) heights[static_cast<std::size_t>(std::min(bins - 1.0, s / end * bins))] += 1;
  for (double& h : heights) h /= static_cast<double>(test.draws) * end / bins;
  std::vector<double> x(curve), y(curve);
  for (int i = 0; i < curve; ++i) {
    x[i] = end * (i + 0.5) / curve;
    y[i] = 0.5 * chi_square_density(test.dropped + 1, x[i]);
    if (test.dropped > 0) y[i] += 0.5 * chi_square_density(test.dropped, x[i]);
  }
  const double highest = *std::max_element(heights.begin(), heights.end());
  for (double& d : y)
    if (d > 1.2 * highest) d = std::nan("");

  svg::Figure figure;
  figure.title = fmt::format("Null distribution of the {}: {}", statistic_name(test), test.full.model->formula);
  figure.description = fmt::format(
      "Histogram of {} exact draws above 0, the density of the 50:50 mixture of chi-squares, the observed statistic "
      "{:.5g} "
      "(p = {:.4g}).",
      test.draws, test.statistic, test.p);
  svg::Panel panel("", statistic_name(test), "density");
  svg::Style bars{svg::Color::first};
  bars.opacity = 0.6;
  bars.label = fmt::format("draws above 0 ({:.3g} % are 0)", 100 * share_of_zeros(test));
  panel.bars(edges, heights, bars);
  svg::Style line{svg::Color::second};
  line.label = "50:50 mixture of chi-squares";
  panel.line(x, y, line);
  svg::Style observed{svg::Color::ink};
  observed.dashed = true;
  observed.label = fmt::format("observed, p = {:.4g}", test.p);
  panel.vertical_line(test.statistic, observed);
  figure.panels.push_back(std::move(panel));
  figure.panel_width = 560;
  return figure;
}

}  // namespace batchlmm
