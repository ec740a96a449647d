#include "host/inference/clopper_pearson.hpp"

#include <boost/math/special_functions/beta.hpp>

namespace batchlmm {

std::array<double, 2> clopper_pearson(std::uint64_t x, std::uint64_t n) {
  const auto a = static_cast<double>(x), b = static_cast<double>(n - x);
  return {x == 0 ? 0.0 : boost::math::ibeta_inv(a, b + 1, 0.025),
          x == n ? 1.0 : boost::math::ibeta_inv(a + 1, b, 0.975)};
}

}  // namespace batchlmm
