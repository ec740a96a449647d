// Tails of F and t, in lanes and alone, against Boost's incomplete beta function.
#include "kernels/tail_probabilities.hpp"

#include <gtest/gtest.h>

#include <boost/math/distributions/fisher_f.hpp>
#include <cmath>
#include <random>

namespace batchlmm::kernels {
namespace {

double expected_tail(double f, int df1, double df2) {
  return boost::math::cdf(boost::math::complement(boost::math::fisher_f(df1, df2), f));
}

TEST(TailProbabilities, AreThoseOfTheIncompleteBetaFunction) {
  std::mt19937_64 rng(1);
  std::uniform_real_distribution<double> uniform;
  int left = 0;
  for (int i = 0; i < 20'000; ++i) {
    const int df1 = 1 + static_cast<int>(rng() % 8);
    const double df2 = std::exp(std::log(0.3) + uniform(rng) * std::log(1e4)), f = std::exp(-8 + 14 * uniform(rng));

    const double p = f_tail<double>(f, df1, df2);

    const double expected = expected_tail(f, df1, df2);
    if (p == tail_not_found) {
      ++left;
      continue;
    }
    // Boost's own errors reach 3e-12 here (against 40 digits by mpmath).
    if (expected > 1e-290) {
      EXPECT_NEAR(p, expected, 1e-11 * expected) << f << " " << df1 << " " << df2;
    }
  }
  EXPECT_EQ(left, 0);
}

TEST(TailProbabilities, OfVeryManyDegreesOfFreedomAreFoundOrLeft) {
  std::mt19937_64 rng(2);
  std::uniform_real_distribution<double> uniform;
  int found = 0;
  for (int i = 0; i < 2000; ++i) {
    const double df2 = std::exp(std::log(1e4) + uniform(rng) * std::log(1e4)), t = 5 * uniform(rng);

    const double p = two_sided_tail<double>(t, df2);

    if (p == tail_not_found) continue;
    ++found;
    EXPECT_NEAR(p, expected_tail(t * t, 1, df2), 1e-8 * p) << t << " " << df2;
  }
  EXPECT_GT(found, 200);
}

TEST(TailProbabilities, AtTheEndsAndBeyond) {
  EXPECT_EQ(f_tail<double>(0.0, 2, 7.0), 1.0);
  EXPECT_NEAR(f_tail<double>(0.0, 1, 7.0), 1.0, 1e-15);
  EXPECT_EQ(two_sided_tail<double>(3.0, 5.0), two_sided_tail<double>(-3.0, 5.0));
  EXPECT_LT(f_tail<double>(1e280, 3, 5.0), 1e-200);
  const double nan = std::nan("");
  for (double df2 : {0.0, -2.0, nan}) EXPECT_TRUE(std::isnan(f_tail<double>(1.0, 1, df2))) << df2;
  for (double f : {-1.0, nan}) EXPECT_TRUE(std::isnan(f_tail<double>(f, 1, 4.0))) << f;
}

TEST(TailProbabilities, OfALaneDoNotDependOnTheOthers) {
  using V = Pack<2>;
  constexpr int width = Lanes<V>::width;
  std::mt19937_64 rng(3);
  std::uniform_real_distribution<double> uniform;
  for (int df1 : {1, 2, 3, 6})
    for (int i = 0; i < 200; ++i) {
      V f, df2;
      for (int l = 0; l < width; ++l) {
        set_lane(f, l, std::exp(-4 + 8 * uniform(rng)));
        set_lane(df2, l, std::exp(7 * uniform(rng)));
      }

      const V p = f_tail<V>(f, df1, df2);

      for (int l = 0; l < width; ++l) EXPECT_EQ(lane(p, l), f_tail<double>(lane(f, l), df1, lane(df2, l)));
    }
}

}  // namespace
}  // namespace batchlmm::kernels
