#include "host/model/sparse_factor.hpp"

#include <algorithm>
#include <utility>

namespace batchlmm {

double SparseFactor::expected_entries() const {
  double entries = 0;
  for (Eigen::Index c = 0; c < column_counts().size(); ++c) entries += static_cast<double>(column_counts()[c]) + 1;
  return entries;
}

std::int32_t SparseFactor::entry(Eigen::Index i, Eigen::Index j) const {
  std::int32_t row = place(i), column = place(j);
  if (row < column) std::swap(row, column);
  const std::int32_t *inner = l().innerIndexPtr(), *begin = inner + l().outerIndexPtr()[column],
                     *end = inner + l().outerIndexPtr()[column + 1];
  const std::int32_t* found = std::lower_bound(begin, end, row);
  return found == end || *found != row ? -1 : static_cast<std::int32_t>(found - inner);
}

void SparseFactor::selected_inverse(std::vector<double>& inverse) const {
  const auto size = static_cast<std::int32_t>(l().cols());
  const std::int32_t *outer = l().outerIndexPtr(), *inner = l().innerIndexPtr();
  const double* value = l().valuePtr();
  inverse.resize(static_cast<std::size_t>(outer[size]));
  std::vector<std::int32_t> where(size, -1);
  std::vector<double> sum;
  for (std::int32_t j = size; j-- > 0;) {
    // The column's diagonal stands first, then rows in ascending order.
    const std::int32_t begin = outer[j] + 1, end = outer[j + 1], n = end - begin;
    const double diagonal = value[outer[j]];
    sum.assign(n, 0.0);
    for (std::int32_t a = 0; a < n; ++a) where[inner[begin + a]] = a;
    for (std::int32_t a = 0; a < n; ++a) {
      const std::int32_t column = inner[begin + a];
      const double la = value[begin + a];
      sum[a] += la * inverse[outer[column]];
      for (std::int32_t at = outer[column] + 1; at < outer[column + 1]; ++at) {
        const std::int32_t e = where[inner[at]];
        if (e < 0) continue;
        sum[a] += value[begin + e] * inverse[at];
        sum[e] += la * inverse[at];
      }
    }
    double own = 1 / diagonal;
    for (std::int32_t a = 0; a < n; ++a) {
      const double z = -sum[a] / diagonal;
      inverse[begin + a] = z;
      own -= value[begin + a] * z;
      where[inner[begin + a]] = -1;
    }
    inverse[outer[j]] = own / diagonal;
  }
}

}  // namespace batchlmm
