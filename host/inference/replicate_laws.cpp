#include "host/inference/replicate_laws.hpp"

#include <algorithm>
#include <boost/math/distributions/fisher_f.hpp>
#include <boost/math/special_functions/gamma.hpp>

namespace batchlmm {

ReplicateLaws replicate_laws(std::uint64_t n, double sum, double sum_squares, int df, double statistic) {
  ReplicateLaws laws;
  if (n == 0) return laws;
  const auto count = static_cast<double>(n);
  const double above = std::max(statistic, 0.0);
  laws.mean = sum / count;
  if (n > 1) laws.variance = std::max(0.0, (sum_squares - sum * laws.mean) / (count - 1));
  laws.f_statistic = statistic / df;
  if (!(laws.mean > 0)) return laws;
  if (laws.variance > 0) {
    laws.gamma_shape = laws.mean * laws.mean / laws.variance;
    laws.gamma_scale = laws.variance / laws.mean;
    laws.p_gamma = boost::math::gamma_q(laws.gamma_shape, above / laws.gamma_scale);
  }
  laws.bartlett_statistic = df * statistic / laws.mean;
  laws.p_bartlett = boost::math::gamma_q(0.5 * df, 0.5 * df * above / laws.mean);
  const double e = laws.mean / df;
  if (e > 1) {
    laws.f_ddf = 2 * e / (e - 1);
    laws.p_f = boost::math::cdf(
        boost::math::complement(boost::math::fisher_f(df, laws.f_ddf), std::max(0.0, laws.f_statistic)));
  }
  return laws;
}

}  // namespace batchlmm
