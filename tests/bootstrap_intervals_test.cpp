// Intervals from replicates: against R's boot::boot.ci, by brute force, and their Monte-Carlo errors against what
// repetitions show.
#include "host/inference/bootstrap_intervals.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// 199 replicates of a skew quantity: exponential quantiles, disturbed.
std::vector<double> skew_replicates() {
  std::vector<double> t;
  for (int i = 1; i <= 199; ++i) t.push_back(-std::log1p(-(i - 0.5) / 199) + 0.1 * std::sin(i));
  return t;
}

void expect_interval(const Interval& found, double low, double high) {
  EXPECT_EQ(found.missing, "");
  EXPECT_NEAR(found.low, low, 1e-11);
  EXPECT_NEAR(found.high, high, 1e-11);
}

TEST(BootstrapIntervals, AreThoseOfBootCi) {
  // R 4.2.2, boot 1.3-28.1: t <- qexp(ppoints(199)) + 0.1 * sin(1:199), t0 = 0.9; boot:::norm.ci, basic.ci, perc.ci,
  // stud.ci with variance 0.04 and v = (0.2 + 0.01 * 1:199)^2, bca.ci with L = c(-1, -0.5, 0.2, 1.1, 0.1, 0.05).
  const std::vector<double> t = skew_replicates();
  const ReplicateSample sample(t);
  std::vector<double> studentized;
  for (int i = 0; i < 199; ++i) studentized.push_back((t[static_cast<std::size_t>(i)] - 0.9) / (0.2 + 0.01 * (i + 1)));
  double cubes = 0, squares = 0;
  for (const double l : {-1.0, -0.5, 0.2, 1.1, 0.1, 0.05}) {
    cubes += l * l * l;
    squares += l * l;
  }
  const double acceleration = cubes / (6 * squares * std::sqrt(squares));

  expect_interval(normal_interval(sample, 0.9, 0.9), -0.83135990459609, 2.4339304022069);
  expect_interval(basic_interval(sample, 0.9, 0.9), -1.3417929539861, 1.7648920543821);
  expect_interval(percentile_interval(sample, 0.9), 0.035107945617909, 3.1417929539861);
  expect_interval(studentized_interval(ReplicateSample(studentized), 0.9, 0.2, 0.9), 0.68649590914419, 1.4621624284952);
  expect_interval(bca_interval(sample, 0.9, acceleration, 0.9), 0.13435705365007, 4.3942699276887);
  expect_interval(normal_interval(sample, 0.9, 0.95), -1.1441314422417, 2.7467019398525);
  expect_interval(basic_interval(sample, 0.9, 0.95), -2.0111728947476, 1.8054863108869);
  expect_interval(percentile_interval(sample, 0.95), -0.0054863108869256, 3.8111728947476);
  expect_interval(studentized_interval(ReplicateSample(studentized), 0.9, 0.2, 0.95), 0.62919321909324,
                  1.6286400153947);
  expect_interval(bca_interval(sample, 0.9, acceleration, 0.95), 0.085487240903089, 5.484956623559);
}

TEST(BootstrapIntervals, ShortestIsTheShortestOfAll) {
  // MixedModels.jl's shortestcovint: ceil(199 * 0.9) = 180 replicates with both ends.
  const std::vector<double> t = skew_replicates();
  std::vector<double> sorted = t;
  std::sort(sorted.begin(), sorted.end());
  double best = INFINITY, low = 0;
  for (std::size_t i = 0; i + 180 <= sorted.size(); ++i)
    if (sorted[i + 179] - sorted[i] < best) {
      best = sorted[i + 179] - sorted[i];
      low = sorted[i];
    }

  const Interval found = shortest_interval(ReplicateSample(t), t, 0.9);

  EXPECT_EQ(found.low, low);
  EXPECT_EQ(found.high - found.low, best);
}

TEST(BootstrapIntervals, ReplicatesThatAreNotFiniteAreLeftOut) {
  std::vector<double> t = skew_replicates();
  const Interval without = percentile_interval(ReplicateSample(t), 0.9);
  t.insert(t.begin() + 7, nan);
  t.push_back(INFINITY);

  const ReplicateSample sample(t);

  EXPECT_EQ(sample.size(), 199U);
  EXPECT_EQ(percentile_interval(sample, 0.9).low, without.low);
  EXPECT_EQ(shortest_interval(sample, t, 0.9).low, shortest_interval(sample, skew_replicates(), 0.9).low);
}

TEST(BootstrapIntervals, SayWhyThereIsNone) {
  std::vector<double> t;
  for (int i = 1; i <= 38; ++i) t.push_back(i);
  EXPECT_EQ(fewest_replicates(0.95), 39U);
  EXPECT_EQ(fewest_replicates(0.9), 19U);
  EXPECT_EQ(fewest_replicates(0.99), 199U);
  EXPECT_EQ(percentile_interval(ReplicateSample(t), 0.95).missing, "38 replicates of 39 needed");
  EXPECT_TRUE(std::isnan(percentile_interval(ReplicateSample(t), 0.95).low));
  t.push_back(39);
  expect_interval(percentile_interval(ReplicateSample(t), 0.95), 1, 39);
  EXPECT_EQ(bca_interval(ReplicateSample(t), 40, 0.1, 0.9).missing, "all replicates lie on one side of the estimate");
  EXPECT_EQ(bca_interval(ReplicateSample(t), 20, nan, 0.9).missing, "no acceleration at this estimate");
  // Phi(z0 + (z0 + z) / (1 - a (z0 + z))), z0 = Phi^{-1}(37.5 / 39), z = 1.96, a = 0.1: 1 - 6e-15.
  EXPECT_EQ(bca_interval(ReplicateSample(t), 38, 0.1, 0.95).missing, "the acceleration is too large");
  // z0 = 0: 1.96 / (1 - 0.196) = 2.438, beyond it 1 / 135.33.
  EXPECT_EQ(bca_interval(ReplicateSample(t), 20, 0.1, 0.95).missing, "its ends need 135 replicates, found 39");
  EXPECT_THROW(interval_kind_of_name("wald"), InputError);
  EXPECT_EQ(interval_kind_of_name("perc"), IntervalKind::percentile);
}

/// Mean stated error of an end over what the ends' standard deviation shows, for `repetitions` samples.
struct Ends {
  std::vector<double> low, high, low_error, high_error;
  void add(const Interval& i) {
    low.push_back(i.low);
    high.push_back(i.high);
    low_error.push_back(i.low_error);
    high_error.push_back(i.high_error);
  }
};
double ratio(const std::vector<double>& end, const std::vector<double>& error) {
  double squares = 0;
  for (const double e : error) squares += e * e;
  return std::sqrt(squares / static_cast<double>(error.size()) / ReplicateSample(end).variance());
}

TEST(BootstrapIntervals, MonteCarloErrorsAreWhatRepetitionsShow) {
  // Arrange: replicates of a skew quantity (a log-normal), estimate at its median.
  const int repetitions = 600, replicates = 1999;
  std::mt19937_64 rng(11);
  std::lognormal_distribution<double> draw(0, 0.4);
  Ends percentile, basic, normal, bca, shortest;

  // Act
  for (int r = 0; r < repetitions; ++r) {
    std::vector<double> t(replicates);
    for (double& v : t) v = draw(rng);
    const ReplicateSample sample(t);
    percentile.add(percentile_interval(sample, 0.9));
    basic.add(basic_interval(sample, 1.05, 0.9));
    normal.add(normal_interval(sample, 1.05, 0.9));
    bca.add(bca_interval(sample, 1.05, 0.05, 0.9));
    shortest.add(shortest_interval(sample, t, 0.9));
  }

  // Assert: a standard deviation of 600 ends has a relative error of 0.029, so +-15 % is 5 of them; the errors stated
  // by quantile spacings are themselves noisy and a little skew. The shortest interval's are rough: a factor of 1.5.
  for (const Ends* ends : {&percentile, &basic, &normal, &bca}) {
    EXPECT_NEAR(ratio(ends->low, ends->low_error), 1, 0.15);
    EXPECT_NEAR(ratio(ends->high, ends->high_error), 1, 0.15);
  }
  EXPECT_GT(ratio(shortest.low, shortest.low_error), 1 / 1.5);
  EXPECT_LT(ratio(shortest.low, shortest.low_error), 1.5);
  EXPECT_GT(ratio(shortest.high, shortest.high_error), 1 / 1.5);
  EXPECT_LT(ratio(shortest.high, shortest.high_error), 1.5);
}

}  // namespace
}  // namespace batchlmm
