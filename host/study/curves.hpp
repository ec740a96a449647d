/// @file
/// What the cells of a study say along its numeric grid keys, and where power curves reach their target.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "host/study/power.hpp"
#include "host/study/series.hpp"
#include "host/study/study_file.hpp"

namespace batchlmm::study {

/// A cell with its grid values and what was estimated in it.
struct ReportCell {
  std::uint64_t cell = 0, rows = 0, replicates = 0;
  std::vector<GridValue> values;
  std::vector<Estimand> estimands;
};

const Estimand* find(const ReportCell& cell, const std::string& subject, const std::string& term,
                     const std::string& name);

/// "0.5"; a text as it stands
std::string value_text(const GridValue& value);

class Curves {
public:
  /// @param cells  must outlive this
  Curves(const std::vector<std::string>& grid_keys, const std::vector<ReportCell>& cells);

  /// The last part of a key where that tells it from the others: "item" of "design.units.item".
  [[nodiscard]] const std::string& name_of(const std::string& key) const { return names_.at(key); }
  /// Keys with several numbers.
  [[nodiscard]] const std::vector<std::string>& axes() const { return axes_; }
  /// What there is of an estimand, in order of appearance: (subject, term).
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> columns(const std::string& estimand) const;

  struct Curve {
    std::string where;               ///< "item = 12, effect = 0.5": what its cells share
    std::vector<PowerPoint> points;  ///< by ascending value of the axis
  };
  /// Curves along an axis, by what is the same in their cells otherwise.
  /// @param column  of `columns`
  [[nodiscard]] std::vector<Curve> along(const std::string& axis, const std::string& estimand,
                                         const std::pair<std::string, std::string>& column) const;

private:
  const std::vector<ReportCell>& cells_;
  std::map<std::string, std::string> names_;
  std::vector<std::string> axes_;
};

/// A power curve that reaches the target.
struct ReachedPower {
  std::string test, where;
  std::string key;  ///< of the grid, along which it does
  RequiredSize size;
};
/// Of all tests, along all axes on which power does not fall.
std::vector<ReachedPower> reached_power(const Curves& curves, double target);

}  // namespace batchlmm::study
