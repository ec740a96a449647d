/// @file
/// What a study keeps of its replicates: sums over series of numbers, from which every estimand and its Monte-Carlo
/// standard error follow.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace batchlmm::study {

/// What a series of numbers, one a replicate at most, is of.
enum class Measure : std::uint8_t {
  rejected,       ///< 1 where the test's p-value is below alpha, else 0
  covered,        ///< 1 where the interval holds the true value
  width,          ///< of the interval
  estimate,       ///< of a parameter
  error,          ///< estimate minus truth
  squared_error,  ///< its square
  variance,       ///< squared standard error
  singular,       ///< 1 where the fit is singular
  chosen,         ///< 1 where a selection chose this model
  status          ///< 1 where the fit ended so; `term` names the status
};

/// One series.
struct SeriesName {
  std::string subject;  ///< a model, a test or a selection
  std::string term;     ///< a coefficient, "sd_Days|Subject", a contrast, a status, a chosen model; may be empty
  Measure measure = Measure::estimate;
  bool operator==(const SeriesName&) const = default;
};

/// Names of a cell's series: most cells have the same, and share them.
using SeriesNames = std::shared_ptr<const std::vector<SeriesName>>;
inline bool same_names(const SeriesNames& a, const SeriesNames& b) { return a == b || (a && b && *a == *b); }

/// Sums over a series. Added up in the replicates' order within a shard and in the shards' order, so that they have the
/// same bits however the work was divided.
struct SeriesSums {
  double n = 0, sum = 0, squares = 0;
  void add(double x) {
    n += 1;
    sum += x;
    squares += x * x;
  }
  void add(const SeriesSums& more) {
    n += more.n;
    sum += more.sum;
    squares += more.squares;
  }
};

/// What is reported.
struct Estimand {
  std::string subject, term;
  /// "rejection_rate", "coverage", "width", "mean", "bias", "rmse", "empirical_se", "model_se", "singular_share",
  /// "selection_rate", "status_share"
  std::string name;
  double value = 0;
  double mcse = 0;  ///< Monte-Carlo standard error; NaN where it cannot be told
  std::uint64_t n = 0;
};

/// All estimands of the series, in their order. Monte-Carlo standard errors by Morris, White and Crowther (2019),
/// Table 6.
std::vector<Estimand> estimands(const std::vector<SeriesName>& names, const std::vector<SeriesSums>& sums);
/// The same, handed out one by one: what it is of, its name, and Estimand's value, mcse and n. Which there are, and in
/// which order, depends on the names alone.
void for_estimands(
    const std::vector<SeriesName>& names, const std::vector<SeriesSums>& sums,
    const std::function<void(const SeriesName& of, const char* name, double value, double mcse, double n)>& take);

/// Standard error of the mean of a series; NaN below two numbers.
double mean_error(const SeriesSums& sums);

}  // namespace batchlmm::study
