/// @file
/// Study files (TOML): a specification, and the grid of values that makes it many cells.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/study/specification.hpp"

namespace batchlmm::study {

/// A place in the grid and what it is called in results: "truth.beta.condition" = 25. Paths with commas between them
/// have the same value.
struct GridValue {
  std::string key;
  bool is_number = true;
  double number = 0;
  std::string text;  ///< where it is no number: a string as it is, anything else as TOML
};

/// Everything in the file is checked once: unknown keys (with the nearest known one), types and ranges, with line and
/// column. Cells are made from it one by one.
class StudyFile {
public:
  /// @throws InputError  "FILE:LINE:COLUMN: ..."
  static StudyFile read(const std::string& path);
  /// @param name  stands for the file in messages
  static StudyFile parse(std::string text, std::string name);
  StudyFile(StudyFile&&) noexcept;
  StudyFile& operator=(StudyFile&&) noexcept;
  ~StudyFile();

  /// The file's bytes.
  [[nodiscard]] const std::string& text() const;
  /// Number of cells: the product of the grid's lists, or the length of its list of cells; 1 without a grid.
  [[nodiscard]] std::uint64_t cells() const;
  /// Keys of the grid, in the file's order.
  [[nodiscard]] const std::vector<std::string>& grid_keys() const;
  /// Per key: its values are numbers in every cell.
  [[nodiscard]] std::vector<bool> grid_numeric() const;
  /// Values at a cell; the last key varies fastest. A key that a cell of a list does not have is left out.
  [[nodiscard]] std::vector<GridValue> grid_values(std::uint64_t cell) const;
  /// Groups of cells that have all but values of the truth in common: the product of the grid's other lists; a list of
  /// cells has one for each.
  [[nodiscard]] std::uint64_t groups() const;
  /// The first cell of a group. @param group  0 .. groups() - 1
  [[nodiscard]] std::uint64_t first_cell(std::uint64_t group) const;
  /// @throws InputError  where the grid's value at this cell cannot be used
  [[nodiscard]] Specification specification(std::uint64_t cell) const;

private:
  friend class CellReader;
  class Impl;
  explicit StudyFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Reads cells one after another: what one has in common with the one before is not read again. One a thread.
class CellReader {
public:
  /// @param study  kept by reference
  explicit CellReader(const StudyFile& study) : study_(study) {}
  /// @throws InputError as StudyFile::specification
  const Specification& read(std::uint64_t cell);
  /// The last one differs from the one before in its truth alone.
  [[nodiscard]] bool only_truth_changed() const { return only_truth_changed_; }

private:
  const StudyFile& study_;
  std::optional<std::uint64_t> at_;
  bool only_truth_changed_ = false;
  Specification specification_;
};

}  // namespace batchlmm::study
