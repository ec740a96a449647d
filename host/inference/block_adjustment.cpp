#include "host/inference/block_adjustment.hpp"

#include <fmt/format.h>

#include <Eigen/Eigenvalues>
#include <cmath>
#include <vector>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;

/// Entries of theta that are one row of one term's lambda.
std::vector<std::vector<Index>> lambda_rows(const Fit& fit) {
  std::vector<std::vector<Index>> out;
  Index first = 0;
  for (const TermCovariance& term : fit.random) {
    const Index k = term.lambda.rows();
    for (Index row = 0; row < k; ++row) {
      std::vector<Index>& entries = out.emplace_back();
      for (Index c = 0; c <= row; ++c) entries.push_back(first + c * k - c * (c - 1) / 2 + row - c);
    }
    first += k * (k + 1) / 2;
  }
  return out;
}

}  // namespace

void adjust_block_replicates(const Fit& fit, ParameterRows& rows) {
  const Index n = rows.sigma.size();
  const std::vector<std::vector<Index>> lambda = lambda_rows(fit);
  const auto v = static_cast<Index>(lambda.size());
  MatrixXd variances(n, v + 1);
  Eigen::RowVectorXd estimates(v + 1);
  const auto relative = [&](const auto& theta, Index r) {
    double squares = 0;
    for (const Index entry : lambda[static_cast<std::size_t>(r)]) squares += theta[entry] * theta[entry];
    return squares;
  };
  for (Index r = 0; r < v; ++r) {
    estimates[r] = fit.sigma * fit.sigma * relative(fit.theta, r);
    for (Index i = 0; i < n; ++i) variances(i, r) = rows.sigma[i] * rows.sigma[i] * relative(rows.theta.row(i), r);
  }
  estimates[v] = fit.sigma * fit.sigma;
  variances.col(v) = rows.sigma.array().square();
  if (const Index zeros = (variances.rowwise().minCoeff().array() <= 0).count(); zeros > 0)
    throw InputError(
        fmt::format("block bootstrap, type 2: {} of {} replicates have a variance of 0, which has no logarithm; "
                    "expected --reb-type "
                    "0 or 1",
                    zeros, n));

  const MatrixXd logarithms = variances.array().log();
  const Eigen::RowVectorXd mean = logarithms.colwise().mean();
  const MatrixXd centered = logarithms.rowwise() - mean;
  const MatrixXd covariance = centered.transpose() * centered / static_cast<double>(n - 1);
  const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(covariance);
  const MatrixXd apart = eigen.operatorInverseSqrt() * covariance.diagonal().cwiseSqrt().asDiagonal();
  MatrixXd adjusted = ((centered * apart).rowwise() + mean).array().exp();
  adjusted = (adjusted * estimates.cwiseQuotient(adjusted.colwise().mean()).asDiagonal()).eval();

  const MatrixXd ratios = adjusted.cwiseQuotient(variances).cwiseSqrt();
  for (Index r = 0; r < v; ++r)
    for (const Index entry : lambda[static_cast<std::size_t>(r)])
      rows.theta.col(entry).array() *= ratios.col(r).array() / ratios.col(v).array();
  rows.sigma.array() *= ratios.col(v).array();
  const Eigen::RowVectorXd shift = fit.beta.transpose() - rows.beta.colwise().mean();
  rows.beta.rowwise() += shift;
}

}  // namespace batchlmm
