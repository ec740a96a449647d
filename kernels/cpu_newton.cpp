// One fit's Newton iteration on doubles; compiled once for each instruction set.
#include "kernels/cpu_newton.hpp"

#include "kernels/newton.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

/// The derivatives that one fit's iteration reads. Its by_coordinates has the operations of the text for lanes, each
/// entry's in the same order, but with its loops over rows in memory, which is what suits terms of many columns; and
/// it does the average information only where a step takes it.
struct Derivatives {
  double *lambda, *gradient, *hessian, *information;
};

/// to = J'(from)J.
void congruence(const Shape& s, const double* from, const NewtonScratch<double*>& n, double* to) {
  const double* j1 = n.jacobian;
  for (int b = 0; b < s.terms; ++b) {
    const int a = s.term[b].parameter, mb = triangle_size(s.term[b].k);
    const double* j2 = n.jacobian;
    for (int b2 = 0; b2 <= b; ++b2) {
      const int a2 = s.term[b2].parameter, mb2 = triangle_size(s.term[b2].k);
      double* tmp = n.small;
      for (int i = 0; i < mb; ++i) {
        double* row = tmp + i * mb2;
        for (int x = 0; x < mb2; ++x) row[x] = 0;
        for (int e = 0; e < mb2; ++e) {
          const double h = from[packed(a + i, a2 + e)];
          const double* j = j2 + e * mb2;
          for (int x = 0; x < mb2; ++x) row[x] = fma(h, j[x], row[x]);
        }
      }
      for (int x = 0; x < mb; ++x) {
        double* row = to + triangle(a + x, a2);
        const int columns = b == b2 ? x + 1 : mb2;
        for (int x2 = 0; x2 < columns; ++x2) row[x2] = 0;
        for (int e = 0; e < mb; ++e) {
          const double h = j1[e * mb + x];
          for (int x2 = 0; x2 < columns; ++x2) row[x2] = fma(h, tmp[e * mb2 + x2], row[x2]);
        }
      }
      j2 += mb2 * mb2;
    }
    j1 += mb * mb;
  }
}

template <class V>
void by_coordinates(const Shape& s, const Derivatives& w, const NewtonScratch<double*>& n) {
  int offsets[max_terms];
  gradient_by_coordinates<V>(s, w, n, offsets);
  congruence(s, w.hessian, n, n.x_hessian);
  pivoted_gradient<V>(s, w, n, n.rhs);
  add_curvature<V>(s, n.rhs, n, true, false);
}

template <class V>
void complete_information(const Shape& s, const Derivatives& w, const NewtonScratch<double*>& n) {
  congruence(s, w.information, n, n.x_information);
  pivoted_gradient<V>(s, w, n, n.rhs);
  add_curvature<V>(s, n.rhs, n, false, true);
}

std::size_t doubles(const Shape& s) {
  Arena<double*> count{nullptr};
  (void)make_newton<double>(s, count);
  return count.used + 2 * static_cast<std::size_t>(s.lambdas) + s.parameters + 2 * triangle_size(s.parameters);
}

OneNewton lay_out(const Shape& s, double* memory) {
  Arena<double*> arena{memory};
  OneNewton one;
  one.lambda = arena.take(s.lambdas);
  one.best_lambda = arena.take(s.lambdas);
  one.gradient = arena.take(s.parameters);
  one.hessian = arena.take(triangle_size(s.parameters));
  one.information = arena.take(triangle_size(s.parameters));
  one.memory = memory + arena.used;
  return one;
}

bool trip(const Shape& s, OneNewton& one, double deviance, double r2, bool ok, const NewtonOptions& options,
          const double* starts) {
  Arena<double*> arena{one.memory};
  Newton<double, double*> n = make_newton<double>(s, arena);
  n.best_lambda = one.best_lambda;
  // Both ways: what a trip leaves for the next.
  const auto each = [&](auto move) {
    move(n.f, one.f);
    move(n.slope, one.slope);
    move(n.predicted, one.predicted);
    move(n.t, one.t);
    move(n.best, one.best);
    move(n.evaluations, one.evaluations);
    move(n.total_evaluations, one.total_evaluations);
    move(n.start, one.start);
    move(n.bumps, one.bumps);
    move(n.fresh, one.fresh);
    move(n.certified, one.certified);
    move(n.best_certified, one.best_certified);
  };
  each([](auto& here, const auto& there) { here = there; });
  n.runs = options.starts;
  const Derivatives w{one.lambda, one.gradient, one.hessian, one.information};
  const Evaluation<double> e{deviance, r2, ok};
  const bool done = newton_trip(s, w, n, e, true, options, starts);
  each([](const auto& here, auto& there) { there = here; });
  return done;
}

}  // namespace

/// In the table of cpu_lanes.cpp.
extern const NewtonKernels newton_kernels_of_this_isa;
const NewtonKernels newton_kernels_of_this_isa{doubles, lay_out, trip};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
