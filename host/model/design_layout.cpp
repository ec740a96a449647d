#include "host/model/design_layout.hpp"

#include <algorithm>
#include <cmath>

namespace batchlmm {

DesignLayout::DesignLayout(const Model& model) : shape_(model.shape()), schur_(model.plan().schur) {
  kernels::Shape& s = shape_;
  s.constant = 0;
  const int chain = static_cast<int>(model.plan().chain.size());
  for (int t = 1; t <= s.stages; ++t) {
    for (int j = 0; j < s.nodes[0]; ++j) node_of_[t].push_back(model.node_of(t, j));
    node_end_[t].assign(s.node_end[t], s.node_end[t] + s.nodes[t]);
    s.node_end[t] = node_end_[t].data();
  }
  // The streamed factor's positions, and through the rows the nodes of the factors that hold it.
  const std::vector<int>& order = model.plan().streamed_order;
  std::vector<int> position(order.size());
  for (std::size_t j = 0; j < order.size(); ++j) position[order[j]] = static_cast<int>(j);
  const std::vector<std::int32_t>& streamed_of_row = model.plan().chain[0].level_of_row;
  for (int b = 0; b < s.terms; ++b) {
    kernels::TermShape& term = s.term[b];
    term.scale = std::exp2(std::round(std::log2(term.scale)));
    term_of_.push_back(model.term_of(b));
    place_of_level_.emplace_back();
    if (term.stage >= chain) continue;
    std::vector<int>& place = place_of_level_.back();
    const PlanFactor& factor = model.plan().chain[term.stage];
    place.assign(factor.levels, 0);
    for (std::size_t i = 0; i < streamed_of_row.size(); ++i) {
      const int j = position[streamed_of_row[i]];
      place[factor.level_of_row[i]] = term.stage == 0 ? j : node_of_[term.stage][j];
    }
    if (term.stage == 0) streamed_term_ = b;
  }
}

bool DesignLayout::same_lanes(const DesignLayout& other) const {
  const kernels::Shape &a = shape_, &b = other.shape_;
  if (a.p != b.p || a.reml != b.reml || a.terms != b.terms || a.stages != b.stages) return false;
  for (int t = 0; t < a.terms; ++t) {
    const kernels::TermShape &x = a.term[t], &y = b.term[t];
    if (x.k != y.k || x.stage != y.stage || x.levels != y.levels || x.column != y.column || x.scale != y.scale)
      return false;
  }
  for (int t = 0; t <= a.stages; ++t)
    if (a.nodes[t] != b.nodes[t] || a.own[t] != b.own[t] || node_end_[t] != other.node_end_[t]) return false;
  return true;
}

std::size_t design_doubles(const kernels::Shape& s) {
  const std::size_t levels = s.nodes[0], K = s.own[0];
  std::size_t n = 1 + kernels::triangle_size(s.p) + levels * K * (K + s.columns() - 1);
  for (int t = 1; t <= s.stages; ++t)
    n += static_cast<std::size_t>(s.nodes[t]) * kernels::own_e_size(s.own[t], s.outer[t]);
  return n;
}

}  // namespace batchlmm
