#include "host/inference/lrt_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "host/batch/tier.hpp"
#include "host/inference/fit_notes.hpp"
#include "host/inference/r_format.hpp"
#include "host/inference/r_formula.hpp"
#include "host/inference/r_print.hpp"

namespace batchlmm {
namespace {

using Json = nlohmann::ordered_json;

constexpr int digits = 5;  // R's print.anova: getOption("digits") - 2
constexpr std::array<const char*, 2> model_names{"m0", "m1"};

std::string anova_table(const LikelihoodRatioTest& test) {
  const std::array<const Fit*, 2> fits{&test.null, &test.full};
  const auto both = [&](auto value) {
    return r_format(r_zapsmall({value(*fits[0]), value(*fits[1])}, digits), digits);
  };
  TextMatrix table;
  table.right = true;
  table.row_names = {model_names.begin(), model_names.end()};
  table.column_names = {"npar", "AIC", "BIC", "logLik", "deviance", "Chisq", "Df", "Pr(>Chisq)"};
  table.columns = {
      both([](const Fit& fit) { return static_cast<double>(fit.parameters); }),
      both([](const Fit& fit) { return fit.aic; }),
      both([](const Fit& fit) { return fit.bic; }),
      both([](const Fit& fit) { return fit.log_likelihood; }),
      both([](const Fit& fit) { return fit.criterion; }),
      {"", r_number(r_round(test.statistic, digits - 1), digits)},
      {"", r_number(test.df, digits)},
      {"", std::isnan(test.p_chisq) ? "" : r_format_p_value(test.p_chisq, digits - 1)},
  };
  const bool starred = test.p_chisq < 0.1;
  if (starred) {
    const std::string star = r_stars(test.p_chisq);
    table.column_names.emplace_back();
    table.columns.push_back({std::string(star.size(), ' '), star});
  }
  return r_print(table) + (starred ? r_stars_legend : "");
}

std::string spaced(const char* status) {
  std::string text(status);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

std::string bootstrap_text(const BootstrapTest& bootstrap) {
  std::string by_status;
  for (std::size_t i = 0; i < bootstrap.status.size(); ++i) {
    by_status +=
        fmt::format("{}{} {}", i == 0 ? "" : ", ", spaced(status_name(static_cast<Status>(i))), bootstrap.status[i]);
  }
  std::string out =
      fmt::format("\nParametric bootstrap: {} replicates, seed {}\n", bootstrap.replicates, bootstrap.seed);
  if (!bootstrap.stopped.empty())
    out += fmt::format("  stopped    after {} of {} replicates: {}\n", bootstrap.replicates, bootstrap.asked,
                       bootstrap.stopped);
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
  return out;
}

}  // namespace

std::string lrt_text(const LikelihoodRatioTest& test, const std::string& data) {
  std::string out = "Data: " + data + "\nModels:\n";
  out += "m0: " + r_formula(test.null.model->formula) + "\n";
  out += "m1: " + r_formula(test.full.model->formula) + "\n";
  out += anova_table(test);
  out += missing_rows_note(test.full);
  out += fit_notes(test.null, "m0: ") + fit_notes(test.full, "m1: ");
  if (test.bootstrap) out += bootstrap_text(*test.bootstrap);
  return out;
}

std::string lrt_json(const LikelihoodRatioTest& test) {
  Json json;
  json["models"] = Json::array();
  const std::array<const Fit*, 2> fits{&test.null, &test.full};
  for (std::size_t i = 0; i < fits.size(); ++i) {
    const Fit& fit = *fits[i];
    json["models"].push_back({{"name", model_names[i]},
                              {"formula", r_formula(fit.model->formula)},
                              {"npar", fit.parameters},
                              {"AIC", fit.aic},
                              {"BIC", fit.bic},
                              {"logLik", fit.log_likelihood},
                              {"deviance", fit.criterion},
                              {"singular", fit.singular},
                              {"converged", fit.converged}});
  }
  json["nobs"] = test.full.model->y.size();
  json["dropped"] = test.full.model->rows_dropped;
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
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace batchlmm
