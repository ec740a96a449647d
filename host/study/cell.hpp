/// @file
/// Runs replicates of one cell: draws responses, fits the models, tests, and adds up what the study reports.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "host/batch/tiers.hpp"
#include "host/study/series.hpp"
#include "host/study/specification.hpp"

namespace batchlmm::study {

/// What a replicate leaves beside sums, where it is kept: one number of one series' kind.
struct ReplicateValue {
  std::uint64_t replicate = 0;
  std::uint32_t value = 0;  ///< index into Cell::value_names()
  double number = 0;
};

/// A number that is kept of every replicate.
struct ValueName {
  std::string subject, term, name;  ///< "max", "condition", "estimate"; "lrt", "", "p"; "max", "", "status"
};

/// A model that is fitted in every replicate.
struct FittedName {
  std::string model;
  Method method = Method::reml;
  Tier tier = Tier::streaming;
};

/// Designs and their batches, shared by cells that differ in their truth alone. Not thread-safe.
class DesignCache {
public:
  DesignCache();
  ~DesignCache();
  DesignCache(const DesignCache&) = delete;
  DesignCache& operator=(const DesignCache&) = delete;

private:
  friend class Cell;
  struct Prepared;
  std::vector<std::pair<std::string, std::unique_ptr<Prepared>>> kept_;
};

/// One cell, ready to run. The cache must outlive it, and one cell of a cache runs at a time.
class Cell {
public:
  /// @param folder  paths of the study are relative to it
  /// @param seed    of the cell
  /// @throws InputError with the place in the study file: a model that does not fit the table, ...
  Cell(Specification specification, const std::string& folder, std::uint64_t seed, DesignCache& cache);
  ~Cell();
  Cell(Cell&&) noexcept;
  Cell& operator=(Cell&&) noexcept;

  /// Makes it the cell of another truth, where that takes no more than other values.
  /// @return false, and nothing is changed, where the truth's formula or the fit that it is taken from is another
  bool take_truth(const Truth& truth, std::uint64_t seed);

  [[nodiscard]] const Specification& specification() const;
  [[nodiscard]] std::uint64_t rows() const;
  /// Names of the sums.
  [[nodiscard]] const std::vector<SeriesName>& series() const;
  /// The same, to be shared.
  [[nodiscard]] SeriesNames series_names() const;
  /// Names of what is kept of a replicate.
  [[nodiscard]] const std::vector<ValueName>& value_names() const;
  /// What is fitted in every replicate, and how.
  [[nodiscard]] std::vector<FittedName> fits() const;
  /// Bytes that a run of so many replicates takes on so many threads, with what is held for it.
  [[nodiscard]] double memory(std::uint64_t count, int threads) const;
  /// Runs replicates first .. first + count - 1.
  /// @param threads  0: all cores
  /// @param keep     called for every number of every replicate, in order; may be empty
  /// @return sums over these replicates, one a series; the same bits for any number of threads
  std::vector<SeriesSums> run(std::uint64_t first, std::uint64_t count, int threads,
                              const std::function<void(const ReplicateValue&)>& keep = {});

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The seed of a cell: the study's own, or a hash of it and the cell's number.
std::uint64_t cell_seed(const Specification& specification, std::uint64_t cell);

}  // namespace batchlmm::study
