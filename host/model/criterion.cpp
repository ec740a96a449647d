#include "host/model/criterion.hpp"

#include "host/model/large_criterion.hpp"
#include "kernels/deviance.hpp"

namespace batchlmm {
namespace {

/// The kernel text for V = double.
class KernelCriterion final : public Criterion {
public:
  KernelCriterion(const Model& model, const Eigen::VectorXd& y) : model_(model), response_(model.response(y)) {
    kernels::Arena<double*> count{nullptr};
    kernels::make_workspace(model.shape(), count);
    memory_.resize(count.used);
    kernels::Arena<double*> arena{memory_.data()};
    workspace_ = kernels::make_workspace(model.shape(), arena);
  }

  CriterionValue evaluate(const std::vector<double>& lambda, bool derivatives) override {
    const kernels::Shape& s = model_.shape();
    for (int i = 0; i < s.lambdas; ++i) workspace_.lambda[i] = lambda[i];
    const double* y = response_.data();
    const kernels::Evaluation<double> e =
        s.own[0] == 1 ? kernels::evaluate<1, double>(s, model_.design(), y, workspace_, derivatives)
                      : kernels::evaluate<0, double>(s, model_.design(), y, workspace_, derivatives);
    CriterionValue value{e.deviance, e.r2, e.ok, {}, {}, {}};
    if (!derivatives) return value;
    value.gradient = Eigen::Map<const Eigen::VectorXd>(workspace_.gradient, s.parameters);
    value.hessian.resize(s.parameters, s.parameters);
    value.information.resize(s.parameters, s.parameters);
    for (int i = 0; i < s.parameters; ++i)
      for (int j = 0; j <= i; ++j) {
        value.hessian(i, j) = value.hessian(j, i) = workspace_.hessian[kernels::triangle(i, j)];
        value.information(i, j) = value.information(j, i) = workspace_.information[kernels::triangle(i, j)];
      }
    return value;
  }

  [[nodiscard]] Eigen::VectorXd beta() const override {
    return Eigen::Map<const Eigen::VectorXd>(workspace_.beta, model_.shape().p);
  }

  [[nodiscard]] Eigen::MatrixXd x_information() const override {
    const int p = model_.shape().p;
    Eigen::MatrixXd l = Eigen::MatrixXd::Zero(p, p);
    for (int i = 0; i < p; ++i)
      for (int j = 0; j <= i; ++j) l(i, j) = workspace_.x_factor[kernels::triangle(i, j)];
    return l * l.transpose();
  }

  [[nodiscard]] Eigen::MatrixXd modes(int b) const override {
    const kernels::Shape& s = model_.shape();
    const kernels::TermShape& term = s.term[b];
    int offset = 0;
    for (int t = 0; t < term.stage; ++t) offset += s.nodes[t] * s.own[t];
    const int nodes = s.nodes[term.stage], own = s.own[term.stage];
    Eigen::MatrixXd c(nodes * term.levels, term.k);
    for (int node = 0; node < nodes; ++node)
      for (int l = 0; l < term.levels; ++l) {
        const int level = term.levels > 1 ? l : model_.level_of_node(b, node);
        for (int q = 0; q < term.k; ++q)
          c(level, q) = workspace_.modes[offset + node * own + term.column + l * term.k + q];
      }
    return c;
  }

private:
  const Model& model_;
  std::vector<double> response_, memory_;
  kernels::Workspace<double*> workspace_;
};

}  // namespace

std::unique_ptr<Criterion> make_criterion(const Model& model, const Eigen::VectorXd& y) {
  if (model.is_large()) return make_large_criterion(model, y);
  return std::make_unique<KernelCriterion>(model, y);
}

}  // namespace batchlmm
