// LargeCriterion's formulas (large_criterion.cpp) for a device: with the columns ordered [dense, X, y] the bordered
// system factors as one, and with W = L^{-1}Lambda' on [dense, X] all that follows are matrix products:
//     Phi = W'W (ML: on the dense columns alone),  v = -W'l_y on [dense, X],  c = Gamma v on the dense columns,
//     P = W Gamma (only where T is singular),  projected = W applied.
#include "host/model/device_large_criterion.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "host/model/dense_term_inverses.hpp"
#include "host/model/device_layout.hpp"
#include "host/model/streamed_levels.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
namespace k = kernels;

/// Terms of a sum that one item adds.
constexpr int segment_length = 64;
int pieces(int n) { return (n + segment_length - 1) / segment_length; }

/// Lengths and places of the sums that an evaluation with derivatives ends with.
struct Derived {
  explicit Derived(const k::LargeConstants& c)
      : s(c.streamed_parameters), dense(c.dense_parameters), m(s + dense), products(s * (s + 1) / 2) {
    blocks = gradient + s;
    forms = blocks + dense;  // the levels' sums stand together: forms, products
    dense_forms = forms + s + products;
    applied = dense_forms + dense;
    gram = applied + dense * m;
    // Of exact Hessians, after all others: between streamed terms within levels and by dense products, between dense
    // terms, and between both (a row a streamed parameter).
    level_traces = gram + m * m;
    traces = level_traces + products;
    dense_traces = traces + products;
    mixed = dense_traces + pairs;
    size = mixed + s * dense;
  }
  int s, dense, m, products, pairs = dense * (dense + 1) / 2;
  int gradient = 0, blocks, forms, dense_forms, applied, gram, level_traces, traces, dense_traces, mixed, size;
};

/// The arrays of one criterion on its device.
struct Arrays {
  k::LargeState state;
  double* parameters = nullptr;  ///< [lambda | T]
  double* response = nullptr;
  double* factored = nullptr;                                      ///< [log-determinants of the levels | Gather's]
  double* derived = nullptr;                                       ///< Derived
  double *gradient = nullptr, *values = nullptr, *sums = nullptr;  ///< of the levels, and their sums by pieces
  double *blocks = nullptr, *block_sums = nullptr;                 ///< of the dense terms' diagonal blocks
  double *projected = nullptr, *panel = nullptr, *phi_panel = nullptr;
  double* t_inverse = nullptr;                           ///< as lambda
  double *work = nullptr, *p = nullptr, *psi = nullptr;  ///< of exact Hessians
  std::vector<double*> derivative;                       ///< dGamma Phi
  int* info = nullptr;
};

/// What Gather and the levels' log-determinants take.
std::size_t factored_length(const k::LargeConstants& c) {
  const std::size_t corner = 1 + c.p;
  return c.levels + (c.q + corner) + c.q + corner * corner;
}

Arrays lay_out(const DeviceLargeModel& model, DeviceLayout& layout) {
  const k::LargeConstants& c = model.constants();
  const k::Shape& shape = model.model().shape();
  const std::size_t K = c.K, levels = c.levels, entries = c.entries, ld = c.ld, N = c.q + c.p + 1;
  const Derived derived(c);
  const std::size_t level_rows = derived.s + derived.products;
  Arrays a;
  k::LargeState& s = a.state;
  a.parameters = layout.take(shape.lambdas + K * K);
  a.response = layout.take(shape.response);
  for (double** to : {&s.pivot, &s.back, &s.b, &s.d}) *to = layout.take(levels * K * K);
  for (double** to : {&s.f, &s.u, &s.half}) *to = layout.take(entries * K);
  s.partial = layout.take(model.segments());
  for (double** to : {&s.cross, &s.factor, &s.inverse}) *to = layout.take(ld * N);
  for (double** to : {&s.ly, &s.v, &s.dense_modes}) *to = layout.take(N);
  s.modes = layout.take(levels * K);
  s.applied = layout.take(ld * derived.m);
  s.direction = layout.take(ld * derived.dense);
  s.applied_partial = layout.take(static_cast<std::size_t>(model.column_segments()) * derived.s);
  a.factored = layout.take(factored_length(c));
  a.derived = layout.take(derived.size);
  a.gradient = layout.take(levels * derived.s);
  a.values = layout.take(levels * level_rows);
  a.sums = layout.take(pieces(c.levels) * level_rows);
  // One a level for the blocks, or a pair of dense parameters, or a column and piece of its rows.
  const std::size_t most_rows = model.exact() ? std::max(derived.pairs, derived.dense) : derived.dense,
                    traces = model.exact() ? N * pieces(static_cast<int>(N)) : 0;
  a.blocks = layout.take(std::max(c.most_levels * most_rows, traces));
  a.block_sums = layout.take(std::max(pieces(c.most_levels) * most_rows, traces / segment_length + 1));
  a.projected = layout.take(ld * derived.m);
  if (!model.panels().empty()) {
    a.panel = layout.take(ld * K * model.panel_levels());
    a.phi_panel = layout.take(ld * K * model.panel_levels());
  }
  if (model.exact()) {
    a.t_inverse = layout.take(shape.lambdas);
    for (double** to : {&a.work, &a.p, &a.psi}) *to = layout.take(ld * N);
    for (int x = 0; x < derived.s; ++x) a.derivative.push_back(layout.take(ld * N));
  }
  a.info = layout.take<int>(1);
  s.lambda = a.parameters;
  s.t = a.parameters == nullptr ? nullptr : a.parameters + shape.lambdas;
  s.response = a.response;
  s.log_determinant = a.factored;
  return a;
}

/// What the host and the device exchange, in memory of the host.
struct Exchange {
  double *parameters, *response, *factored, *derived, *v, *ly, *response_square, *t_inverse;
  int* info;
};

Exchange exchange(const DeviceLargeModel& model, DeviceLayout& layout) {
  const k::LargeConstants& c = model.constants();
  const k::Shape& s = model.model().shape();
  Exchange e{};
  e.parameters = layout.take(s.lambdas + static_cast<std::size_t>(c.K) * c.K);
  e.response = layout.take(s.response);
  e.factored = layout.take(factored_length(c));
  e.derived = layout.take(Derived(c).size);
  e.v = layout.take(c.q + c.p + 1);
  e.ly = layout.take(c.q + c.p);
  e.response_square = layout.take(1);
  e.t_inverse = layout.take(s.lambdas);
  e.info = layout.take<int>(1);
  return e;
}

class DeviceLargeCriterion final : public Criterion {
public:
  DeviceLargeCriterion(std::shared_ptr<const DeviceLargeModel> model, std::shared_ptr<k::LargeDevice> device,
                       const VectorXd& y)
      : device_model_(std::move(model)),
        device_(std::move(device)),
        shape_(device_model_->model().shape()),
        c_(device_model_->constants()),
        O_(c_.q + c_.p),
        N_(O_ + 1),
        derived_(c_) {
    for (int x = 0; x < derived_.s; ++x) {
      const int column = shape_.term[shape_.parameter_term[x]].column;
      direction_.push_back({column + shape_.parameter_row[x], column + shape_.parameter_column[x]});
    }
    DeviceLayout there(nullptr), here(nullptr);
    (void)lay_out(*device_model_, there);
    (void)exchange(*device_model_, here);
    memory_ = device_->allocate(there.bytes());
    host_memory_ = device_->allocate_host(here.bytes());
    DeviceLayout take_there(memory_.get()), take_here(host_memory_.get());
    a_ = lay_out(*device_model_, take_there);
    e_ = exchange(*device_model_, take_here);
    device_->prepare_potrf(N_, a_.state.factor, c_.ld);
    e_.v[O_] = 1;
    device_->upload(a_.state.v + O_, e_.v + O_, sizeof(double));
    device_->wait();
    set_response(device_model_->model().response(y));
  }

  [[nodiscard]] CriterionCost cost() const override {
    const double n = N_;
    return {n * n * n * (1.0 / 6 + 0.5 + 0.5), device_model_->criterion_bytes()};
  }
  CriterionValue evaluate(const std::vector<double>& lambda, bool with_derivatives) override {
    return evaluate(lambda, with_derivatives, with_derivatives && device_model_->exact());
  }
  CriterionValue evaluate_with_information(const std::vector<double>& lambda) override {
    return evaluate(lambda, true, false);
  }
  void set_response(const std::vector<double>& response) override {
    response_ = response;
    response_is_new_ = true;
  }
  [[nodiscard]] VectorXd beta() const override { return beta_; }
  [[nodiscard]] MatrixXd x_information() const override { return x_factor_ * x_factor_.transpose(); }
  [[nodiscard]] MatrixXd modes(int b) const override;

private:
  CriterionValue evaluate(const std::vector<double>& lambda, bool with_derivatives, bool with_hessian);
  void run(const k::LargeStep& step, std::size_t items) {
    if (items > 0) device_->run(step, items);
  }
  /// Sequences of calls that are the same every time.
  enum Sequence { factoring, another_response, derivatives, singular_derivatives, exact, singular_exact, sequences };
  void upload(const std::vector<double>& lambda);
  void factor();
  void solve_response();
  void place_inverses();
  void invert();
  void trace_levels(int columns);
  void differentiate(bool traces);
  void sum_rows(const double* from, int rows, int n, double* partial, double* to);
  /// Calls f(count, panel) with the panels of the wide levels' `values`.
  template <class F>
  void through_panels(const double* values, const F& f);
  /// The exact Hessian's traces to `derived`, after `invert`.
  void trace_products();
  /// dGamma of a streamed parameter to `work`.
  void derive_cross(int parameter);
  /// From `derived` and what the host knows of X.
  void finish(bool with_hessian, CriterionValue& value) const;
  void add_traces(MatrixXd& hessian) const;
  [[nodiscard]] int phi_columns() const { return shape_.reml ? O_ : c_.q; }  ///< ML: Phi is zero on X

  std::shared_ptr<const DeviceLargeModel> device_model_;
  std::shared_ptr<k::LargeDevice> device_;
  const k::Shape& shape_;
  const k::LargeConstants& c_;
  int O_, N_;
  Derived derived_;
  std::shared_ptr<std::byte> memory_, host_memory_;
  Arrays a_;
  Exchange e_;
  std::vector<double> response_;
  bool response_is_new_ = true;
  std::uint64_t keys_ = k::large_device_keys(sequences);
  /// A streamed parameter's entry of T, in the columns of a level.
  struct Direction {
    int i, j;
  };
  std::vector<Direction> direction_;
  std::vector<MatrixXd> lambda_, t_inverse_;
  bool regular_ = false;             ///< T of the dense terms is well away from singular: t_inverse_ holds
  std::vector<double> kept_lambda_;  ///< where the factors, W and the traces are; empty: nowhere
  double log_determinant_ = 0, log_x_ = 0;
  MatrixXd x_factor_;
  VectorXd beta_;
};

void DeviceLargeCriterion::upload(const std::vector<double>& lambda) {
  if (response_is_new_) {
    std::copy(response_.begin(), response_.end(), e_.response);
    device_->upload(a_.response, e_.response, response_.size() * sizeof(double));
    response_is_new_ = false;
  }
  std::copy(lambda.begin(), lambda.end(), e_.parameters);
  Eigen::Map<MatrixXd> t(e_.parameters + lambda.size(), c_.K, c_.K);
  t.setZero();
  lambda_.resize(shape_.terms);
  for (int b = 0; b < shape_.terms; ++b) {
    const k::TermShape& term = shape_.term[b];
    lambda_[b] = Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
        lambda.data() + term.lambda, term.k, term.k);
    if (term.stage == 0) t.block(term.column, term.column, term.k, term.k) = lambda_[b] * lambda_[b].transpose();
  }
  device_->upload(a_.parameters, e_.parameters, (lambda.size() + t.size()) * sizeof(double));
}

template <class F>
void DeviceLargeCriterion::through_panels(const double* values, const F& f) {
  const std::vector<int>& panels = device_model_->panels();
  const int length = device_model_->panel_levels();
  for (std::size_t i = 0; i + 1 < panels.size(); ++i) {
    const int slot = static_cast<int>(i) * length, count = std::min(length, device_model_->wide_levels() - slot);
    device_->zero(a_.panel, sizeof(double) * c_.ld * c_.K * count);
    run(k::FillPanel{c_, values, a_.panel, panels[i], slot}, panels[i + 1] - panels[i]);
    f(count * c_.K, k::ReadPanel{c_, a_.state, a_.phi_panel, panels[i], slot, 0}, panels[i + 1] - panels[i]);
  }
}

/// The streamed levels, the bordered system and its factor.
void DeviceLargeCriterion::factor() {
  const k::LargeState& s = a_.state;
  const auto square = static_cast<std::size_t>(N_) * N_;
  run(k::FactorLevels{c_, s}, c_.levels);
  run(k::SolveEntries{c_, s, false}, c_.entries);
  run(k::AddPairs{c_, s, 0}, device_model_->segments());
  run(k::AddCross{c_, s, 0}, square);
  if (!device_model_->panels().empty()) {
    through_panels(s.f, [&](int columns, const k::ReadPanel&, int) {
      device_->syrk(false, O_, columns, 1, a_.panel, c_.ld, 1, s.cross, c_.ld);
    });
    run(k::Mirror{s.cross, O_, c_.ld}, static_cast<std::size_t>(O_) * O_);
  }
  run(k::Border{c_, s}, square);
  device_->potrf(N_, s.factor, c_.ld, a_.info);
  const int corner = (1 + c_.p) * (1 + c_.p);
  run(k::Gather{c_, s, a_.factored + c_.levels}, std::max(N_, corner));
}

/// The row of y in all that `factor` has made, for another response.
void DeviceLargeCriterion::solve_response() {
  const k::LargeState& s = a_.state;
  const int first = device_model_->response_segment();
  run(k::SolveEntries{c_, s, true}, c_.levels);
  run(k::AddPairs{c_, s, first}, device_model_->segments() - first);
  run(k::AddCross{c_, s, O_}, N_);
  if (O_ > 0) device_->gemv(false, O_, O_, 1, s.inverse, c_.ld, s.cross + static_cast<Index>(O_) * c_.ld, s.ly);
}

/// Where `invert` uploads them from.
void DeviceLargeCriterion::place_inverses() {
  for (int b = 0; b < shape_.terms && regular_; ++b)
    if (shape_.term[b].stage > 0)
      std::copy_n(t_inverse_[b].data(), t_inverse_[b].size(), e_.t_inverse + shape_.term[b].lambda);
}

/// W, the diagonal blocks of the dense terms, Phi and the levels' traces.
void DeviceLargeCriterion::invert() {
  const k::LargeState& s = a_.state;
  if (regular_ && a_.t_inverse != nullptr) device_->upload(a_.t_inverse, e_.t_inverse, shape_.lambdas * sizeof(double));
  if (O_ == 0) {
    trace_levels(0);
    return;
  }
  const int columns = phi_columns();
  run(k::StartInverse{c_, s}, static_cast<std::size_t>(O_) * O_);
  device_->trsm(O_, O_, s.factor, c_.ld, s.inverse, c_.ld);
  const std::size_t blocks = static_cast<std::size_t>(derived_.dense) * c_.most_levels;
  if (!regular_ && c_.q > 0) {
    device_->gemm(false, columns, c_.q, columns, 1, s.inverse, c_.ld, s.cross, c_.ld, 0, s.factor, c_.ld);
    run(k::BlockValues{c_, s, s.factor, columns, a_.blocks}, blocks);
  }
  if (columns > 0) device_->syrk(true, columns, columns, 1, s.inverse, c_.ld, 0, s.factor, c_.ld);
  if (regular_) run(k::BlockValues{c_, s, nullptr, 0, a_.blocks}, blocks);
  if (blocks > 0) sum_rows(a_.blocks, derived_.dense, c_.most_levels, a_.block_sums, a_.derived + derived_.blocks);
  trace_levels(columns);
}

void DeviceLargeCriterion::trace_levels(int columns) {
  const k::LargeState& s = a_.state;
  run(k::SparseTraces{c_, s, columns}, c_.entries);
  through_panels(s.u, [&](int panel_columns, k::ReadPanel read, int entries) {
    if (columns > 0) device_->symm(columns, panel_columns, s.factor, c_.ld, a_.panel, c_.ld, a_.phi_panel, c_.ld);
    read.columns = columns;
    run(read, entries);
  });
}

void DeviceLargeCriterion::derive_cross(int parameter) {
  const k::LargeState& s = a_.state;
  run(k::AddPairDerivatives{c_, s, parameter}, device_model_->response_segment());
  run(k::AddDerivative{c_, s, a_.work}, static_cast<std::size_t>(O_) * O_);
  const auto [i, j] = direction_[parameter];
  through_panels(s.u, [&, i = i, j = j](int columns, const k::ReadPanel&, int) {
    // Every K-th column of the panel is of one row of U.
    const int step = c_.ld * c_.K, levels = columns / c_.K;
    const double *of_i = a_.panel + static_cast<Index>(i) * c_.ld, *of_j = a_.panel + static_cast<Index>(j) * c_.ld;
    if (i == j)
      device_->syrk(false, O_, levels, -1, of_i, step, 1, a_.work, c_.ld);
    else
      device_->syr2k(O_, levels, -1, of_i, step, of_j, step, a_.work, c_.ld);
  });
}

void DeviceLargeCriterion::trace_products() {
  const k::LargeState& s = a_.state;
  const int ld = c_.ld, q = c_.q, columns = phi_columns(), most = c_.most_levels;
  double* const out = a_.derived;
  const std::size_t blocks = static_cast<std::size_t>(derived_.dense) * most;
  run(k::LevelTraces{c_, s, a_.values}, c_.levels);
  sum_rows(a_.values, derived_.products, c_.levels, a_.sums, out + derived_.level_traces);
  if (columns == 0) {
    device_->zero(out + derived_.traces, sizeof(double) * derived_.products);
    return;
  }
  run(k::Mirror{s.factor, columns, ld}, static_cast<std::size_t>(columns) * columns);
  if (q > 0) {
    run(k::ProjectedBlocks{c_, s, regular_ ? a_.t_inverse : nullptr, a_.work}, static_cast<std::size_t>(q) * q);
    if (!regular_) {
      // Q_11 = G - P'P and Psi = I - W'P.
      device_->gemm(false, columns, q, columns, 1, s.inverse, ld, s.cross, ld, 0, a_.p, ld);
      device_->syrk(true, q, columns, -1, a_.p, ld, 1, a_.work, ld);
      device_->gemm(true, columns, q, columns, 1, s.inverse, ld, a_.p, ld, 0, a_.psi, ld);
      run(k::SubtractFromIdentity{a_.psi, columns, ld}, static_cast<std::size_t>(columns) * q);
    }
    run(k::BlockTraces{c_, a_.work, a_.blocks}, static_cast<std::size_t>(derived_.pairs) * most);
    sum_rows(a_.blocks, derived_.pairs, most, a_.block_sums, out + derived_.dense_traces);
  }
  for (int x = 0; x < derived_.s; ++x) {
    derive_cross(x);
    device_->symm(columns, columns, a_.work, ld, s.factor, ld, a_.derivative[x], ld);
    if (q > 0 && regular_) run(k::BlockProducts{c_, s.factor, a_.derivative[x], columns, a_.blocks}, blocks);
    if (q > 0 && !regular_) {
      device_->symm(columns, q, a_.work, ld, a_.psi, ld, a_.p, ld);
      run(k::BlockProducts{c_, a_.psi, a_.p, columns, a_.blocks}, blocks);
    }
    if (q > 0) sum_rows(a_.blocks, derived_.dense, most, a_.block_sums, out + derived_.mixed + x * derived_.dense);
    for (int z = 0; z <= x; ++z) {
      const int items = columns * pieces(columns);
      run(k::TraceProducts{a_.derivative[x], a_.derivative[z], columns, ld, segment_length, a_.blocks}, items);
      sum_rows(a_.blocks, 1, items, a_.block_sums, out + derived_.traces + k::triangle(x, z));
    }
  }
}

void DeviceLargeCriterion::sum_rows(const double* from, int rows, int n, double* partial, double* to) {
  const int parts = pieces(n);
  run(k::SumPieces{from, partial, n, segment_length, parts}, static_cast<std::size_t>(rows) * parts);
  run(k::SumPieces{partial, to, parts, parts, 1}, rows);
}

/// @param traces  of the levels are new, too
void DeviceLargeCriterion::differentiate(bool traces) {
  const k::LargeState& s = a_.state;
  const int ld = c_.ld, q = c_.q, dense = derived_.dense, m = derived_.m, segments = device_model_->column_segments();
  double* const out = a_.derived;
  if (O_ > 0) device_->gemv(true, O_, O_, -1, s.inverse, ld, s.ly, s.v);
  run(k::LevelValues{c_, s, traces, a_.gradient, a_.values}, c_.levels);
  if (traces) sum_rows(a_.gradient, derived_.s, c_.levels, a_.sums, out + derived_.gradient);
  sum_rows(a_.values, derived_.s + derived_.products, c_.levels, a_.sums, out + derived_.forms);
  run(k::AppliedPartials{c_, s, segments}, static_cast<std::size_t>(segments) * derived_.s);
  run(k::AppliedSums{c_, s, segments}, static_cast<std::size_t>(O_) * derived_.s);
  if (dense > 0) {
    device_->gemv(false, q, N_, 1, s.cross, ld, s.v, s.dense_modes);
    run(k::DenseDirections{c_, s}, static_cast<std::size_t>(q) * dense);
    device_->gemv(true, q, dense, 1, s.direction, ld, s.dense_modes, out + derived_.dense_forms);
    device_->gemm(false, O_, dense, q, 1, s.cross, ld, s.direction, ld, 0,
                  s.applied + static_cast<Index>(derived_.s) * ld, ld);
    device_->gemm(true, dense, m, q, 1, s.direction, ld, s.applied, ld, 0, out + derived_.applied, dense);
  }
  if (O_ > 0) {
    device_->gemm(false, O_, m, O_, 1, s.inverse, ld, s.applied, ld, 0, a_.projected, ld);
    device_->gemm(true, m, m, O_, 1, a_.projected, ld, a_.projected, ld, 0, out + derived_.gram, m);
  }
  device_->download(e_.derived, out, derived_.size * sizeof(double));
  device_->download(e_.v, s.v, O_ * sizeof(double));
}

CriterionValue DeviceLargeCriterion::evaluate(const std::vector<double>& lambda, bool with_derivatives,
                                              bool with_hessian) {
  CriterionValue value;
  value.deviance = 1e300;
  if (with_derivatives) {
    value.gradient = VectorXd::Zero(derived_.m);
    value.hessian = MatrixXd::Zero(derived_.m, derived_.m);
    value.information = MatrixXd::Zero(derived_.m, derived_.m);
  }
  const bool kept = with_derivatives && !with_hessian && kept_lambda_ == lambda;
  if (!kept) kept_lambda_.clear();
  upload(lambda);
  if (kept) {
    device_->repeat(keys_ + another_response, [&] {
      solve_response();
      differentiate(false);
      device_->download(e_.ly, a_.state.ly, O_ * sizeof(double));
      device_->download(e_.response_square, a_.state.cross + static_cast<Index>(O_) * (c_.ld + 1), sizeof(double));
    });
    device_->wait();
    value.r2 = *e_.response_square - Eigen::Map<const VectorXd>(e_.ly, O_).squaredNorm();
  } else {
    device_->repeat(keys_ + factoring, [&] {
      factor();
      device_->download(e_.factored, a_.factored, factored_length(c_) * sizeof(double));
      device_->download(e_.info, a_.info, sizeof(int));
    });
    device_->wait();
    if (*e_.info != 0) return value;
    const double *diagonal = e_.factored + c_.levels, *of_cross = diagonal + N_, *corner = of_cross + c_.q;
    log_determinant_ = log_x_ = 0;
    for (int j = 0; j < c_.levels; ++j) log_determinant_ += e_.factored[j];
    for (int i = 0; i < c_.q; ++i) log_determinant_ += 2 * std::log(diagonal[i]);
    for (int i = c_.q; i < O_; ++i) log_x_ += 2 * std::log(diagonal[i]);
    value.r2 = diagonal[O_] * diagonal[O_];
    x_factor_ = Eigen::Map<const MatrixXd>(corner, 1 + c_.p, 1 + c_.p).topLeftCorner(c_.p, c_.p);
    regular_ = invert_dense_t(
        shape_, lambda_,
        [&](int b) {
          const k::TermShape& term = shape_.term[b];
          return Eigen::Map<const VectorXd>(of_cross + term.column, static_cast<Index>(term.k) * term.levels).mean();
        },
        t_inverse_);
  }
  if (!(value.r2 > 0)) return value;
  const double deviance =
      log_determinant_ + shape_.degrees * std::log(value.r2) + shape_.constant + (shape_.reml ? log_x_ : 0.0);
  if (!std::isfinite(deviance)) return value;
  if (with_derivatives && !kept) {
    const Sequence sequence =
        with_hessian ? (regular_ ? exact : singular_exact) : (regular_ ? derivatives : singular_derivatives);
    place_inverses();
    device_->repeat(keys_ + sequence, [&] {
      invert();
      if (with_hessian) trace_products();
      differentiate(true);
    });
    device_->wait();
  }
  value.deviance = deviance;
  value.ok = true;
  if (!with_derivatives) return value;
  finish(with_hessian, value);
  beta_ = -Eigen::Map<const VectorXd>(e_.v + c_.q, c_.p);
  kept_lambda_ = lambda;
  return value;
}

void DeviceLargeCriterion::finish(bool with_hessian, CriterionValue& value) const {
  const Derived& d = derived_;
  const double n_over_r2 = shape_.degrees / value.r2;
  VectorXd forms(d.m), gradient(d.m);
  MatrixXd products = MatrixXd::Zero(d.m, d.m);
  forms.head(d.s) = Eigen::Map<const VectorXd>(e_.derived + d.forms, d.s);
  forms.tail(d.dense) = Eigen::Map<const VectorXd>(e_.derived + d.dense_forms, d.dense);
  gradient.head(d.s) = Eigen::Map<const VectorXd>(e_.derived + d.gradient, d.s);
  // The diagonal blocks of Q_11, summed over the levels: from those of Phi where T has an inverse.
  for (int b = 0; b < shape_.terms; ++b) {
    const k::TermShape& term = shape_.term[b];
    if (term.stage == 0) continue;
    MatrixXd block(term.k, term.k);
    const double* sums = e_.derived + d.blocks + term.parameter - d.s;
    for (int i = 0; i < term.k; ++i)
      for (int j = 0; j <= i; ++j) block(i, j) = block(j, i) = sums[k::triangle(i, j)];
    if (regular_) block = term.levels * t_inverse_[b] - t_inverse_[b] * block * t_inverse_[b];
    for (int i = 0; i < term.k; ++i)
      for (int j = 0; j <= i; ++j) gradient[term.parameter + k::triangle(i, j)] = (i == j ? 1 : 2) * block(i, j);
  }
  const double* of_levels = e_.derived + d.forms + d.s;
  for (int x = 0; x < d.s; ++x)
    for (int z = 0; z <= x; ++z) products(x, z) = of_levels[k::triangle(x, z)];
  products.bottomRows(d.dense) += Eigen::Map<const MatrixXd>(e_.derived + d.applied, d.dense, d.m);
  products = MatrixXd(products.selfadjointView<Eigen::Lower>());
  if (O_ > 0) products -= Eigen::Map<const MatrixXd>(e_.derived + d.gram, d.m, d.m);
  value.gradient = gradient - n_over_r2 * forms;
  const MatrixXd squares = (n_over_r2 / value.r2) * forms * forms.transpose();
  value.information = n_over_r2 * products - squares;
  value.hessian = value.information;
  value.exact = with_hessian;
  if (with_hessian) {
    value.hessian = 2 * n_over_r2 * products - squares;
    add_traces(value.hessian);
  }
  value.forms = forms;
}

void DeviceLargeCriterion::add_traces(MatrixXd& hessian) const {
  const Derived& d = derived_;
  MatrixXd traces = MatrixXd::Zero(d.m, d.m);
  for (int x = 0; x < d.s; ++x)
    for (int z = 0; z <= x; ++z)
      traces(x, z) = e_.derived[d.level_traces + k::triangle(x, z)] - e_.derived[d.traces + k::triangle(x, z)];
  for (int x = 0; x < d.dense; ++x)
    for (int z = 0; z <= x; ++z) traces(d.s + x, d.s + z) = -e_.derived[d.dense_traces + k::triangle(x, z)];
  for (int x = 0; x < d.s; ++x)
    for (int b = 0; b < shape_.terms; ++b) {
      const k::TermShape& term = shape_.term[b];
      if (term.stage == 0) continue;
      const double* sums = e_.derived + d.mixed + x * d.dense + term.parameter - d.s;
      MatrixXd block(term.k, term.k);
      for (int i = 0; i < term.k; ++i)
        for (int j = 0; j <= i; ++j) block(i, j) = block(j, i) = sums[k::triangle(i, j)];
      if (regular_) block = t_inverse_[b] * block * t_inverse_[b];
      for (int i = 0; i < term.k; ++i)
        for (int j = 0; j <= i; ++j) traces(term.parameter + k::triangle(i, j), x) = (i == j ? 1 : 2) * block(i, j);
    }
  hessian += MatrixXd(traces.selfadjointView<Eigen::Lower>());
}

MatrixXd DeviceLargeCriterion::modes(int b) const {
  const k::TermShape& term = shape_.term[b];
  const int length = term.stage > 0 ? c_.q : c_.levels * c_.K;
  std::vector<double> all(length);
  device_->download(all.data(), term.stage > 0 ? a_.state.dense_modes : a_.state.modes, length * sizeof(double));
  device_->wait();
  if (term.stage > 0) return Eigen::Map<const MatrixXd>(all.data() + term.column, term.k, term.levels).transpose();
  MatrixXd c(c_.levels, term.k);
  for (int j = 0; j < c_.levels; ++j)
    for (int i = 0; i < term.k; ++i)
      c(device_model_->model().level_of_node(b, j), i) = all[static_cast<std::size_t>(j) * c_.K + term.column + i];
  return c;
}

/// The levels whose products are added by matrix algebra: those with many columns, and as many more as it takes to
/// list no more than `most_pairs`.
std::vector<unsigned char> find_wide_levels(const std::vector<int>& first, int columns,
                                            const DeviceLargeOptions& options) {
  const std::size_t levels = first.size() - 1;
  std::vector<unsigned char> wide(levels, 0);
  std::vector<std::size_t> by_length(levels);
  std::iota(by_length.begin(), by_length.end(), 0);
  const auto touched = [&](std::size_t j) { return static_cast<double>(first[j + 1] - first[j] - 1); };
  std::stable_sort(by_length.begin(), by_length.end(),
                   [&](std::size_t a, std::size_t b) { return touched(a) > touched(b); });
  double pairs = 0;
  for (const std::size_t j : by_length) pairs += (touched(j) + 1) * (touched(j) + 2) / 2;
  for (const std::size_t j : by_length) {
    if (touched(j) <= options.dense_share * columns && pairs <= options.most_pairs) break;
    if (touched(j) == 0) break;
    wide[j] = 1;
    pairs -= touched(j) * (touched(j) + 1) / 2;  // those with y are listed anyway
  }
  return wide;
}

}  // namespace

DeviceLargeModel::DeviceLargeModel(const Model& model, k::LargeDevice& device, const DeviceLargeOptions& options)
    : model_(model), panel_levels_(options.panel_levels) {
  const k::Shape& s = model.shape();
  k::LargeConstants& c = constants_;
  c.K = s.own[0];
  c.levels = s.nodes[0];
  c.p = s.p;
  c.q = s.stages > 0 ? s.own[1] : 0;
  const int K = c.K, O = c.q + c.p, N = O + 1;
  c.ld = static_cast<int>(DeviceLayout::aligned(N));

  // Entries: the columns that a level touches, in the device's order.
  const auto place = [&](int column) { return column == 0 ? O : column <= c.p ? c.q + column - 1 : column - 1 - c.p; };
  std::vector<int> first{0}, entry_column, entry_level;
  std::vector<double> level_c(static_cast<std::size_t>(c.levels) * K * K), r;
  MatrixXd cross = MatrixXd::Zero(N, N);
  read_streamed_levels(model, cross.data(), [&](int j, const Model::StreamedLevel& level) {
    Eigen::Map<MatrixXd>(level_c.data() + static_cast<std::size_t>(j) * K * K, K, K) = level.c;
    const auto begin =
        std::partition_point(level.touched.begin(), level.touched.end(), [&](int column) { return column <= c.p; }) -
        level.touched.begin();
    const auto touched = static_cast<std::ptrdiff_t>(level.touched.size());
    for (std::ptrdiff_t i = 0; i < touched; ++i) {
      const std::ptrdiff_t from = (i + begin) % touched;  // dense columns first, then X
      entry_column.push_back(place(level.touched[from]));
      r.insert(r.end(), level.r.col(from).data(), level.r.col(from).data() + K);
    }
    entry_column.push_back(O);
    r.resize(r.size() + K, 0.0);
    entry_level.resize(entry_column.size(), j);
    first.push_back(static_cast<int>(entry_column.size()));
  });
  c.entries = first.back();
  const auto targets = static_cast<std::size_t>(N) * (N + 1) / 2;
  const auto target = [](int row, int column) { return static_cast<std::size_t>(row) * (row + 1) / 2 + column; };
  std::vector<double> e(targets, 0.0);
  const auto back = [&](int column) { return column < c.q ? 1 + c.p + column : column - c.q + 1; };
  for (int row = 0; row < O; ++row)
    for (int column = 0; column <= row; ++column) {
      const int i = back(row), j = back(column);
      e[target(row, column)] = cross(std::max(i, j), std::min(i, j));
    }
  cross.resize(0, 0);

  // Pairs by targets, those of a target by levels.
  const std::vector<unsigned char> wide = find_wide_levels(first, O, options);
  std::vector<int> begin(targets + 1, 0);
  const auto for_pairs = [&](const auto& f) {
    for (int j = 0; j < c.levels; ++j)
      for (int a = wide[j] != 0 ? first[j + 1] - 1 : first[j]; a < first[j + 1]; ++a)
        for (int b = first[j]; b <= a; ++b) f(target(entry_column[a], entry_column[b]), a, b);
  };
  for_pairs([&](std::size_t t, int, int) { ++begin[t + 1]; });
  std::partial_sum(begin.begin(), begin.end(), begin.begin());
  std::vector<int> pair_a(begin.back()), pair_b(begin.back()), next(begin.begin(), begin.end() - 1);
  for_pairs([&](std::size_t t, int a, int b) {
    pair_a[next[t]] = a;
    pair_b[next[t]++] = b;
  });
  // Ranges in segments: `of` gets the borders of each range's segments.
  const auto cut = [](const std::vector<int>& borders, std::vector<int>& segment, std::vector<int>& of) {
    for (std::size_t t = 0; t + 1 < borders.size(); ++t) {
      of.push_back(static_cast<int>(segment.size()));
      for (int at = borders[t]; at < borders[t + 1]; at += segment_length) segment.push_back(at);
    }
    of.push_back(static_cast<int>(segment.size()));
    segment.push_back(borders.back());
  };
  std::vector<int> segment, target_segment;
  cut(begin, segment, target_segment);
  segments_ = target_segment.back();
  response_segment_ = target_segment[target(O, 0)];

  // Entries by columns.
  std::vector<int> column_begin(O + 1, 0);
  for (const int column : entry_column)
    if (column < O) ++column_begin[column + 1];
  std::partial_sum(column_begin.begin(), column_begin.end(), column_begin.begin());
  std::vector<int> by_column(column_begin.back()), column_next(column_begin.begin(), column_begin.end() - 1);
  for (int i = 0; i < c.entries; ++i)
    if (entry_column[i] < O) by_column[column_next[entry_column[i]]++] = i;
  std::vector<int> column_segment, segment_of_column;
  cut(column_begin, column_segment, segment_of_column);
  column_segments_ = segment_of_column.back();

  // Wide levels.
  std::vector<int> wide_entry, wide_slot;
  for (int j = 0; j < c.levels; ++j) {
    if (wide[j] == 0) continue;
    if (wide_levels_ % panel_levels_ == 0) panels_.push_back(static_cast<int>(wide_entry.size()));
    for (int i = first[j]; i + 1 < first[j + 1]; ++i) {
      wide_entry.push_back(i);
      wide_slot.push_back(wide_levels_);
    }
    ++wide_levels_;
  }
  if (wide_levels_ > 0) panels_.push_back(static_cast<int>(wide_entry.size()));

  // Parameters and dense columns.
  std::vector<int> row, column, block(c.q), block_k(c.q), block_lambda(c.q), block_parameter(c.q);
  std::vector<int> of_column, of_levels, of_k, of_row, of_col;
  for (int x = 0; x < s.parameters; ++x) {
    const k::TermShape& term = s.term[s.parameter_term[x]];
    if (term.stage == 0) {
      row.push_back(term.column + s.parameter_row[x]);
      column.push_back(term.column + s.parameter_column[x]);
      continue;
    }
    of_column.push_back(term.column);
    of_levels.push_back(term.levels);
    of_k.push_back(term.k);
    of_row.push_back(s.parameter_row[x]);
    of_col.push_back(s.parameter_column[x]);
    c.most_levels = std::max(c.most_levels, term.levels);
  }
  c.streamed_parameters = static_cast<int>(row.size());
  c.dense_parameters = static_cast<int>(of_row.size());
  for (int b = 0; b < s.terms; ++b) {
    const k::TermShape& term = s.term[b];
    for (int i = 0; term.stage > 0 && i < term.levels * term.k; ++i) {
      block[term.column + i] = term.column + i / term.k * term.k;
      block_k[term.column + i] = term.k;
      block_lambda[term.column + i] = term.lambda;
      block_parameter[term.column + i] = term.parameter - c.streamed_parameters;
    }
  }

  const double q = c.q;
  exact_ = 4.0 * (c.streamed_parameters + 1) * q * q * q <= options.largest_exact_hessian;

  DeviceArrays constants;
  constants.add(row, c.row);
  constants.add(column, c.column);
  constants.add(first, c.first);
  constants.add(entry_column, c.entry_column);
  constants.add(entry_level, c.entry_level);
  constants.add(level_c, c.c);
  constants.add(r, c.r);
  constants.add(e, c.e);
  constants.add(pair_a, c.pair_a);
  constants.add(pair_b, c.pair_b);
  constants.add(segment, c.segment);
  constants.add(target_segment, c.target_segment);
  constants.add(by_column, c.by_column);
  constants.add(column_segment, c.column_segment);
  constants.add(segment_of_column, c.segment_of_column);
  constants.add(wide_entry, c.wide_entry);
  constants.add(wide_slot, c.wide_slot);
  constants.add(wide, c.is_wide);
  constants.add(block, c.block);
  constants.add(block_k, c.block_k);
  constants.add(block_lambda, c.block_lambda);
  constants.add(block_parameter, c.block_parameter);
  constants.add(of_column, c.of_column);
  constants.add(of_levels, c.of_levels);
  constants.add(of_k, c.of_k);
  constants.add(of_row, c.of_row);
  constants.add(of_col, c.of_col);
  memory_ = constants.upload(device);
}

double DeviceLargeModel::criterion_bytes() const {
  DeviceLayout layout(nullptr);
  (void)lay_out(*this, layout);
  return static_cast<double>(layout.bytes());
}

std::unique_ptr<Criterion> make_device_large_criterion(std::shared_ptr<const DeviceLargeModel> model,
                                                       std::shared_ptr<k::LargeDevice> device, const VectorXd& y) {
  return std::make_unique<DeviceLargeCriterion>(std::move(model), std::move(device), y);
}

}  // namespace batchlmm
