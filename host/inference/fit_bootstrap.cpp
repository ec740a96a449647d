#include "host/inference/fit_bootstrap.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/batch/batch.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/data/write.hpp"
#include "host/inference/acceleration.hpp"
#include "host/inference/block_adjustment.hpp"
#include "host/model/check_model.hpp"
#include "host/model/kernel_lambda.hpp"
#include "host/model/memory.hpp"
#include "host/model/model.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
/// lme4's isSingular(tol = 1e-4).
constexpr double singular_theta = 1e-4;

Method method_of(const Model& model) { return model.shape().reml ? Method::reml : Method::ml; }

/// The quantities that have standard errors in every replicate: linear combinations of the fixed effects.
std::vector<std::size_t> with_standard_errors(const BootstrapQuantities& quantities) {
  std::vector<std::size_t> out;
  for (std::size_t q = 0; q < quantities.list().size(); ++q)
    if (quantities.list()[q].contrast.size() > 0) out.push_back(q);
  return out;
}

bool wants(const FitBootstrapOptions& options, IntervalKind kind) {
  return std::find(options.intervals.begin(), options.intervals.end(), kind) != options.intervals.end();
}

/// Takes replicates as they come, a block at a time and in order.
class Collector {
public:
  Collector(const Fit& fit, const BootstrapQuantities& quantities, const FitBootstrapOptions& options)
      : fit_(fit), quantities_(quantities) {
    const auto columns = static_cast<Index>(quantities.list().size());
    const auto count = static_cast<double>(options.replicates);
    // The values, their standard errors, and one of their columns thrice while its intervals are computed.
    require_memory(8 * count * (2 * static_cast<double>(columns) + 3),
                   fmt::format("{} replicates of {} quantities", options.replicates, columns));
    values_.resize(static_cast<Index>(options.replicates), columns);
    if (wants(options, IntervalKind::studentized)) contrasts_ = with_standard_errors(quantities);
    errors_.resize(static_cast<Index>(options.replicates), static_cast<Index>(contrasts_.size()));
    adjusts_ = options.type == BootstrapType::block && options.resample.reb_type == 2;
    if (adjusts_) kept_.resize(static_cast<Index>(options.replicates), fit.beta.size(), fit.theta.size());
    singular_by_term_.assign(fit.random.size(), 0);
    for (const RandomTerm& term : fit.model->random)
      scale_.emplace_back((term.z.colwise().norm() / std::sqrt(static_cast<double>(term.z.rows()))).transpose());
    if (options.out.empty()) return;
    std::vector<OutputColumn> out{{"replicate", OutputType::int64},
                                  {"status", OutputType::text},
                                  {fit.method == Method::reml ? "REML" : "deviance", OutputType::float64}};
    for (const std::string& name : fit.model->x_names) out.push_back({name, OutputType::float64});
    for (const std::string& name : theta_labels(*fit.model)) out.push_back({name, OutputType::float64});
    out.push_back({"sigma", OutputType::float64});
    for (std::size_t q = 0; q < quantities.list().size(); ++q)
      if (is_extra(q)) out.push_back({quantities.list()[q].label, OutputType::float64});
    for (std::size_t i = 0; i < out.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (out[i].name == out[j].name)
          throw InputError("--out: expected columns of different names, found '" + out[i].name + "' twice");
    writer_.emplace(options.out, std::move(out));
  }

  /// Quantities whose standard errors are wanted.
  [[nodiscard]] const std::vector<std::size_t>& contrasts() const { return contrasts_; }
  [[nodiscard]] const VectorXd& contrast(std::size_t i) const { return quantities_.list()[contrasts_[i]].contrast; }

  /// @param rows    of all replicates; those that are not used hold anything
  /// @param errors  standard errors of `contrasts`: replicates x contrasts
  void add(std::uint64_t first, std::span<const Status> status, std::span<const double> criterion, ParameterRows& rows,
           const MatrixXd& errors) {
    const auto n = static_cast<Index>(status.size());
    for (Index i = 0; i < n; ++i)
      if (!is_used(status[static_cast<std::size_t>(i)])) {
        rows.beta.row(i).setConstant(not_a_number);
        rows.theta.row(i).setConstant(not_a_number);
        rows.sigma[i] = not_a_number;
      }
    for (Index i = 0; i < n; ++i) clean(rows, i);
    const MatrixXd values = quantities_.values(rows);
    for (Index i = 0; i < n; ++i) {
      const Status s = status[static_cast<std::size_t>(i)];
      ++status_[static_cast<std::size_t>(s)];
      if (!is_used(s)) continue;
      if (adjusts_) {
        kept_.beta.row(used_) = rows.beta.row(i);
        kept_.theta.row(used_) = rows.theta.row(i);
        kept_.sigma[used_] = rows.sigma[i];
      }
      values_.row(used_) = values.row(i);
      errors_.row(used_++) = errors.row(i);
      bool any = false;
      Index at = 0;
      for (std::size_t t = 0; t < fit_.random.size(); ++t) {
        bool singular = false;
        const Index k = fit_.random[t].lambda.rows();
        for (Index c = 0; c < k; at += k - c, ++c) singular = singular || rows.theta(i, at) < singular_theta;
        singular_by_term_[t] += singular ? 1 : 0;
        any = any || singular;
      }
      singular_ += any ? 1 : 0;
    }
    replicates_ += static_cast<std::uint64_t>(n);
    if (writer_) write(first, status, criterion, rows, values);
  }

  /// Puts all that was collected into the result.
  void finish(FitBootstrap& result) {
    result.replicates_run = replicates_;
    result.used = static_cast<std::uint64_t>(used_);
    result.status = status_;
    result.singular = singular_;
    result.singular_by_term = singular_by_term_;
    if (used_ < values_.rows()) values_.conservativeResize(used_, Eigen::NoChange);
    if (adjusts_ && used_ > 1) {
      kept_.beta.conservativeResize(used_, Eigen::NoChange);
      kept_.theta.conservativeResize(used_, Eigen::NoChange);
      kept_.sigma.conservativeResize(used_);
      adjust_block_replicates(fit_, kept_);
      values_ = quantities_.values(kept_);
    }
    if (used_ < errors_.rows()) errors_.conservativeResize(used_, Eigen::NoChange);
    result.replicates = std::move(values_);
    if (writer_) writer_->close();
  }
  /// Of `contrasts` in the used replicates.
  [[nodiscard]] const MatrixXd& standard_errors() const { return errors_; }

private:
  /// A standard deviation that is 0 but for rounding is 0: its correlations have no value.
  void clean(ParameterRows& rows, Index replicate) const {
    constexpr double negligible = 1e-7;  // beside sigma, for a typical row
    Index first = 0;
    for (std::size_t t = 0; t < fit_.random.size(); ++t) {
      const Index k = fit_.random[t].lambda.rows();
      const auto at = [&](Index row, Index column) {
        return first + column * k - column * (column - 1) / 2 + row - column;
      };
      for (Index row = 0; row < k; ++row) {
        double squares = 0;
        for (Index c = 0; c <= row; ++c)
          squares += rows.theta(replicate, at(row, c)) * rows.theta(replicate, at(row, c));
        if (!(std::sqrt(squares) * scale_[t][row] < negligible)) continue;  // NaN stays
        for (Index c = 0; c <= row; ++c) rows.theta(replicate, at(row, c)) = 0;
      }
      first += k * (k + 1) / 2;
    }
  }
  [[nodiscard]] bool is_extra(std::size_t q) const {
    const std::string& effect = quantities_.list()[q].effect;
    return effect == "contrast" || effect == "expression";
  }
  void write(std::uint64_t first, std::span<const Status> status, std::span<const double> criterion,
             const ParameterRows& rows, const MatrixXd& values) {
    const std::size_t n = status.size();
    std::vector<std::int64_t> index(n);
    std::vector<std::string> name(n);
    for (std::size_t i = 0; i < n; ++i) {
      index[i] = static_cast<std::int64_t>(first + i);
      name[i] = status_name(status[i]);
    }
    std::vector<OutputValues> out{std::span<const std::int64_t>(index), std::span<const std::string>(name), criterion};
    const auto add = [&](const auto& column) { out.emplace_back(std::span<const double>(column.data(), n)); };
    for (Index j = 0; j < rows.beta.cols(); ++j) add(rows.beta.col(j));
    for (Index j = 0; j < rows.theta.cols(); ++j) add(rows.theta.col(j));
    add(rows.sigma);
    for (std::size_t q = 0; q < quantities_.list().size(); ++q)
      if (is_extra(q)) add(values.col(static_cast<Index>(q)));
    writer_->append(out);
  }

  const Fit& fit_;
  const BootstrapQuantities& quantities_;
  MatrixXd values_, errors_;
  std::vector<std::size_t> contrasts_;
  bool adjusts_ = false;  ///< by adjust_block_replicates, when all are there
  ParameterRows kept_;    ///< for that
  Index used_ = 0;
  std::vector<VectorXd> scale_;  ///< per term: root mean squares of z's columns
  std::uint64_t replicates_ = 0, singular_ = 0;
  std::array<std::uint64_t, status_count> status_{};
  std::vector<std::uint64_t> singular_by_term_;
  std::optional<TableWriter> writer_;
};

/// The kernels' coordinates of a block to the user's.
void to_user(const Model& model, const Fit& fit, const ReplicateBlock& block, ParameterRows& rows) {
  const kernels::Shape& s = model.shape();
  const auto n = static_cast<Index>(block.status.size());
  rows.resize(n, s.p, s.parameters);
  if (s.p > 0) {
    MatrixXd beta = Eigen::Map<const MatrixXd>(block.beta_null.data(), s.p, n);
    model.x_gauge().map.triangularView<Eigen::Upper>().solveInPlace(beta);
    rows.beta = (fit.sigma * beta).transpose().rowwise() + fit.beta.transpose();
  }
  for (Index i = 0; i < n; ++i)
    rows.sigma[i] = fit.sigma * std::sqrt(block.r2_null[static_cast<std::size_t>(i)] / s.degrees);
  std::vector<Index> first(static_cast<std::size_t>(s.terms) + 1, 0);
  for (int b = 0; b < s.terms; ++b)
    first[static_cast<std::size_t>(model.term_of(b)) + 1] = kernels::triangle_size(s.term[b].k);
  for (std::size_t t = 1; t < first.size(); ++t) first[t] += first[t - 1];
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k, t = model.term_of(b);
    for (Index i = 0; i < n; ++i) {
      const double* l = block.lambda_null.data() + i * s.lambdas + s.term[b].lambda;
      Index at = first[static_cast<std::size_t>(t)];
      if (k == 1) {
        rows.theta(i, at) = std::abs(*l / model.z_gauge(t).map(0, 0));
        continue;
      }
      using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
      const MatrixXd user = model.to_user_lambda(b, Eigen::Map<const RowMajor>(l, k, k));
      for (Index c = 0; c < k; ++c)
        for (Index r = c; r < k; ++r) rows.theta(i, at++) = user(r, c);
    }
  }
}

/// Standard errors of the collector's contrasts, from each replicate's own covariance of the fixed effects.
/// @param rows  filled by `to_user`
MatrixXd standard_errors(const Model& model, const ReplicateBlock& block, const ParameterRows& rows,
                         const Collector& collector) {
  const Index n = rows.sigma.size(), p = rows.beta.cols(), packed = p * (p + 1) / 2;
  MatrixXd out(n, static_cast<Index>(collector.contrasts().size()));
  VectorXd solved(p);
  for (Index c = 0; c < out.cols(); ++c) {
    // In X's gauge; LL' = X'V^{-1}X at sigma = 1.
    const VectorXd contrast = model.x_gauge().map.transpose().triangularView<Eigen::Lower>().solve(
        collector.contrast(static_cast<std::size_t>(c)));
    for (Index i = 0; i < n; ++i) {
      const double* l = block.x_factor_null.data() + i * packed;
      for (Index a = 0; a < p; ++a) {
        double left = contrast[a];
        for (Index b = 0; b < a; ++b) left -= *l++ * solved[b];
        solved[a] = left / *l++;
      }
      out(i, c) = rows.sigma[i] * solved.norm();
    }
  }
  return out;
}

void collect_fits(std::uint64_t first, std::span<const BatchFit> fits, Collector& collector) {
  const auto n = static_cast<Index>(fits.size());
  if (n == 0) return;
  ParameterRows rows;
  rows.resize(n, fits.front().beta.size(), fits.front().theta.size());
  std::vector<Status> status;
  std::vector<double> criterion;
  MatrixXd errors(n, static_cast<Index>(collector.contrasts().size()));
  for (Index i = 0; i < n; ++i) {
    const BatchFit& fit = fits[static_cast<std::size_t>(i)];
    for (Index c = 0; c < errors.cols() && is_used(fit.status); ++c) {
      const VectorXd& contrast = collector.contrast(static_cast<std::size_t>(c));
      errors(i, c) = std::sqrt(contrast.dot(fit.vcov * contrast));
    }
    rows.beta.row(i) = fit.beta.transpose();
    rows.theta.row(i) = fit.theta.transpose();
    rows.sigma[i] = fit.sigma;
    status.push_back(fit.status);
    criterion.push_back(fit.criterion);
  }
  collector.add(first, status, criterion, rows, errors);
}

void run_parametric(const Model& model, const FitBootstrapOptions& options, Collector& collector,
                    FitBootstrap& result) {
  const Fit& fit = result.fit;
  const Bootstrap bootstrap(model, kernel_lambda(model, term_lambdas(fit)), fit.sigma, options.seed, options.tier,
                            Backend{options.backend == BackendChoice::cuda});
  result.tier = bootstrap.engine().tier();
  BootstrapRun run;
  run.first = options.first;
  run.count = options.replicates;
  run.threads = result.threads;
  // As in the bootstrap test: the tier comes first, the large one goes to a device only where one is asked for.
  if (options.backend != BackendChoice::automatic || *result.tier != Tier::large)
    run.backend =
        choose_backend(options.backend, bootstrap.engine().facts().multiply_adds, options.replicates, result.threads);
  run.parameters = true;
  run.progress = options.progress;
  result.backend = run.backend.name();
  ParameterRows rows;
  run.collect = [&](const ReplicateBlock& block) {
    to_user(model, fit, block, rows);
    collector.add(block.first, block.status, block.deviance_null, rows, standard_errors(model, block, rows, collector));
  };
  result.stopped = bootstrap.run(run).stopped;
}

BatchOptions batch_options(const FitBootstrapOptions& options, std::uint64_t before) {
  BatchOptions out;
  out.backend = options.backend == BackendChoice::cuda ? BackendChoice::cuda : BackendChoice::cpu;
  out.threads = options.threads;
  if (options.progress)
    out.progress = [&options, before](std::uint64_t done, std::uint64_t) {
      options.progress(before + done, options.replicates);
    };
  return out;
}

void run_responses(const Model& model, const ResponseResampler& resampler, const FitBootstrapOptions& options,
                   Collector& collector) {
  Batch batch(model.matrices_pointer(), method_of(model));
  batch.add_responses(0, options.replicates,
                      [&](std::uint64_t i, std::span<double> y) { resampler.draw(options.first + i, y); });
  batch.fit_each([&](std::uint64_t first,
                     std::span<const BatchFit> fits) { collect_fits(options.first + first, fits, collector); },
                 batch_options(options, 0));
}

/// Designs of their own, as many at a time as some memory holds.
void run_cases(const Model& model, const CaseResampler& resampler, const FitBootstrapOptions& options,
               Collector& collector) {
  constexpr double some_memory = 64e6;
  const ModelMatrices& m = model.matrices();
  double columns = static_cast<double>(m.X.cols()) + 3;
  for (const RandomTerm& term : m.random) columns += static_cast<double>(term.z.cols()) + 1;
  const auto chunk = static_cast<std::uint64_t>(
      std::clamp(some_memory / (8 * columns * static_cast<double>(m.y.size())), 64.0, 8192.0));
  for (std::uint64_t first = 0; first < options.replicates; first += chunk) {
    const std::uint64_t count = std::min(chunk, options.replicates - first);
    Batch batch(model.matrices_pointer(), method_of(model));
    std::vector<BatchFit> fits(count);
    std::vector<std::uint64_t> place;
    for (std::uint64_t i = 0; i < count; ++i) {
      BatchFit& fit = fits[i];
      fit.status = Status::not_positive_definite;  // unless it can be fitted
      fit.criterion = fit.sigma = not_a_number;
      fit.beta = VectorXd::Constant(m.X.cols(), not_a_number);
      fit.theta = VectorXd::Constant(model.shape().parameters, not_a_number);
      try {
        batch.add(resampler.draw(options.first + first + i));
        place.push_back(i);
      } catch (const ModelError&) {  // NOLINT(bugprone-empty-catch): counted by its status
      }
    }
    batch.fit_each(
        [&](std::uint64_t at, std::span<const BatchFit> some) {
          for (std::size_t i = 0; i < some.size(); ++i) fits[place[at + i]] = some[i];
        },
        batch_options(options, first));
    collect_fits(options.first + first, fits, collector);
  }
}

/// lambda of a covariance matrix, column by column; NaN where it is none. Pivots of rounding errors are 0.
void append_theta(MatrixXd sigma, std::vector<double>& theta) {
  constexpr double negligible = 1e-10;
  const Index k = sigma.rows();
  MatrixXd l = MatrixXd::Zero(k, k);
  bool proper = true;
  for (Index j = 0; j < k; ++j) {
    const double pivot = sigma(j, j) - l.row(j).head(j).squaredNorm();
    const double small = negligible * std::abs(sigma(j, j));
    if (pivot < -small) proper = false;
    if (pivot <= small) continue;
    l(j, j) = std::sqrt(pivot);
    for (Index i = j + 1; i < k; ++i) l(i, j) = (sigma(i, j) - l.row(i).head(j).dot(l.row(j).head(j))) / l(j, j);
  }
  // What a pivot of 0 leaves must be 0, too.
  if (((l * l.transpose() - sigma).cwiseAbs().array() > 1e-8 * sigma.diagonal().cwiseAbs().maxCoeff()).any())
    proper = false;
  for (Index j = 0; j < k; ++j)
    for (Index i = j; i < k; ++i) theta.push_back(proper ? l(i, j) : not_a_number);
}

/// Gradients of all quantities by (beta, gamma), by central differences: a row a coordinate.
MatrixXd gradients(const Fit& fit, const BootstrapQuantities& quantities, const VectorXd& gamma) {
  constexpr double step = 1e-5;
  const Index p = fit.beta.size(), m = gamma.size();
  VectorXd steps(p + m);
  for (Index j = 0; j < p; ++j) steps[j] = step * std::sqrt(fit.vcov(j, j));
  Index at = 0;
  for (const TermCovariance& term : fit.random)
    for (Index i = 0; i < term.sd.size(); ++i)
      for (Index j = 0; j <= i; ++j) steps[p + at++] = step * term.sd[i] * term.sd[j];
  steps[p + at] = step * fit.sigma * fit.sigma;
  ParameterRows rows;
  rows.resize(2 * (p + m), p, fit.theta.size());
  for (Index row = 0; row < 2 * (p + m); ++row) {
    VectorXd beta = fit.beta, g = gamma;
    const Index coordinate = row / 2;
    (coordinate < p ? beta[coordinate] : g[coordinate - p]) += (row % 2 == 0 ? 1 : -1) * steps[coordinate];
    std::vector<double> theta;
    Index first = 0;
    for (const TermCovariance& term : fit.random) {
      const Index k = term.lambda.rows();
      MatrixXd sigma(k, k);
      for (Index i = 0; i < k; ++i)
        for (Index j = 0; j <= i; ++j) sigma(i, j) = sigma(j, i) = g[first++] / g[m - 1];
      append_theta(sigma, theta);
    }
    rows.beta.row(row) = beta.transpose();
    rows.theta.row(row) = Eigen::Map<const Eigen::RowVectorXd>(theta.data(), static_cast<Index>(theta.size()));
    rows.sigma[row] = std::sqrt(g[m - 1]);
  }
  const MatrixXd values = quantities.values(rows);
  MatrixXd out(p + m, values.cols());
  for (Index c = 0; c < p + m; ++c) out.row(c) = (values.row(2 * c) - values.row(2 * c + 1)) / (2 * steps[c]);
  return out;
}

ParameterRows estimates(const Fit& fit) {
  ParameterRows rows;
  rows.resize(1, fit.beta.size(), fit.theta.size());
  rows.beta.row(0) = fit.beta.transpose();
  rows.theta.row(0) = fit.theta.transpose();
  rows.sigma[0] = fit.sigma;
  return rows;
}

MatrixXd covariance_of(const MatrixXd& replicates, std::size_t& rows) {
  std::vector<Index> finite;
  for (Index i = 0; i < replicates.rows(); ++i)
    if (replicates.row(i).allFinite()) finite.push_back(i);
  rows = finite.size();
  if (rows < 2) return MatrixXd::Constant(replicates.cols(), replicates.cols(), not_a_number);
  Eigen::RowVectorXd mean = Eigen::RowVectorXd::Zero(replicates.cols());
  for (const Index i : finite) mean += replicates.row(i);
  mean /= static_cast<double>(rows);
  MatrixXd out = MatrixXd::Zero(replicates.cols(), replicates.cols());
  constexpr std::size_t block = 4096;
  for (std::size_t first = 0; first < rows; first += block) {
    const auto n = static_cast<Index>(std::min(block, rows - first));
    MatrixXd centered(n, replicates.cols());
    for (Index i = 0; i < n; ++i) centered.row(i) = replicates.row(finite[first + static_cast<std::size_t>(i)]) - mean;
    out.noalias() += centered.transpose() * centered;
  }
  return out / static_cast<double>(rows - 1);
}

void check_replicates(const FitBootstrapOptions& options) {
  for (const IntervalKind kind : options.intervals) {
    const std::size_t fewest = kind == IntervalKind::normal ? 2 : fewest_replicates(options.level);
    if (options.replicates < fewest)
      throw InputError(fmt::format("--replicates: {:g}% {} intervals need at least {}, found {}", 100 * options.level,
                                   interval_kind_name(kind), fewest, options.replicates));
  }
}

}  // namespace

FitBootstrap bootstrap_fit(std::shared_ptr<const ModelMatrices> model, Method method,
                           const FitBootstrapOptions& options) {
  check_model(*model);
  return bootstrap_fit(Model(std::move(model), method), options);
}

FitBootstrap bootstrap_fit(const Model& model, const FitBootstrapOptions& options) {
  check_replicates(options);
  require_backend(options.backend);
  const ModelMatrices& m = model.matrices();
  const BootstrapQuantities quantities(m, options.theta, options.contrasts, options.expressions);
  const auto start = std::chrono::steady_clock::now();

  FitBootstrap result;
  result.options = options;
  result.threads = thread_count(options.threads);
  result.backend = Backend{options.backend == BackendChoice::cuda}.name();
  result.fit = fit(model, options.warn);
  const Fit& fit = result.fit;
  const VectorXd estimate = quantities.values(estimates(fit)).row(0).transpose();
  for (std::size_t q = 0; q < quantities.list().size(); ++q)
    if (quantities.list()[q].effect == "expression" && !std::isfinite(estimate[static_cast<Index>(q)]))
      throw InputError(fmt::format("--expr: '{}' is {} at the estimates; expected a finite number",
                                   quantities.list()[q].label,
                                   std::isnan(estimate[static_cast<Index>(q)]) ? "not a number" : "infinite"));

  // What is resampled is made, and refused, before any file is.
  std::unique_ptr<ResponseResampler> responses;
  std::unique_ptr<CaseResampler> cases;
  std::unique_ptr<Clusters> clusters;
  if (options.type == BootstrapType::cases) {
    cases = std::make_unique<CaseResampler>(fit, options.resample.cases, options.seed);
    clusters = independent_clusters(m);
    if (clusters != nullptr && clusters->of_row != cases->units().of_row) clusters = nullptr;
    result.resampled = cases->description();
  } else if (options.type != BootstrapType::parametric) {
    responses = std::make_unique<ResponseResampler>(fit, options.type, options.resample, options.seed);
    if (options.type != BootstrapType::use_u) clusters = independent_clusters(m);
    if (clusters != nullptr && options.type != BootstrapType::residual) result.resampled = clusters->factor;
  }
  Collector collector(fit, quantities, options);
  if (cases != nullptr)
    run_cases(model, *cases, options, collector);
  else if (responses != nullptr)
    run_responses(model, *responses, options, collector);
  else
    run_parametric(model, options, collector, result);
  collector.finish(result);

  std::unique_ptr<Acceleration> acceleration;
  MatrixXd gradient, influence;
  if (wants(options, IntervalKind::bca)) {
    acceleration = std::make_unique<Acceleration>(fit);
    gradient = gradients(fit, quantities, acceleration->gamma());
    // Resampled data has the influence of what is drawn independently; where that is neither rows nor clusters that the
    // model makes independent, and for data drawn from the model, the acceleration is the model's.
    if (cases != nullptr && cases->draws_rows_alone())
      influence = acceleration->by_rows();
    else if (clusters != nullptr && options.type != BootstrapType::use_u)
      influence = acceleration->by_clusters(*clusters);
  }
  const Index p = fit.beta.size();
  for (std::size_t q = 0; q < quantities.list().size(); ++q) {
    const auto column = static_cast<Index>(q);
    BootstrappedQuantity out;
    out.quantity = quantities.list()[q];
    out.estimate = estimate[column];
    const auto values = result.replicates.col(column);
    const std::vector<double> replicates(values.begin(), values.end());
    const ReplicateSample sample(replicates);
    out.used = sample.size();
    out.bias = sample.mean() - out.estimate;
    out.std_error = std::sqrt(sample.variance());
    if (acceleration != nullptr) {
      const VectorXd by_beta = gradient.col(column).head(p), by_gamma = gradient.col(column).tail(gradient.rows() - p);
      out.acceleration = influence.size() > 0 ? Acceleration::nonparametric(by_beta, by_gamma, influence)
                                              : acceleration->parametric(by_beta, by_gamma);
    }
    for (const IntervalKind kind : options.intervals) {
      Interval& interval = out.intervals.emplace_back();
      const bool needs_estimate = kind != IntervalKind::percentile && kind != IntervalKind::shortest;
      if (needs_estimate && !std::isfinite(out.estimate)) {
        interval.missing = "the estimate is not defined";
        continue;
      }
      switch (kind) {
        case IntervalKind::percentile:
          interval = percentile_interval(sample, options.level);
          break;
        case IntervalKind::basic:
          interval = basic_interval(sample, out.estimate, options.level);
          break;
        case IntervalKind::normal:
          interval = normal_interval(sample, out.estimate, options.level);
          break;
        case IntervalKind::studentized: {
          if (options.type == BootstrapType::block && options.resample.reb_type == 2) {
            interval.missing = "type 2 of the block bootstrap moves the replicates, not their standard errors";
            break;
          }
          const auto at = std::find(collector.contrasts().begin(), collector.contrasts().end(), q);
          if (at == collector.contrasts().end()) {
            interval.missing = "only fixed effects and contrasts have standard errors";
            break;
          }
          const auto errors = collector.standard_errors().col(at - collector.contrasts().begin());
          std::vector<double> studentized(replicates.size());
          for (std::size_t i = 0; i < studentized.size(); ++i)
            studentized[i] = (replicates[i] - out.estimate) / errors[static_cast<Index>(i)];
          const VectorXd& contrast = out.quantity.contrast;
          interval = studentized_interval(ReplicateSample(std::move(studentized)), out.estimate,
                                          std::sqrt(contrast.dot(fit.vcov * contrast)), options.level);
          break;
        }
        case IntervalKind::bca:
          interval = bca_interval(sample, out.estimate, out.acceleration, options.level);
          break;
        case IntervalKind::shortest:
          interval = shortest_interval(sample, replicates, options.level);
          break;
      }
    }
    result.quantities.push_back(std::move(out));
  }
  result.covariance = covariance_of(result.replicates, result.jointly_finite);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.replicates_per_second = static_cast<double>(result.replicates_run) / result.seconds;
  return result;
}

}  // namespace batchlmm
