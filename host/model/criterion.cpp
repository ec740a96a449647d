#include "host/model/criterion.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "host/model/dense_criterion.hpp"
#include "host/model/large_criterion.hpp"
#include "host/model/memory.hpp"
#include "host/model/sparse_criterion.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm {
namespace {

/// The kernel text for one lane, V = double.
class KernelCriterion final : public Criterion {
public:
  KernelCriterion(const Model& model, const Eigen::VectorXd& y)
      : model_(model), response_(model.response(y)), memory_(scratch(model)) {}

  CriterionValue evaluate(const std::vector<double>& lambda, bool derivatives) override {
    const kernels::Shape& s = model_.shape();
    last_ = kernels::cpu_kernels().evaluate(s, model_.design(), response_.data(), lambda.data(), memory_.data(),
                                            derivatives);
    CriterionValue value;
    value.deviance = last_.deviance;
    value.r2 = last_.r2;
    value.ok = last_.ok;
    if (!derivatives) return value;
    value.gradient = Eigen::Map<const Eigen::VectorXd>(last_.gradient, s.parameters);
    value.hessian.resize(s.parameters, s.parameters);
    value.information.resize(s.parameters, s.parameters);
    for (int i = 0; i < s.parameters; ++i)
      for (int j = 0; j <= i; ++j) {
        value.hessian(i, j) = value.hessian(j, i) = last_.hessian[kernels::triangle(i, j)];
        value.information(i, j) = value.information(j, i) = last_.information[kernels::triangle(i, j)];
      }
    return value;
  }

  void set_response(const std::vector<double>& response) override { response_ = response; }
  [[nodiscard]] CriterionCost cost() const override {
    return {kernel_operations(model_), 8.0 * static_cast<double>(memory_.size())};
  }

  [[nodiscard]] Eigen::VectorXd beta() const override {
    return Eigen::Map<const Eigen::VectorXd>(last_.beta, model_.shape().p);
  }

  [[nodiscard]] Eigen::MatrixXd x_information() const override {
    const int p = model_.shape().p;
    Eigen::MatrixXd l = Eigen::MatrixXd::Zero(p, p);
    for (int i = 0; i < p; ++i)
      for (int j = 0; j <= i; ++j) l(i, j) = last_.x_factor[kernels::triangle(i, j)];
    return l * l.transpose();
  }

  [[nodiscard]] Eigen::MatrixXd modes(int b) const override {
    const kernels::Shape& s = model_.shape();
    const kernels::TermShape& term = s.term[b];
    int offset = 0;
    for (int t = 0; t < term.stage; ++t) offset += s.nodes[t] * s.own[t];
    const int nodes = s.nodes[term.stage], own = s.own[term.stage];
    const bool dense = model_.is_dense(b);
    Eigen::MatrixXd c(nodes * term.levels, term.k);
    for (int node = 0; node < nodes; ++node)
      for (int l = 0; l < term.levels; ++l) {
        const int level = dense ? l : model_.level_of_node(b, node);
        for (int q = 0; q < term.k; ++q) c(level, q) = last_.modes[offset + node * own + term.column + l * term.k + q];
      }
    return c;
  }

private:
  static std::size_t scratch(const Model& model) {
    const std::size_t doubles = kernels::cpu_kernels().scratch(model.shape());
    require_memory(8.0 * static_cast<double>(doubles), "the fit of \"" + model.matrices().formula + "\"");
    return doubles;
  }

  const Model& model_;
  std::vector<double> response_, memory_;
  kernels::ScalarEvaluation last_;
};

// Multiply-adds a second of the kernels' text on doubles, of BLAS and of sparse loops, and what the calls of BLAS cost
// by themselves.
constexpr double kernel_rate = 3.6e9, blas_rate = 2e10, sparse_rate = 5e8, blas_start = 3e-4;

double dense_seconds(const Model& model) {
  const kernels::Shape& s = model.shape();
  const double columns = static_cast<double>(s.nodes[0]) * s.own[0] + s.columns();
  constexpr double most_columns = 5000;
  if (s.stages > 1 || columns > most_columns) return std::numeric_limits<double>::infinity();
  return dense_criterion_operations(s) / blas_rate + blas_start;
}

/// Sparse streamed levels and a dense node, with an exact Hessian in some evaluations.
double node_seconds(const Model& model) {
  const kernels::Shape& s = model.shape();
  if (s.stages > 1) return std::numeric_limits<double>::infinity();
  double a_row = 0;  // columns that a row of the model touches
  for (int b = 0; b < s.terms; ++b)
    if (s.term[b].stage > 0) a_row += s.term[b].k;
  std::vector<double> rows(s.nodes[0], 0.0);
  for (const std::int32_t level : model.plan().chain[0].level_of_row) ++rows[level];
  double pairs = 0;
  const double columns = s.columns(), q = columns - 1 - s.p;
  for (const double n : rows) pairs += 0.5 * std::pow(std::min(columns, 1 + s.p + n * a_row), 2);
  const double K = s.own[0], parameters = kernels::triangle_size(s.own[0]);
  return pairs * K * (K + 1) / sparse_rate + (1 + 0.5 * parameters) * q * q * q / blas_rate + blas_start;
}

}  // namespace

double kernel_operations(const Model& model) {
  const kernels::Shape& s = model.shape();
  const double n = s.columns(), streamed = static_cast<double>(s.nodes[0]) * s.own[0];
  return streamed * n * n * (1 + s.parameters) + n * n * n * s.parameters;
}

double matrix_seconds(const Model& model) { return std::min(dense_seconds(model), node_seconds(model)); }

std::unique_ptr<Criterion> make_criterion(const Model& model, const Eigen::VectorXd& y) {
  const double kernel =
      model.is_large() ? std::numeric_limits<double>::infinity() : kernel_operations(model) / kernel_rate;
  const double dense = dense_seconds(model), node = node_seconds(model);
  constexpr int many_columns = 1000;  // a node of fewer is dense, whatever its pattern
  if (model.plan().schur > many_columns)
    if (auto sparse = make_sparse_criterion(model, y, sparse_rate * std::min({kernel, dense, node}))) return sparse;
  if (kernel <= std::min(dense, node)) return std::make_unique<KernelCriterion>(model, y);
  return dense <= node ? make_dense_criterion(model, y) : make_large_criterion(model, y);
}

}  // namespace batchlmm
