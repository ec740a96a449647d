/// @file
/// Statistics of replicates by Thrust. Templates over the execution policy: the CUDA backend passes a stream's, a test
/// passes the CPU's. Arrays are the policy's device's.
#pragma once

#include <thrust/copy.h>
#include <thrust/count.h>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/sort.h>
#include <thrust/transform.h>
#include <thrust/transform_reduce.h>

#include <cstdint>

#include "kernels/statistic.hpp"

namespace batchlmm::kernels {
inline namespace BATCHLMM_ISA {

struct CountReplicate {
  FitResults null, full;
  const std::uint8_t* left_out;
  double observed;
  BATCHLMM_FUNCTION StatisticCounts operator()(std::uint64_t i) const {
    StatisticCounts counts;
    if (left_out != nullptr && left_out[i] != 0) return counts;
    add_replicate(counts, null, full, i, outcome(null, full, i), observed);
    return counts;
  }
};
struct AddCounts {
  BATCHLMM_FUNCTION StatisticCounts operator()(StatisticCounts a, const StatisticCounts& b) const {
    add(a, b);
    return a;
  }
};
template <class Policy>
StatisticCounts count_replicates(const Policy& policy, const StatisticArguments& a) {
  const thrust::counting_iterator<std::uint64_t> first(0);
  return thrust::transform_reduce(policy, first, first + a.items,
                                  CountReplicate{a.null, a.full, a.left_out, a.observed}, StatisticCounts{},
                                  AddCounts{});
}

struct IsUsed {
  BATCHLMM_FUNCTION bool operator()(std::uint8_t status) const { return status <= fit_boundary; }
};
/// Copies the values of used replicates to `to`, in order.
/// @return how many
template <class Policy>
std::uint64_t compact_used(const Policy& policy, const double* values, const std::uint8_t* status, std::uint64_t n,
                           double* to) {
  return static_cast<std::uint64_t>(thrust::copy_if(policy, values, values + n, status, to, IsUsed{}) - to);
}

struct IsAtLeast {
  double bound;
  BATCHLMM_FUNCTION bool operator()(double x) const { return x >= bound; }
};
template <class Policy>
std::uint64_t count_at_least(const Policy& policy, const double* values, std::uint64_t n, double bound) {
  return static_cast<std::uint64_t>(thrust::count_if(policy, values, values + n, IsAtLeast{bound}));
}

/// R's type 7 (Hyndman & Fan 1996): the value at h = (n - 1) p, interpolated between the two beside it.
struct SortedQuantile {
  const double* sorted;
  std::uint64_t n;
  BATCHLMM_FUNCTION double operator()(double p) const {
    const double h = static_cast<double>(n - 1) * p;
    const auto low = static_cast<std::uint64_t>(h);
    const double share = h - static_cast<double>(low), at = sorted[low];
    if (share == 0.0 || low + 1 >= n || sorted[low + 1] == at) return at;
    return (1.0 - share) * at + share * sorted[low + 1];
  }
};
/// @param values         are sorted; not NaN, n >= 1
/// @param probabilities  k of them, in [0, 1]
/// @param to             k values
template <class Policy>
void sort_for_quantiles(const Policy& policy, double* values, std::uint64_t n, const double* probabilities,
                        std::uint64_t k, double* to) {
  thrust::sort(policy, values, values + n);
  thrust::transform(policy, probabilities, probabilities + k, to, SortedQuantile{values, n});
}

/// How many sorted values lie in the bins [edge 0, edge 1), ... [edge k - 1, edge k], the last one closed.
struct SortedBin {
  const double *sorted, *edges;
  std::uint64_t n, bins;
  BATCHLMM_FUNCTION std::uint64_t below(double edge, bool or_equal) const {
    std::uint64_t begin = 0, end = n;
    while (begin < end) {
      const std::uint64_t middle = begin + (end - begin) / 2;
      if (sorted[middle] < edge || (or_equal && sorted[middle] == edge))
        begin = middle + 1;
      else
        end = middle;
    }
    return begin;
  }
  BATCHLMM_FUNCTION std::uint64_t operator()(std::uint64_t bin) const {
    return below(edges[bin + 1], bin + 1 == bins) - below(edges[bin], false);
  }
};
/// @param edges  bins + 1, ascending
/// @param to     bins counts
template <class Policy>
void histogram_of_sorted(const Policy& policy, const double* sorted, std::uint64_t n, const double* edges,
                         std::uint64_t bins, std::uint64_t* to) {
  const thrust::counting_iterator<std::uint64_t> first(0);
  thrust::transform(policy, first, first + bins, to, SortedBin{sorted, edges, n, bins});
}

template <class Policy>
void distribution(const Policy& policy, const DistributionArguments& a) {
  *a.used = compact_used(policy, a.values, a.status, a.n, a.used_values);
  *a.at_least = count_at_least(policy, a.used_values, *a.used, a.observed);
  if (*a.used > 0) sort_for_quantiles(policy, a.used_values, *a.used, a.probabilities, a.quantile_count, a.quantiles);
  histogram_of_sorted(policy, a.used_values, *a.used, a.edges, a.bins, a.histogram);
}

}  // namespace BATCHLMM_ISA
}  // namespace batchlmm::kernels
