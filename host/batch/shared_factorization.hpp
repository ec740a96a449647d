/// @file
/// The tables of the shared factorization (kernels/interpolant.hpp): once per model, or per pair of models that differ
/// in fixed effects only.
#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <string>
#include <vector>

#include "host/model/model.hpp"
#include "kernels/interpolant_job.hpp"

namespace batchlmm {

/// Tables of one model (or pair), accurate to 1e-9 in deviance within a box of variance ratios around the generating
/// ones.
class SharedFactorization {
public:
  /// @param model   gives the response vectors; by ML, or by REML where nothing is tested
  /// @param x       columns of the smaller model's X in the gauge of `model`'s X (p x p0, orthonormal): what is left of
  ///                `model`'s X is tested
  /// @param lambda  generating factors of the model's terms, kernels' order and gauge
  /// @throws ModelError  saying why, where the model is not for this tier (`obstacle`), or where the interpolant does
  ///                     not reach its accuracy
  SharedFactorization(const Model& model, const Eigen::MatrixXd& x, const std::vector<double>& lambda);
  SharedFactorization(const SharedFactorization&) = delete;
  SharedFactorization& operator=(const SharedFactorization&) = delete;

  [[nodiscard]] const kernels::Interpolant& interpolant() const { return interpolant_; }
  /// Largest error of the deviance that was found against exact evaluations, on responses drawn at the generating
  /// variance ratios, at none, and at the far edge of each.
  [[nodiscard]] double error() const { return error_; }
  /// Multiply-adds that a replicate needs, without those of its draw.
  [[nodiscard]] double operations() const;
  /// Of the tables, which every replicate reads.
  [[nodiscard]] std::size_t bytes() const;

  /// Why this tier does not take the model; empty where it may.
  static std::string obstacle(const Model& model);
  /// Multiply-adds that a replicate will need about, before any table is made.
  /// @param tested  fixed effects that only the larger of two models has
  static double predicted_operations(const Model& model, int tested);

private:
  struct State;
  /// One term: kernels::InterpolantLevel with its memory.
  struct Level {
    int term = 0;
    std::vector<int> columns;  ///< Z's, as entries of the response vector
    double scale = 1, upper = 1;
    int nodes = 0;
    double held_out_node = 0;
    std::vector<double> node, weight, held_out;
    std::vector<int> parent;
    std::vector<double> rotation, shrink, tested;
    /// Variance ratio at a node or, after them, at what is held out.
    [[nodiscard]] double ratio(int abscissa) const;
    void place_nodes(int count);
  };

  void cross_products();
  void list_terms();
  void choose_box(const std::vector<double>& lambda);
  void choose_nodes(const std::vector<std::vector<double>>& responses);
  void make_tables();
  [[nodiscard]] std::vector<State> add_level(std::size_t index, const std::vector<State>& parents);
  [[nodiscard]] std::vector<std::vector<double>> sample_responses(const std::vector<double>& lambda) const;
  [[nodiscard]] double measure_error(const std::vector<std::vector<double>>& responses) const;
  [[nodiscard]] Eigen::Index tested() const { return tested_.cols(); }

  const Model& model_;
  Eigen::MatrixXd x_, tested_;     ///< smaller model's and tested columns, in the gauge of the model's X
  Eigen::MatrixXd gram_;           ///< cross-products of Z's and X's columns, by entries of the response vector
  Eigen::MatrixXd from_response_;  ///< Z'y and X'y, by the same entries, from a response vector
  std::vector<Level> levels_;
  std::vector<double> root_, determinant_, tested_root_, held_out_row_;
  kernels::Interpolant interpolant_;
  double error_ = 0;
};

}  // namespace batchlmm
