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
  static constexpr double default_reach = 6;

  /// @param model   gives the response vectors; by ML, or by REML where nothing is tested
  /// @param x       columns of the smaller model's X in the gauge of `model`'s X (p x p0, orthonormal): what is left of
  ///                `model`'s X is tested
  /// @param lambda  generating factors of the model's terms, kernels' order and gauge
  /// @param reach   the box reaches this many standard deviations of an estimate beyond the generating value
  /// @throws ModelError  saying why, where the model is not for this tier (`obstacle`), or where the interpolant does
  ///                     not reach its accuracy
  SharedFactorization(const Model& model, const Eigen::MatrixXd& x, const std::vector<double>& lambda,
                      double reach = default_reach);
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
    double largest = 1;        ///< diagonal entry of Z'Z
    double smallest = 1;       ///< eigenvalue of Z'PZ at the grid points of the levels before, of those that are not 0
    double upper_ratio = 1;    ///< the box's edge
    bool logarithmic = true;
    double scale = 1;
    int nodes = 0;
    double held_out_node = 0;
    std::vector<double> node, weight, held_out;
    double own = 0, common_rate = 0;  ///< of |V|'s leading part
    std::vector<int> parent;
    std::vector<double> rotation, shrink, tested;
    void place_nodes(int count);
    [[nodiscard]] double upper() const;              ///< the box's edge in the coordinate
    [[nodiscard]] double ratio_at(double u) const;   ///< u in [0, 4]
    [[nodiscard]] double ratio(int abscissa) const;  ///< at a node or, after them, at what is held out
  };

  void cross_products();
  void list_terms();
  void choose_box(const std::vector<double>& lambda, double reach);
  void choose_nodes(const std::vector<std::vector<double>>& responses);
  void choose_leading_part();
  /// Nodes that each level's Chebyshev series needs in its present coordinate.
  [[nodiscard]] std::vector<int> nodes_needed(const std::vector<std::vector<double>>& responses);
  /// Per level and degree, the largest coefficient of phi's Chebyshev series along any line of the grid, in units of
  /// the deviance.
  [[nodiscard]] std::vector<std::vector<double>> largest_coefficients(
      const std::vector<std::vector<double>>& responses) const;
  void make_tables();
  [[nodiscard]] std::vector<State> add_level(std::size_t index, const std::vector<State>& parents);
  /// [Z]'[Z] in the levels' order, by REML with X projected out.
  [[nodiscard]] Eigen::MatrixXd determinant_gram() const;
  /// log|V| (REML: + log|X'V^{-1}X|) at all combinations of the levels' abscissae, the first level outermost.
  [[nodiscard]] std::vector<double> log_determinants() const;
  /// log V_0 (kernels/interpolant.hpp) at one of them.
  /// @param first  abscissa of the first level
  [[nodiscard]] double log_leading_part(const std::vector<double>& ratios, int first) const;
  void tabulate_common_rate();
  [[nodiscard]] std::vector<std::vector<double>> sample_responses(const std::vector<double>& lambda) const;
  [[nodiscard]] double measure_error(const std::vector<std::vector<double>>& responses) const;
  [[nodiscard]] Eigen::Index tested() const { return tested_.cols(); }

  const Model& model_;
  Eigen::MatrixXd x_, tested_;     ///< smaller model's and tested columns, in the gauge of the model's X
  Eigen::MatrixXd gram_;           ///< cross-products of Z's and X's columns, by entries of the response vector
  Eigen::MatrixXd from_response_;  ///< Z'y and X'y, by the same entries, from a response vector
  std::vector<Level> levels_;
  std::vector<double> root_, tested_root_, held_out_row_, determinant_, leading_, common_rates_;
  double common_ = 0;                 ///< factors 1 + sum a rho of |V|'s leading part
  Eigen::VectorXd shared_direction_;  ///< u with Z u = 0, of the direction that the terms share
  kernels::Interpolant interpolant_;
  double error_ = 0;
};

}  // namespace batchlmm
