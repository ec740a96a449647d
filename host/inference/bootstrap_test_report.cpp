#include "host/inference/bootstrap_test_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "host/batch/tier.hpp"
#include "host/inference/r_format.hpp"
#include "host/inference/r_print.hpp"

namespace batchlmm {
namespace {

using Json = nlohmann::ordered_json;

constexpr double none = TidyRow::none;

/// A share of zeros from which laws without an atom at 0 are said to fit badly.
constexpr double many_zeros = 0.05;

std::string spaced(const char* status) {
  std::string text(status);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

/// A row of the table of laws; NaN: an empty cell.
struct LawRow {
  std::string name;
  double statistic = none, df = none, ddf = none, p = none;
};

/// pbkrtest's rows in its order, and the mixture where that is the statistic's law.
std::vector<LawRow> law_rows(const LikelihoodRatioTest& test) {
  const double df = test.df, statistic = test.statistic;
  std::vector<LawRow> rows{{"LRT", statistic, df, none, test.p_chisq}};
  if (test.law.kind == LawKind::mixture) rows.push_back({"Mixture", statistic, none, none, test.p_law});
  if (!test.bootstrap) return rows;
  const ReplicateLaws& laws = test.bootstrap->laws;
  rows.push_back({"PBtest", statistic, none, none, test.bootstrap->p});
  rows.push_back({"Gamma", statistic, none, none, laws.p_gamma});
  rows.push_back({"Bartlett", laws.bartlett_statistic, df, none, laws.p_bartlett});
  rows.push_back({"F", laws.f_statistic, df, laws.f_ddf, laws.p_f});
  return rows;
}

/// R's `printCoefmat(x, tst.ind = 1, na.print = "", has.Pvalue = TRUE)`: the statistics to 4 decimals, the degrees of
/// freedom with the digits that the statistics beside them need.
std::string law_table(const std::vector<LawRow>& rows) {
  constexpr int digits = 5, test_digits = 4;
  const auto finite = [&](double LawRow::*column) {
    std::vector<double> values;
    for (const LawRow& row : rows)
      if (std::isfinite(row.*column)) values.push_back(row.*column);
    return values;
  };
  const auto in_rows = [&](double LawRow::*column, const std::vector<std::string>& texts) {
    std::vector<std::string> cells;
    std::size_t next = 0;
    for (const LawRow& row : rows) cells.push_back(std::isfinite(row.*column) ? texts[next++] : "");
    return cells;
  };
  std::vector<double> statistics = finite(&LawRow::statistic), dfs = finite(&LawRow::df), together = statistics;
  together.insert(together.end(), dfs.begin(), dfs.end());
  double least = std::numeric_limits<double>::infinity();
  for (const double value : together)
    if (value != 0) least = std::min(least, std::abs(value));
  const int places =
      std::max(1, digits - 1 - (std::isfinite(least) ? static_cast<int>(std::floor(std::log10(least))) : 0));
  for (double& value : together) value = r_round(value, places);
  const std::vector<std::string> both = r_format(together, digits);
  for (double& value : statistics) value = r_round(value, test_digits);

  TextMatrix table;
  table.right = true;
  for (const LawRow& row : rows) table.row_names.push_back(row.name);
  table.column_names = {"stat", "df", "ddf", "p.value"};
  const std::vector<double> p = finite(&LawRow::p);
  table.columns = {in_rows(&LawRow::statistic, r_format(statistics, digits)),
                   in_rows(&LawRow::df, {both.end() - static_cast<std::ptrdiff_t>(dfs.size()), both.end()}),
                   in_rows(&LawRow::ddf, r_format(finite(&LawRow::ddf), digits)),
                   in_rows(&LawRow::p, r_format_p_values(p, test_digits))};
  std::vector<double> by_row;
  for (const LawRow& row : rows) by_row.push_back(row.p);
  const std::string legend = add_stars(table, by_row);
  return r_print(table) + legend;
}

std::string rule_text(const BootstrapTest& bootstrap) {
  std::string rule;
  if (bootstrap.rule.extremes > 0)
    rule = fmt::format("{} extreme replicate{}", bootstrap.rule.extremes, bootstrap.rule.extremes == 1 ? "" : "s");
  if (bootstrap.rule.precision > 0)
    rule += fmt::format("{}relative standard error of the p-value below {:.4g}", rule.empty() ? "" : " or ",
                        bootstrap.rule.precision);
  if (!bootstrap.rule_met) return fmt::format("  ends at    {}: not met\n", rule);
  return fmt::format("  ends at    {}: met after {} of at most {} replicates\n", rule, bootstrap.replicates,
                     bootstrap.asked);
}

std::string law_notes(const LikelihoodRatioTest& test) {
  const BootstrapTest& bootstrap = *test.bootstrap;
  std::string out;
  if (bootstrap.share_zero >= many_zeros)
    out += fmt::format("  ({:.3g}% of the replicates' statistics are 0: Gamma, Bartlett and F have no such share)\n",
                       100 * bootstrap.share_zero);
  if (bootstrap.used > 0 && std::isnan(bootstrap.laws.f_ddf))
    out += fmt::format("  (no F: the replicates' mean over df is {:.4g}, that of an F law is above 1)\n",
                       bootstrap.laws.mean / test.df);
  return out;
}

}  // namespace

std::string bootstrap_text(const LikelihoodRatioTest& test, const std::string& of) {
  if (!test.bootstrap) return {};
  const BootstrapTest& bootstrap = *test.bootstrap;
  std::string by_status;
  for (std::size_t i = 0; i < bootstrap.status.size(); ++i) {
    by_status +=
        fmt::format("{}{} {}", i == 0 ? "" : ", ", spaced(status_name(static_cast<Status>(i))), bootstrap.status[i]);
  }
  std::string out =
      fmt::format("\nParametric bootstrap{}: {} replicates, seed {}\n", of, bootstrap.replicates, bootstrap.seed);
  if (!bootstrap.stopped.empty())
    out += fmt::format("  stopped    after {} of {} replicates: {}\n", bootstrap.replicates, bootstrap.asked,
                       bootstrap.stopped);
  if (bootstrap.rule.is_set()) out += rule_text(bootstrap);
  out += fmt::format("  p-value    {:.4g}, 95% Monte-Carlo interval {:.4g} to {:.4g}\n", bootstrap.p,
                     bootstrap.interval[0], bootstrap.interval[1]);
  out += fmt::format("  used       {} of {}\n", bootstrap.used, bootstrap.replicates);
  if (bootstrap.used < bootstrap.replicates) {
    out += fmt::format("  not used   {}: their fits failed (see status); the p-value does not count them\n",
                       bootstrap.replicates - bootstrap.used);
  }
  out += fmt::format("  extreme    {} (statistic at least as large as the observed one)\n", bootstrap.extreme);
  out +=
      fmt::format("  statistic  mean {:.4g}, share of zeros {:.4g}\n", bootstrap.mean_statistic, bootstrap.share_zero);
  out += fmt::format("  singular   null {}, full {}\n", bootstrap.singular_null, bootstrap.singular_full);
  out += fmt::format("  status     {}\n", by_status);
  out += fmt::format("  time       {:.3g} s, {:.0f} replicates per second ({}, {} {}, {} tier)\n", bootstrap.seconds,
                     bootstrap.replicates_per_second, bootstrap.backend, bootstrap.threads,
                     bootstrap.threads == 1 ? "thread" : "threads", tier_name(bootstrap.tier));
  return out + "\n" + law_table(law_rows(test)) + law_notes(test);
}

std::string law_note(const LikelihoodRatioTest& test, const std::string& name) {
  if (test.law.kind == LawKind::chi_square) return {};
  return fmt::format("{}: reference law {}, p = {}\n", name, test.law.description(), r_format_p_value(test.p_law, 4));
}

void add_test_json(Json& json, const LikelihoodRatioTest& test) {
  json["statistic"] = test.statistic;
  json["df"] = test.df;
  json["p_chisq"] = test.p_chisq;
  if (!test.bootstrap) {
    json["replicates"] = 0;
    for (const char* key :
         {"used", "extreme", "p_bootstrap", "p_bootstrap_interval", "mean_statistic", "share_zero", "status",
          "singular", "tier", "backend", "threads", "seconds", "replicates_per_second", "seed", "stopped"}) {
      json[key] = nullptr;
    }
  } else {
    const BootstrapTest& bootstrap = *test.bootstrap;
    json["replicates"] = bootstrap.replicates;
    json["used"] = bootstrap.used;
    json["extreme"] = bootstrap.extreme;
    json["p_bootstrap"] = bootstrap.p;
    json["p_bootstrap_interval"] = bootstrap.interval;
    json["mean_statistic"] = bootstrap.mean_statistic;
    json["share_zero"] = bootstrap.share_zero;
    json["status"] = Json::object();
    for (std::size_t i = 0; i < bootstrap.status.size(); ++i) {
      json["status"][status_name(static_cast<Status>(i))] = bootstrap.status[i];
    }
    json["singular"] = {{"null", bootstrap.singular_null}, {"full", bootstrap.singular_full}};
    json["tier"] = tier_name(bootstrap.tier);
    json["backend"] = bootstrap.backend;
    json["threads"] = bootstrap.threads;
    json["seconds"] = bootstrap.seconds;
    json["replicates_per_second"] = bootstrap.replicates_per_second;
    json["seed"] = bootstrap.seed;
    json["stopped"] = nullptr;
    if (!bootstrap.stopped.empty()) json["stopped"] = bootstrap.stopped;
  }
  json["reference_law"] = {{"kind", test.law.kind == LawKind::chi_square ? "chi-square"
                                    : test.law.kind == LawKind::mixture  ? "mixture"
                                                                         : "none"},
                           {"df", test.law.df},
                           {"fixed_effects", test.law.fixed_effects},
                           {"variances", test.law.variances},
                           {"covariances", test.law.covariances},
                           {"p", test.p_law}};
  json["stopping_rule"] = nullptr;
  json["laws"] = nullptr;
  if (!test.bootstrap) return;
  const BootstrapTest& bootstrap = *test.bootstrap;
  const ReplicateLaws& laws = bootstrap.laws;
  if (bootstrap.rule.is_set()) {
    json["stopping_rule"] = {
        {"extremes", nullptr}, {"precision", nullptr}, {"met", bootstrap.rule_met}, {"at_most", bootstrap.asked}};
    if (bootstrap.rule.extremes > 0) json["stopping_rule"]["extremes"] = bootstrap.rule.extremes;
    if (bootstrap.rule.precision > 0) json["stopping_rule"]["precision"] = bootstrap.rule.precision;
  }
  json["laws"] = {{"mean", laws.mean},
                  {"variance", laws.variance},
                  {"gamma", {{"shape", laws.gamma_shape}, {"scale", laws.gamma_scale}, {"p", laws.p_gamma}}},
                  {"bartlett", {{"statistic", laws.bartlett_statistic}, {"p", laws.p_bartlett}}},
                  {"F", {{"statistic", laws.f_statistic}, {"ddf", laws.f_ddf}, {"p", laws.p_f}}}};
}

void add_test_rows(std::vector<TidyRow>& rows, const LikelihoodRatioTest& test, const std::string& term) {
  for (const LawRow& law : law_rows(test)) {
    TidyRow row;
    row.effect = law.name == "LRT"       ? "chi-square"
                 : law.name == "Mixture" ? "mixture"
                 : law.name == "PBtest"  ? "bootstrap"
                                         : law.name;
    row.term = term;
    row.statistic = law.statistic;
    row.df = law.name == "F" ? law.ddf : law.df;
    row.p_value = law.p;
    if (law.name == "PBtest") {
      row.conf_low = test.bootstrap->interval[0];
      row.conf_high = test.bootstrap->interval[1];
    }
    rows.push_back(row);
  }
}

}  // namespace batchlmm
