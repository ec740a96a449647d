/// @file
/// Draws responses from a study's truth.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "host/data/table.hpp"
#include "host/inference/fit.hpp"
#include "host/model/model_matrices.hpp"
#include "host/study/design.hpp"
#include "host/study/specification.hpp"

namespace batchlmm::study {

/// The truth's parameters in one replicate.
struct TrueValues {
  Eigen::VectorXd beta;                 ///< p
  std::vector<Eigen::MatrixXd> factor;  ///< per term k x k: a factor of the random effects' covariance matrix
  double sigma = 0;
};

/// What a truth's formula and table make, and the fit that its values are taken from: the same for all values.
struct TruthModel {
  /// The design's table with the response's column, for other models on the same rows; values there are not missing
  /// exactly where responses are drawn.
  Table table;
  std::shared_ptr<const ModelMatrices> model;  ///< over the rows that responses are drawn for
  std::shared_ptr<const Fit> source;           ///< of Truth::from_fit; null: none
};

/// @param folder  paths of the specification are relative to it
/// @throws InputError with the place in the study file where the formula does not fit the table
TruthModel make_truth_model(const Truth& truth, const DesignTable& design, const std::string& folder);

/// A replicate is a pure function of (specification, seed, index). What does not change from replicate to replicate is
/// computed once; `draw` may be called from several threads.
class Simulator {
public:
  /// @param truth  made of the specification's; kept by reference
  /// @throws InputError with the place in the study file: a coefficient without a value, a name that is none of a
  ///                    coefficient
  Simulator(const Specification& specification, const TruthModel& truth);

  [[nodiscard]] const ModelMatrices& model() const { return *truth_.model; }
  [[nodiscard]] const Table& table() const { return truth_.table; }
  /// Every parameter is the same in all replicates.
  [[nodiscard]] bool fixed_truth() const { return fixed_; }
  [[nodiscard]] TrueValues values(std::uint64_t seed, std::uint64_t replicate) const;
  /// @param y      n, as model().y
  /// @param other  not null: the truth's model on a table whose covariates were drawn anew
  void draw(std::uint64_t seed, std::uint64_t replicate, std::span<double> y,
            const ModelMatrices* other = nullptr) const;
  [[nodiscard]] bool has_missing() const { return !response_.missing.empty(); }
  /// Rows that are missing in a replicate, ascending.
  [[nodiscard]] std::vector<std::size_t> missing_rows(std::uint64_t seed, std::uint64_t replicate) const;

private:
  void take_fit(const Truth& truth);
  void take_values(const Truth& truth);

  Response response_;
  const TruthModel& truth_;
  struct Term {
    std::vector<Quantity> sd;           ///< k
    std::vector<Quantity> correlation;  ///< packed below the diagonal, row by row
    Law law;
  };
  std::vector<Quantity> beta_;
  std::vector<Term> terms_;
  Quantity sigma_;
  bool fixed_ = true;
  TrueValues values_;          ///< where they are fixed
  Eigen::VectorXd mean_;       ///< X beta + offset, where it is fixed
  std::vector<double> ratio_;  ///< per row: of the error's standard deviation to sigma; empty: 1
  std::vector<std::vector<std::int32_t>> missing_unit_;  ///< per rule of missingness: per row the unit's level
  std::vector<std::int32_t> missing_units_;              ///< and their numbers
};

}  // namespace batchlmm::study
