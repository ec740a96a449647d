// Philox against its published vectors, the elementary functions against long double, normals and chi-squares against
// their moments.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/chi_square.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm::kernels {
namespace {

TEST(Philox, GivesThePublishedNumbers) {
  // Known-answer vectors of the Random123 distribution (kat_vectors, philox4x32 10). Counter words: replicate low,
  // high, draw, stream.
  const PhiloxWords<double> zero = philox<double>(0, 0, 0, 0);
  EXPECT_EQ(zero.word[0], 0x6627e8d5U);
  EXPECT_EQ(zero.word[1], 0xe169c58dU);
  EXPECT_EQ(zero.word[2], 0xbc57ac4cU);
  EXPECT_EQ(zero.word[3], 0x9b00dbd8U);
  const PhiloxWords<double> ones = philox<double>(~0ULL, ~0ULL, 0xffffffffULL, 0xffffffffU);
  EXPECT_EQ(ones.word[0], 0x408f276dU);
  EXPECT_EQ(ones.word[1], 0x41c83b0eU);
  EXPECT_EQ(ones.word[2], 0xa20bc7c6U);
  EXPECT_EQ(ones.word[3], 0x6d5451fdU);
  const PhiloxWords<double> pi =
      philox<double>(0x299f31d0a4093822ULL, 0x85a308d3243f6a88ULL, 0x13198a2eULL, 0x03707344U);
  EXPECT_EQ(pi.word[0], 0xd16cfe09U);
  EXPECT_EQ(pi.word[1], 0x94fdccebU);
  EXPECT_EQ(pi.word[2], 0x5001e420U);
  EXPECT_EQ(pi.word[3], 0x24126ea1U);
}

double ulps(double value, long double truth) {
  const double x = std::abs(static_cast<double>(truth));
  return static_cast<double>(std::abs(value - truth) / (std::nextafter(x, INFINITY) - x));
}

TEST(Elementary, ErrorsAreAboutOneUlp) {
  std::mt19937_64 rng(1);
  const auto unit = [&] { return (static_cast<double>(rng() >> 11) + 0.5) * 0x1p-53; };
  double log_error = 0, exp_error = 0, sin_error = 0, cos_error = 0;
  for (int i = 0; i < 300'000; ++i) {
    const double x = i % 3 == 0 ? unit() : i % 3 == 1 ? 1 - unit() * 1e-5 : std::exp(1400 * (unit() - 0.5));
    log_error = std::max(log_error, ulps(logarithm(x), std::log(static_cast<long double>(x))));
    const double e = (unit() - 0.5) * (i % 2 == 0 ? 2 : 1300);
    exp_error = std::max(exp_error, ulps(exponential(e), std::exp(static_cast<long double>(e))));
    const double a = 2 * unit();
    double s = 0, c = 0;
    sin_cos_pi(a, s, c);
    // Near a zero of one of the two its relative error has no meaning for a normal variate: absolute there.
    const long double angle = 3.14159265358979323846264338327950288L * a;
    sin_error = std::max(sin_error, static_cast<double>(std::abs(s - std::sin(angle))) * 0x1p53);
    cos_error = std::max(cos_error, static_cast<double>(std::abs(c - std::cos(angle))) * 0x1p53);
  }
  EXPECT_LT(log_error, 1.0);
  EXPECT_LT(exp_error, 1.5);
  EXPECT_LT(sin_error, 2.0);
  EXPECT_LT(cos_error, 2.0);
}

TEST(Normals, HaveTheMomentsAndTailsOfTheNormalDistribution) {
  // 400,000 draws: 4.5 standard errors each.
  const int n = 400'000;
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, lag = 0, last = 0;
  int beyond2 = 0;
  for (int r = 0; r < n / 8; ++r) {
    Normals<double> normals(42, static_cast<std::uint64_t>(r), 0);
    for (int i = 0; i < 8; ++i) {
      const double z = normals.next();
      m1 += z;
      m2 += z * z;
      m3 += z * z * z;
      m4 += z * z * z * z;
      lag += z * last;
      last = z;
      beyond2 += std::abs(z) > 2 ? 1 : 0;
    }
  }
  const double root = std::sqrt(static_cast<double>(n));
  EXPECT_NEAR(m1 / n, 0, 4.5 / root);
  EXPECT_NEAR(m2 / n, 1, 4.5 * std::sqrt(2.0) / root);
  EXPECT_NEAR(m3 / n, 0, 4.5 * std::sqrt(15.0) / root);
  EXPECT_NEAR(m4 / n, 3, 4.5 * std::sqrt(96.0) / root);
  EXPECT_NEAR(lag / n, 0, 4.5 / root);
  EXPECT_NEAR(beyond2 / static_cast<double>(n), 0.0455002639, 4.5 * std::sqrt(0.0455 * 0.9545) / root);
}

TEST(ChiSquare, HasTheMomentsOfItsDegreesOfFreedom) {
  for (double degrees : {1.0, 2.0, 3.0, 7.0, 70.0, 5000.0}) {
    const int n = 100'000;
    double m1 = 0, m2 = 0, log_mean = 0;
    for (int i = 0; i < n; ++i) {
      const double x = chi_square<double>(7, static_cast<std::uint64_t>(i), 1, degrees);
      ASSERT_GT(x, 0);
      m1 += x;
      m2 += (x - degrees) * (x - degrees);
      log_mean += std::log(x);
    }
    const double root = std::sqrt(static_cast<double>(n));
    EXPECT_NEAR(m1 / n, degrees, 4.5 * std::sqrt(2 * degrees) / root) << degrees;
    EXPECT_NEAR(m2 / n, 2 * degrees, 4.5 * std::sqrt(8 * degrees * degrees + 48 * degrees) / root) << degrees;
    // E log chi-square_d = digamma(d / 2) + log 2; its variance is trigamma(d / 2) <= pi^2 / 2.
    const double h = degrees / 2;
    double digamma = 0, x = h;
    for (; x < 20; x += 1) digamma -= 1 / x;
    digamma += std::log(x) - 1 / (2 * x) - 1 / (12 * x * x) + 1 / (120 * x * x * x * x);
    EXPECT_NEAR(log_mean / n, digamma + std::log(2.0), 4.5 * std::sqrt(4.94) / root) << degrees;
  }
  EXPECT_EQ(chi_square<double>(7, 1, 1, 0.0), 0);
}

TEST(NormalKernels, FillIsTheStreamOfOneLane) {
  for (const std::uint64_t count : {1U, 2U, 15U, 16U, 17U, 100U}) {
    std::vector<double> expected(count);
    Normals<double> normals(42, 1ULL << 40U, 7);
    for (double& z : expected) z = normals.next();

    for (const CpuKernels* isa : all_cpu_kernels()) {
      std::vector<double> filled(count);
      isa->normals->fill(42, 1ULL << 40U, 7, count, filled.data());

      EXPECT_EQ(filled, expected) << isa->name << ", " << count;
    }
  }
}

}  // namespace
}  // namespace batchlmm::kernels
