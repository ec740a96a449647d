#include "host/model/moment_start.hpp"

#include <Eigen/QR>
#include <algorithm>
#include <cmath>

namespace batchlmm {
namespace {

/// Smallest and largest variance of a term relative to the error's: in a level's mean, and in a single row.
constexpr double least_in_mean = 0.05, most_in_row = 100;

/// One column of one term.
struct TermColumn {
  int kernel_term = 0, within = 0;
  const std::int32_t* level = nullptr;  ///< per row
  int levels = 0;
  Eigen::VectorXd z;
};

/// Rows in the order of a term's levels.
struct Grouping {
  explicit Grouping(const TermColumn& c, Eigen::Index n) : begin(c.levels + 1, 0), row(n) {
    for (Eigen::Index i = 0; i < n; ++i) ++begin[c.level[i] + 1];
    for (int l = 0; l < c.levels; ++l) begin[l + 1] += begin[l];
    std::vector<Eigen::Index> next(begin.begin(), begin.end() - 1);
    for (Eigen::Index i = 0; i < n; ++i) row[next[c.level[i]]++] = i;
  }
  std::vector<Eigen::Index> begin, row;
};

}  // namespace

std::vector<double> moment_start(const Model& model, const Eigen::VectorXd& y) {
  const kernels::Shape& s = model.shape();
  const ModelMatrices& m = model.matrices();
  const Eigen::Index n = y.size();
  std::vector<TermColumn> columns;
  for (int b = 0; b < s.terms; ++b) {
    const RandomTerm& term = m.random[model.term_of(b)];
    for (int q = 0; q < s.term[b].k; ++q)
      columns.push_back({b, q, term.level_of_row.data(), static_cast<int>(term.levels.size()),
                         model.z_gauge(model.term_of(b)).columns.col(q)});
  }
  // The equations: one for each column's sum of squares between levels, the last for y'y.
  const auto size = static_cast<Eigen::Index>(columns.size()) + 1;
  Eigen::MatrixXd expected = Eigen::MatrixXd::Zero(size, size);
  Eigen::VectorXd found = Eigen::VectorXd::Zero(size);
  found[size - 1] = y.squaredNorm();
  expected(size - 1, size - 1) = static_cast<double>(n - s.p);
  for (Eigen::Index a = 0; a + 1 < size; ++a) {
    const TermColumn& ca = columns[a];
    const Grouping group(ca, n);
    expected(size - 1, a) = ca.z.squaredNorm();
    for (int l = 0; l < ca.levels; ++l) {
      double zz = 0, zy = 0;
      for (Eigen::Index i = group.begin[l]; i < group.begin[l + 1]; ++i) {
        const Eigen::Index row = group.row[i];
        zz += ca.z[row] * ca.z[row];
        zy += ca.z[row] * y[row];
      }
      if (zz <= 0) continue;
      found[a] += zy * zy / zz;
      expected(a, size - 1) += 1;
    }
    for (Eigen::Index b = 0; b + 1 < size; ++b) {
      const TermColumn& cb = columns[b];
      std::vector<double> shared(cb.levels, 0.0);  // z_a'z_b within a level of a, by b's levels
      for (int l = 0; l < ca.levels; ++l) {
        double zz = 0, squares = 0;
        for (Eigen::Index i = group.begin[l]; i < group.begin[l + 1]; ++i) {
          const Eigen::Index row = group.row[i];
          zz += ca.z[row] * ca.z[row];
          shared[cb.level[row]] += ca.z[row] * cb.z[row];
        }
        for (Eigen::Index i = group.begin[l]; i < group.begin[l + 1]; ++i) {
          double& t = shared[cb.level[group.row[i]]];
          squares += t * t;
          t = 0;
        }
        if (zz > 0) expected(a, b) += squares / zz;
      }
    }
  }
  const Eigen::VectorXd variance = expected.colPivHouseholderQr().solve(found);
  const double error = std::max(variance[size - 1], 1e-3 * found[size - 1] / static_cast<double>(n));
  std::vector<double> lambda(s.lambdas, 0.0);
  for (Eigen::Index a = 0; a + 1 < size; ++a) {
    const kernels::TermShape& term = s.term[columns[a].kernel_term];
    double ratio = error > 0 ? variance[a] / error : 1;
    if (!std::isfinite(ratio)) ratio = 1;
    ratio = std::clamp(ratio, least_in_mean / term.scale, most_in_row);
    lambda[term.lambda + columns[a].within * (term.k + 1)] = std::sqrt(ratio);
  }
  return lambda;
}

}  // namespace batchlmm
