#include "host/batch/model_strata.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "host/model/completed_design.hpp"
#include "host/model/criterion.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

/// The model's fixed-effects columns on all rows, in its own gauge.
MatrixXd in_gauge(const Model& model, const MatrixXd& x) {
  const MatrixXd& map = model.x_gauge().map;
  return map.transpose().triangularView<Eigen::Lower>().solve(x.transpose()).transpose();
}

}  // namespace

double structureless(double i) { return std::sin(i * 12.9898 + 0.5) * std::sin(i * 78.233 + 1.5) * 2; }

std::unique_ptr<const ModelStrata> ModelStrata::make(const BootstrapModels& models, std::string* why) {
  std::unique_ptr<ModelStrata> strata(new ModelStrata);
  const Model &null = *models.null, &full = *models.full;
  StrataDesign design;
  design.complete = &full;
  strata->observed_.resize(static_cast<std::size_t>(full.matrices().y.size()));
  std::iota(strata->observed_.begin(), strata->observed_.end(), 0);
  const std::optional<CompletedDesign> completed = complete_design(full.matrices(), null.matrices());
  if (completed && !completed->missing.empty()) {
    strata->complete_ =
        std::make_unique<const Model>(completed->matrices, full.shape().reml ? Method::reml : Method::ml);
    design.complete = strata->complete_.get();
    design.missing = completed->missing;
    design.full_x = in_gauge(full, completed->matrices->X);
    design.null_x = in_gauge(null, completed->second->X);
    strata->observed_ = completed->observed;
  } else {
    design.full_x = full.x_gauge().columns;
    design.null_x = null.x_gauge().columns;
  }
  strata->rows_ = static_cast<int>(design.complete->matrices().y.size());
  std::optional<Strata> found = find_strata(*design.complete, {}, why);
  if (!found) return nullptr;
  strata->strata_ = std::move(*found);
  design.strata = &strata->strata_;
  strata->data_ = std::make_unique<const StrataData>(models, design);
  return strata;
}

std::vector<double> ModelStrata::record(bool full, const VectorXd& y) const {
  VectorXd complete = VectorXd::Zero(rows_);
  complete(observed_) = y;
  return data_->record(full, complete);
}

double ModelStrata::verify(const BootstrapModels& models) const {
  double largest = 0;
  for (int which = 0; which < (models.refit() ? 1 : 2); ++which) {
    const Model& model = which == 0 ? *models.null : *models.full;
    const kernels::StrataModel& strata = which == 0 ? data_->null_model() : data_->full_model();
    const kernels::Shape& s = model.shape();
    for (int trial = 0; trial < 3; ++trial) {
      VectorXd y(model.matrices().y.size());
      for (Eigen::Index i = 0; i < y.size(); ++i) y[i] = structureless(static_cast<double>(i) + 1000.0 * trial);
      std::vector<double> lambda(s.lambdas, 0.0);
      for (int b = 0; b < s.terms; ++b) {
        const int k = s.term[b].k;
        for (int i = 0; i < k; ++i)
          for (int j = 0; j <= i; ++j)
            lambda[s.term[b].lambda + i * k + j] =
                (i == j ? 0.3 + 0.6 * trial : 0.2) * (1 + 0.5 * structureless(b + i + 3 * j));
      }
      const CriterionValue by_rows = make_criterion(model, y)->evaluate(lambda, false);
      const std::vector<double> from_y = record(which == 1, y);
      const kernels::StrataEvaluation here =
          kernels::cpu_kernels().strata->evaluate(s, strata, from_y.data(), lambda.data(), nullptr, nullptr, nullptr);
      if (!by_rows.ok || !here.ok) return std::numeric_limits<double>::infinity();
      largest = std::max(largest, std::abs(by_rows.deviance - here.deviance) / (1 + static_cast<double>(rows_) / 1000));
    }
  }
  return largest;
}

}  // namespace batchlmm
