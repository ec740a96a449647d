/// @file
/// A study's results as files: cells.parquet and manifest.json.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/study/series.hpp"
#include "host/study/shards.hpp"
#include "host/study/study_file.hpp"

namespace batchlmm::study {

/// All of a cell.
struct CellResult {
  std::uint64_t cell = 0;
  std::uint64_t rows = 0;        ///< of its table
  std::uint64_t replicates = 0;  ///< that were used
  bool stopped = false;          ///< by the precision, before all replicates
  SeriesNames names;             ///< null: no piece yet
  std::vector<SeriesSums> sums;
};

/// Adds a cell's next piece. @return whether the cell needs no more: the precision is reached
/// @param precision  0: none
bool add_piece(CellResult& result, const PieceResult& piece, double precision);

/// The largest Monte-Carlo standard error of a rejection rate, by (x + 1) / (n + 2) in place of x / n so that none is
/// 0.
double rejection_error(const std::vector<SeriesName>& names, const std::vector<SeriesSums>& sums);

/// Writes cells.parquet row by row: cell, the grid's keys, rows, replicates, subject, term, estimand, value, mcse, n.
class CellWriter {
public:
  /// @throws OutputError
  CellWriter(const std::string& path, const StudyFile& study);
  ~CellWriter();
  void add(const CellResult& cell);
  /// Writes what is left; `close` then only renames. @throws OutputError
  void finish();
  void close();

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace batchlmm::study
