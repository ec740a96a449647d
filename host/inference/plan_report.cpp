#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "host/inference/plan.hpp"
#include "host/inference/r_formula.hpp"
#include "host/model/memory.hpp"

namespace batchlmm {
namespace {

using Json = nlohmann::ordered_json;

/// Three digits: "540", "9,240", "47.3 k", "1.27 M", "0.25 G".
std::string format_count(double x) {
  if (x < 9999.5) return fmt::format("{:.0f}", x);
  if (x < 999.5e3) return fmt::format("{:.3g} k", x / 1e3);
  if (x < 999.5e6) return fmt::format("{:.3g} M", x / 1e6);
  return fmt::format("{:.4g} G", x / 1e9);
}

std::string counted(std::size_t n, const std::string& what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

const char* elimination_name(Elimination elimination) {
  switch (elimination) {
    case Elimination::streamed:
      return "streamed";
    case Elimination::nested:
      return "streamed in turn, holds the one before";
    case Elimination::dense:
      return "dense Schur complement";
  }
  return "";
}

std::string line(const std::string& name, const std::string& value) {
  return fmt::format("  {:<22} {}\n", name, value);
}

std::string model_text(const PlannedModel& m) {
  const ModelMatrices& matrices = *m.matrices;
  std::string text = "Formula: " + r_formula(matrices.formula) + "\n";
  std::string rows = std::to_string(matrices.y.size());
  if (matrices.rows_dropped > 0)
    rows += fmt::format(" ({} left out for missing values)", counted(matrices.rows_dropped, "row"));
  text += line("rows", rows);
  text += line("fixed effects", std::to_string(m.fixed_effects));
  text += line("random effects",
               fmt::format("{} in {}, {} theta", m.random_effects, counted(matrices.random.size(), "term"), m.theta));
  for (const PlannedFactor& f : m.factors)
    text += line("  " + f.group, fmt::format("{} levels x {}: {}", f.levels, counted(f.columns, "column"),
                                             elimination_name(f.elimination)));
  text += line("Schur complement",
               m.schur == 0 ? "none" : counted(m.schur, "column") + (m.large ? ", by LAPACK" : ", dense"));
  if (m.large) {
    text += line("memory", format_bytes(m.replicate_bytes) + " at least");
    return text;
  }
  text += line("multiply-adds", fmt::format("value {}, with derivatives {}, Newton step {}", format_count(m.cost.value),
                                            format_count(m.cost.derivatives), format_count(m.cost.newton)));
  text += line("memory", fmt::format("{} of constants, {} a replicate in a lane", format_bytes(m.model_bytes),
                                     format_bytes(m.replicate_bytes)));
  return text;
}

Json model_json(const PlannedModel& m) {
  const ModelMatrices& matrices = *m.matrices;
  Json json;
  json["formula"] = r_formula(matrices.formula);
  json["rows"] = matrices.y.size();
  json["dropped"] = matrices.rows_dropped;
  json["fixed_effects"] = m.fixed_effects;
  json["random_effects"] = m.random_effects;
  json["theta"] = m.theta;
  json["factors"] = Json::array();
  for (const PlannedFactor& f : m.factors) {
    constexpr const char* names[] = {"streamed", "nested", "dense"};
    json["factors"].push_back({{"group", f.group},
                               {"levels", f.levels},
                               {"columns", f.columns},
                               {"elimination", names[static_cast<int>(f.elimination)]}});
  }
  json["schur"] = m.schur;
  json["large"] = m.large;
  if (!m.large) {
    json["multiply_adds"] = {
        {"value", m.cost.value}, {"with_derivatives", m.cost.derivatives}, {"newton_step", m.cost.newton}};
    json["constants_bytes"] = m.model_bytes;
  }
  json["replicate_bytes"] = m.replicate_bytes;
  return json;
}

}  // namespace

std::string plan_text(const Plan& plan, const std::string& data_name) {
  std::string text = "Data: " + data_name + "\n" + model_text(plan.model);
  if (plan.null) text += "Null model\n" + model_text(*plan.null);
  const PlannedBootstrap& b = plan.bootstrap;
  text += plan.null ? "Bootstrap of the likelihood-ratio test (ML)\n"
                    : fmt::format("Bootstrap of refits ({})\n", plan.method == Method::reml ? "REML" : "ML");
  if (!b.tier) {
    text += line("tier", "none: " + b.why);
  } else {
    text += line("tier", tier_name(*b.tier));
    for (const PassedOver& other : b.passed_over)
      text += line("  not " + std::string(tier_name(other.tier)), other.why);
    if (!b.facts.strata.empty()) {
      std::string strata;
      for (const auto& [order, copies] : b.facts.strata) strata += fmt::format("({} x {})", order, copies);
      text += line("strata", strata + ", order x copies");
      if (b.facts.completed_rows > 0)
        text += line("", counted(b.facts.completed_rows, "missing row") + " as indicator columns");
    }
    if (b.facts.evaluations > 0)
      text += line("evaluations", fmt::format("{:.1f} expected a replicate", b.facts.evaluations));
    if (b.facts.multiply_adds > 0)
      text += line("multiply-adds", format_count(b.facts.multiply_adds) + " expected a replicate, without the draw");
    if (b.thread_bytes > 0)
      text += line("memory", fmt::format("{} on {}, any number of replicates",
                                         format_bytes(plan.threads * b.thread_bytes), counted(plan.threads, "thread")));
  }
  text += "This machine\n";
  text += line("memory available", format_bytes(plan.memory_available));
  text += line("instruction set", fmt::format("{}, up to {} lanes", plan.isa, plan.lanes));
  text += line("multiply-adds", format_count(plan.multiply_adds_per_second) + " a second and thread (measured)");
  if (plan.ceiling() > 0)
    text += line("ceiling", format_count(plan.ceiling()) + " replicates a second and thread, were there nothing else");
  return text;
}

std::string plan_json(const Plan& plan) {
  Json json;
  json["method"] = plan.method == Method::reml ? "REML" : "ML";
  json["model"] = model_json(plan.model);
  if (plan.null) json["null"] = model_json(*plan.null);
  const PlannedBootstrap& b = plan.bootstrap;
  Json& bootstrap = json["bootstrap"];
  bootstrap["tier"] = b.tier ? Json(tier_name(*b.tier)) : Json();
  if (!b.tier) bootstrap["why"] = b.why;
  bootstrap["passed_over"] = Json::array();
  for (const PassedOver& other : b.passed_over)
    bootstrap["passed_over"].push_back({{"tier", tier_name(other.tier)}, {"why", other.why}});
  const auto known = [](double x) { return x > 0 ? Json(x) : Json(); };
  bootstrap["strata"] = Json::array();
  for (const auto& [order, copies] : b.facts.strata)
    bootstrap["strata"].push_back({{"order", order}, {"copies", copies}});
  bootstrap["completed_rows"] = b.facts.completed_rows;
  bootstrap["evaluations"] = known(b.facts.evaluations);
  bootstrap["multiply_adds"] = known(b.facts.multiply_adds);
  bootstrap["thread_bytes"] = b.thread_bytes;
  json["machine"] = {{"memory_available", plan.memory_available},
                     {"isa", plan.isa},
                     {"lanes", plan.lanes},
                     {"threads", plan.threads},
                     {"multiply_adds_per_second", plan.multiply_adds_per_second},
                     {"ceiling", known(plan.ceiling())}};
  return json.dump(2) + "\n";
}

}  // namespace batchlmm
