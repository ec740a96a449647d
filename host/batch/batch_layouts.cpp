#include "host/batch/batch_layouts.hpp"

#include <algorithm>

namespace batchlmm {
namespace {

/// Layouts of items' designs that a new item's is compared with.
constexpr std::size_t most_compared = 16;

/// As many fixed effects, and the same terms.
bool same_terms(const ModelMatrices& a, const ModelMatrices& b) {
  if (a.X.cols() != b.X.cols() || a.random.size() != b.random.size()) return false;
  for (std::size_t t = 0; t < a.random.size(); ++t)
    if (a.random[t].z.cols() != b.random[t].z.cols() || a.random[t].group != b.random[t].group) return false;
  return true;
}

bool same_levels(const ModelMatrices& a, const ModelMatrices& b) {
  for (std::size_t t = 0; t < a.random.size(); ++t)
    if (a.random[t].levels.size() != b.random[t].levels.size() || a.random[t].level_of_row != b.random[t].level_of_row)
      return false;
  return true;
}

}  // namespace

int BatchLayouts::keep(std::unique_ptr<KnownDesign> known) {
  if (!known->is_large()) {
    for (std::size_t l = 0; l < first_of_lanes_.size() && known->lanes < 0; ++l)
      if (known_[first_of_lanes_[l]]->layout->same_lanes(*known->layout)) known->lanes = static_cast<int>(l);
    if (known->lanes < 0) {
      known->lanes = lanes();
      first_of_lanes_.push_back(static_cast<int>(known_.size()));
    }
  }
  known_.push_back(std::move(known));
  return static_cast<int>(known_.size()) - 1;
}

int BatchLayouts::add(std::shared_ptr<const ModelMatrices> design) {
  auto known = std::make_unique<KnownDesign>();
  known->matrices = design;
  known->model = std::make_unique<Model>(std::move(design), method_);
  known->degrees = known->model->shape().degrees;
  if (!known->model->is_large()) {
    known->layout = std::make_unique<DesignLayout>(*known->model);
    known->rows = std::make_unique<const ResponseRows>(*known->model);
  }
  given_.push_back(keep(std::move(known)));
  return given_.back();
}

int BatchLayouts::find(const std::shared_ptr<const ModelMatrices>& design, Renumbered& renumbered) {
  renumbered.assign(design->random.size(), {});
  for (const int index : given_)
    if (same_terms(*known_[index]->matrices, *design) && same_levels(*known_[index]->matrices, *design)) return index;
  for (const int index : given_)
    if (!known_[index]->is_large() && renumber(index, *design, renumbered)) return index;
  for (std::size_t back = 1; back <= std::min(most_compared, of_items_.size()); ++back) {
    const int index = of_items_[of_items_.size() - back];
    if (same_terms(*known_[index]->matrices, *design) && same_levels(*known_[index]->matrices, *design)) return index;
  }
  auto known = std::make_unique<KnownDesign>();
  known->matrices = design;
  auto model = std::make_unique<Model>(design, method_);
  if (!model->is_large()) known->layout = std::make_unique<DesignLayout>(*model);
  of_items_.push_back(keep(std::move(known)));
  return of_items_.back();
}

bool BatchLayouts::renumber(int index, const ModelMatrices& design, Renumbered& renumbered) {
  const ModelMatrices& base = *known_[index]->matrices;
  const DesignLayout& layout = *known_[index]->layout;
  if (!same_terms(base, design)) return false;
  const std::size_t terms = base.random.size();
  auto& names = names_[index];
  if (names.empty())
    for (const RandomTerm& term : base.random) {
      names.emplace_back();
      for (std::size_t l = 0; l < term.levels.size(); ++l)
        names.back().emplace(term.levels[l], static_cast<std::int32_t>(l));
    }
  Renumbered numbers(terms);
  for (std::size_t b = 0; b < terms; ++b) {
    const int t = layout.term_of(static_cast<int>(b));
    for (const std::string& level : design.random[t].levels) {
      const auto found = names[t].find(level);
      if (found == names[t].end()) return false;
      numbers[b].push_back(found->second);
    }
  }
  // The same nesting.
  const int streamed = layout.streamed_term();
  const auto level_of = [&](int b, std::size_t i) {
    return numbers[b][design.random[layout.term_of(b)].level_of_row[i]];
  };
  for (int b = 0; b < static_cast<int>(terms); ++b) {
    if (b == streamed || layout.is_dense(b)) continue;
    const int stage = layout.shape().term[b].stage;
    for (std::size_t i = 0; i < design.random[0].level_of_row.size(); ++i) {
      const int position = layout.position_of(level_of(streamed, i)), place = layout.place_of(b, level_of(b, i));
      if (place != (stage == 0 ? position : layout.node_of(stage, position))) return false;
    }
  }
  renumbered = std::move(numbers);
  return true;
}

}  // namespace batchlmm
