#include "host/model/elimination_plan.hpp"

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace batchlmm {
namespace {

/// The level of `outer` that each level of `inner` lies in, or empty when some level lies in several.
std::vector<std::int32_t> containing_level(const PlanFactor& inner, const PlanFactor& outer) {
  std::vector<std::int32_t> parent(inner.levels, -1);
  for (std::size_t i = 0; i < inner.level_of_row.size(); ++i) {
    std::int32_t& p = parent[inner.level_of_row[i]];
    if (p >= 0 && p != outer.level_of_row[i]) return {};
    p = outer.level_of_row[i];
  }
  return parent;
}

}  // namespace

EliminationPlan make_elimination_plan(const ModelMatrices& model) {
  std::vector<PlanFactor> factors;
  for (std::size_t t = 0; t < model.random.size(); ++t) {
    const RandomTerm& term = model.random[t];
    auto same = std::find_if(factors.begin(), factors.end(),
                             [&](const PlanFactor& f) { return f.level_of_row == term.level_of_row; });
    if (same == factors.end()) {
      factors.push_back({{}, static_cast<int>(term.levels.size()), 0, term.level_of_row});
      same = factors.end() - 1;
    }
    same->terms.push_back(static_cast<int>(t));
    same->columns += static_cast<int>(term.names.size());
  }
  EliminationPlan plan;
  const auto most_levels = [](const PlanFactor& a, const PlanFactor& b) { return a.levels < b.levels; };
  auto next = std::max_element(factors.begin(), factors.end(), most_levels);
  plan.chain.push_back(std::move(*next));
  factors.erase(next);
  // parents[t]: the level of chain[t + 1] that holds each level of chain[t]
  std::vector<std::vector<std::int32_t>> parents;
  while (true) {
    auto best = factors.end();
    std::vector<std::int32_t> best_parent;
    for (auto f = factors.begin(); f != factors.end(); ++f) {
      if (best != factors.end() && f->levels <= best->levels) continue;
      auto parent = containing_level(plan.chain.back(), *f);
      if (parent.empty()) continue;
      best = f;
      best_parent = std::move(parent);
    }
    if (best == factors.end()) break;
    plan.chain.push_back(std::move(*best));
    factors.erase(best);
    parents.push_back(std::move(best_parent));
  }
  plan.dense = std::move(factors);
  for (const PlanFactor& f : plan.dense) plan.schur += f.levels * f.columns;

  // Order the streamed levels by their place in the outermost factor of the chain, then the next, and so on.
  const int levels = plan.chain[0].levels;
  std::vector<std::vector<std::int32_t>> place(levels);
  for (int j = 0; j < levels; ++j) {
    std::int32_t at = j;
    place[j].push_back(at);
    for (const auto& parent : parents) place[j].push_back(at = parent[at]);
    std::reverse(place[j].begin(), place[j].end());
  }
  plan.streamed_order.resize(levels);
  std::iota(plan.streamed_order.begin(), plan.streamed_order.end(), 0);
  std::sort(plan.streamed_order.begin(), plan.streamed_order.end(), [&](int a, int b) { return place[a] < place[b]; });
  return plan;
}

}  // namespace batchlmm
