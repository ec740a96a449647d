#include "host/inference/held_parameter.hpp"

#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/batch/starts.hpp"
#include "host/inference/held_correlation.hpp"
#include "host/inference/held_criterion.hpp"
#include "host/model/kernel_lambda.hpp"
#include "host/model/optimize.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr double no_slope = std::numeric_limits<double>::quiet_NaN();

/// Multiply-adds of an evaluation up to which every minimum is searched from all starting points: beyond, models are so
/// large that several minima do not occur.
constexpr double cheap_evaluation = 1e6;

std::vector<MatrixXd> user_lambda(const Model& model, const std::vector<double>& lambda) {
  const kernels::Shape& s = model.shape();
  std::vector<MatrixXd> out(s.terms);
  for (int b = 0; b < s.terms; ++b) {
    const int k = s.term[b].k;
    MatrixXd l(k, k);
    for (int i = 0; i < k; ++i)
      for (int j = 0; j < k; ++j) l(i, j) = lambda[s.term[b].lambda + i * k + j];
    out[model.term_of(b)] = model.to_user_lambda(b, l);
  }
  return out;
}

/// Starting points of a search near `lambda`, and elsewhere where evaluations are cheap.
std::vector<std::vector<double>> starts_near(const Model& model, const Criterion& criterion,
                                             const std::vector<MatrixXd>& lambda) {
  const std::vector<double> all = shared_starts(model, kernel_lambda(model, lambda));
  const auto size = static_cast<std::ptrdiff_t>(model.shape().lambdas);
  std::vector<std::vector<double>> starts;
  for (auto at = all.begin(); at != all.end(); at += size) {
    starts.emplace_back(at, at + size);
    if (criterion.cost().operations > cheap_evaluation) break;
  }
  return starts;
}

/// A model by ML, and its response without the fitted values of ordinary least squares.
struct Centered {
  explicit Centered(std::shared_ptr<const ModelMatrices> matrices)
      : model(std::move(matrices), Method::ml), ols(VectorXd::Zero(model.matrices().X.cols())) {
    const ModelMatrices& m = model.matrices();
    response = m.y - m.offset;
    if (ols.size() > 0) ols = model.x_gauge().columns.householderQr().solve(response);
    response -= model.x_gauge().columns * ols;
    criterion = make_criterion(model, response);
  }
  [[nodiscard]] VectorXd beta() const {
    return model.x_gauge().map.triangularView<Eigen::Upper>().solve(criterion->beta() + ols);
  }
  Model model;
  VectorXd ols, response;  ///< of X's columns in gauge; n
  std::unique_ptr<Criterion> criterion;
};

HeldMinimum of_optimum(const Model& model, const Optimum& optimum) {
  HeldMinimum out;
  out.deviance = optimum.value.deviance;
  out.certified = optimum.certified && optimum.value.ok;
  out.evaluations = optimum.evaluations;
  out.state.lambda = user_lambda(model, optimum.lambda);
  return out;
}

/// The model without one coefficient of a term: where its standard deviation is 0.
class WithoutCoefficient {
public:
  WithoutCoefficient(std::shared_ptr<const ModelMatrices> full, int term, int row)
      : full_(std::move(full)), term_(term), row_(row) {}

  const HeldMinimum& minimum() {
    if (!minimum_) minimum_ = find();
    return *minimum_;
  }

private:
  [[nodiscard]] HeldMinimum find() const {
    auto smaller = std::make_shared<ModelMatrices>(*full_);
    RandomTerm& term = smaller->random[term_];
    const auto k = static_cast<int>(term.names.size());
    if (k == 1) {
      smaller->random.erase(smaller->random.begin() + term_);
      if (smaller->random.empty()) return linear();
    } else {
      term.names.erase(term.names.begin() + row_);
      MatrixXd z(term.z.rows(), k - 1);
      z << term.z.leftCols(row_), term.z.rightCols(k - 1 - row_);
      term.z = std::move(z);
    }
    const Fit fitted = fit(std::shared_ptr<const ModelMatrices>(std::move(smaller)), Method::ml);
    HeldMinimum out{fitted.criterion, no_slope, fitted.converged, fitted.evaluations, {}};
    out.state.sigma = fitted.sigma;
    out.state.beta = fitted.beta;
    out.state.lambda = term_lambdas(fitted);
    if (k == 1) {
      out.state.lambda.insert(out.state.lambda.begin() + term_, MatrixXd::Zero(1, 1));
    } else {
      const MatrixXd small = out.state.lambda[term_];
      MatrixXd large = MatrixXd::Zero(k, k);
      for (int i = 0; i < k - 1; ++i)
        for (int j = 0; j < k - 1; ++j) large(i + (i >= row_), j + (j >= row_)) = small(i, j);
      out.state.lambda[term_] = large;
    }
    return out;
  }
  /// Without any random effect.
  [[nodiscard]] HeldMinimum linear() const {
    const VectorXd y = full_->y - full_->offset;
    const auto n = static_cast<double>(y.size());
    HeldMinimum out{0, no_slope, true, 1, {}};
    out.state.beta = VectorXd::Zero(full_->X.cols());
    if (full_->X.cols() > 0) out.state.beta = full_->X.householderQr().solve(y);
    out.state.sigma = std::sqrt((y - full_->X * out.state.beta).squaredNorm() / n);
    out.state.lambda.assign(1, MatrixXd::Zero(1, 1));
    constexpr double log_two_pi = 1.8378770664093454836;
    out.deviance = n * (1 + log_two_pi + 2 * std::log(out.state.sigma));
    return out;
  }

  std::shared_ptr<const ModelMatrices> full_;
  int term_, row_;
  std::optional<HeldMinimum> minimum_;
};

class HeldSigma final : public HeldParameter {
public:
  explicit HeldSigma(Centered& base) : base_(base), criterion_(base.model, *base.criterion) {}
  HeldMinimum minimum(double value, const ParameterState& near) override {
    criterion_.hold(value);
    const Optimum optimum = minimize(criterion_, base_.model, starts_near(base_.model, *base_.criterion, near.lambda));
    HeldMinimum out = of_optimum(base_.model, optimum);
    out.slope = 2 * (base_.model.shape().degrees - optimum.value.r2 / (value * value)) / value;
    out.state.sigma = value;
    out.state.beta = base_.beta();
    return out;
  }

private:
  Centered& base_;
  HeldSigmaCriterion criterion_;
};

class HeldSd final : public HeldParameter {
public:
  HeldSd(Centered& base, int kernel_term, const Parameter& parameter)
      : base_(base),
        parameter_(parameter),
        criterion_(base.model, *base.criterion, kernel_term, parameter.row),
        zero_(base.model.matrices_pointer(), parameter.term, parameter.row) {}

  HeldMinimum minimum(double value, const ParameterState& near) override {
    if (value == 0) return zero_.minimum();
    criterion_.hold(value);
    // sigma as it was near by: the coefficient's row takes the change.
    std::vector<MatrixXd> lambda = near.lambda;
    MatrixXd& own = lambda[parameter_.term];
    const double norm = own.row(parameter_.row).norm();
    if (norm > 0)
      own.row(parameter_.row) *= value / (near.sigma * norm);
    else
      own(parameter_.row, parameter_.row) = value / near.sigma;
    const Optimum optimum = minimize(criterion_, base_.model, starts_near(base_.model, *base_.criterion, lambda));
    HeldMinimum out = of_optimum(base_.model, optimum);
    out.state.sigma = criterion_.sigma(optimum.lambda);
    out.state.beta = base_.beta();
    const double variance = out.state.sigma * out.state.sigma;
    out.slope = 2 * (base_.model.shape().degrees - optimum.value.r2 / variance) / value;
    return out;
  }

private:
  Centered& base_;
  Parameter parameter_;
  HeldSdCriterion criterion_;
  WithoutCoefficient zero_;
};

class HeldCorrelation final : public HeldParameter {
public:
  HeldCorrelation(Centered& base, int kernel_term, const Parameter& parameter)
      : base_(base),
        parameter_(parameter),
        kernel_term_(kernel_term),
        without_{WithoutCoefficient(base.model.matrices_pointer(), parameter.term, parameter.row),
                 WithoutCoefficient(base.model.matrices_pointer(), parameter.term, parameter.column)} {}

  HeldMinimum minimum(double value, const ParameterState& near) override {
    // Where one of the two variances is 0 the correlation is whatever is held.
    const HeldMinimum &row_zero = without_[0].minimum(), &column_zero = without_[1].minimum();
    HeldMinimum best = row_zero.deviance <= column_zero.deviance ? row_zero : column_zero;
    best.slope = 0;
    bool found = false;
    int evaluations = 0;
    std::vector<std::vector<MatrixXd>> starts{near.lambda};
    if (base_.criterion->cost().operations <= cheap_evaluation) {
      std::vector<MatrixXd> even = near.lambda;
      for (int b = 0; b < base_.model.shape().terms; ++b) {
        const kernels::TermShape& term = base_.model.shape().term[b];
        even[base_.model.term_of(b)] = base_.model.to_user_lambda(b, MatrixXd::Identity(term.k, term.k));
      }
      starts.push_back(std::move(even));
    }
    for (const std::vector<MatrixXd>& start : starts) {
      const HeldCorrelationMinimum inside = minimize_at_correlation(base_.model, *base_.criterion, kernel_term_,
                                                                    parameter_.row, parameter_.column, value, start);
      evaluations += inside.evaluations;
      if (inside.at_zero) continue;
      const bool better = inside.deviance < best.deviance - (found ? 1e-9 : 0) ||
                          (inside.deviance <= best.deviance + 1e-9 && inside.certified && !best.certified);
      if (!better) continue;
      found = true;
      best.deviance = inside.deviance;
      best.slope = inside.slope;
      best.certified = inside.certified;
      best.state.lambda = inside.lambda;
      best.state.sigma = std::sqrt(inside.r2 / base_.model.shape().degrees);
    }
    best.evaluations = evaluations;
    if (found) {
      (void)base_.criterion->evaluate(kernel_lambda(base_.model, best.state.lambda), true);
      best.state.beta = base_.beta();
    }
    return best;
  }

private:
  Centered& base_;
  Parameter parameter_;
  int kernel_term_;
  WithoutCoefficient without_[2];
};

/// A fixed effect: its column times its value goes over to the response.
class HeldFixed final : public HeldParameter {
public:
  HeldFixed(const ModelMatrices& full, int column) : column_(column), rest_(without(full, column)) {
    const MatrixXd& x = rest_.model.x_gauge().columns;
    x_ = full.X.col(column);
    x_ols_ = VectorXd::Zero(x.cols());
    if (x.cols() > 0) x_ols_ = x.householderQr().solve(x_);
    x_ -= x * x_ols_;
    y_ols_ = rest_.ols;
  }

  HeldMinimum minimum(double value, const ParameterState& near) override {
    const VectorXd response = rest_.response - value * x_;
    rest_.ols = y_ols_ - value * x_ols_;
    rest_.criterion->set_response(rest_.model.response(response));
    const Optimum optimum =
        minimize(*rest_.criterion, rest_.model, starts_near(rest_.model, *rest_.criterion, near.lambda));
    HeldMinimum out = of_optimum(rest_.model, optimum);
    const double degrees = rest_.model.shape().degrees;
    out.state.sigma = std::sqrt(optimum.value.r2 / degrees);
    const VectorXd others = rest_.beta();
    out.state.beta.resize(others.size() + 1);
    out.state.beta << others.head(column_), value, others.tail(others.size() - column_);
    // dr^2 / dvalue = -2 x'Py, Py = residual - Z T Z'Py.
    VectorXd py = response - rest_.model.x_gauge().columns * rest_.criterion->beta();
    const ModelMatrices& m = rest_.model.matrices();
    const kernels::Shape& s = rest_.model.shape();
    for (int b = 0; b < s.terms; ++b) {
      const int k = s.term[b].k, t = rest_.model.term_of(b);
      MatrixXd lambda(k, k);
      for (int i = 0; i < k; ++i)
        for (int j = 0; j < k; ++j) lambda(i, j) = optimum.lambda[s.term[b].lambda + i * k + j];
      const MatrixXd modes = rest_.criterion->modes(b) * lambda * lambda.transpose();
      for (Index i = 0; i < py.size(); ++i)
        py[i] -= rest_.model.z_gauge(t).columns.row(i).dot(modes.row(m.random[t].level_of_row[i]));
    }
    out.slope = -2 * degrees / optimum.value.r2 * x_.dot(py);
    return out;
  }

private:
  static std::shared_ptr<const ModelMatrices> without(const ModelMatrices& full, int column) {
    auto rest = std::make_shared<ModelMatrices>(full);
    const Index p = full.X.cols();
    rest->X.resize(full.X.rows(), p - 1);
    rest->X << full.X.leftCols(column), full.X.rightCols(p - 1 - column);
    rest->x_names.erase(rest->x_names.begin() + column);
    return rest;
  }

  int column_;
  Centered rest_;
  VectorXd x_, x_ols_, y_ols_;  ///< the column without the others' share (n), and those shares
};

}  // namespace

struct ParameterHolder::Shared {
  explicit Shared(std::shared_ptr<const ModelMatrices> matrices) : base(std::move(matrices)) {}
  Centered base;
};

ParameterHolder::ParameterHolder(std::shared_ptr<const ModelMatrices> matrices)
    : shared_(std::make_unique<Shared>(std::move(matrices))) {}
ParameterHolder::~ParameterHolder() = default;

HeldMinimum ParameterHolder::unconstrained(const ParameterState* near) {
  Centered& base = shared_->base;
  const Optimum optimum =
      minimize(*base.criterion, base.model,
               near != nullptr ? starts_near(base.model, *base.criterion, near->lambda) : default_starts(base.model));
  if (!optimum.value.ok)
    throw ComputationError("the criterion of \"" + base.model.matrices().formula +
                           "\" cannot be evaluated: the residual variance vanishes or a factorization failed");
  HeldMinimum out = of_optimum(base.model, optimum);
  out.state.sigma = std::sqrt(optimum.value.r2 / base.model.shape().degrees);
  out.state.beta = base.beta();
  return out;
}

std::unique_ptr<HeldParameter> ParameterHolder::hold(const Parameter& parameter) {
  Centered& base = shared_->base;
  int kernel_term = 0;
  for (int b = 0; b < base.model.shape().terms; ++b)
    if (base.model.term_of(b) == parameter.term) kernel_term = b;
  switch (parameter.kind) {
    case ParameterKind::fixed:
      return std::make_unique<HeldFixed>(base.model.matrices(), parameter.row);
    case ParameterKind::sigma:
      return std::make_unique<HeldSigma>(base);
    case ParameterKind::sd:
      return std::make_unique<HeldSd>(base, kernel_term, parameter);
    case ParameterKind::correlation:
      return std::make_unique<HeldCorrelation>(base, kernel_term, parameter);
  }
  return nullptr;
}

}  // namespace batchlmm
