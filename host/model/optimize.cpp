#include "host/model/optimize.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/deviance.hpp"
#include "kernels/replicate.hpp"

namespace batchlmm {
namespace {

/// A step that predicts less than this decrease of the deviance ends near the optimum.
constexpr double near_optimum = 1;

/// The parts of the kernels' workspace that the optimizer reads and writes.
struct OptimizerMemory {
  explicit OptimizerMemory(const kernels::Shape& s) {
    kernels::Arena<double*> count{nullptr};
    lay_out(s, count);
    memory.resize(count.used);
    kernels::Arena<double*> arena{memory.data()};
    lay_out(s, arena);
  }
  void lay_out(const kernels::Shape& s, kernels::Arena<double*>& arena) {
    w.lambda = arena.take(s.lambdas);
    w.gradient = arena.take(s.parameters);
    w.hessian = arena.take(kernels::triangle_size(s.parameters));
    w.information = arena.take(kernels::triangle_size(s.parameters));
    newton = kernels::make_newton<double>(s, arena);
  }
  void take_derivatives(const CriterionValue& value) const {
    for (Eigen::Index a = 0; a < value.gradient.size(); ++a) {
      w.gradient[a] = value.gradient[a];
      for (Eigen::Index b = 0; b <= a; ++b) {
        const int at = kernels::triangle(static_cast<int>(a), static_cast<int>(b));
        w.hessian[at] = value.hessian(a, b);
        w.information[at] = value.information(a, b);
      }
    }
  }
  std::vector<double> memory;
  kernels::Workspace<double*> w;
  kernels::Newton<double, double*> newton;
};

}  // namespace

Optimum minimize(Criterion& criterion, const Model& model, const std::vector<std::vector<double>>& starts,
                 const MinimizeOptions& how) {
  const kernels::Shape& s = model.shape();
  OptimizerMemory o(s);
  kernels::NewtonOptions options;
  options.finish = how.finish;
  options.max_evaluations = 200;
  options.starts = static_cast<int>(starts.size());
  std::vector<double> all_starts;
  for (const auto& start : starts) all_starts.insert(all_starts.end(), start.begin(), start.end());
  std::copy(starts.front().begin(), starts.front().end(), o.w.lambda);
  kernels::begin_lane(o.newton, 0);
  // Far from the optimum the average information is as good as the exact Hessian; it does not certify a minimum.
  CarriedTraces taken(s);
  bool exact = false, first = true;
  double evaluations = 0;
  while (true) {
    const std::vector<double> lambda(o.w.lambda, o.w.lambda + s.lambdas);
    const CarriedTraces& traces = taken.empty() && how.traces != nullptr ? *how.traces : taken;
    const bool carried = traces.near(lambda);
    CriterionValue value;
    if (first && how.first != nullptr)
      value = *how.first;
    else
      value = exact && (!carried || criterion.exact_is_cheap()) ? criterion.evaluate(lambda, true)
                                                                : criterion.evaluate_with_information(lambda);
    first = false;
    const bool has_forms = value.ok && value.forms.size() > 0;
    if (value.exact && has_forms)
      taken.take(lambda, value);
    else if (carried && has_forms)
      traces.apply(lambda, value);
    o.take_derivatives(value);
    const kernels::Evaluation<double> e{value.deviance, value.r2, value.ok};
    const bool done = kernels::newton_trip(s, o.w, o.newton, e, true, options, all_starts.data());
    if (done && (exact || value.exact || o.newton.best >= 1e300)) break;
    exact = done || (!o.newton.fresh && o.newton.predicted < near_optimum);
    if (!done) continue;
    // The end was found without the exact Hessian: once more from there.
    evaluations = o.newton.total_evaluations;
    options.starts = 1;
    std::copy_n(o.newton.best_lambda, s.lambdas, o.w.lambda);
    kernels::begin_lane(o.newton, 0);
  }
  Optimum optimum;
  optimum.lambda.assign(o.newton.best_lambda, o.newton.best_lambda + s.lambdas);
  optimum.certified = o.newton.best_certified;
  optimum.evaluations = static_cast<int>(evaluations + o.newton.total_evaluations);
  kernels::to_coordinates<double>(s, o.newton.best_lambda, o.newton.next, o.newton.small);
  for (int b = 0; b < s.terms; ++b)
    if (kernels::singular_term<double>(s, o.newton, b)) optimum.boundary |= 1U << b;
  optimum.value.deviance = o.newton.best;
  optimum.value.ok = o.newton.best < 1e300;
  if (!how.final_evaluation) return optimum;
  optimum.value = criterion.evaluate_with_information(optimum.lambda);
  ++optimum.evaluations;
  // Optimality in the optimizer's coordinates.
  o.take_derivatives(optimum.value);
  kernels::by_coordinates<double>(s, o.w, o.newton);
  for (int i = 0; i < s.parameters; ++i) {
    double g = o.newton.x_gradient[i];
    for (int b = 0; b < s.terms; ++b)
      if (i == kernels::bounded_coordinate(s.term[b]) && o.newton.next.z[b] <= 1e-9) g = std::min(g, 0.0);
    const double curvature = std::abs(o.newton.x_hessian[kernels::triangle(i, i)]);
    optimum.gradient_norm = std::max(optimum.gradient_norm, std::abs(g) / std::sqrt(std::max(curvature, 1e-4)));
  }
  return optimum;
}

}  // namespace batchlmm
