#include "host/inference/replicate_laws.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "host/inference/clopper_pearson.hpp"
#include "host/inference/lrt.hpp"

namespace batchlmm {
namespace {

const std::vector<double> reference{0.02, 0.11, 0.3,  0.52, 0.07,  1.4,  2.9, 0.9,
                                    4.8,  1.1,  0.61, 3.3,  0.013, 0.29, 6.2, 0.77};

ReplicateLaws laws_of(const std::vector<double>& values, int df, double statistic) {
  double sum = 0, squares = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  return replicate_laws(values.size(), sum, squares, df, statistic);
}

// pbkrtest 0.5.2: .summarizePB(c(5.5, 1), ref)$test and $moment.
TEST(ReplicateLaws, AreThoseOfPbkrtest) {
  const ReplicateLaws laws = laws_of(reference, 1, 5.5);

  EXPECT_NEAR(laws.mean, 1.4564375, 1e-14);
  EXPECT_NEAR(laws.variance, 3.48318039583333, 1e-13);
  EXPECT_NEAR(laws.p_gamma, 0.0436423220458929, 1e-14);
  EXPECT_NEAR(laws.bartlett_statistic, 3.77633781058233, 1e-13);
  EXPECT_NEAR(laws.p_bartlett, 0.0519823163821028, 1e-14);
  EXPECT_NEAR(laws.f_statistic, 5.5, 0);
  EXPECT_NEAR(laws.f_ddf, 6.38176092016979, 1e-12);
  EXPECT_NEAR(laws.p_f, 0.0549157191737140, 1e-14);
}

TEST(ReplicateLaws, TheDenominatorIsThatOfAnFWithTheReplicatesMean) {
  // pbkrtest's ddf is 2 mean / (mean - 1) for any df; an F law's mean is ddf / (ddf - 2), that of statistic / df.
  const ReplicateLaws laws = laws_of(reference, 1, 4.0), two = laws_of({2.0, 3.5, 1.9, 4.0}, 2, 8.0);

  EXPECT_NEAR(laws.f_ddf / (laws.f_ddf - 2), laws.mean, 1e-12);
  EXPECT_NEAR(two.f_ddf / (two.f_ddf - 2), two.mean / 2, 1e-12);
}

TEST(ReplicateLaws, NoFLawHasAMeanOfOneOrLess) {
  const ReplicateLaws laws = laws_of({0.2, 0.9, 1.3, 0.1}, 1, 3.0);

  EXPECT_TRUE(std::isnan(laws.f_ddf));
  EXPECT_TRUE(std::isnan(laws.p_f));
  EXPECT_GT(laws.p_bartlett, 0);
  EXPECT_GT(laws.p_gamma, 0);
}

TEST(ReplicateLaws, NothingWithoutReplicatesOrSpread) {
  EXPECT_TRUE(std::isnan(replicate_laws(0, 0, 0, 1, 2.0).p_gamma));
  EXPECT_TRUE(std::isnan(laws_of({0.0, 0.0}, 1, 2.0).p_bartlett));
  EXPECT_TRUE(std::isnan(laws_of({1.5, 1.5}, 1, 2.0).p_gamma));
  EXPECT_EQ(laws_of(reference, 1, 0.0).p_gamma, 1.0);
}

// R 4.2.2: binom.test(20, 1000)$conf.int; qbeta(0.025, 20, 981), qbeta(0.975, 20, 980) for draws up to the 20th.
TEST(ShareIntervals, AreExact) {
  const auto fixed = clopper_pearson(20, 1000), inverse = inverse_share_interval(20, 1000);

  EXPECT_NEAR(fixed[0], 0.01225826797, 1e-11);
  EXPECT_NEAR(fixed[1], 0.03072003268, 1e-11);
  EXPECT_EQ(inverse[0], fixed[0]);
  EXPECT_NEAR(inverse[1], 0.02954178465, 1e-11);
  EXPECT_EQ(clopper_pearson(0, 10)[0], 0.0);
  EXPECT_EQ(inverse_share_interval(10, 10)[1], 1.0);
}

}  // namespace
}  // namespace batchlmm
