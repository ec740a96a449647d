#include "host/inference/augment.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "host/inference/diagnostics.hpp"

namespace batchlmm {

Table augmented(const Fit& fit, const Table& table) {
  const ModelMatrices& m = *fit.model;
  const RowDiagnostics d = row_diagnostics(fit, JointCovariance(fit));
  const Eigen::VectorXd ones = Eigen::VectorXd::Ones(m.y.size());
  const std::vector<std::pair<std::string, Eigen::VectorXd>> added = {
      {".fitted", d.fitted},
      {".resid", d.residual},
      {".hat", d.hat},
      {".cooksd", d.cooks_distance},
      {".fixed", d.fixed},
      {".mu", d.fitted},
      {".offset", m.offset},
      {".sqrtXwt", ones},
      {".sqrtrwt", ones},
      {".weights", ones},
      {".wtres", d.residual},
      {".se.fit", fit.sigma * d.hat.cwiseMax(0).cwiseSqrt()},
      {".scaled.resid", d.scaled},
      {".std.resid", d.standardized},
  };
  Table out;
  out.source = table.source;
  out.rows = table.rows;
  for (const Column& column : table.columns) {
    bool replaced = false;
    for (const auto& [name, values] : added) replaced = replaced || name == column.name;
    if (!replaced) out.columns.push_back(column);
  }
  for (const auto& [name, values] : added) {
    Numeric column(table.rows, std::numeric_limits<double>::quiet_NaN());
    for (std::size_t i = 0; i < m.rows.size(); ++i) column[m.rows[i]] = values[static_cast<Eigen::Index>(i)];
    out.columns.push_back({name, std::move(column)});
  }
  return out;
}

}  // namespace batchlmm
