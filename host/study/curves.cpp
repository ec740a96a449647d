#include "host/study/curves.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace batchlmm::study {
namespace {

std::map<std::string, std::string> short_names(const std::vector<std::string>& keys) {
  std::map<std::string, std::string> out;
  for (const std::string& key : keys) {
    std::string name = key.substr(key.rfind('.') + 1);
    const auto same = [&](const std::string& other) {
      return other != key && other.substr(other.rfind('.') + 1) == name;
    };
    out[key] = std::any_of(keys.begin(), keys.end(), same) ? key : name;
  }
  return out;
}

}  // namespace

const Estimand* find(const ReportCell& cell, const std::string& subject, const std::string& term,
                     const std::string& name) {
  for (const Estimand& e : cell.estimands)
    if (e.subject == subject && e.term == term && e.name == name) return &e;
  return nullptr;
}

std::string value_text(const GridValue& value) {
  return value.is_number ? fmt::format("{:g}", value.number) : value.text;
}

Curves::Curves(const std::vector<std::string>& grid_keys, const std::vector<ReportCell>& cells)
    : cells_(cells), names_(short_names(grid_keys)) {
  for (const std::string& key : grid_keys) {
    std::set<double> numbers;
    bool numeric = true;
    for (const ReportCell& cell : cells)
      for (const GridValue& value : cell.values)
        if (value.key == key) {
          numeric = numeric && value.is_number;
          numbers.insert(value.number);
        }
    if (numeric && numbers.size() > 1) axes_.push_back(key);
  }
}

std::vector<std::pair<std::string, std::string>> Curves::columns(const std::string& estimand) const {
  std::vector<std::pair<std::string, std::string>> out;
  for (const ReportCell& cell : cells_)
    for (const Estimand& e : cell.estimands)
      if (e.name == estimand && std::find(out.begin(), out.end(), std::pair(e.subject, e.term)) == out.end())
        out.emplace_back(e.subject, e.term);
  return out;
}

std::vector<Curves::Curve> Curves::along(const std::string& axis, const std::string& estimand,
                                         const std::pair<std::string, std::string>& column) const {
  std::vector<Curve> out;
  for (const ReportCell& cell : cells_) {
    const Estimand* e = find(cell, column.first, column.second, estimand);
    const auto value =
        std::find_if(cell.values.begin(), cell.values.end(), [&](const GridValue& v) { return v.key == axis; });
    if (e == nullptr || value == cell.values.end() || std::isnan(e->value)) continue;
    std::string where;
    for (const GridValue& other : cell.values)
      if (other.key != axis) where += (where.empty() ? "" : ", ") + name_of(other.key) + " = " + value_text(other);
    auto at = std::find_if(out.begin(), out.end(), [&](const Curve& curve) { return curve.where == where; });
    if (at == out.end()) at = out.insert(out.end(), {where, {}});
    at->points.push_back({value->number, e->value, std::isnan(e->mcse) ? 0 : e->mcse});
  }
  for (Curve& curve : out)
    std::stable_sort(curve.points.begin(), curve.points.end(),
                     [](const PowerPoint& a, const PowerPoint& b) { return a.x < b.x; });
  return out;
}

std::vector<ReachedPower> reached_power(const Curves& curves, double target) {
  std::vector<ReachedPower> out;
  for (const std::string& axis : curves.axes())
    for (const auto& column : curves.columns("rejection_rate"))
      for (const Curves::Curve& curve : curves.along(axis, "rejection_rate", column)) {
        // Where power falls, along an error's standard deviation for one, there is no smallest value.
        if (curve.points.size() < 2 || curve.points.back().rate < curve.points.front().rate) continue;
        if (const auto size = required_size(curve.points, target))
          out.push_back({column.first, curve.where, axis, *size});
      }
  return out;
}

}  // namespace batchlmm::study
