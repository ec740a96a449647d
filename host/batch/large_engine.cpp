#include "host/batch/large_engine.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/batch/test_plan.hpp"
#include "host/model/blas.hpp"
#include "host/model/optimize.hpp"
#include "kernels/cuda_large.hpp"
#include "kernels/replicate.hpp"

namespace batchlmm {
namespace {

constexpr std::uint32_t error_stream = 2, first_effect_stream = 16;

/// The last Newton step of a replicate's fit predicts less than this, or is good to `error` by what the
/// steps before foretell, which carried traces make too small by a factor of up to 3 (measured): 1e-8 is the contract.
constexpr double finish = 1e-8, error = 1e-9;

/// What a fit is expected to take: measured are 5 with 3 parameters (InstEval) and 8.5 with 72 (kb07).
double evaluations_a_fit(int parameters) { return 4.85 + 0.05 * parameters; }

/// Replicates at a time on one device: a queue of its own is idle most of the time, between kernels of few blocks.
constexpr int queues_a_device = 16;

/// Multiply-adds a second of dense products: on a device with all its queues, and on a core.
constexpr double device_rate = 5e12, core_rate = 2e10;

/// A share of the error's variance in a level's mean that a term with several columns starts with in every direction.
constexpr double inside = 0.3;

/// The generating value. A generating T without full rank is no place to start for a term with several columns: it is
/// moved into the cone.
std::vector<double> first_start(const Model& model, std::vector<double> lambda) {
  const kernels::Shape& s = model.shape();
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k;
    if (k == 1) continue;
    Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> l(
        lambda.data() + s.term[b].lambda, k, k);
    Eigen::MatrixXd t = l * l.transpose();
    t.diagonal().array() += inside / s.term[b].scale;
    l = t.llt().matrixL();
  }
  return lambda;
}

void record(const kernels::Shape& s, const Optimum& optimum, std::uint64_t i, const kernels::FitResults& results) {
  results.status[i] = optimum.boundary != 0 ? kernels::fit_boundary : kernels::fit_converged;
  if (!optimum.certified) results.status[i] = kernels::fit_iteration_limit;
  results.deviance[i] = optimum.value.deviance;
  std::copy(optimum.lambda.begin(), optimum.lambda.end(), results.lambda + i * s.lambdas);
  if (results.boundary != nullptr) results.boundary[i] = optimum.boundary;
}

/// The starting point in place of an optimum.
Optimum unfitted(const std::vector<double>& start, const CriterionValue& value) {
  Optimum optimum;
  optimum.lambda = start;
  optimum.value = value;
  optimum.certified = true;
  optimum.evaluations = 1;
  return optimum;
}

/// The device takes the model's criterion, and takes less time for it than a core for the cheapest of the CPU's.
bool device_pays(const Model& model, const CriterionCost& on_cpu) {
  const double columns = model.shape().columns();
  return model.shape().stages <= 1 && columns * columns * columns / device_rate < on_cpu.operations / core_rate;
}

}  // namespace

LargeDevices cuda_large_queues() { return {kernels::cuda_large_devices, kernels::make_cuda_large_device}; }

class LargeEngine::Turn {
public:
  Turn(const LargeEngine& engine, const Backend& backend)
      : engine_(engine), backend_(backend), worker_(engine.take_worker(backend)) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    const std::lock_guard lock(engine_.mutex_);
    Workers& workers = backend_.cuda ? engine_.device_ : engine_.cpu_;
    if (loss_ == nullptr) {
      workers.idle.push_back(std::move(worker_));
    } else {
      --workers.made;
      workers.loss = loss_;
    }
    engine_.given_back_.notify_all();
  }
  Worker* operator->() const { return worker_.get(); }
  void lose(std::exception_ptr loss) { loss_ = std::move(loss); }

private:
  const LargeEngine& engine_;
  Backend backend_;
  std::unique_ptr<Worker> worker_;
  std::exception_ptr loss_;
};

LargeEngine::Side LargeEngine::make_side(const Model& model, std::vector<double> start) {
  Side side{&model, std::move(start), CarriedTraces(model.shape())};
  const std::unique_ptr<Criterion> criterion = make_criterion(model, model.matrices().y);
  side.cost = criterion->cost();
  const CriterionValue value = criterion->evaluate(side.start, true);
  if (value.ok && value.exact && value.forms.size() > 0) side.traces.take(side.start, value);
  return side;
}

LargeEngine::LargeEngine(const BootstrapModels& models, LargeDevices devices)
    : null_(*models.null),
      full_(*models.full),
      embedding_(*models.embedding),
      lambda_(models.lambda),
      seed_(models.seed),
      refit_(models.refit()),
      null_side_{nullptr, {}, CarriedTraces(null_.shape())},
      full_side_{nullptr, {}, CarriedTraces(full_.shape())},
      devices_(std::move(devices)) {
  const SerialBlas serial;  // the traces' bits go into the replicates'
  null_side_ = make_side(null_, embedding_.null_at_zero ? lambda_ : first_start(null_, lambda_));
  if (!refit_) full_side_ = make_side(full_, first_start(full_, embedding_.apply(null_, full_, lambda_)));
}

LargeEngine::~LargeEngine() = default;

std::uint64_t LargeEngine::chunk_length(const Backend& /*backend*/) const {
  // Enough to share the factorization at the starting point, few enough to share among threads.
  return full_.plan().schur > Model::default_largest_kernel_schur ? 8 : 32;
}

EngineFacts LargeEngine::facts() const {
  EngineFacts facts;
  for (const Side* side : {&null_side_, &full_side_}) {
    if (side->model == nullptr) continue;
    const double evaluations = evaluations_a_fit(side->model->shape().parameters);
    facts.evaluations += evaluations;
    // The first evaluation is a few solves.
    facts.multiply_adds += (evaluations - 1) * side->cost.operations;
  }
  return facts;
}

double LargeEngine::thread_bytes() const {
  const auto length = static_cast<double>(chunk_length({}));
  double bytes = 8 * length * static_cast<double>(null_.matrices().y.size());
  for (const Side* side : {&null_side_, &full_side_}) {
    if (side->model == nullptr) continue;
    const kernels::Shape& s = side->model->shape();
    bytes += side->cost.bytes + 8 * length * (s.response + 2.0 * s.parameters * s.parameters);
  }
  return bytes;
}

Eigen::VectorXd LargeEngine::draw(std::uint64_t replicate) const {
  const kernels::Shape& s = null_.shape();
  const Eigen::Index n = null_.matrices().y.size();
  Eigen::VectorXd y(n);
  kernels::Normals<double> errors(seed_, replicate, error_stream);
  for (Eigen::Index i = 0; i < n; ++i) y[i] = errors.next();
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k, t = null_.term_of(b);
    const RandomTerm& term = null_.matrices().random[t];
    const Eigen::MatrixXd& z = null_.z_gauge(t).columns;
    const double* lambda = lambda_.data() + s.term[b].lambda;
    if (std::all_of(lambda, lambda + k * k, [](double l) { return l == 0; })) continue;
    kernels::Normals<double> normals(seed_, replicate, first_effect_stream + static_cast<std::uint32_t>(b));
    Eigen::MatrixXd effects(k, static_cast<Eigen::Index>(term.levels.size()));
    for (Eigen::Index l = 0; l < effects.cols(); ++l) {
      effects.col(l).setZero();
      for (int c = 0; c < k; ++c) {
        const double u = normals.next();
        for (int i = 0; i < k; ++i) effects(i, l) += lambda[i * k + c] * u;
      }
    }
    for (Eigen::Index i = 0; i < n; ++i)
      for (int q = 0; q < k; ++q) y[i] += z(i, q) * effects(q, term.level_of_row[i]);
  }
  return y;
}

void LargeEngine::make_device_workers() const {
  const std::lock_guard making(making_);
  if (device_.made > 0 || device_.loss != nullptr) return;
  std::vector<std::unique_ptr<Worker>> made;
  const int devices = devices_.count();
  for (int d = 0; d < devices; ++d) {
    std::shared_ptr<const DeviceLargeModel> null, full;
    const auto make = [](const Side& side, std::shared_ptr<const DeviceLargeModel>& constants,
                         const std::shared_ptr<kernels::LargeDevice>& device) -> std::unique_ptr<Criterion> {
      const Model& model = *side.model;
      if (!device_pays(model, side.cost)) return make_criterion(model, model.matrices().y);
      if (constants == nullptr) constants = std::make_shared<const DeviceLargeModel>(model, *device);
      return make_device_large_criterion(constants, device, model.matrices().y);
    };
    const auto make_worker = [&](const std::shared_ptr<kernels::LargeDevice>& device) {
      auto worker = std::make_unique<Worker>();
      worker->null = make(null_side_, null, device);
      if (!refit_) worker->full = make(full_side_, full, device);
      return worker;
    };
    // The first one takes the constants there; the others then take no more than the share that may be taken. To open
    // their libraries takes most of the time: all at once.
    int others = queues_a_device - 1;
    try {
      const std::shared_ptr<kernels::LargeDevice> device = devices_.open(d);
      made.push_back(make_worker(device));
      const double bytes =
          (null != nullptr ? null->criterion_bytes() : 0) + (full != nullptr ? full->criterion_bytes() : 0);
      if (bytes > 0) others = std::min(others, static_cast<int>(static_cast<double>(device->usable_bytes()) / bytes));
    } catch (const kernels::DeviceMemoryError&) {
      if (made.empty() && d + 1 == devices) throw;
      continue;
    }
    std::vector<std::unique_ptr<Worker>> more(others);
    std::vector<std::exception_ptr> failure(others);
    if (others > 0)
      in_parallel(others, [&](int i) {
        try {
          more[i] = make_worker(devices_.open(d));
        } catch (const kernels::DeviceMemoryError&) {
          // Fewer at a time.
        } catch (...) {
          failure[i] = std::current_exception();
        }
      });
    for (const std::exception_ptr& error : failure)
      if (error != nullptr) std::rethrow_exception(error);
    for (std::unique_ptr<Worker>& worker : more)
      if (worker != nullptr) made.push_back(std::move(worker));
  }
  const std::lock_guard lock(mutex_);
  device_.made = static_cast<int>(made.size());
  device_.idle = std::move(made);
}

int LargeEngine::device_workers() const {
  make_device_workers();
  const std::lock_guard lock(mutex_);
  return device_.made;
}

std::unique_ptr<LargeEngine::Worker> LargeEngine::take_worker(const Backend& backend) const {
  if (backend.cuda) make_device_workers();
  {
    std::unique_lock lock(mutex_);
    Workers& workers = backend.cuda ? device_ : cpu_;
    if (backend.cuda) {
      given_back_.wait(lock, [&] { return !workers.idle.empty() || workers.made == 0; });
      if (workers.made == 0) std::rethrow_exception(workers.loss);
    }
    if (!workers.idle.empty()) {
      std::unique_ptr<Worker> worker = std::move(workers.idle.back());
      workers.idle.pop_back();
      return worker;
    }
  }
  auto worker = std::make_unique<Worker>();
  worker->null = make_criterion(null_, null_.matrices().y);
  if (!refit_) worker->full = make_criterion(full_, full_.matrices().y);
  return worker;
}

void LargeEngine::fit(const Side& side, Criterion& criterion, bool parameters, const std::vector<Eigen::VectorXd>& y,
                      const kernels::FitResults& null, const kernels::FitResults& results) const {
  const kernels::Shape& s = side.model->shape();
  // All replicates at the starting point first: one factorization for all of them. It is made with the response that is
  // there, so that no replicate goes another way than the others.
  criterion.evaluate_with_information(side.start);
  std::vector<std::vector<double>> response;
  std::vector<CriterionValue> first;
  for (const Eigen::VectorXd& one : y) {
    response.push_back(side.model->response(one));
    criterion.set_response(response.back());
    first.push_back(criterion.evaluate_with_information(side.start));
  }
  kernels::BootstrapJob job;
  job.null = &null_.shape();
  job.full = &full_.shape();
  job.embed_map = embedding_.map.data();
  job.embed_term = embedding_.term.data();
  job.embed_column = embedding_.column.data();
  job.null_options.stay = embedding_.null_at_zero;
  const bool stay = embedding_.null_at_zero && side.model == &null_;
  for (std::uint64_t i = 0; i < y.size(); ++i) {
    if (!y[i].allFinite()) {
      kernels::record_failure(s, kernels::fit_non_finite, i, results);
      continue;
    }
    criterion.set_response(response[i]);
    MinimizeOptions options;
    options.finish = finish;
    options.error = error;
    options.carry = true;
    options.first = &first[i];
    options.traces = &side.traces;
    options.final_evaluation = false;
    Optimum optimum = stay ? unfitted(side.start, first[i]) : minimize(criterion, *side.model, {side.start}, options);
    int evaluations = optimum.evaluations;
    if (null.status != nullptr && !(optimum.value.deviance <= null.deviance[i] + 1e-9)) {
      // A worse optimum than a point that is known: once more, from there.
      std::vector<double> start(s.lambdas);
      kernels::full_start(job, null.lambda + i * null_.shape().lambdas, start.data());
      options.first = nullptr;
      const Optimum again = minimize(criterion, *side.model, {start}, options);
      evaluations += again.evaluations;
      if (again.value.deviance < optimum.value.deviance) optimum = again;
    }
    if (!optimum.value.ok) {
      kernels::record_failure(s, kernels::fit_not_positive_definite, i, results);
    } else {
      record(s, optimum, i, results);
      if (parameters) {
        const CriterionValue value = criterion.evaluate_with_information(optimum.lambda);
        ++evaluations;
        if (results.r2 != nullptr) results.r2[i] = value.r2;
        if (results.beta != nullptr)
          Eigen::Map<Eigen::VectorXd>(results.beta + i * static_cast<std::uint64_t>(s.p), s.p) = criterion.beta();
        if (results.x_factor != nullptr) {
          const Eigen::MatrixXd factor = criterion.x_information().llt().matrixL();
          double* to = results.x_factor + i * static_cast<std::uint64_t>(kernels::triangle_size(s.p));
          for (int r = 0; r < s.p; ++r)
            for (int c = 0; c <= r; ++c) *to++ = factor(r, c);
        }
      }
    }
    if (results.evaluations != nullptr)
      results.evaluations[i] =
          static_cast<std::uint16_t>(std::min<int>(evaluations, std::numeric_limits<std::uint16_t>::max()));
  }
}

void LargeEngine::run(const Backend& backend, bool parameters, kernels::BootstrapChunk& chunk) const {
  const SerialBlas serial;
  Turn worker(*this, backend);
  std::vector<Eigen::VectorXd> y;
  for (std::uint64_t i = 0; i < chunk.count; ++i) y.push_back(draw(chunk.first + i));
  try {
    fit(null_side_, *worker->null, parameters, y, {}, chunk.null);
    if (!refit_) fit(full_side_, *worker->full, parameters, y, chunk.null, chunk.full);
  } catch (const DeviceLost&) {
    worker.lose(std::current_exception());
    throw;
  }
}

void LargeEngine::test(const kernels::TestJob& tests) const {
  using kernels::TestValues;
  const SerialBlas serial;
  const Model& model = tests.full ? full_ : null_;
  const kernels::Shape& s = model.shape();
  const kernels::TestPlan& plan = *tests.plan;
  const Eigen::MatrixXd& map = model.x_gauge().map;
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  // Back in the user's columns of X: l'b of the gauge is (map'l)'beta.
  Hypotheses hypotheses{plan.kenward_roger ? SmallSample::kenward_roger : SmallSample::satterthwaite, {}};
  const Eigen::MatrixXd l = Eigen::Map<const RowMajor>(plan.l, plan.rows, plan.p) * map;
  const Eigen::Map<const Eigen::VectorXd> value(plan.value, plan.rows);
  for (int h = 0; h < plan.hypotheses; ++h) {
    const int first = plan.first[h], rows = plan.first[h + 1] - first;
    hypotheses.list.push_back({l.middleRows(first, rows), -value.segment(first, rows)});
  }
  for (std::uint64_t i = 0; i < tests.count; ++i) {
    const bool used = tests.fits.status[i] == kernels::fit_converged || tests.fits.status[i] == kernels::fit_boundary;
    FittedModel fitted{&model.matrices(), s.reml ? Method::reml : Method::ml, {}, {}, {}, 0};
    if (used) {
      fitted.y = draw(tests.first + i);
      fitted.lambda.resize(model.matrices().random.size());
      for (int b = 0; b < s.terms; ++b) {
        const int k = s.term[b].k;
        fitted.lambda[model.term_of(b)] = model.to_user_lambda(
            b, Eigen::Map<const RowMajor>(
                   tests.fits.lambda + i * static_cast<std::uint64_t>(s.lambdas) + s.term[b].lambda, k, k));
      }
      fitted.beta = map.triangularView<Eigen::Upper>().solve(Eigen::VectorXd(
          Eigen::Map<const Eigen::VectorXd>(tests.fits.beta + i * static_cast<std::uint64_t>(s.p), s.p)));
      fitted.sigma = std::sqrt(tests.fits.r2[i] / s.degrees);
    }
    double* to = tests.values + i * hypotheses.list.size() * TestValues::values;
    for (const HypothesisTest& t : dense_tests(hypotheses, fitted, used)) {
      to[TestValues::estimate] = t.estimate;
      to[TestValues::std_error] = t.std_error;
      to[TestValues::df1] = t.df1;
      to[TestValues::df2] = t.df;
      to[TestValues::statistic] = t.statistic;
      to[TestValues::p_value] = t.p;
      to[TestValues::scaling] = t.scaling;
      to += TestValues::values;
    }
  }
}

}  // namespace batchlmm
