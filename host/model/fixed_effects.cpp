#include "host/model/fixed_effects.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace batchlmm {

std::vector<Eigen::Index> independent_columns(Eigen::MatrixXd matrix, double tolerance) {
  const Eigen::Index n = matrix.rows();
  std::vector<Eigen::Index> kept;
  for (Eigen::Index j = 0; j < matrix.cols(); ++j) {
    // Columns 0 ... k-1 hold the Householder vectors of those kept; the candidate is brought up to date when its turn
    // comes, which needs no exchange of columns.
    const auto k = static_cast<Eigen::Index>(kept.size());
    if (k == n) break;
    auto candidate = matrix.col(j);
    const double length = candidate.norm();
    for (Eigen::Index i = 0; i < k; ++i) {
      const auto reflector = matrix.col(kept[static_cast<std::size_t>(i)]).tail(n - i);
      candidate.tail(n - i) -= 2 * reflector.dot(candidate.tail(n - i)) * reflector;
    }
    const double rest = candidate.tail(n - k).norm();
    if (!(rest >= tolerance * length) || rest == 0) continue;
    candidate[k] += candidate[k] < 0 ? -rest : rest;
    candidate.tail(n - k) /= candidate.tail(n - k).norm();
    kept.push_back(j);
  }
  return kept;
}

FixedEffects fixed_effects(const Terms& terms, const ModelFrame& frame, const ModelOptions& options) {
  TermMatrix all = term_matrix(terms, frame, options, "fixed effects");
  FixedEffects result;
  result.kept = independent_columns(all.values);
  const std::vector<Eigen::Index>& kept = result.kept;
  for (Eigen::Index j = 0; j < all.values.cols(); ++j) {
    const bool keep = std::binary_search(kept.begin(), kept.end(), j);
    (keep ? result.names : result.dropped_columns).push_back(std::move(all.names[static_cast<std::size_t>(j)]));
    if (keep) result.assign.push_back(all.assign[static_cast<std::size_t>(j)]);
  }
  if (result.dropped_columns.empty()) {
    result.X = std::move(all.values);
  } else {
    result.X.resize(all.values.rows(), static_cast<Eigen::Index>(kept.size()));
    for (std::size_t j = 0; j < kept.size(); ++j) result.X.col(static_cast<Eigen::Index>(j)) = all.values.col(kept[j]);
  }
  return result;
}

}  // namespace batchlmm
