#include "host/batch/batch.hpp"

#include <fmt/format.h>
#include <Eigen/Cholesky>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/batch/batch_layouts.hpp"
#include "host/batch/cost.hpp"
#include "host/batch/starts.hpp"
#include "host/batch/strata_fits.hpp"
#include "host/batch/test_plan.hpp"
#include "host/model/check_model.hpp"
#include "host/model/criterion.hpp"
#include "host/model/memory.hpp"
#include "host/model/moment_start.hpp"
#include "host/model/optimize.hpp"
#include "host/model/response_reduction.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cpu_small_sample.hpp"
#include "kernels/cuda.hpp"
#include "kernels/cuda_large.hpp"

namespace batchlmm {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Items whose results are kept together before they are handed out.
constexpr std::uint64_t block_length = 1U << 16U;
/// Items that one call of the kernels takes: enough to keep the lanes full, few enough to share among threads; fewer
/// where their designs take much memory, more for a device.
constexpr std::uint64_t most_a_call = 512, fewest_a_call = 64, most_a_device_call = 1U << 14U;
constexpr double call_bytes = 16e6, device_call_bytes = 1e9;
/// Responses that are made before they are reduced together: one or two tiles of lanes.
constexpr std::size_t most_made = 16;
/// Bytes of one BatchFit with its vectors on the heap, for small models.
constexpr double fit_bytes = 256;

/// Consecutive items of one kind.
struct Range {
  enum class Kind : std::uint8_t { response, own_design, variant, generated, made_response };
  std::uint64_t first = 0, count = 0;
  Kind kind = Kind::response;
  int design = 0;      ///< index among the known designs
  std::size_t at = 0;  ///< of its first item's data
  /// Its items stand on the design as it was given.
  [[nodiscard]] bool shares_design() const { return kind == Kind::response || kind == Kind::made_response; }
};

struct OwnDesign {
  std::shared_ptr<const ModelMatrices> matrices;
  Renumbered renumbered;
};

struct Generator {
  std::size_t design;  ///< as the user numbers them
  std::function<void(std::uint64_t, DesignVariant&)> make;
};

using MakeResponse = std::function<void(std::uint64_t, std::span<double>)>;

struct VariantItem {
  DesignVariant variant;
  ExchangedColumns exchanged;
};

/// An item in its range.
struct ItemRef {
  const Range* range = nullptr;
  std::uint64_t within = 0;
  std::uint32_t result = 0;  ///< index in the block
};

/// Items for one call of the kernels.
struct Call {
  int lanes = 0;
  int shared_design = -1;  ///< known design of all of them; -1: designs of their own
  std::size_t begin = 0, end = 0;
};

BatchFit without_fit(Status status, Eigen::Index theta, Eigen::Index p, std::size_t terms) {
  BatchFit fit;
  fit.status = status;
  fit.criterion = fit.sigma = nan;
  fit.theta = Eigen::VectorXd::Constant(theta, nan);
  fit.beta = Eigen::VectorXd::Constant(p, nan);
  fit.vcov = Eigen::MatrixXd::Constant(p, p, nan);
  fit.boundary.assign(terms, false);
  return fit;
}

Eigen::Index theta_length(const kernels::Shape& s) { return s.parameters; }

/// The fixed effects' covariance, sigma^2 (map^{-1} L^{-T}) (map^{-1} L^{-T})'.
/// @param factor  packed L with LL' = X'V^{-1}X, in the gauge
/// @param map     p x p, column by column, upper triangular: the gauge of X
void set_vcov(int p, const double* factor, const double* map, BatchFit& fit) {
  Eigen::MatrixXd half(p, p);  // column c: map^{-1} (row c of L^{-1})'
  for (int c = 0; c < p; ++c) {
    // Row c of L^{-1}, from its diagonal to the left.
    for (int j = c; j >= 0; --j) {
      double t = j == c ? 1.0 : 0.0;
      for (int e = j + 1; e <= c; ++e) t -= factor[kernels::triangle(e, j)] * half(e, c);
      half(j, c) = t / factor[kernels::triangle(j, j)];
    }
    for (int j = c + 1; j < p; ++j) half(j, c) = 0;
    for (int j = c; j >= 0; --j) {
      double t = half(j, c);
      for (int e = j + 1; e <= c; ++e) t -= map[e * p + j] * half(e, c);
      half(j, c) = t / map[j * p + j];
    }
  }
  fit.vcov = fit.sigma * fit.sigma * half * half.transpose();
}

/// theta and the terms' boundaries from the kernels' lambda.
/// @param map  map(b): the gauge of kernel term b, k x k
template <class TermOf, class Map>
void set_theta(const kernels::Shape& s, const double* lambda, std::uint32_t boundary, const TermOf& term_of,
               const Map& map, BatchFit& fit) {
  fit.theta.resize(theta_length(s));
  fit.boundary.assign(s.terms, false);
  std::array<Eigen::Index, kernels::max_terms + 1> at{};
  for (int b = 0; b < s.terms; ++b) at[term_of(b) + 1] = kernels::triangle_size(s.term[b].k);
  for (int t = 0; t < s.terms; ++t) at[t + 1] += at[t];
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k, t = term_of(b);
    const double* l = lambda + s.term[b].lambda;
    fit.boundary[t] = (boundary >> b & 1U) != 0;
    if (k == 1) {
      fit.theta[at[t]] = std::abs(l[0] / map(b)[0]);
      continue;
    }
    using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::MatrixXd user =
        user_lambda(Eigen::Map<const Eigen::MatrixXd>(map(b), k, k), Eigen::Map<const RowMajor>(l, k, k));
    Eigen::Index i = at[t];
    for (int c = 0; c < k; ++c)
      for (int r = c; r < k; ++r) fit.theta[i++] = user(r, c);
  }
}

}  // namespace

class Batch::Impl {
public:
  explicit Impl(Method method) : layouts_(method) {}

  std::size_t add_design(std::shared_ptr<const ModelMatrices> design) {
    check_model(*design);
    given_.push_back(layouts_.add(std::move(design)));
    const KnownDesign& known = layouts_[given_.back()];
    std::string why;
    if (!known.is_large())
      if (auto strata = StrataFits::make(*known.model, false, &why)) strata_.emplace(given_.back(), std::move(strata));
    return given_.size() - 1;
  }

  [[nodiscard]] Tier tier(std::size_t design) const {
    if (given(design).is_large()) return Tier::large;
    return strata_of(given_[design]) != nullptr ? Tier::symmetry : Tier::streaming;
  }

  std::size_t add_response(std::size_t design, const Eigen::VectorXd& y) {
    const KnownDesign& known = given(design);
    const ModelMatrices& m = *known.matrices;
    if (y.size() != m.y.size())
      throw ModelError(
          fmt::format("a response of a batch must have the design's {} rows; found {}", m.y.size(), y.size()));
    const std::size_t at = responses_.size();
    if (known.is_large()) {
      responses_.insert(responses_.end(), y.data(), y.data() + y.size());
    } else {
      responses_.resize(at + static_cast<std::size_t>(known.rows->length()));
      const double* from = y.data();
      double* to = responses_.data() + at;
      kernels::cpu_kernels().responses->reduce(known.rows->rows(), 1, &from, &to);
    }
    return append(Range::Kind::response, given_[design], at, responses_.size() - at);
  }

  std::size_t add_responses(std::size_t design, const Eigen::MatrixXd& y, BackendChoice backend) {
    const std::size_t first = size_;
    const KnownDesign& known = given(design);
    if (backend != BackendChoice::cuda || known.is_large() || y.rows() != known.matrices->y.size()) {
      for (Eigen::Index i = 0; i < y.cols(); ++i) add_response(design, y.col(i));
      return first;
    }
    std::unique_ptr<ResponseReduction>& reduction = reductions_[given_[design]];
    if (reduction == nullptr)
      reduction = std::make_unique<ResponseReduction>(*known.model, kernels::make_cuda_large_device(0));
    const std::size_t at = responses_.size(), length = static_cast<std::size_t>(reduction->length());
    const auto count = static_cast<std::size_t>(y.cols());
    responses_.resize(at + count * length);
    reduction->reduce(y.data(), count, responses_.data() + at);
    for (std::size_t i = 0; i < count; ++i) append(Range::Kind::response, given_[design], at + i * length, length);
    return first;
  }

  std::size_t add_own_design(std::shared_ptr<const ModelMatrices> design) {
    check_model(*design);
    OwnDesign own;
    const int index = layouts_.find(design, own.renumbered);
    own.matrices = std::move(design);
    own_.push_back(std::move(own));
    return append(Range::Kind::own_design, index, own_.size() - 1, 1);
  }

  std::size_t add_variant(DesignVariant variant) {
    const ModelMatrices& m = *given(variant.design).matrices;
    check_sizes(m, variant);
    ExchangedColumns exchanged = find_columns(m, variant);
    const int index = given_[variant.design];
    variants_.push_back({std::move(variant), std::move(exchanged)});
    return append(Range::Kind::variant, index, variants_.size() - 1, 1);
  }

  std::size_t add_generated(std::size_t design, std::uint64_t count,
                            std::function<void(std::uint64_t, DesignVariant&)> make) {
    (void)given(design);
    generators_.push_back({design, std::move(make)});
    const std::size_t first = size_;
    ranges_.push_back({first, count, Range::Kind::generated, given_[design], generators_.size() - 1});
    size_ += count;
    return first;
  }

  std::size_t add_made_responses(std::size_t design, std::uint64_t count, MakeResponse make) {
    (void)given(design);
    makers_.push_back(std::move(make));
    const std::size_t first = size_;
    ranges_.push_back({first, count, Range::Kind::made_response, given_[design], makers_.size() - 1});
    size_ += count;
    return first;
  }

  [[nodiscard]] std::size_t size() const { return size_; }

  void set_tests(Hypotheses hypotheses) {
    if (hypotheses.method == SmallSample::kenward_roger && layouts_.method() != Method::reml)
      throw ModelError("Kenward-Roger tests: expected a batch by REML, found one by ML");
    tests_ = std::move(hypotheses);
  }

  [[nodiscard]] double memory(const BatchOptions& options) const {
    const Backend backend = place_of(options).backend;
    const int threads = backend.cuda ? kernels::cuda_slots() : thread_count(options.threads);
    double thread = 0;
    for (const auto& [design, strata] : strata_) thread = std::max(thread, strata->thread_bytes(most_a_call));
    for (int l = 0; l < layouts_.lanes(); ++l) {
      const kernels::Shape& s = layouts_.lanes(l).shape();
      const double tile = backend.cuda ? 0 : std::max(tile_bytes(s), tile_bytes(s, true));
      thread = std::max(thread, tile + static_cast<double>(call_length(s, true, backend)) * item_bytes(s, true));
    }
    return threads * thread + static_cast<double>(std::min<std::uint64_t>(block_length, size_)) * fit_bytes;
  }

  void fit_each(std::uint64_t begin, std::uint64_t count,
                const std::function<void(std::uint64_t, std::span<const BatchFit>)>& collect,
                const BatchOptions& options) const {
    if (begin > size_ || count > size_ - begin)
      throw ModelError(fmt::format("a batch of {} items has no items {} to {}", size_, begin, begin + count - 1));
    const std::uint64_t total_end = begin + count;
    const Place place = place_of(options);
    const int threads = place.backend.cuda ? kernels::cuda_slots() : thread_count(options.threads);
    require_memory(memory(options), fmt::format("a batch of {} fits on {} threads", count, threads));
    std::map<int, TestPlanData> plans;  // by the number of fixed effects
    if (!tests_.list.empty())
      for (int l = 0; l < layouts_.lanes(); ++l) {
        const int p = layouts_.lanes(l).shape().p;
        if (plans.count(p) == 0) plans.try_emplace(p, tests_, layouts_.method(), p, "a design of the batch");
      }
    std::vector<BatchFit> fits;
    std::uint64_t done = 0;
    std::mutex mutex;
    const auto progress = [&](std::uint64_t items) {
      const std::lock_guard lock(mutex);
      done += items;
      if (options.progress) options.progress(done, count);
    };
    auto range = ranges_.begin();
    for (std::uint64_t first = begin; first < total_end; first += block_length) {
      const std::uint64_t end = std::min<std::uint64_t>(total_end, first + block_length);
      fits.assign(end - first, {});
      while (range != ranges_.end() && range->first + range->count <= first) ++range;
      fit_block(first, end, range, place, threads, plans, fits, progress);
      collect(first, fits);
    }
  }

private:
  /// Where items go.
  struct Place {
    Backend backend;
    bool strata = true;  ///< responses on designs that have strata go by them, on the CPU
  };
  [[nodiscard]] Place place_of(const BatchOptions& options) const {
    // What is chosen automatically must not change what is fitted.
    if (options.backend == BackendChoice::cuda) return {backend_of(options), false};
    const bool all_strata = std::all_of(ranges_.begin(), ranges_.end(), [this](const Range& range) {
      return range.shares_design() && strata_of(range.design) != nullptr;
    });
    return {all_strata ? Backend{} : backend_of(options), true};
  }
  [[nodiscard]] Backend backend_of(const BatchOptions& options) const {
    double trip = 0;
    for (int l = 0; l < layouts_.lanes(); ++l) trip = std::max(trip, streaming_cost(layouts_.lanes(l).shape()).trip());
    return choose_backend(options.backend, evaluations_a_fit * trip, size_, thread_count(options.threads));
  }

  /// What fits responses on a known design by its strata; null where the streaming tier does.
  [[nodiscard]] const StrataFits* strata_of(int design) const {
    const auto at = strata_.find(design);
    return at == strata_.end() ? nullptr : at->second.get();
  }

  const KnownDesign& given(std::size_t design) const {
    if (design >= given_.size())
      throw ModelError(given_.empty()
                           ? "the batch has no design yet; expected one by add_design"
                           : fmt::format("the batch has designs 0 to {}; found design {}", given_.size() - 1, design));
    return layouts_[given_[design]];
  }

  /// @param stride  length of an item's data
  std::size_t append(Range::Kind kind, int design, std::size_t at, std::size_t stride) {
    if (!ranges_.empty()) {
      Range& last = ranges_.back();
      if (last.kind == kind && last.design == design && kind != Range::Kind::generated &&
          last.at + last.count * stride == at) {
        ++last.count;
        return size_++;
      }
    }
    ranges_.push_back({size_, 1, kind, design, at});
    return size_++;
  }

  static double item_bytes(const kernels::Shape& s, bool own_designs) {
    return 8.0 * (s.response + (own_designs ? static_cast<double>(design_doubles(s)) : 0.0) + s.lambdas + s.p + 8);
  }
  static std::uint64_t call_length(const kernels::Shape& s, bool own_designs, const Backend& backend) {
    const double fit = (backend.cuda ? device_call_bytes : call_bytes) / item_bytes(s, own_designs);
    const double most = static_cast<double>(backend.cuda ? most_a_device_call : most_a_call);
    return static_cast<std::uint64_t>(std::clamp(fit, static_cast<double>(fewest_a_call), most));
  }

  /// What one thread works with.
  struct Worker {
    std::map<const DesignLayout*, DesignAssembler> assemblers;
    std::vector<double> constants, response, starts, deviance, lambda, beta, r2, x_factor, contrasts, contrast_values,
        test_values;
    std::vector<std::uint8_t> status;
    std::vector<std::uint32_t> boundary;
    std::vector<std::uint16_t> evaluations;
    std::vector<kernels::Design<double>> designs;
    std::vector<int> design_of;
    std::vector<AssembledDesign> assembled;
    std::vector<const KnownDesign*> known;  ///< of items whose design is the batch's, else null
    std::vector<const double*> ols;
    std::vector<double> made_ols;          ///< of responses that are made
    const KnownDesign* made_of = nullptr;  ///< made responses that wait to be reduced: their design,
    std::vector<std::size_t> made;         ///< their places,
    std::vector<double> y, reduced;        ///< themselves, and what comes of them
    DesignRows rows;
    std::vector<std::uint8_t> present;
    DesignVariant variant;
    ExchangedColumns exchanged;

    kernels::FitResults results() {
      return {status.data(), deviance.data(), lambda.data(), boundary.data(), evaluations.data(),
              beta.data(),   r2.data(),       nullptr,       x_factor.data()};
    }
  };

  void fit_block(std::uint64_t first, std::uint64_t end, std::vector<Range>::const_iterator range, const Place& place,
                 int threads, const std::map<int, TestPlanData>& plans, std::vector<BatchFit>& fits,
                 const std::function<void(std::uint64_t)>& progress) const {
    // Items by their lanes, those on one given design together.
    std::map<std::pair<int, int>, std::vector<ItemRef>> by_lanes;
    std::vector<ItemRef> large;
    for (; range != ranges_.end() && range->first < end; ++range) {
      const KnownDesign& known = layouts_[range->design];
      std::vector<ItemRef>* to = &large;
      if (!known.is_large()) to = &by_lanes[{known.lanes, range->shares_design() ? range->design : -1}];
      for (std::uint64_t i = std::max(first, range->first); i < std::min(end, range->first + range->count); ++i)
        to->push_back({&*range, i - range->first, static_cast<std::uint32_t>(i - first)});
    }
    std::vector<ItemRef> items;
    std::vector<Call> calls;
    const auto add_calls = [&](int lanes, int design, const std::vector<ItemRef>& refs) {
      const std::size_t begin = items.size();
      items.insert(items.end(), refs.begin(), refs.end());
      std::uint64_t length = call_length(layouts_.lanes(lanes).shape(), design < 0, place.backend);
      if (!place.backend.cuda)  // few items are shared among the threads
        length = std::min<std::uint64_t>(length, std::max<std::uint64_t>(fewest_a_call, refs.size() / (4 * threads)));
      for (std::size_t at = begin; at < items.size(); at += length)
        calls.push_back({lanes, design, at, std::min<std::size_t>(items.size(), at + length)});
    };
    for (auto group = by_lanes.begin(); group != by_lanes.end();) {
      // Responses that are too few to fill the lanes of a call of their own join those with own designs.
      const int lanes = group->first.first;
      std::vector<ItemRef> mixed;
      int only_design = group->first.second;
      for (; group != by_lanes.end() && group->first.first == lanes; ++group) {
        // By which tier an item is fitted must not depend on the others.
        const bool by_strata = place.strata && group->first.second >= 0 && strata_of(group->first.second) != nullptr;
        if (by_strata || (group->first.second >= 0 && group->second.size() >= fewest_a_call))
          add_calls(lanes, group->first.second, group->second);
        else
          mixed.insert(mixed.end(), group->second.begin(), group->second.end());
        if (group->first.second != only_design) only_design = -1;
      }
      if (!mixed.empty()) add_calls(lanes, only_design, mixed);
    }

    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    std::exception_ptr failure;
    const auto work = [&] {
      try {
        Worker worker;
        while (true) {
          const std::size_t c = next++;
          if (c >= calls.size()) return;
          const auto of_call = std::span(items).subspan(calls[c].begin, calls[c].end - calls[c].begin);
          fit_call(calls[c], of_call, place, plans, worker, fits);
          progress(calls[c].end - calls[c].begin);
        }
      } catch (...) {
        next = calls.size();
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    };
    std::vector<std::thread> pool;
    for (int t = 1; t < threads && static_cast<std::size_t>(t) < calls.size(); ++t) pool.emplace_back(work);
    work();
    for (std::thread& t : pool) t.join();
    if (failure) std::rethrow_exception(failure);
    for (const ItemRef& item : large) {
      fits[item.result] = fit_large(item);
      progress(1);
    }
  }

  /// Takes what an item brings into place `i` of the worker's arrays.
  void take_item(const ItemRef& item, std::size_t i, bool own_designs, Worker& w) const {
    const Range& range = *item.range;
    const KnownDesign& known = layouts_[range.design];
    const kernels::Shape& s = layouts_.lanes(known.lanes).shape();
    double* response = w.response.data() + i * s.response;
    w.known[i] = nullptr;
    if (range.shares_design()) {
      w.known[i] = &known;
      if (range.kind == Range::Kind::response) {
        const double* from = responses_.data() + range.at + item.within * (s.response + s.p);
        std::copy(from, from + s.response, response);
        w.ols[i] = from + s.response;
      } else {
        // Reduced together with those that come next.
        if (w.made_of != &known || w.made.size() == most_made) reduce_made(s, w);
        w.made_of = &known;
        const auto n = static_cast<std::size_t>(known.matrices->y.size());
        if (w.made.empty()) w.y.resize(n * most_made);
        makers_[range.at](item.within, {w.y.data() + w.made.size() * n, n});
        w.made.push_back(i);
        w.ols[i] = w.made_ols.data() + i * s.p;
      }
      if (own_designs) {
        w.designs[i] = known.model->design();
        w.designs[i].degrees = &known.degrees;
      }
      return;
    }
    const DesignLayout& layout = *known.layout;
    DesignAssembler& assembler = w.assemblers.try_emplace(&layout, layout).first->second;
    double* constants = w.constants.data() + i * design_doubles(s);
    if (range.kind == Range::Kind::own_design)
      describe(own_[range.at + item.within], layout, w.rows);
    else if (range.kind == Range::Kind::variant)
      describe(known, variants_[range.at + item.within].variant, variants_[range.at + item.within].exchanged, w);
    else
      describe_generated(known, generators_[range.at], item.within, w);
    assembler.assemble(w.rows, constants, response, w.assembled[i]);
    w.designs[i] = assembler.design(constants);
    w.ols[i] = w.assembled[i].ols.data();
    if (w.assembled[i].fittable) return;
    // The lane is not run: a response that is not finite says so.
    std::fill(response, response + s.response, nan);
  }

  /// The responses that were made and wait, into their places.
  static void reduce_made(const kernels::Shape& s, Worker& w) {
    if (w.made.empty()) return;
    const ResponseRows& rows = *w.made_of->rows;
    const std::size_t n = static_cast<std::size_t>(rows.rows().rows), length = static_cast<std::size_t>(rows.length());
    std::array<const double*, most_made> from{};
    std::array<double*, most_made> to{};
    w.reduced.resize(length * most_made);
    for (std::size_t k = 0; k < w.made.size(); ++k) {
      from[k] = w.y.data() + k * n;
      to[k] = w.reduced.data() + k * length;
    }
    kernels::cpu_kernels().responses->reduce(rows.rows(), static_cast<int>(w.made.size()), from.data(), to.data());
    for (std::size_t k = 0; k < w.made.size(); ++k) {
      std::copy_n(to[k], s.response, w.response.data() + w.made[k] * s.response);
      std::copy_n(to[k] + s.response, s.p, w.made_ols.data() + w.made[k] * s.p);
    }
    w.made.clear();
  }

  static void describe(const OwnDesign& own, const DesignLayout& layout, DesignRows& rows) {
    const ModelMatrices& m = *own.matrices;
    const int terms = layout.shape().terms;
    rows = {};
    rows.rows = m.y.size();
    for (Eigen::Index c = 0; c < m.X.cols(); ++c) rows.x.columns.push_back(m.X.col(c).data());
    rows.z.resize(terms);
    for (int b = 0; b < terms; ++b) {
      const RandomTerm& term = m.random[layout.term_of(b)];
      for (Eigen::Index c = 0; c < term.z.cols(); ++c) rows.z[b].columns.push_back(term.z.col(c).data());
      rows.level.push_back(term.level_of_row.data());
    }
    rows.renumbered = own.renumbered;
    rows.y = m.y.data();
    rows.offset = m.offset.data();
  }

  void describe_generated(const KnownDesign& known, const Generator& generator, std::uint64_t i, Worker& w) const {
    w.variant.design = generator.design;
    generator.make(i, w.variant);
    check_sizes(*known.matrices, w.variant);
    w.exchanged = find_columns(*known.matrices, w.variant);
    describe(known, w.variant, w.exchanged, w);
  }

  static void describe(const KnownDesign& known, const DesignVariant& variant, const ExchangedColumns& exchanged,
                       Worker& w) {
    const ModelMatrices& m = *known.matrices;
    const DesignLayout& layout = *known.layout;
    const Model& model = *known.model;
    const int terms = layout.shape().terms;
    DesignRows& rows = w.rows;
    rows.rows = m.y.size();
    rows.present = nullptr;
    if (!variant.missing.empty()) {
      w.present.assign(m.y.size(), 1);
      for (const std::size_t row : variant.missing) w.present[row] = 0;
      rows.present = w.present.data();
    }
    // Columns that stay keep the design's gauge; that of X holds for all rows only.
    const auto exchanges = [&](int term) {
      return std::any_of(exchanged.places.begin(), exchanged.places.end(),
                         [&](const auto& place) { return place.term == term; });
    };
    const auto take = [&](DesignColumns& to, const Eigen::MatrixXd& values, const Gauge& gauge, bool keep_gauge) {
      const Eigen::MatrixXd& from = keep_gauge ? gauge.columns : values;
      to.map = keep_gauge ? &gauge.map : nullptr;
      to.columns.resize(from.cols());
      for (Eigen::Index c = 0; c < from.cols(); ++c) to.columns[c] = from.col(c).data();
    };
    take(rows.x, m.X, model.x_gauge(), rows.present == nullptr && !exchanges(-1));
    rows.z.resize(terms);
    rows.level.resize(terms);
    rows.renumbered.resize(terms);
    for (int b = 0; b < terms; ++b) {
      const int t = layout.term_of(b);
      take(rows.z[b], m.random[t].z, model.z_gauge(t), !exchanges(t));
      rows.level[b] = m.random[t].level_of_row.data();
      rows.renumbered[b].clear();
      for (const auto& place : exchanged.places)
        if (place.term == t) rows.z[b].columns[place.column] = variant.columns[place.source].values.data();
    }
    for (const auto& place : exchanged.places)
      if (place.term < 0) rows.x.columns[place.column] = variant.columns[place.source].values.data();
    rows.y = variant.y.size() != 0 ? variant.y.data() : m.y.data();
    rows.offset = m.offset.data();
  }

  void fit_call(const Call& call, std::span<const ItemRef> items, const Place& place,
                const std::map<int, TestPlanData>& plans, Worker& w, std::vector<BatchFit>& fits) const {
    const DesignLayout& layout = layouts_.lanes(call.lanes);
    const kernels::Shape& s = layout.shape();
    const std::size_t n = items.size();
    const bool own_designs = call.shared_design < 0;
    if (own_designs) w.constants.resize(n * design_doubles(s));
    w.response.resize(n * s.response);
    w.designs.resize(own_designs ? n : 1);
    w.design_of.resize(n);
    w.assembled.resize(n);
    w.known.resize(n);
    w.ols.resize(n);
    w.made_ols.resize(n * s.p);
    for (std::size_t i = 0; i < n; ++i) {
      take_item(items[i], i, own_designs, w);
      w.design_of[i] = static_cast<int>(i);
    }
    reduce_made(s, w);
    w.starts.clear();
    const auto starts = default_starts(s, layout.schur());
    for (const auto& start : starts) w.starts.insert(w.starts.end(), start.begin(), start.end());
    w.status.resize(n);
    w.deviance.resize(n);
    w.lambda.resize(n * s.lambdas);
    w.beta.resize(n * s.p);
    w.r2.resize(n);
    w.x_factor.resize(n * kernels::triangle_size(s.p));
    w.boundary.resize(n);
    w.evaluations.resize(n);
    if (!own_designs) {
      const KnownDesign& known = layouts_[call.shared_design];
      w.designs[0] = known.model->design();
      w.designs[0].degrees = &known.degrees;
    }
    if (const StrataFits* strata = own_designs || !place.strata ? nullptr : strata_of(call.shared_design)) {
      fit_by_strata(*strata, items, s, plans, w, fits);
      return;
    }
    kernels::FitJob job;
    job.shape = &s;
    job.design = w.designs.data();
    job.design_of = own_designs ? w.design_of.data() : nullptr;
    job.items = n;
    job.response = w.response.data();
    job.first_start = w.starts.data();
    job.starts = w.starts.data();
    job.options.starts = static_cast<int>(starts.size());
    job.parameters = true;
    job.results = w.results();
    if (place.backend.cuda)
      kernels::cuda_fit(job);
    else
      kernels::cpu_kernels().fit(job);
    for (std::size_t i = 0; i < n; ++i) fits[items[i].result] = result(items[i], i, s, w);
    if (const auto plan = plans.find(s.p); plan != plans.end()) test_call(job, items, plan->second, w, fits);
  }

  /// Responses that stand in the worker, on a design that has strata.
  void fit_by_strata(const StrataFits& strata, std::span<const ItemRef> items, const kernels::Shape& s,
                     const std::map<int, TestPlanData>& plans, Worker& w, std::vector<BatchFit>& fits) const {
    const std::size_t n = items.size();
    strata.fit(w.response.data(), n, w.results());
    // Their deviances have the constant that `result` adds.
    const double constant = w.known[0]->model->shape().constant;
    for (std::size_t i = 0; i < n; ++i) {
      w.deviance[i] -= constant;
      fits[items[i].result] = result(items[i], i, s, w);
    }
    const auto found = plans.find(s.p);
    if (found == plans.end()) return;
    const TestPlanData& tests = found->second;
    kernels::TestPlan plan = tests.plan();
    const std::size_t rows = static_cast<std::size_t>(plan.rows),
                      hypotheses = static_cast<std::size_t>(plan.hypotheses);
    w.contrasts.resize(rows * static_cast<std::size_t>(s.p));
    w.contrast_values.resize(n * rows);
    for (std::size_t i = 0; i < n; ++i)
      tests.in_gauge(x_map(i, w), w.ols[i], 1.0, w.contrasts.data(), w.contrast_values.data() + i * rows);
    plan.l = w.contrasts.data();
    plan.value = w.contrast_values.data();
    w.test_values.resize(n * hypotheses * kernels::TestValues::values);
    kernels::TestJob job;
    job.plan = &plan;
    job.count = n;
    job.fits = w.results();
    job.contrast_values = w.contrast_values.data();
    job.values = w.test_values.data();
    strata.test(w.response.data(), job);
    read_call_tests(items, hypotheses, w, fits);
  }

  /// Hands out what the kernels tested.
  static void read_call_tests(std::span<const ItemRef> items, std::size_t hypotheses, const Worker& w,
                              std::vector<BatchFit>& fits) {
    const std::size_t values = hypotheses * kernels::TestValues::values;
    for (std::size_t i = 0; i < items.size(); ++i) {
      std::vector<HypothesisTest>& to = fits[items[i].result].tests;
      to.resize(hypotheses);
      read_tests(std::span(w.test_values).subspan(i * values, values), 1.0, to);
    }
  }

  /// Tests the hypotheses in the fits of a call.
  static void test_call(const kernels::FitJob& job, std::span<const ItemRef> items, const TestPlanData& tests,
                        Worker& w, std::vector<BatchFit>& fits) {
    const kernels::TestPlan& plan = tests.plan();
    const std::size_t n = items.size(), rows = static_cast<std::size_t>(plan.rows),
                      p = static_cast<std::size_t>(plan.p), hypotheses = static_cast<std::size_t>(plan.hypotheses);
    w.contrasts.assign(n * rows * p, 0.0);
    w.contrast_values.assign(n * rows, 0.0);
    w.test_values.resize(n * hypotheses * kernels::TestValues::values);
    for (std::size_t i = 0; i < n; ++i)
      if (w.known[i] != nullptr || w.assembled[i].fittable)
        tests.in_gauge(x_map(i, w), w.ols[i], 1.0, w.contrasts.data() + i * rows * p,
                       w.contrast_values.data() + i * rows);
    kernels::small_sample_kernels(kernels::cpu_kernels())
        .fits(job, plan, w.contrasts.data(), w.contrast_values.data(), w.test_values.data());
    read_call_tests(items, hypotheses, w, fits);
  }
  /// The gauge of X of item i: X = columns * map.
  static const double* x_map(std::size_t i, const Worker& w) {
    return w.known[i] != nullptr ? w.known[i]->model->x_gauge().map.data() : w.assembled[i].x_map.data();
  }

  [[nodiscard]] BatchFit result(const ItemRef& item, std::size_t i, const kernels::Shape& s, const Worker& w) const {
    const KnownDesign* given = w.known[i];
    const AssembledDesign& own = w.assembled[i];
    if (given == nullptr && !own.fittable)
      return without_fit(Status::not_positive_definite, theta_length(s), s.p, s.terms);
    const DesignLayout& layout = *layouts_[item.range->design].layout;
    const auto status = static_cast<Status>(w.status[i]);
    if (status == Status::non_finite || status == Status::not_positive_definite) {
      BatchFit fit = without_fit(status, theta_length(s), s.p, s.terms);
      fit.evaluations = w.evaluations[i];
      return fit;
    }
    BatchFit fit;
    fit.status = status;
    // The constant holds the gauge of X, which is the design's own.
    fit.criterion = w.deviance[i] + (given != nullptr ? given->model->shape().constant : own.constant);
    fit.evaluations = w.evaluations[i];
    fit.sigma = std::sqrt(w.r2[i] / (given != nullptr ? given->degrees : own.degrees));
    const double* map = x_map(i, w);
    fit.beta.resize(s.p);
    for (int c = s.p - 1; c >= 0; --c) {
      double t = w.beta[i * s.p + c] + w.ols[i][c];
      for (int e = c + 1; e < s.p; ++e) t -= map[e * s.p + c] * fit.beta[e];
      fit.beta[c] = t / map[c * s.p + c];
    }
    set_vcov(s.p, w.x_factor.data() + i * kernels::triangle_size(s.p), map, fit);
    set_theta(
        s, w.lambda.data() + i * s.lambdas, w.boundary[i], [&](int b) { return layout.term_of(b); },
        [&](int b) {
          return given != nullptr ? given->model->z_gauge(layout.term_of(b)).map.data()
                                  : own.z_map.data() + s.term[b].lambda;
        },
        fit);
    return fit;
  }

  /// Large models go one after another, each with all threads of the linear algebra.
  [[nodiscard]] BatchFit fit_large(const ItemRef& item) const {
    const Range& range = *item.range;
    const KnownDesign& known = layouts_[range.design];
    if (range.kind == Range::Kind::response) {
      const ModelMatrices& m = *known.matrices;
      return fit_large(*known.model, Eigen::Map<const Eigen::VectorXd>(
                                         responses_.data() + range.at + item.within * m.y.size(), m.y.size()));
    }
    if (range.kind == Range::Kind::made_response) {
      Eigen::VectorXd y(known.matrices->y.size());
      makers_[range.at](item.within, {y.data(), static_cast<std::size_t>(y.size())});
      return fit_large(*known.model, y);
    }
    std::shared_ptr<const ModelMatrices> matrices;
    if (range.kind == Range::Kind::own_design) {
      matrices = own_[range.at + item.within].matrices;
    } else {
      DesignVariant generated;
      if (range.kind == Range::Kind::generated) {
        generated.design = generators_[range.at].design;
        generators_[range.at].make(item.within, generated);
      }
      matrices = std::make_shared<const ModelMatrices>(variant_matrices(
          *known.matrices,
          range.kind == Range::Kind::generated ? generated : variants_[range.at + item.within].variant));
    }
    std::unique_ptr<Model> model;
    try {
      check_model(*matrices);
      model = std::make_unique<Model>(matrices, layouts_.method());
    } catch (const ModelError&) {
    }
    if (model == nullptr || (model->x_gauge().map.cols() > 1 && model->x_gauge().map.isIdentity(0))) {
      Eigen::Index theta = 0;
      for (const RandomTerm& term : matrices->random) theta += term.z.cols() * (term.z.cols() + 1) / 2;
      return without_fit(Status::not_positive_definite, theta, matrices->X.cols(), matrices->random.size());
    }
    return fit_large(*model, matrices->y);
  }

  [[nodiscard]] BatchFit fit_large(const Model& model, const Eigen::VectorXd& y) const {
    const ModelMatrices& m = model.matrices();
    const kernels::Shape& s = model.shape();
    if (!y.allFinite()) return without_fit(Status::non_finite, theta_length(s), s.p, s.terms);
    const Eigen::MatrixXd& x = model.x_gauge().columns;
    Eigen::VectorXd centered = y - m.offset;
    const Eigen::VectorXd ols = x.transpose() * centered / static_cast<double>(y.size());
    centered -= x * ols;
    const std::unique_ptr<Criterion> criterion = make_criterion(model, centered);
    std::vector<std::vector<double>> starts = default_starts(model);
    if (starts.size() == 1) starts.front() = moment_start(model, centered);
    const Optimum optimum = minimize(*criterion, model, starts);
    if (!optimum.value.ok) return without_fit(Status::not_positive_definite, theta_length(s), s.p, s.terms);
    BatchFit fit;
    fit.criterion = optimum.value.deviance;
    fit.evaluations = optimum.evaluations;
    fit.sigma = std::sqrt(optimum.value.r2 / s.degrees);
    fit.beta = model.x_gauge().map.triangularView<Eigen::Upper>().solve(criterion->beta() + ols);
    std::vector<double> x_factor;
    const Eigen::MatrixXd factor = criterion->x_information().llt().matrixL();
    for (int r = 0; r < s.p; ++r)
      for (int c = 0; c <= r; ++c) x_factor.push_back(factor(r, c));
    set_vcov(s.p, x_factor.data(), model.x_gauge().map.data(), fit);
    set_theta(
        s, optimum.lambda.data(), optimum.boundary, [&](int b) { return model.term_of(b); },
        [&](int b) { return model.z_gauge(model.term_of(b)).map.data(); }, fit);
    fit.status = !optimum.certified      ? Status::iteration_limit
                 : optimum.boundary != 0 ? Status::boundary
                                         : Status::converged;
    if (tests_.list.empty()) return fit;
    check_hypotheses(tests_, layouts_.method(), s.p, '"' + m.formula + '"');
    FittedModel fitted{&m, layouts_.method(), y - m.offset, {}, fit.beta, fit.sigma};
    Eigen::Index at = 0;
    for (const RandomTerm& term : m.random) {
      Eigen::MatrixXd& lambda = fitted.lambda.emplace_back(Eigen::MatrixXd::Zero(term.z.cols(), term.z.cols()));
      for (Eigen::Index c = 0; c < lambda.cols(); ++c)
        for (Eigen::Index r = c; r < lambda.rows(); ++r) lambda(r, c) = fit.theta[at++];
    }
    fit.tests = dense_tests(tests_, fitted, is_used(fit.status));
    return fit;
  }

  BatchLayouts layouts_;
  std::map<int, std::unique_ptr<const StrataFits>> strata_;  ///< by known design
  std::vector<int> given_;                                   ///< the user's designs among the known ones
  std::vector<Range> ranges_;
  std::vector<double> responses_;  ///< the kernels' response vector and the p coefficients taken off it; y where large
  std::map<int, std::unique_ptr<ResponseReduction>> reductions_;  ///< on a device, by known design
  std::vector<OwnDesign> own_;
  std::vector<VariantItem> variants_;
  std::vector<Generator> generators_;
  std::vector<MakeResponse> makers_;
  Hypotheses tests_;
  std::uint64_t size_ = 0;
};

Batch::Batch(Method method) : impl_(std::make_unique<Impl>(method)) {}
Batch::Batch(std::shared_ptr<const ModelMatrices> design, Method method) : Batch(method) {
  impl_->add_design(std::move(design));
}
Batch::~Batch() = default;
Batch::Batch(Batch&&) noexcept = default;
Batch& Batch::operator=(Batch&&) noexcept = default;
std::size_t Batch::add_design(std::shared_ptr<const ModelMatrices> design) {
  return impl_->add_design(std::move(design));
}
std::size_t Batch::add(const Eigen::VectorXd& y) { return impl_->add_response(0, y); }
std::size_t Batch::add(std::size_t design, const Eigen::VectorXd& y) { return impl_->add_response(design, y); }
std::size_t Batch::add_responses(std::size_t design, const Eigen::MatrixXd& y, BackendChoice backend) {
  return impl_->add_responses(design, y, backend);
}
std::size_t Batch::add_responses(std::size_t design, std::uint64_t count,
                                 std::function<void(std::uint64_t, std::span<double>)> make) {
  return impl_->add_made_responses(design, count, std::move(make));
}
std::size_t Batch::add(std::shared_ptr<const ModelMatrices> design) { return impl_->add_own_design(std::move(design)); }
std::size_t Batch::add(DesignVariant variant) { return impl_->add_variant(std::move(variant)); }
std::size_t Batch::add(std::size_t design, std::uint64_t count,
                       std::function<void(std::uint64_t, DesignVariant&)> make) {
  return impl_->add_generated(design, count, std::move(make));
}
std::size_t Batch::size() const { return impl_->size(); }
Tier Batch::tier(std::size_t design) const { return impl_->tier(design); }
void Batch::set_tests(Hypotheses hypotheses) { impl_->set_tests(std::move(hypotheses)); }
void Batch::fit_each(const std::function<void(std::uint64_t, std::span<const BatchFit>)>& collect,
                     const BatchOptions& options) const {
  impl_->fit_each(0, size(), collect, options);
}
void Batch::fit_each(std::uint64_t begin, std::uint64_t count,
                     const std::function<void(std::uint64_t, std::span<const BatchFit>)>& collect,
                     const BatchOptions& options) const {
  impl_->fit_each(begin, count, collect, options);
}
std::vector<BatchFit> Batch::fit(const BatchOptions& options) const {
  require_memory(memory(options) + static_cast<double>(size()) * fit_bytes,
                 fmt::format("a batch of {} fits and its results", size()));
  std::vector<BatchFit> all;
  all.reserve(size());
  fit_each([&](std::uint64_t, std::span<const BatchFit> fits) { all.insert(all.end(), fits.begin(), fits.end()); },
           options);
  return all;
}
std::future<std::vector<BatchFit>> Batch::submit(const BatchOptions& options) const {
  return std::async(std::launch::async, [this, options] { return fit(options); });
}
double Batch::memory(const BatchOptions& options) const { return impl_->memory(options); }

}  // namespace batchlmm
