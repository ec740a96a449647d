/// @file
/// A model ready for the kernels: everything that does not depend on the response, assembled once.
#pragma once

#include <Eigen/Core>
#include <array>
#include <memory>
#include <vector>

#include "host/model/elimination_plan.hpp"
#include "host/model/gauge.hpp"
#include "host/model/method.hpp"
#include "kernels/shape.hpp"

namespace batchlmm {

/// Shape, constants and the maps back to the user's coordinates.
///
/// The kernels' terms are the model's, ordered by stage; `term_of[b]` is the model's index of the kernels' term b. T
/// and beta are in the gauge of the columns (see Gauge).
class Model {
public:
  /// A dense Schur complement beyond this is factored by LAPACK, with the streamed levels kept sparse
  /// (LargeCriterion).
  static constexpr int default_largest_kernel_schur = 320;

  /// @param largest_kernel_schur  columns of the dense Schur complement beyond which the model counts as large
  /// @throws ModelError when the model has more terms or parameters than the kernels take
  Model(std::shared_ptr<const ModelMatrices> matrices, Method method,
        int largest_kernel_schur = default_largest_kernel_schur);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  [[nodiscard]] const ModelMatrices& matrices() const { return *matrices_; }
  [[nodiscard]] std::shared_ptr<const ModelMatrices> matrices_pointer() const { return matrices_; }
  [[nodiscard]] const EliminationPlan& plan() const { return plan_; }
  [[nodiscard]] const kernels::Shape& shape() const { return shape_; }
  /// Pointers into this model; empty (null) where the dense Schur complement is too large for the kernels
  /// (`is_large()`).
  [[nodiscard]] const kernels::Design<double>& design() const { return design_; }
  [[nodiscard]] bool is_large() const { return large_; }
  [[nodiscard]] const Gauge& x_gauge() const { return x_gauge_; }
  [[nodiscard]] const Gauge& z_gauge(int model_term) const { return z_gauge_[model_term]; }
  [[nodiscard]] int term_of(int kernel_term) const { return term_of_[kernel_term]; }

  /// The response vector of the kernels for one y. Length shape().response.
  /// @param y  n, offset subtracted; large fitted values should be subtracted too (the deviance does not change by y +
  /// X g)
  [[nodiscard]] std::vector<double> response(const Eigen::VectorXd& y) const;
  /// The same as a matrix, n x (shape().response - 1): all but the last entry are linear in y.
  [[nodiscard]] Eigen::MatrixXd response_map() const;

  /// What one streamed level contributes. Columns are counted as the kernels do: [ y | X | stage S | ... | stage 1 ], y
  /// is column 0.
  struct StreamedLevel {
    int position = 0;          ///< in streaming order
    std::vector<int> rows;     ///< rows of the model, n_j
    Eigen::MatrixXd basis;     ///< n_j x min(n_j, K), orthonormal: the level's own columns are basis * C'
    Eigen::MatrixXd c;         ///< K x K lower triangular (zero columns where n_j < K)
    std::vector<int> touched;  ///< outer columns (>= 1, ascending) that are not zero on these rows
    Eigen::MatrixXd r;         ///< K x touched: basis' * outer columns
    Eigen::MatrixXd left;      ///< n_j x touched: outer columns with the level's own projected out
  };
  /// Computes streamed level `position` anew from the rows.
  [[nodiscard]] StreamedLevel streamed_level(int position) const;
  [[nodiscard]] int streamed_levels() const { return shape_.nodes[0]; }
  /// Node of stage t >= 1 that holds streamed position j.
  [[nodiscard]] int node_of(int stage, int position) const { return node_of_[stage][position]; }

  /// The term stands in the dense Schur complement.
  [[nodiscard]] bool is_dense(int kernel_term) const {
    return shape_.term[kernel_term].stage >= static_cast<int>(plan_.chain.size());
  }
  /// Level of the term's grouping factor at a node of its stage (stages with one level a node).
  [[nodiscard]] int level_of_node(int kernel_term, int node) const {
    const int stage = shape_.term[kernel_term].stage;
    const int position = stage == 0 ? node : node_end_[stage][node] - 1;
    return (*level_of_row_[kernel_term])[streamed_rows_[position].front()];
  }

  /// The lower triangular lambda of a term in the user's coordinates, non-negative diagonal, from any square factor of
  /// the kernels' T.
  /// @param kernel_lambda  k x k with T = lambda lambda'
  [[nodiscard]] Eigen::MatrixXd to_user_lambda(int kernel_term, const Eigen::MatrixXd& kernel_lambda) const;
  /// A factor of the kernels' T from the user's lambda.
  [[nodiscard]] Eigen::MatrixXd from_user_lambda(int kernel_term, const Eigen::MatrixXd& user_lambda) const;

private:
  void lay_out_shape(Method method);
  void assemble();
  /// What one streaming position's rows add to a response vector. @param left  y there; its own part is taken off
  void add_response(int position, Eigen::VectorXd& left, std::vector<double>& out) const;

  std::shared_ptr<const ModelMatrices> matrices_;
  EliminationPlan plan_;
  Gauge x_gauge_;
  std::vector<Gauge> z_gauge_;
  std::vector<int> term_of_;
  std::vector<const std::vector<std::int32_t>*> level_of_row_;  ///< per kernel term: the level of each row
  kernels::Shape shape_;
  kernels::Design<double> design_;
  bool large_ = false;
  std::vector<std::vector<int>> streamed_rows_;  ///< per streaming position
  std::vector<Eigen::MatrixXd> streamed_basis_;  ///< per streaming position
  std::array<std::vector<int>, kernels::max_stages> node_of_, node_end_;
  std::vector<double> streamed_c_, streamed_r_, x_e_;
  std::array<std::vector<double>, kernels::max_stages> own_e_;
};

}  // namespace batchlmm
