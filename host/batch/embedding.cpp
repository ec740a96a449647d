#include "host/batch/embedding.hpp"

#include <fmt/format.h>

#include <Eigen/QR>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

/// Share of a column's norm that may lie outside the larger model's columns.
constexpr double nested_tolerance = 1e-8;

/// The same groups of rows, whatever the levels' order.
bool same_groups(const RandomTerm& a, const RandomTerm& b) {
  if (a.levels.size() != b.levels.size()) return false;
  std::vector<std::int32_t> of(a.levels.size(), -1);
  for (std::size_t i = 0; i < a.level_of_row.size(); ++i) {
    std::int32_t& level = of[a.level_of_row[i]];
    if (level < 0) level = b.level_of_row[i];
    if (level != b.level_of_row[i]) return false;
  }
  return true;  // as many levels on both sides: a's groups cannot be finer
}

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : " + ") + name;
  return text;
}

/// @throws ModelError where the response, the rows or the fixed effects are not those of a smaller model
void check_rows_and_fixed_effects(const Model& null, const Model& full) {
  const ModelMatrices &m0 = null.matrices(), &m1 = full.matrices();
  if (m0.response != m1.response)
    throw ModelError(
        fmt::format("the two models have different responses: \"{}\" and \"{}\"", m0.response, m1.response));
  if (m0.rows != m1.rows)
    throw ModelError(
        fmt::format("the two models are fitted to different rows ({} and {}): a variable of one is missing where the "
                    "other's is not",
                    m0.rows.size(), m1.rows.size()));
  if (m0.y != m1.y || m0.offset != m1.offset) throw ModelError("the two models have different responses or offsets");
  const Eigen::Index n = m0.y.size();
  const Eigen::MatrixXd &x0 = null.x_gauge().columns, &x1 = full.x_gauge().columns;
  if (x0.cols() > 0) {
    const Eigen::MatrixXd inside = x1 * (x1.transpose() * x0 / static_cast<double>(n));
    if (x1.cols() == 0 || ((x0 - inside).norm() > nested_tolerance * x0.norm()))
      throw ModelError(fmt::format("the models are not nested: the fixed effects of \"{}\" are not all in \"{}\"",
                                   m0.formula, m1.formula));
  }
}

/// @param more  how many parameters the full model has beside the null's
void check_parameters(const Model& null, const Model& full, int more) {
  if (more <= 0)
    throw ModelError(fmt::format("the models are not nested: \"{}\" has no more parameters than \"{}\"",
                                 full.matrices().formula, null.matrices().formula));
}

}  // namespace

Embedding embed(const Model& null, const Model& full) {
  check_rows_and_fixed_effects(null, full);
  const ModelMatrices &m0 = null.matrices(), &m1 = full.matrices();
  Embedding e;
  std::vector<int> filled(full.shape().terms, 0);
  for (int b = 0; b < null.shape().terms; ++b) {
    const RandomTerm& t0 = m0.random[null.term_of(b)];
    const Eigen::MatrixXd& z0 = null.z_gauge(null.term_of(b)).columns;
    bool found = false;
    for (int f = 0; f < full.shape().terms && !found; ++f) {
      const RandomTerm& t1 = m1.random[full.term_of(f)];
      if (!same_groups(t0, t1) || filled[f] + z0.cols() > t1.z.cols()) continue;
      const Eigen::MatrixXd& z1 = full.z_gauge(full.term_of(f)).columns;
      const Eigen::MatrixXd map = z1.colPivHouseholderQr().solve(z0);
      if ((z0 - z1 * map).norm() > nested_tolerance * z0.norm()) continue;
      found = true;
      e.term.push_back(f);
      e.column.push_back(filled[f]);
      filled[f] += static_cast<int>(z0.cols());
      for (Eigen::Index i = 0; i < map.rows(); ++i)
        for (Eigen::Index j = 0; j < map.cols(); ++j) e.map.push_back(map(i, j));
    }
    if (!found)
      throw ModelError(
          fmt::format("the models are not nested: the random-effects term ({} | {}) of \"{}\" is not in \"{}\"",
                      join(t0.names), t0.group, m0.formula, m1.formula));
  }
  check_parameters(null, full, full.shape().p + full.shape().parameters - null.shape().p - null.shape().parameters);
  return e;
}

Embedding embed_at_zero(const Model& null, const Model& full) {
  check_rows_and_fixed_effects(null, full);
  check_parameters(null, full, full.shape().p + full.shape().parameters - null.shape().p);
  Embedding e = identity_embedding(full);
  e.null_at_zero = true;
  return e;
}

Embedding identity_embedding(const Model& model) {
  Embedding e;
  for (int b = 0; b < model.shape().terms; ++b) {
    e.term.push_back(b);
    e.column.push_back(0);
    const int k = model.shape().term[b].k;
    for (int i = 0; i < k; ++i)
      for (int j = 0; j < k; ++j) e.map.push_back(i == j ? 1 : 0);
  }
  return e;
}

std::vector<double> Embedding::apply(const Model& null, const Model& full, const std::vector<double>& lambda) const {
  std::vector<double> out(full.shape().lambdas, 0.0);
  const double* at = map.data();
  for (int b = 0; b < null.shape().terms; ++b) {
    const kernels::TermShape &from = null.shape().term[b], &to = full.shape().term[term[b]];
    for (int i = 0; i < to.k; ++i)
      for (int c = 0; c < from.k; ++c) {
        double t = 0;
        for (int q = 0; q < from.k; ++q) t += at[i * from.k + q] * lambda[from.lambda + q * from.k + c];
        out[to.lambda + i * to.k + column[b] + c] = t;
      }
    at += to.k * from.k;
  }
  return out;
}

}  // namespace batchlmm
