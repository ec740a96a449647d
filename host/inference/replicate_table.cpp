#include "host/inference/replicate_table.hpp"

#include <Eigen/Core>
#include <cmath>

namespace batchlmm {
namespace {

void add_columns(const std::string& prefix, const ModelMatrices& m, bool thetas, std::vector<OutputColumn>& out) {
  for (const std::string& name : m.x_names) out.push_back({prefix + name, OutputType::float64});
  for (const RandomTerm& term : m.random)
    for (std::size_t j = 0; thetas && j < term.names.size(); ++j)
      for (std::size_t i = j; i < term.names.size(); ++i)
        out.push_back({prefix + "theta." + term.group + "." + (i == j ? "" : term.names[i] + ".") + term.names[j],
                       OutputType::float64});
  out.push_back({prefix + "sigma", OutputType::float64});
}

}  // namespace

std::vector<OutputColumn> ReplicateTable::columns(const Model& null, const Model& full, bool null_thetas) {
  std::vector<OutputColumn> out{{"replicate", OutputType::int64},
                                {"status", OutputType::text},
                                {"statistic", OutputType::float64},
                                {"deviance_null", OutputType::float64},
                                {"deviance_full", OutputType::float64}};
  add_columns("null.", null.matrices(), null_thetas, out);
  add_columns("full.", full.matrices(), true, out);
  return out;
}

ReplicateTable::ReplicateTable(std::string path, const Model& null, const Model& full, bool null_thetas)
    : null_{&null, null_thetas, {}, {}},
      full_{&full, true, {}, {}},
      writer_(std::move(path), columns(null, full, null_thetas)) {}

void ReplicateTable::set_truth(const Eigen::VectorXd& beta, double sigma) {
  sigma_ = sigma;
  null_.beta = beta;
  // The same fitted values in the full model's coefficients; X's columns are orthogonal with mean square 1 in the
  // gauge.
  const Gauge& x = full_.model->x_gauge();
  const Eigen::VectorXd fitted = null_.model->matrices().X * beta;
  full_.beta =
      x.map.triangularView<Eigen::Upper>().solve(x.columns.transpose() * fitted / static_cast<double>(fitted.size()));
}

void ReplicateTable::add(Side& side, std::span<const double> lambda, std::span<const double> beta,
                         std::span<const double> r2) const {
  const Model& model = *side.model;
  const kernels::Shape& s = model.shape();
  const ModelMatrices& m = model.matrices();
  std::size_t parameters = m.x_names.size() + 1;
  for (const RandomTerm& term : m.random)
    if (side.thetas)
      parameters += static_cast<std::size_t>(kernels::triangle_size(static_cast<int>(term.names.size())));
  side.columns.assign(parameters, std::vector<double>(r2.size()));
  std::vector<Eigen::MatrixXd> user(side.thetas ? m.random.size() : 0);
  for (std::size_t i = 0; i < r2.size(); ++i) {
    std::size_t c = 0;
    const Eigen::Map<const Eigen::VectorXd> b(beta.data() + i * static_cast<std::size_t>(s.p), s.p);
    const Eigen::VectorXd fixed = side.beta + sigma_ * model.x_gauge().map.triangularView<Eigen::Upper>().solve(b);
    for (int j = 0; j < s.p; ++j) side.columns[c++][i] = fixed[j];
    for (int t = 0; side.thetas && t < s.terms; ++t) {
      const int k = s.term[t].k;
      const Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> l(
          lambda.data() + i * static_cast<std::size_t>(s.lambdas) + s.term[t].lambda, k, k);
      user[model.term_of(t)] = model.to_user_lambda(t, l);
    }
    for (const Eigen::MatrixXd& l : user)
      for (Eigen::Index j = 0; j < l.cols(); ++j)
        for (Eigen::Index r = j; r < l.rows(); ++r) side.columns[c++][i] = l(r, j);
    side.columns[c][i] = sigma_ * std::sqrt(r2[i] / s.degrees);
  }
}

void ReplicateTable::append(const ReplicateBlock& block) {
  std::vector<std::int64_t> index(block.status.size());
  std::vector<std::string> status(block.status.size());
  for (std::size_t i = 0; i < index.size(); ++i) {
    index[i] = static_cast<std::int64_t>(block.first + i);
    status[i] = status_name(block.status[i]);
  }
  add(null_, block.lambda_null, block.beta_null, block.r2_null);
  add(full_, block.lambda_full, block.beta_full, block.r2_full);
  std::vector<OutputValues> values{std::span<const std::int64_t>(index), std::span<const std::string>(status),
                                   block.statistic, block.deviance_null, block.deviance_full};
  for (const Side* side : {&null_, &full_})
    for (const std::vector<double>& column : side->columns) values.emplace_back(std::span<const double>(column));
  writer_.append(values);
}

}  // namespace batchlmm
