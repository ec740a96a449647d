#include "host/model/optimize.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "kernels/cpu.hpp"
#include "kernels/deviance.hpp"
#include "kernels/replicate.hpp"

namespace batchlmm {
namespace {

/// A step that predicts less than this decrease of the deviance ends near the optimum; so near that traces taken there
/// can be carried.
constexpr double near_optimum = 1, near_enough_to_carry = 10;

/// The decrease p below which a step is the last one. p' is what the step before it predicted and r the next ratio of
/// decrements, at most p / p' while Newton's method converges at least linearly. A Hessian that is off by a share d
/// makes r = d^2, and a third derivative does it alike: the predicted decrease is off by p sqrt(r) <= p^{3/2}
/// p'^{-1/2}.
double last_step(double error, double predicted_before) {
  constexpr double largest = 1e-6;
  return std::min(largest, std::cbrt(error * error * predicted_before));
}

void take_derivatives(const CriterionValue& value, double* gradient, double* hessian, double* information) {
  for (Eigen::Index a = 0; a < value.gradient.size(); ++a) {
    gradient[a] = value.gradient[a];
    for (Eigen::Index b = 0; b <= a; ++b) {
      const int at = kernels::triangle(static_cast<int>(a), static_cast<int>(b));
      hessian[at] = value.hessian(a, b);
      information[at] = value.information(a, b);
    }
  }
}

/// Bits of the singular terms.
std::uint32_t boundary_of(const kernels::Shape& s, const std::vector<double>& lambda) {
  kernels::Arena<double*> count{nullptr};
  (void)kernels::make_newton<double>(s, count);
  std::vector<double> memory(count.used);
  kernels::Arena<double*> arena{memory.data()};
  const auto n = kernels::make_newton<double>(s, arena);
  kernels::to_coordinates<double>(s, lambda.data(), n.next, n.small);
  std::uint32_t boundary = 0;
  for (int b = 0; b < s.terms; ++b)
    if (kernels::singular_term<double>(s, n, b)) boundary |= 1U << b;
  return boundary;
}

/// Largest |gradient| by the optimizer's coordinates, each on the scale of its standard error; what pushes against a
/// bound does not count.
double gradient_norm_of(const kernels::Shape& s, const std::vector<double>& lambda, const CriterionValue& value) {
  kernels::Arena<double*> count{nullptr};
  const auto lay_out = [&](kernels::Arena<double*>& arena) {
    kernels::Workspace<double*> w;
    w.gradient = arena.take(s.parameters);
    w.hessian = arena.take(kernels::triangle_size(s.parameters));
    w.information = arena.take(kernels::triangle_size(s.parameters));
    return w;
  };
  (void)lay_out(count);
  (void)kernels::make_newton<double>(s, count);
  std::vector<double> memory(count.used);
  kernels::Arena<double*> arena{memory.data()};
  const kernels::Workspace<double*> w = lay_out(arena);
  const auto n = kernels::make_newton<double>(s, arena);
  take_derivatives(value, w.gradient, w.hessian, w.information);
  kernels::to_coordinates<double>(s, lambda.data(), n.next, n.small);
  kernels::by_coordinates<double>(s, w, n);
  double norm = 0;
  for (int i = 0; i < s.parameters; ++i) {
    double g = n.x_gradient[i];
    for (int b = 0; b < s.terms; ++b)
      if (i == kernels::bounded_coordinate(s.term[b]) && n.next.w[b] <= 1e-9) g = std::min(g, 0.0);
    const double curvature = std::abs(n.x_hessian[kernels::triangle(i, i)]);
    norm = std::max(norm, std::abs(g) / std::sqrt(std::max(curvature, 1e-4)));
  }
  return norm;
}

}  // namespace

Optimum minimize(Criterion& criterion, const Model& model, const std::vector<std::vector<double>>& starts,
                 const MinimizeOptions& how) {
  const kernels::Shape& s = model.shape();
  const kernels::NewtonKernels& newton = *kernels::cpu_kernels().newton;
  std::vector<double> memory(newton.doubles(s));
  kernels::OneNewton n = newton.lay_out(s, memory.data());
  kernels::NewtonOptions options;
  options.finish = how.finish;
  options.max_evaluations = 200;
  options.starts = static_cast<int>(starts.size());
  std::vector<double> all_starts;
  for (const auto& start : starts) all_starts.insert(all_starts.end(), start.begin(), start.end());
  std::copy(starts.front().begin(), starts.front().end(), n.lambda);
  n.begin();
  // Far from the optimum the average information is as good as the exact Hessian; it does not certify a minimum.
  CarriedTraces taken(s);
  bool exact = false, first = true;
  std::optional<CriterionValue> here;  // the last evaluation, where it is at the optimum
  double evaluations = 0;
  while (true) {
    const std::vector<double> lambda(n.lambda, n.lambda + s.lambdas);
    const CarriedTraces& traces = taken.empty() && how.traces != nullptr ? *how.traces : taken;
    const bool carried = traces.near(lambda);
    CriterionValue value;
    if (first && how.first != nullptr)
      value = *how.first;
    else
      value = exact && (!carried || (!how.carry && criterion.exact_is_cheap()))
                  ? criterion.evaluate(lambda, true)
                  : criterion.evaluate_with_information(lambda);
    first = false;
    const bool has_forms = value.ok && value.forms.size() > 0;
    if (value.exact && has_forms)
      taken.take(lambda, value);
    else if (carried && has_forms)
      traces.apply(lambda, value);
    take_derivatives(value, n.gradient, n.hessian, n.information);
    if (how.error > 0) options.finish = n.fresh ? how.finish : std::max(how.finish, last_step(how.error, n.predicted));
    const bool done = newton.trip(s, n, value.deviance, value.r2, value.ok, options, all_starts.data());
    if (done && (exact || value.exact || n.best >= 1e300)) {
      // A step that predicts next to nothing is not worth another evaluation.
      if (how.final_evaluation && how.first == nullptr && options.starts == 1 && n.best_certified &&
          n.f == value.deviance && n.predicted < how.finish) {
        std::copy(lambda.begin(), lambda.end(), n.best_lambda);
        here = std::move(value);
      }
      break;
    }
    exact = done || (!n.fresh && n.predicted < (how.carry ? near_enough_to_carry : near_optimum));
    if (!done) continue;
    // The end was found without the exact Hessian: once more from there.
    evaluations = n.total_evaluations;
    options.starts = 1;
    std::copy_n(n.best_lambda, s.lambdas, n.lambda);
    n.begin();
  }
  Optimum optimum;
  optimum.lambda.assign(n.best_lambda, n.best_lambda + s.lambdas);
  optimum.certified = n.best_certified;
  optimum.evaluations = static_cast<int>(evaluations + n.total_evaluations);
  optimum.boundary = boundary_of(s, optimum.lambda);
  optimum.value.deviance = n.best;
  optimum.value.ok = n.best < 1e300;
  if (!how.final_evaluation) return optimum;
  if (here) {
    optimum.value = std::move(*here);
  } else {
    optimum.value = criterion.evaluate_with_information(optimum.lambda);
    ++optimum.evaluations;
  }
  optimum.gradient_norm = gradient_norm_of(s, optimum.lambda, optimum.value);
  return optimum;
}

}  // namespace batchlmm
