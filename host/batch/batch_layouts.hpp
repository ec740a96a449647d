/// @file
/// The designs that a batch knows, and which of them an item's own design shares a layout with.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/model/design_assembler.hpp"
#include "host/model/design_layout.hpp"
#include "host/model/response_rows.hpp"

namespace batchlmm {

/// A design with its layout.
struct KnownDesign {
  std::shared_ptr<const ModelMatrices> matrices;
  std::unique_ptr<Model> model;                ///< of designs that were given; those of items have the layout only
  std::unique_ptr<const ResponseRows> rows;    ///< of designs that were given, where the model is not large
  std::unique_ptr<const DesignLayout> layout;  ///< null where the model is large
  int lanes = -1;                              ///< designs with this number stand in lanes side by side
  double degrees = 0;
  [[nodiscard]] bool is_large() const { return layout == nullptr; }
};

/// Per kernel term the layout's number of each of the design's levels; empty where they are the same.
using Renumbered = std::vector<std::vector<std::int32_t>>;

class BatchLayouts {
public:
  explicit BatchLayouts(Method method) : method_(method) {}

  /// Assembles a design and keeps it. @return its index among all that are known
  int add(std::shared_ptr<const ModelMatrices> design);
  /// The known design whose layout takes this one; a new one where there is none.
  /// @param[out] renumbered  empty vectors where the levels are the same
  int find(const std::shared_ptr<const ModelMatrices>& design, Renumbered& renumbered);
  [[nodiscard]] const KnownDesign& operator[](int index) const { return *known_[index]; }
  /// Designs of one number of lanes: the first of them.
  [[nodiscard]] const DesignLayout& lanes(int number) const { return *known_[first_of_lanes_[number]]->layout; }
  [[nodiscard]] int lanes() const { return static_cast<int>(first_of_lanes_.size()); }
  [[nodiscard]] Method method() const { return method_; }

private:
  int keep(std::unique_ptr<KnownDesign> known);
  [[nodiscard]] bool renumber(int index, const ModelMatrices& design, Renumbered& renumbered);

  Method method_;
  std::vector<std::unique_ptr<KnownDesign>> known_;
  std::vector<int> given_;     ///< by `add`
  std::vector<int> of_items_;  ///< by `find`
  std::vector<int> first_of_lanes_;
  /// Per given design and model term: number of each level's name.
  std::unordered_map<int, std::vector<std::unordered_map<std::string, std::int32_t>>> names_;
};

}  // namespace batchlmm
