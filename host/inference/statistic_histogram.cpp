#include "host/inference/statistic_histogram.hpp"

#include <algorithm>
#include <boost/math/special_functions/gamma.hpp>
#include <cmath>

namespace batchlmm {

StatisticHistogram::StatisticHistogram(int bins, int df, double observed) {
  constexpr double tail = 0.001, room = 1.1, most = 4;
  const double common = 2 * boost::math::gamma_q_inv(0.5 * df, tail);
  const double bound = std::min(std::max(common, room * observed), most * common);
  for (int i = 0; i <= bins; ++i) edges_.push_back(bound * i / bins);
  counts_.resize(static_cast<std::size_t>(bins));
}

void StatisticHistogram::add(const ReplicateBlock& block) {
  const double width = edges_.back() / static_cast<double>(counts_.size());
  for (std::size_t i = 0; i < block.status.size(); ++i) {
    if (!is_used(block.status[i])) continue;
    ++total_;
    const double t = block.statistic[i];
    if (t == 0) {
      ++zeros_;
    } else if (!(t < edges_.back())) {
      ++above_;
    } else {
      // Division may round to the bin beside the right one.
      auto bin = std::min(static_cast<std::size_t>(t / width), counts_.size() - 1);
      while (bin > 0 && t < edges_[bin]) --bin;
      while (bin + 1 < counts_.size() && t >= edges_[bin + 1]) ++bin;
      ++counts_[bin];
    }
  }
}

}  // namespace batchlmm
