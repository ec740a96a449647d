// Tier 1 for lanes of one instruction set; compiled once for each.
#include "kernels/cpu_strata.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/cpu.hpp"
#include "kernels/replicate.hpp"
#include "kernels/strata_derivatives.hpp"
#include "kernels/strata_sampler.hpp"
#include "kernels/tile.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

/// The term structure of a shape: sizes at run time, or known.
const Shape& terms_of(const Shape& shape, const Shape*) { return shape; }
template <int... K>
Terms<K...> terms_of(const Shape& shape, const Terms<K...>*) {
  Terms<K...> s{};
  for (int b = 0; b < shape.terms; ++b) s.scales[b] = shape.term[b].scale;
  s.p = shape.p;
  return s;
}

/// Where a fit starts, and what it cannot exceed: the null's from the generating value, the full's from the null's
/// optimum.
struct FitOrder {
  const StrataJob* job = nullptr;
  const FitResults* null = nullptr;  ///< of the full fit
  bool moments = false;

  template <class V>
  void start(std::uint64_t i, int l, V* lambda, double* scratch) const {
    const double* from = job->job.null_starts;
    if (null != nullptr) {
      full_start(job->job, null->lambda + i * job->job.null->lambdas, scratch);
      from = scratch;
    }
    const Shape& s = null != nullptr ? *job->job.full : *job->job.null;
    for (int q = 0; q < s.lambdas; ++q) set_lane(lambda[q], l, from[q]);
  }
  [[nodiscard]] double limit(std::uint64_t i) const {
    return null != nullptr ? null->deviance[i] : std::numeric_limits<double>::infinity();
  }
};

/// Fits records of one model.
/// @tparam S  Shape, or Terms
template <class V, class S>
void fit_records(const Shape& shape, const StrataModel& model, const V* records, std::uint64_t items,
                 const FitOrder& order, const double* starts, const NewtonOptions& options, bool parameters,
                 FitResults results) {
  constexpr int width = Lanes<V>::width;
  const auto s = terms_of(shape, static_cast<const S*>(nullptr));
  const auto lay_out = [&](Arena<V*>& arena, StrataPoint<V*>& w, Newton<V, V*>& n) {
    w.lambda = arena.take(shape.lambdas);
    w.model = &model;
    w.record = arena.take(model.record);
    w.x = make_strata_workspace(s, model, arena);
    w.r2 = arena.take(1);
    w.beta = w.x_factor = nullptr;
    n = make_newton<V>(s, arena);
  };
  StrataPoint<V*> w;
  Newton<V, V*> n;
  Arena<V*> count{nullptr};
  lay_out(count, w, n);
  const Aligned<V> memory = aligned_array<V>(count.used);
  for (std::size_t i = 0; i < count.used; ++i) memory[i] = V(0.0);
  Arena<V*> arena{memory.get()};
  lay_out(arena, w, n);

  results.beta = results.x_factor = nullptr;  // not from a record
  std::vector<double> scratch(shape.lambdas);
  V* const first = kept_array<V, 2>(order.moments ? (items + width - 1) / width * shape.lambdas : 0);
  if (order.moments)
    for (std::uint64_t tile = 0; tile < (items + width - 1) / width; ++tile)
      moment_start<V>(s, model, records + tile * model.record, starts, first + tile * shape.lambdas, w.x.t);
  std::uint64_t next = 0;
  const auto take = [&](std::uint64_t& i) {
    if (next == items) return false;
    i = next++;
    return true;
  };
  const auto load = [&](std::uint64_t i, int l) {
    bool finite = true;
    const V* from = records + i / width * model.record;
    for (int e = 0; e < model.record; ++e) {
      const double r = lane(from[e], static_cast<int>(i % width));
      finite = finite && std::isfinite(r);
      set_lane(w.record[e], l, r);
    }
    return finite;
  };
  fit_lanes<V>(
      s, w, n,
      [&] {
        const Evaluation<V> e = evaluate_strata<V>(s, model, w.record, w, w.x);
        w.r2[0] = e.r2;
        return e;
      },
      take, load,
      [&](std::uint64_t i, int l, V* lambda) {
        if (!order.moments) return order.start(i, l, lambda, scratch.data());
        const V* from = first + i / width * shape.lambdas;
        for (int q = 0; q < shape.lambdas; ++q) set_lane(lambda[q], l, lane(from[q], static_cast<int>(i % width)));
      },
      [&](std::uint64_t i) { return order.null == nullptr ? options.starts : full_runs(*order.null, i, options); },
      [&](std::uint64_t i) { return order.limit(i); }, starts, options, parameters, results);
}

/// Whether blocks are so small that two vectors a tile pay: they hide latencies there, and would leave the cache else.
bool is_small(const Shape& s, const StrataModel& m) {
  const int k0 = s.term[0].k;
  return m.largest_d <= 2 && ((s.terms == 1 && k0 <= 2) || (s.terms == 2 && k0 == 1 && s.term[1].k == 1));
}

template <class V>
void fit_model(const Shape& s, const StrataModel& model, const V* records, std::uint64_t items, const FitOrder& order,
               const double* starts, const NewtonOptions& options, bool parameters, const FitResults& results) {
  const int k0 = s.term[0].k, k1 = s.terms > 1 ? s.term[1].k : 0;
  const auto fit = [&](const auto* terms) {
    fit_records<V, std::remove_cvref_t<decltype(*terms)>>(s, model, records, items, order, starts, options, parameters,
                                                          results);
  };
  if constexpr (std::is_same_v<V, Pack<2>>) {
    if (s.terms == 2) return fit(static_cast<const Terms<1, 1>*>(nullptr));
    if (k0 == 2) return fit(static_cast<const Terms<2>*>(nullptr));
    return fit(static_cast<const Terms<1>*>(nullptr));
  } else {
    if (s.terms == 2 && k0 == 2 && k1 == 2) return fit(static_cast<const Terms<2, 2>*>(nullptr));
    return fit(static_cast<const Shape*>(nullptr));
  }
}

template <class V>
void bootstrap_chunk(const StrataJob& job, BootstrapChunk& chunk) {
  constexpr int width = Lanes<V>::width;
  const Shape &null = *job.job.null, &full = *job.job.full;
  const bool refit = chunk.full.status == nullptr;
  const std::uint64_t tiles = (chunk.count + width - 1) / width;
  const std::size_t n0 = job.null.record, n1 = refit ? 0 : job.full.record;
  V *null_records = kept_array<V, 0>(tiles * n0), *full_records = kept_array<V, 1>(tiles * n1);
  {
    const Aligned<V> scratch = aligned_array<V>(strata_record_scratch(job));
    for (std::uint64_t tile = 0; tile < tiles; ++tile) {
      const std::uint64_t left = chunk.count - tile * width;
      strata_records<V>(job, refit, chunk.first + tile * width, left < width ? left : width, null_records + tile * n0,
                        full_records + tile * n1, scratch.get());
    }
  }
  const BootstrapJob& j = job.job;
  FitResults null_results = chunk.null;
  std::vector<std::uint8_t> several(tells_minima(j) && !refit ? chunk.count : 0);
  if (!several.empty()) null_results.several = several.data();
  fit_model<V>(null, job.null, null_records, chunk.count, {&job, nullptr, job.null_moments}, j.null_starts,
               j.null_options, j.parameters, null_results);
  if (refit) return;
  fit_model<V>(full, job.full, full_records, chunk.count, {&job, &null_results, job.full_moments}, j.full_starts,
               j.full_options, j.parameters, chunk.full);
}

void bootstrap(const StrataJob& job, BootstrapChunk& chunk) {
  const bool refit = chunk.full.status == nullptr;
  if (is_small(*job.job.null, job.null) && (refit || is_small(*job.job.full, job.full)))
    bootstrap_chunk<Pack<2>>(job, chunk);
  else
    bootstrap_chunk<Pack<1>>(job, chunk);
}

StrataEvaluation evaluate(const Shape& shape, const StrataModel& model, const double* record, const double* lambda,
                          double* gradient, double* hessian, double* information) {
  const auto lay_out = [&](Arena<double*>& arena, StrataPoint<double*>& w, double*& pivot) {
    w.lambda = arena.take(shape.lambdas);
    w.x = make_strata_workspace(shape, model, arena);
    pivot = arena.take(shape.lambdas);
  };
  StrataPoint<double*> w;
  double* pivot = nullptr;
  Arena<double*> count{nullptr};
  lay_out(count, w, pivot);
  std::vector<double> memory(count.used);
  Arena<double*> arena{memory.data()};
  lay_out(arena, w, pivot);
  std::copy(lambda, lambda + shape.lambdas, w.lambda);
  const Evaluation<double> e = evaluate_strata<double>(shape, model, record, w, w.x);
  if (gradient == nullptr) return {e.deviance, e.r2, e.ok};
  // Unit directions are T's entries, those on the diagonal twice.
  std::vector<double> length(shape.parameters, 1.0);
  for (int b = 0; b < shape.terms; ++b)
    for (int i = 0; i < shape.term[b].k; ++i) {
      const int at = shape.term[b].lambda + i * shape.term[b].k + i;
      pivot[at] = w.x.u[at] = 1.0;
      length[shape.term[b].parameter + triangle(i, i)] = 0.5;
    }
  strata_derivatives<double>(shape, model, record, w.x, StrataDirections<double*>{w.x.u, pivot}, e.r2, gradient,
                             hessian, information);
  for (int a = 0; a < shape.parameters; ++a) {
    gradient[a] *= length[a];
    for (int a2 = 0; a2 <= a; ++a2) {
      hessian[triangle(a, a2)] *= length[a] * length[a2];
      information[triangle(a, a2)] *= length[a] * length[a2];
    }
  }
  return {e.deviance, e.r2, e.ok};
}

void draw(const StrataSampler& sampler, std::uint64_t seed, std::uint64_t replicate, double* null, double* full,
          double* scratch) {
  StrataSampler s = sampler;
  if (full == nullptr) s.full.record = 0;
  draw_strata<double>(s, seed, replicate, null, full, scratch);
}

}  // namespace

extern const StrataKernels strata_kernels_of_this_isa;
const StrataKernels strata_kernels_of_this_isa{bootstrap, evaluate, draw};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
