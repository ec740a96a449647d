// Fixed effects and their tests for lanes of one instruction set; compiled once for each.
#include "kernels/cpu_small_sample.hpp"

#include <limits>
#include <type_traits>
#include <vector>

#include "kernels/lane_design.hpp"
#include "kernels/small_sample.hpp"
#include "kernels/strata_contrasts.hpp"
#include "kernels/streaming_contrasts.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {
namespace {

/// Whether an optimum was found at all.
bool has_point(const FitResults& fits, std::uint64_t i) { return fits.deviance[i] - fits.deviance[i] == 0; }
bool is_used(const FitResults& fits, std::uint64_t i) {
  return fits.status[i] == fit_converged || fits.status[i] == fit_boundary;
}

/// Puts the lanes' values to their items, NaN where a fit is not used.
template <class V>
class ItemValues {
public:
  ItemValues(const TestPlan& plan, const FitResults& fits, double* values)
      : size_(static_cast<std::size_t>(plan.hypotheses) * TestValues::values), fits_(fits), values_(values) {}
  /// The items first, first + 1, ... stand in the lanes.
  void begin(std::uint64_t first, std::uint64_t count) {
    first_ = first;
    count_ = count;
  }
  void operator()(int hypothesis, int value, const V& v) const {
    for (std::uint64_t l = 0; l < count_; ++l)
      values_[(first_ + l) * size_ + static_cast<std::size_t>(hypothesis * TestValues::values + value)] =
          is_used(fits_, first_ + l) ? lane(v, static_cast<int>(l)) : std::numeric_limits<double>::quiet_NaN();
  }

private:
  std::size_t size_;
  const FitResults& fits_;
  double* values_;
  std::uint64_t first_ = 0, count_ = 0;
};

/// Loads items' lambdas into lanes; 0 where there is no optimum.
template <class V>
void load_lambdas(const Shape& s, const FitResults& fits, std::uint64_t first, std::uint64_t count, V* lambda) {
  for (int q = 0; q < s.lambdas; ++q) {
    V v(0.0);
    for (std::uint64_t l = 0; l < count; ++l)
      if (has_point(fits, first + l)) set_lane(v, static_cast<int>(l), fits.lambda[(first + l) * s.lambdas + q]);
    lambda[q] = v;
  }
}

/// What tests by streaming elimination take, one tile of lanes.
/// @tparam LK  1: the streamed factor has one column; else 0
/// @tparam C   double where all items share one design, V where each lane has its own
template <int LK, class V, class C>
class StreamingTests {
public:
  static constexpr int width = Lanes<V>::width;

  StreamingTests(const Shape& shape, const TestPlan& plan) : shape_(shape), plan_(plan) {
    Arena<V*> count{nullptr};
    lay_out(count);
    memory_ = aligned_array<V>(count.used);
    for (std::size_t i = 0; i < count.used; ++i) memory_[i] = V(0.0);
    Arena<V*> arena{memory_.get()};
    lay_out(arena);
    set_contrasts<V>(plan_, forms_);
  }
  [[nodiscard]] V* lambda() const { return w_.lambda; }
  [[nodiscard]] const ContrastForms<V*>& forms() const { return forms_; }

  /// Tests the lanes' responses at w.lambda.
  void test(const Design<C>& design, const V* response, const ItemValues<V>& put) const {
    const Evaluation<V> e = evaluate<LK, V>(shape_, design, response, w_, true);
    const V degrees = design.degrees != nullptr ? V(design.degrees[0]) : V(shape_.degrees);
    streaming_contrasts<V>(shape_, plan_, w_, e, degrees, contrasts_, forms_);
    test_hypotheses<V>(shape_, plan_, w_.lambda, forms_, scratch_, e.r2, degrees, put);
  }

private:
  void lay_out(Arena<V*>& arena) {
    w_ = make_workspace(shape_, arena);
    forms_ = make_contrast_forms(shape_, plan_, shape_.p, arena);
    contrasts_ = make_streaming_contrasts(shape_, plan_, arena);
    scratch_ = make_small_sample_scratch(shape_, plan_, arena);
  }
  const Shape& shape_;
  const TestPlan& plan_;
  Aligned<V> memory_;
  Workspace<V*> w_;
  ContrastForms<V*> forms_;
  StreamingContrasts<V*> contrasts_;
  SmallSampleScratch<V*> scratch_;
};

template <int LK, class V, class C>
void test_fits(const FitJob& job, const TestPlan& plan, const double* contrasts, const double* contrast_values,
               double* values) {
  constexpr int width = Lanes<V>::width;
  const Shape& s = *job.shape;
  const StreamingTests<LK, V, C> tests(s, plan);
  const Aligned<V> response = aligned_array<V>(s.response);
  ItemValues<V> put(plan, job.results, values);
  const int size = plan.rows * plan.p;
  [[maybe_unused]] std::conditional_t<std::is_same_v<C, double>, int, LaneDesign<V>> own([&] {
    if constexpr (std::is_same_v<C, double>)
      return 0;
    else
      return LaneDesign<V>(s);
  }());
  for (std::uint64_t first = 0; first < job.items; first += width) {
    const std::uint64_t count = job.items - first < width ? job.items - first : width;
    load_lambdas<V>(s, job.results, first, count, tests.lambda());
    for (int e = 0; e < s.response; ++e) response[e] = V(e == s.response - 1 ? 1.0 : 0.0);
    for (std::uint64_t l = 0; l < count; ++l) {
      const std::uint64_t i = first + l;
      const int at = static_cast<int>(l);
      if (contrasts != nullptr) {
        for (int e = 0; e < size; ++e)
          set_lane(tests.forms().l[e], at, contrasts[i * static_cast<std::uint64_t>(size) + e]);
        for (int e = 0; e < plan.rows; ++e)
          set_lane(tests.forms().value[e], at, contrast_values[i * static_cast<std::uint64_t>(plan.rows) + e]);
      }
      if (!is_used(job.results, i)) continue;
      for (int e = 0; e < s.response; ++e) set_lane(response[e], at, job.response[i * s.response + e]);
      if constexpr (!std::is_same_v<C, double>)
        own.load(job.design[job.design_of == nullptr ? 0 : job.design_of[i]], at);
    }
    put.begin(first, count);
    if constexpr (std::is_same_v<C, double>)
      tests.test(job.design[0], response.get(), put);
    else
      tests.test(own.design(), response.get(), put);
  }
}

void fits(const FitJob& job, const TestPlan& plan, const double* contrasts, const double* contrast_values,
          double* values) {
  if (job.design_of != nullptr)
    test_fits<0, Pack<1>, Pack<1>>(job, plan, contrasts, contrast_values, values);
  else if (job.shape->own[0] == 1)
    test_fits<1, Pack<2>, double>(job, plan, contrasts, contrast_values, values);
  else
    test_fits<0, Pack<1>, double>(job, plan, contrasts, contrast_values, values);
}

template <int LK, class V>
void test_replicates(const BootstrapJob& job, const TestJob& tests) {
  constexpr int width = Lanes<V>::width;
  const Shape &null = *job.null, &full = *job.full, &s = tests.full ? full : null;
  const StreamingTests<LK, V, double> tile(s, *tests.plan);
  const Aligned<V> memory = aligned_array<V>(null.response + full.response + full.columns() + job.sampler.rows);
  V *null_response = memory.get(), *full_response = null_response + null.response,
    *scratch = full_response + full.response;
  ItemValues<V> put(*tests.plan, tests.fits, tests.values);
  for (std::uint64_t first = 0; first < tests.count; first += width) {
    const std::uint64_t count = tests.count - first < width ? tests.count - first : width;
    IntOf<V> replicate(0);
    for (int l = 0; l < width; ++l) set_lane(replicate, l, tests.first + first + static_cast<std::uint64_t>(l));
    draw_replicate<V>(full, job.full_design, job.sampler, job.seed, replicate, full_response, null_response, scratch,
                      scratch + full.columns());
    load_lambdas<V>(s, tests.fits, first, count, tile.lambda());
    put.begin(first, count);
    tile.test(tests.full ? job.full_design : job.null_design, tests.full ? full_response : null_response, put);
  }
}

void replicates(const BootstrapJob& job, const TestJob& tests) {
  const Shape& s = tests.full ? *job.full : *job.null;
  if (s.own[0] == 1)
    test_replicates<1, Pack<2>>(job, tests);
  else
    test_replicates<0, Pack<1>>(job, tests);
}

/// Replicates drawn on strata, one tile of lanes, with the fixed effects of one model.
template <class V>
class StrataReplicates {
public:
  static constexpr int width = Lanes<V>::width;

  StrataReplicates(const StrataJob& job, const StrataFixed& fixed, bool full, const TestPlan& plan)
      : job_(job),
        fixed_(fixed),
        full_(full),
        shape_(full ? *job.job.full : *job.job.null),
        model_(full ? job.full : job.null),
        plan_(plan) {
    Arena<V*> count{nullptr};
    lay_out(count);
    memory_ = aligned_array<V>(count.used);
    for (std::size_t i = 0; i < count.used; ++i) memory_[i] = V(0.0);
    Arena<V*> arena{memory_.get()};
    lay_out(arena);
    set_contrasts<V>(plan_, forms_);
  }

  /// Draws replicates from `replicate` on and solves for the fixed effects at the items' optima.
  void solve(std::uint64_t replicate, const FitResults& fits, std::uint64_t first, std::uint64_t count) {
    strata_records<V>(job_, job_.full.blocks == 0, replicate, count, null_record_, full_record_, draws_);
    load_lambdas<V>(shape_, fits, first, count, point_.lambda);
    for (int q = 0; q < shape_.lambdas; ++q) contrasts_.lambda[q] = point_.lambda[q];
    entries_of_t<V>(shape_, point_.lambda, forms_.t);
    MaskOf<V> ok = V(0.0) <= V(0.0);
    strata_fixed_effects<V>(shape_, fixed_, forms_.t, draws_, contrasts_, ok);
  }
  /// @return p entries
  [[nodiscard]] const V* beta() const { return contrasts_.beta + fixed_.indicators; }
  /// Entry (i, j) of X's part of the factor.
  [[nodiscard]] const V& factor(int i, int j) const {
    return contrasts_.f[triangle(fixed_.indicators + i, fixed_.indicators + j)];
  }
  /// In place of the plan's for the items in the lanes. @param values  count x plan.rows
  void set_contrast_values(const double* values, std::uint64_t count) {
    for (int row = 0; row < plan_.rows; ++row)
      for (std::uint64_t l = 0; l < count; ++l)
        set_lane(forms_.value[row], static_cast<int>(l), values[l * static_cast<std::uint64_t>(plan_.rows) + row]);
  }
  void test(const ItemValues<V>& put) {
    strata_contrasts<V>(shape_, fixed_, plan_, contrasts_, forms_);
    const V* record = full_ ? full_record_ : null_record_;
    const Evaluation<V> e = evaluate_strata<V>(shape_, model_, record, point_, point_.x);
    if (!plan_.kenward_roger) differentiate(e, record);
    test_hypotheses<V>(shape_, plan_, point_.lambda, forms_, scratch_, e.r2, V(model_.degrees), put);
  }

private:
  void lay_out(Arena<V*>& arena) {
    draws_ = arena.take(strata_record_scratch(job_));
    null_record_ = arena.take(job_.null.record);
    full_record_ = arena.take(job_.full.record);
    point_.lambda = arena.take(shape_.lambdas);
    point_.x = make_strata_workspace(shape_, model_, arena);
    pivot_ = arena.take(shape_.lambdas);
    information_ = arena.take(triangle_size(shape_.parameters));
    contrasts_ = make_strata_contrasts(shape_, fixed_, plan_, arena);
    forms_ = make_contrast_forms(shape_, plan_, fixed_.columns, arena);
    scratch_ = make_small_sample_scratch(shape_, plan_, arena);
  }
  /// The criterion's derivatives by the entries of T, and r^2's.
  void differentiate(const Evaluation<V>& e, const V* record) {
    const int m = shape_.parameters;
    // Unit directions are T's entries, those on the diagonal twice.
    for (int q = 0; q < shape_.lambdas; ++q) pivot_[q] = point_.x.u[q] = V(0.0);
    for (int b = 0; b < shape_.terms; ++b)
      for (int i = 0; i < shape_.term[b].k; ++i) {
        const int at = shape_.term[b].lambda + i * shape_.term[b].k + i;
        pivot_[at] = point_.x.u[at] = V(1.0);
      }
    strata_derivatives<V>(shape_, model_, record, point_.x, StrataDirections<V*>{point_.x.u, pivot_}, e.r2,
                          forms_.gradient, forms_.hessian, information_);
    const auto length = [&](int a) { return V(shape_.parameter_row[a] == shape_.parameter_column[a] ? 0.5 : 1.0); };
    for (int a = 0; a < m; ++a) {
      forms_.dr[a] = length(a) * point_.x.by_linear[a * strata_linear_forms(model_)];
      forms_.gradient[a] = length(a) * forms_.gradient[a];
      for (int b = 0; b <= a; ++b)
        forms_.hessian[triangle(a, b)] = length(a) * length(b) * forms_.hessian[triangle(a, b)];
    }
  }

  const StrataJob& job_;
  const StrataFixed& fixed_;
  bool full_;
  const Shape& shape_;
  const StrataModel& model_;
  const TestPlan& plan_;
  Aligned<V> memory_;
  V *draws_ = nullptr, *null_record_ = nullptr, *full_record_ = nullptr, *pivot_ = nullptr, *information_ = nullptr;
  StrataPoint<V*> point_;
  StrataContrasts<V*> contrasts_;
  ContrastForms<V*> forms_;
  SmallSampleScratch<V*> scratch_;
};

void strata(const StrataJob& job, const StrataFixed& fixed, const TestJob& tests) {
  using V = Pack<2>;
  constexpr int width = Lanes<V>::width;
  StrataReplicates<V> tile(job, fixed, tests.full, *tests.plan);
  ItemValues<V> put(*tests.plan, tests.fits, tests.values);
  for (std::uint64_t first = 0; first < tests.count; first += width) {
    const std::uint64_t count = tests.count - first < width ? tests.count - first : width;
    tile.solve(tests.first + first, tests.fits, first, count);
    if (tests.contrast_values != nullptr)
      tile.set_contrast_values(tests.contrast_values + first * static_cast<std::uint64_t>(tests.plan->rows), count);
    put.begin(first, count);
    tile.test(put);
  }
}

void strata_fixed(const StrataJob& job, const StrataFixed& fixed, bool full, std::uint64_t first, std::uint64_t count,
                  const FitResults& fits) {
  using V = Pack<2>;
  constexpr int width = Lanes<V>::width;
  const int p = (full ? *job.job.full : *job.job.null).p, size = triangle_size(p);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  TestPlan none;
  none.p = p;
  StrataReplicates<V> tile(job, fixed, full, none);
  for (std::uint64_t begin = 0; begin < count; begin += width) {
    const std::uint64_t items = count - begin < width ? count - begin : width;
    tile.solve(first + begin, fits, begin, items);
    for (std::uint64_t l = 0; l < items; ++l) {
      const std::uint64_t i = begin + l;
      const int at = static_cast<int>(l);
      const bool there = has_point(fits, i);
      for (int e = 0; e < p; ++e) {
        fits.beta[i * p + e] = there ? lane(tile.beta()[e], at) : nan;
        for (int j = 0; j <= e; ++j)
          fits.x_factor[i * size + triangle(e, j)] = there ? lane(tile.factor(e, j), at) : nan;
      }
    }
  }
}

}  // namespace

/// small_sample_kernels() finds it.
extern const SmallSampleKernels small_sample_kernels_of_this_isa;
const SmallSampleKernels small_sample_kernels_of_this_isa{fits, replicates, strata, strata_fixed};

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
