// How often intervals of each kind, from each type of bootstrap, cover the truth: data sets drawn from a balanced
// design with known parameters, one bootstrap a data set. Prints JSON; bench/coverage.py runs it and writes the
// results.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "host/inference/fit_bootstrap.hpp"

namespace {

using namespace batchlmm;
using Json = nlohmann::ordered_json;

/// A balanced design, its truth, and how data are drawn from it.
struct Design {
  std::string name, words;
  int groups = 0, rows = 0;       ///< rows a group
  bool slopes = false;            ///< x = 0, 1, ... within each group, with a random slope
  Eigen::Vector2d beta{10, 0.5};  ///< mean (and slope)
  double tau = 1, slope_tau = 0, correlation = 0, sigma = 1;
  std::map<std::string, double> truth;
};

std::vector<Design> designs() {
  std::vector<Design> out(2);
  out[0] = {"one-way", "10 groups of 5 rows, y ~ 1 + (1 | g), sd 1, sigma 1", 10, 5, false, {10, 0}, 1, 0, 0, 1, {}};
  out[0].truth = {{"(Intercept)", 10}, {"sd_(Intercept)|g", 1}, {"sigma", 1}, {"ICC", 0.5}};
  out[1] = {"slopes", "18 groups of 8 rows, y ~ x + (x | g), sds 1 and 0.3, correlation 0.3, sigma 1",
            18,       8,
            true,     {10, 0.5},
            1,        0.3,
            0.3,      1,
            {}};
  out[1].truth = {
      {"(Intercept)", 10}, {"x", 0.5},  {"sd_(Intercept)|g", 1}, {"cor_x.(Intercept)|g", 0.3}, {"sd_x|g", 0.3},
      {"sigma", 1},        {"ICC", 0.5}};
  return out;
}

std::shared_ptr<const ModelMatrices> data_set(const Design& d, std::uint64_t seed) {
  auto m = std::make_shared<ModelMatrices>();
  const Eigen::Index n = static_cast<Eigen::Index>(d.groups) * d.rows, k = d.slopes ? 2 : 1;
  m->formula = d.slopes ? "y ~ x + (x | g)" : "y ~ 1 + (1 | g)";
  m->response = "y";
  m->y.resize(n);
  m->offset = Eigen::VectorXd::Zero(n);
  m->X = Eigen::MatrixXd::Ones(n, k);
  m->x_names = {"(Intercept)"};
  if (d.slopes) m->x_names.emplace_back("x");
  RandomTerm& term = m->random.emplace_back();
  term.group = "g";
  term.names = m->x_names;
  term.text = d.slopes ? "x | g" : "1 | g";
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> normal;
  for (int g = 0; g < d.groups; ++g) {
    term.levels.push_back(std::to_string(g));
    const double first = normal(rng), second = normal(rng);
    const double b = d.tau * first,
                 s = d.slope_tau * (d.correlation * first + std::sqrt(1 - d.correlation * d.correlation) * second);
    for (int i = 0; i < d.rows; ++i) {
      const Eigen::Index row = static_cast<Eigen::Index>(g) * d.rows + i;
      const double x = d.slopes ? i - 0.5 * (d.rows - 1) : 0;
      if (d.slopes) m->X(row, 1) = x;
      m->y[row] = d.beta[0] + b + x * (d.beta[1] + s) + d.sigma * normal(rng);
      m->rows.push_back(static_cast<std::size_t>(row));
      term.level_of_row.push_back(g);
    }
  }
  term.z = m->X;
  return m;
}

struct Count {
  std::uint64_t covered = 0, below = 0, above = 0, missing = 0;
  double length = 0;
};

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t sets = 1000, replicates = 999;
  int threads = 1;
  CLI::App app("Coverage of bootstrap intervals");
  app.add_option("--sets", sets, "Data sets a design (default 1000)");
  app.add_option("--replicates", replicates, "Replicates a data set (default 999)");
  app.add_option("--threads", threads, "CPU threads (default 1)");
  CLI11_PARSE(app, argc, argv);
  const std::vector<std::pair<BootstrapType, int>> types{{BootstrapType::parametric, 0}, {BootstrapType::residual, 0},
                                                         {BootstrapType::wild, 0},       {BootstrapType::cases, 0},
                                                         {BootstrapType::block, 0},      {BootstrapType::block, 1}};
  const std::vector<IntervalKind> kinds{IntervalKind::percentile,  IntervalKind::basic, IntervalKind::normal,
                                        IntervalKind::studentized, IntervalKind::bca,   IntervalKind::shortest};
  Json out{{"sets", sets}, {"replicates", replicates}, {"level", 0.95}, {"designs", Json::array()}};
  for (const Design& design : designs()) {
    Json of_design{{"name", design.name}, {"words", design.words}, {"types", Json::array()}};
    for (const auto& [type, reb_type] : types) {
      std::map<std::string, std::map<IntervalKind, Count>> counts;
      for (std::uint64_t s = 0; s < sets; ++s) {
        FitBootstrapOptions options;
        options.type = type;
        options.resample.reb_type = reb_type;
        options.replicates = replicates;
        options.seed = s + 1;
        options.threads = threads;
        options.backend = BackendChoice::cpu;
        options.intervals = kinds;
        options.expressions = {"ICC = `sd_(Intercept)|g`^2 / (`sd_(Intercept)|g`^2 + sigma^2)"};
        const FitBootstrap b = bootstrap_fit(data_set(design, 1'000'000 + s), Method::reml, options);
        for (const BootstrappedQuantity& q : b.quantities)
          for (std::size_t i = 0; i < kinds.size(); ++i) {
            const Interval& interval = q.intervals[i];
            Count& count = counts[q.quantity.label][kinds[i]];
            const double truth = design.truth.at(q.quantity.label);
            if (!interval.missing.empty()) {
              ++count.missing;
              continue;
            }
            count.below += truth < interval.low ? 1 : 0;
            count.above += truth > interval.high ? 1 : 0;
            count.covered += interval.low <= truth && truth <= interval.high ? 1 : 0;
            count.length += interval.high - interval.low;
          }
      }
      Json of_type{{"type", bootstrap_type_name(type)}, {"reb_type", nullptr}, {"quantities", Json::array()}};
      if (type == BootstrapType::block) of_type["reb_type"] = reb_type;
      for (const auto& [label, by_kind] : counts) {
        Json of_quantity{{"name", label}, {"truth", design.truth.at(label)}, {"intervals", Json::object()}};
        for (const auto& [kind, count] : by_kind) {
          const auto there = static_cast<double>(sets - count.missing);
          Json& to = of_quantity["intervals"][interval_kind_name(kind)];
          to = {{"coverage", nullptr},        {"mc_error", nullptr},      {"truth_below", count.below},
                {"truth_above", count.above}, {"missing", count.missing}, {"mean_length", nullptr}};
          if (there == 0) continue;
          const double share = static_cast<double>(count.covered) / there;
          to["coverage"] = share;
          to["mc_error"] = std::sqrt(share * (1 - share) / there);
          to["mean_length"] = count.length / there;
        }
        of_type["quantities"].push_back(std::move(of_quantity));
      }
      of_design["types"].push_back(std::move(of_type));
      std::fprintf(stderr, "%s %s %d\n", design.name.c_str(), bootstrap_type_name(type), reb_type);
    }
    out["designs"].push_back(std::move(of_design));
  }
  std::printf("%s\n", out.dump(1).c_str());
  return 0;
}
