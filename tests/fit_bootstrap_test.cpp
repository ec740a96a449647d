// The bootstrap of a fit: the same bits however it is divided, the intervals of lme4's bootMer with boot.ci, resampled
// replicates against an implementation in R, quantities that users write themselves.
#include "host/inference/fit_bootstrap.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <boost/math/distributions/chi_squared.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <map>
#include <random>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/fit_bootstrap_report.hpp"
#include "tests/oracle.hpp"
#include "tests/temporary_folder.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;

// Under a sanitizer the same work with fewer replicates.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t thinned = 10;
#else
constexpr std::uint64_t thinned = 1;
#endif

std::shared_ptr<const ModelMatrices> matrices(const std::string& formula, const std::string& file,
                                              const std::vector<std::string>& factors = {}) {
  return std::make_shared<const ModelMatrices>(
      model_matrices(parse_formula(formula), read_table(std::string(BATCHLMM_TEST_DATA) + "/" + file, {factors})));
}
std::shared_ptr<const ModelMatrices> sleepstudy() {
  return matrices("Reaction ~ Days + (Days|Subject)", "sleepstudy.csv", {"Subject"});
}
const std::vector<BootstrapType> all_types{BootstrapType::parametric, BootstrapType::use_u, BootstrapType::residual,
                                           BootstrapType::wild,       BootstrapType::cases, BootstrapType::block};
const std::vector<IntervalKind> all_kinds{IntervalKind::percentile,  IntervalKind::basic, IntervalKind::normal,
                                          IntervalKind::studentized, IntervalKind::bca,   IntervalKind::shortest};

const BootstrappedQuantity& quantity(const FitBootstrap& b, const std::string& label) {
  for (const BootstrappedQuantity& q : b.quantities)
    if (q.quantity.label == label) return q;
  throw std::runtime_error("no quantity " + label);
}
const Interval& interval(const FitBootstrap& b, const std::string& label, IntervalKind kind) {
  for (std::size_t i = 0; i < b.options.intervals.size(); ++i)
    if (b.options.intervals[i] == kind) return quantity(b, label).intervals[i];
  throw std::runtime_error("no such interval");
}

TEST(FitBootstrap, HasTheSameBitsForAnyThreadsAndRanges) {
  const auto model = sleepstudy();
  for (const BootstrapType type : all_types) {
    // Arrange
    FitBootstrapOptions options;
    options.type = type;
    options.replicates = thinned > 1 ? 100 : 700;
    options.seed = 9;
    options.backend = BackendChoice::cpu;
    options.threads = 1;

    // Act
    const FitBootstrap one = bootstrap_fit(model, Method::reml, options);
    options.threads = 2;
    const FitBootstrap two = bootstrap_fit(model, Method::reml, options);
    options.replicates -= 41;
    options.first = 41;
    const FitBootstrap late = bootstrap_fit(model, Method::reml, options);

    // Assert
    ASSERT_EQ(one.used, one.options.replicates) << bootstrap_type_name(type);
    EXPECT_EQ(one.replicates, two.replicates) << bootstrap_type_name(type);
    EXPECT_EQ(one.replicates.bottomRows(late.replicates.rows()), late.replicates) << bootstrap_type_name(type);
    EXPECT_EQ(one.singular_by_term, two.singular_by_term);
  }
}

struct LmeInterval {
  const char* label;
  double normal[2], basic[2], percentile[2];
};

/// Ends of intervals from 10,000 replicates of each, against both Monte-Carlo errors: 5 of their difference.
void expect_intervals(const FitBootstrap& b, const std::vector<LmeInterval>& expected, double replicates) {
  const double more = std::sqrt(1 + static_cast<double>(b.used) / replicates);
  for (const LmeInterval& e : expected)
    for (const auto& [kind, ends] : {std::pair{IntervalKind::normal, e.normal}, std::pair{IntervalKind::basic, e.basic},
                                     std::pair{IntervalKind::percentile, e.percentile}}) {
      const Interval& found = interval(b, e.label, kind);
      EXPECT_NEAR(found.low, ends[0], 5 * more * found.low_error + 1e-12) << e.label << interval_kind_name(kind);
      EXPECT_NEAR(found.high, ends[1], 5 * more * found.high_error + 1e-12) << e.label << interval_kind_name(kind);
      EXPECT_GT(found.low_error, 0);
    }
}

TEST(FitBootstrap, IntervalsAreThoseOfBootMer) {
  // R 4.2.2, lme4 1.1-31, boot 1.3-28.1: m <- lmer(Reaction ~ Days + (Days|Subject), sleepstudy); set.seed(1);
  // b <- bootMer(m, function(x) c(fixef(x), as.data.frame(VarCorr(x), order = "lower.tri")$sdcor), nsim = 10000);
  // boot.ci(b, type = c("norm", "basic", "perc"), index = 1:6), correlations without 4 that are NaN.
  FitBootstrapOptions options;
  options.replicates = 10'000 / thinned;
  options.intervals = all_kinds;

  const FitBootstrap b = bootstrap_fit(sleepstudy(), Method::reml, options);

  EXPECT_NEAR(quantity(b, "sd_(Intercept)|Subject").estimate, 24.7407, 1e-3);
  EXPECT_NEAR(quantity(b, "cor_Days.(Intercept)|Subject").estimate, 0.0655512, 1e-5);
  EXPECT_NEAR(quantity(b, "Days").std_error, 1.5463, 5 * 1.5463 / std::sqrt(10'000.0 / thinned));
  EXPECT_NEAR(quantity(b, "sd_(Intercept)|Subject").bias, 24.2007 - 24.7407, 5 * 5.96 * std::sqrt(2e-4 * thinned));
  expect_intervals(
      b,
      {{"(Intercept)", {238.12, 264.877}, {238.077, 264.933}, {237.878, 264.733}},
       {"Days", {7.422, 13.4834}, {7.38827, 13.5174}, {7.41717, 13.5463}},
       {"sd_(Intercept)|Subject", {13.6031, 36.9583}, {13.6116, 37.2031}, {12.2782, 35.8697}},
       {"cor_Days.(Intercept)|Subject", {-0.675162, 0.711716}, {-0.785867, 0.638701}, {-0.507599, 0.91697}},
       {"sd_Days|Subject", {3.55726, 8.49859}, {3.53652, 8.4681}, {3.37618, 8.30775}},
       {"sigma", {22.6907, 28.5812}, {22.7069, 28.5134}, {22.6702, 28.4767}}},
      10'000);
}

TEST(FitBootstrap, ConditionalIntervalsAreThoseOfBootMerUseU) {
  // The same with use.u = TRUE, nsim = 4000.
  FitBootstrapOptions options;
  options.type = BootstrapType::use_u;
  options.replicates = 10'000 / thinned;
  options.intervals = {IntervalKind::percentile, IntervalKind::basic, IntervalKind::normal};

  const FitBootstrap b = bootstrap_fit(sleepstudy(), Method::reml, options);

  expect_intervals(b,
                   {{"(Intercept)", {244.401, 258.477}, {244.419, 258.52}, {244.29, 258.391}},
                    {"Days", {9.16053, 11.7653}, {9.16984, 11.7633}, {9.17128, 11.7647}},
                    {"sd_(Intercept)|Subject", {20.1462, 36.3472}, {20.4489, 36.5566}, {12.9247, 29.0324}},
                    {"sd_Days|Subject", {4.96879, 7.87311}, {5.00916, 7.88501}, {3.95927, 6.83512}},
                    {"sigma", {22.737, 28.5517}, {22.6998, 28.4874}, {22.6962, 28.4838}}},
                   4000);
}

TEST(FitBootstrap, ResampledReplicatesAreThoseOfAnImplementationInR) {
  // R 4.2.2, lme4 1.1-31, set.seed(1), 4000 replicates of each: responses (or rows) drawn by vectorised R code after
  // the same papers, lme4::refit (lmer for cases), then mean, sd and quantile(type = 6) of fixef and VarCorr. Wild:
  // Mammen's weights, HC3.
  struct Expected {
    BootstrapType type;
    int reb_type;
    double values[6][4];  // per quantity: mean, sd, 2.5 % and 97.5 % quantiles
  };
  constexpr double replicates = 4000;
  const char* const labels[] = {"(Intercept)",     "Days", "sd_(Intercept)|Subject", "cor_Days.(Intercept)|Subject",
                                "sd_Days|Subject", "sigma"};
  const Expected expected[] = {
      {BootstrapType::residual,
       0,
       {{251.487, 6.72181, 238.143, 264.387},
        {10.434, 1.54348, 7.45768, 13.4571},
        {24.0557, 5.75617, 12.2501, 34.7338},
        {0.0916393, 0.359224, -0.588461, 0.878795},
        {5.83644, 1.16923, 3.53058, 8.08181},
        {25.4882, 2.98889, 19.9588, 31.7594}}},
      {BootstrapType::wild,
       0,
       {{251.477, 6.80383, 237.559, 264.359},
        {10.514, 1.50576, 7.66105, 13.4799},
        {23.4427, 5.72158, 11.6389, 33.8479},
        {0.107667, 0.356084, -0.484144, 1},
        {5.67007, 1.27374, 3.41526, 8.22014},
        {25.4197, 5.03567, 17.5754, 35.6573}}},
      {BootstrapType::block,
       0,
       {{251.325, 7.44759, 236.729, 265.574},
        {10.4749, 1.62036, 7.19798, 13.7062},
        {27.7961, 5.08837, 17.5016, 37.4478},
        {-0.117858, 0.320329, -0.692055, 0.572006},
        {6.26672, 1.19207, 3.91488, 8.62252},
        {22.3479, 4.36826, 15.2464, 31.7714}}},
      {BootstrapType::block,
       1,
       {{251.415, 6.71257, 237.927, 264.428},
        {10.4712, 1.5332, 7.43169, 13.5292},
        {24.2226, 5.51635, 13.2962, 35.038},
        {0.0966345, 0.38053, -0.607563, 1},
        {5.81205, 1.20946, 3.44433, 8.11623},
        {25.0241, 4.9231, 16.9658, 35.5214}}},
      {BootstrapType::cases,
       0,
       {{251.547, 6.65703, 238.277, 264.339},
        {10.4748, 1.50695, 7.52546, 13.3954},
        {23.2038, 5.01091, 11.7184, 31.6149},
        {0.104384, 0.374798, -0.597133, 0.986475},
        {5.60271, 1.09836, 3.34159, 7.65376},
        {25.3926, 4.00652, 18.1375, 33.6193}}},
  };
  for (const Expected& e : expected) {
    FitBootstrapOptions options;
    options.type = e.type;
    options.resample.reb_type = e.reb_type;
    options.replicates = 10'000 / thinned;

    const FitBootstrap b = bootstrap_fit(sleepstudy(), Method::reml, options);

    // 5 Monte-Carlo errors of the differences; where a tenth and more of the replicates stand at 1 (correlations) the
    // end is that.
    const double ours = static_cast<double>(b.used), more = std::sqrt(1 + ours / replicates);
    for (int i = 0; i < 6; ++i) {
      const BootstrappedQuantity& q = quantity(b, labels[i]);
      const double* values = e.values[i];
      const std::string what = std::string(bootstrap_type_name(e.type)) + " " + labels[i];
      EXPECT_NEAR(q.estimate + q.bias, values[0], 5 * q.std_error * std::sqrt(1 / ours + 1 / replicates)) << what;
      // A standard deviation's error for a kurtosis up to 6.
      EXPECT_NEAR(q.std_error, values[1], 5 * q.std_error * std::sqrt(1.25 * (1 / ours + 1 / replicates))) << what;
      EXPECT_NEAR(q.intervals[0].low, values[2], 5 * more * q.intervals[0].low_error + 1e-6) << what;
      EXPECT_NEAR(q.intervals[0].high, values[3], 5 * more * q.intervals[0].high_error + (values[3] == 1 ? 0.05 : 1e-6))
          << what;
    }
  }
}

/// g groups of m rows: a random intercept of standard deviation tau, errors of sigma 1, mean 10.
std::shared_ptr<ModelMatrices> one_way(int g, int m, double tau, std::uint64_t seed) {
  auto out = std::make_shared<ModelMatrices>();
  const Index n = static_cast<Index>(g) * m;
  out->formula = "y ~ 1 + (1 | g)";
  out->response = "y";
  out->offset = Eigen::VectorXd::Zero(n);
  out->X = Eigen::MatrixXd::Ones(n, 1);
  out->x_names = {"(Intercept)"};
  RandomTerm& term = out->random.emplace_back();
  term.group = "g";
  term.names = {"(Intercept)"};
  term.text = "1 | g";
  term.z = Eigen::MatrixXd::Ones(n, 1);
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> normal;
  out->y.resize(n);
  for (int j = 0; j < g; ++j) {
    term.levels.push_back(std::to_string(j));
    const double b = tau * normal(rng);
    for (int i = 0; i < m; ++i) {
      term.level_of_row.push_back(j);
      out->rows.push_back(static_cast<std::size_t>(j * m + i));
      out->y[j * m + i] = 10 + b + normal(rng);
    }
  }
  return out;
}

TEST(FitBootstrap, StudentizedIntervalsAreTheExactOnesOfABalancedLayout) {
  // The replicates' (mean* - mean) / se* are t of g - 1 degrees: the exact interval, from any tier and any way to draw
  // normal responses.
  const auto model = one_way(7, 6, 3, 4);
  const Fit f = fit(model, Method::reml);
  const boost::math::students_t t(6);
  const double half = boost::math::quantile(t, 0.975) * std::sqrt(f.vcov(0, 0));
  for (const Tier tier : {Tier::symmetry, Tier::streaming, Tier::large}) {
    FitBootstrapOptions options;
    options.tier = tier;
    options.replicates = (tier == Tier::large ? 4000 : 40'000) / thinned;
    options.intervals = {IntervalKind::studentized};
    options.contrasts = {"2 * `(Intercept)`"};

    const FitBootstrap b = bootstrap_fit(model, Method::reml, options);

    const Interval& mean = interval(b, "(Intercept)", IntervalKind::studentized);
    EXPECT_NEAR(mean.low, f.beta[0] - half, 5 * mean.low_error);
    EXPECT_NEAR(mean.high, f.beta[0] + half, 5 * mean.high_error);
    EXPECT_LT(mean.low_error, 0.1 * half * std::sqrt(thinned));
    const Interval& twice = interval(b, "2 * `(Intercept)`", IntervalKind::studentized);
    EXPECT_NEAR(twice.low, 2 * mean.low, 1e-9);
    EXPECT_EQ(interval(b, "sigma", IntervalKind::studentized).missing,
              "only fixed effects and contrasts have standard errors");
  }
}

TEST(FitBootstrap, StudentizedReplicatesHaveTheStandardErrorsOfTheirRefits) {
  // Residual replicates, drawn again and fitted one by one.
  const auto model = sleepstudy();
  FitBootstrapOptions options;
  options.type = BootstrapType::residual;
  options.replicates = 39;
  options.intervals = {IntervalKind::studentized};

  const FitBootstrap b = bootstrap_fit(model, Method::reml, options);

  const ResponseResampler resampler(b.fit, BootstrapType::residual, {}, options.seed);
  for (const Index c : {Index{0}, Index{1}}) {
    std::vector<double> t;
    for (std::uint64_t r = 0; r < 39; ++r) {
      auto refitted = std::make_shared<ModelMatrices>(*model);
      resampler.draw(r, {refitted->y.data(), 180});
      const Fit f = fit(refitted, Method::reml);
      t.push_back((f.beta[c] - b.fit.beta[c]) / std::sqrt(f.vcov(c, c)));
    }
    const double se = std::sqrt(b.fit.vcov(c, c));
    const Interval& found = interval(b, model->x_names[static_cast<std::size_t>(c)], IntervalKind::studentized);
    EXPECT_NEAR(found.low, b.fit.beta[c] - se * *std::max_element(t.begin(), t.end()), 1e-4 * se);
    EXPECT_NEAR(found.high, b.fit.beta[c] - se * *std::min_element(t.begin(), t.end()), 1e-4 * se);
  }
}

TEST(FitBootstrap, ReportsWhatUsersWrite) {
  // Arrange
  FitBootstrapOptions options;
  options.replicates = 2000;
  options.theta = true;
  options.contrasts = {"9 * Days; Days - `(Intercept)`", "0, 1"};
  options.expressions = {"ICC = `sd_(Intercept)|Subject`^2 / (`sd_(Intercept)|Subject`^2 + sigma^2)",
                         "`log ratio` = log(`theta_(Intercept)|Subject` / `theta_Days|Subject`)", "sigma^2"};

  // Act
  const FitBootstrap b = bootstrap_fit(sleepstudy(), Method::reml, options);

  // Assert
  std::vector<std::string> labels;
  for (const BootstrappedQuantity& q : b.quantities) labels.push_back(q.quantity.label);
  EXPECT_EQ(labels,
            (std::vector<std::string>{"sd_(Intercept)|Subject", "cor_Days.(Intercept)|Subject", "sd_Days|Subject",
                                      "sigma", "(Intercept)", "Days", "theta_(Intercept)|Subject",
                                      "theta_Days.(Intercept)|Subject", "theta_Days|Subject", "9 * Days",
                                      "Days - `(Intercept)`", "0, 1", "ICC", "log ratio", "sigma^2"}));
  const auto column = [&](const std::string& label) {
    return b.replicates.col(std::find(labels.begin(), labels.end(), label) - labels.begin()).array();
  };
  const Eigen::ArrayXd sd2 = column("sd_(Intercept)|Subject").square(), sigma2 = column("sigma").square();
  EXPECT_LT((column("ICC") - sd2 / (sd2 + sigma2)).abs().maxCoeff(), 1e-15);
  EXPECT_LT((column("sigma^2") - sigma2).abs().maxCoeff(), 1e-9);
  EXPECT_LT((column("9 * Days") - 9 * column("Days")).abs().maxCoeff(), 1e-12);
  EXPECT_LT((column("Days - `(Intercept)`") - column("Days") + column("(Intercept)")).abs().maxCoeff(), 1e-12);
  EXPECT_LT((column("0, 1") - column("Days")).abs().maxCoeff(), 1e-12);
  EXPECT_LT((column("theta_(Intercept)|Subject") * column("sigma") - column("sd_(Intercept)|Subject")).abs().maxCoeff(),
            1e-10);
  const Eigen::ArrayXd slope =
      (column("theta_Days.(Intercept)|Subject").square() + column("theta_Days|Subject").square()).sqrt();
  EXPECT_LT((slope * column("sigma") - column("sd_Days|Subject")).abs().maxCoeff(), 1e-10);
  EXPECT_EQ(quantity(b, "ICC").estimate, std::pow(quantity(b, "sd_(Intercept)|Subject").estimate, 2) /
                                             (std::pow(quantity(b, "sd_(Intercept)|Subject").estimate, 2) +
                                              std::pow(quantity(b, "sigma").estimate, 2)));
  // The joint covariance is that of the replicates in which all are finite: some logarithms are not.
  std::vector<Index> finite;
  for (Index i = 0; i < b.replicates.rows(); ++i)
    if (b.replicates.row(i).allFinite()) finite.push_back(i);
  EXPECT_EQ(b.jointly_finite, finite.size());
  EXPECT_EQ(quantity(b, "log ratio").used, finite.size());
  EXPECT_LT(finite.size(), 2000U);
  const Eigen::MatrixXd rows = b.replicates(finite, Eigen::all), centered = rows.rowwise() - rows.colwise().mean();
  const Eigen::MatrixXd covariance = centered.transpose() * centered / static_cast<double>(finite.size() - 1);
  const Eigen::VectorXd sd = covariance.diagonal().cwiseSqrt();
  EXPECT_LT(((b.covariance - covariance).array() / (sd * sd.transpose()).array()).abs().maxCoeff(), 1e-12);
}

TEST(FitBootstrap, RefusesWhatItCannotReport) {
  const auto message = [](const FitBootstrapOptions& options) -> std::string {
    try {
      (void)bootstrap_fit(sleepstudy(), Method::reml, options);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  const auto of_expression = [&](const std::string& text) {
    FitBootstrapOptions options;
    options.replicates = 100;
    options.expressions = {text};
    return message(options);
  };
  EXPECT_NE(of_expression("sigme^2").find("--expr: no parameter 'sigme'; did you mean 'sigma'?"), std::string::npos);
  EXPECT_NE(of_expression("x = (sigma").find("'(' is never closed"), std::string::npos);
  EXPECT_EQ(of_expression("x = log(-sigma)"), "--expr: 'x' is not a number at the estimates; expected a finite number");
  EXPECT_NE(of_expression("x = scale(sigma)").find("expected a function of numbers, found 'scale'"), std::string::npos);
  EXPECT_NE(of_expression("x = besselj(sigma)").find("besselj"), std::string::npos);
  EXPECT_EQ(of_expression("sigma = sigma^2"), "--expr: expected a name that is not taken, found 'sigma'");
  EXPECT_EQ(of_expression("x = 3"), "--expr: '3' has no parameter in it; expected one of the model's");
  EXPECT_EQ(of_expression("x ="), "--expr: expected NAME = EXPRESSION, found 'x ='");
  EXPECT_NE(of_expression("x = sd_(Intercept)|Subject").find("--expr"), std::string::npos);
  FitBootstrapOptions few;
  few.replicates = 38;
  EXPECT_EQ(message(few), "--replicates: 95% percentile intervals need at least 39, found 38");
  few.intervals = {IntervalKind::normal};
  EXPECT_EQ(message(few), "");
}

TEST(FitBootstrap, CountsSingularAndFailedReplicates) {
  // Cases of three rows a level and a factor in X: a draw may lack one of its levels, and cannot be fitted then.
  auto model = std::make_shared<ModelMatrices>(*oracle::random_model(oracle::Kind::single, 1, 5));
  const Index n = model->y.size();
  model->X.conservativeResize(n, model->X.cols() + 1);
  model->x_names.emplace_back("rare");
  for (Index i = 0; i < n; ++i)
    model->X(i, model->X.cols() - 1) = model->random[0].level_of_row[static_cast<std::size_t>(i)] == 0 ? 1 : 0;
  FitBootstrapOptions options;
  options.type = BootstrapType::cases;
  options.replicates = 400;

  const FitBootstrap b = bootstrap_fit(model, Method::reml, options);

  // The level is missing with probability (1 - 1/J)^J = 0.35, and within 5 standard deviations of 400 draws.
  const double j = static_cast<double>(model->random[0].levels.size()), missing = std::pow(1 - 1 / j, j);
  const auto failed = static_cast<double>(b.status[static_cast<std::size_t>(Status::not_positive_definite)]);
  EXPECT_NEAR(failed / 400, missing, 5 * std::sqrt(missing * (1 - missing) / 400));
  EXPECT_EQ(b.replicates_run, 400U);
  EXPECT_EQ(static_cast<double>(b.used), 400 - failed);
  EXPECT_EQ(b.replicates.rows(), static_cast<Index>(b.used));
  EXPECT_TRUE(b.replicates.allFinite());
  std::uint64_t all = 0, singular = 0;
  for (const std::uint64_t count : b.status) all += count;
  EXPECT_EQ(all, 400U);
  const Index theta = 0;
  for (Index i = 0; i < b.replicates.rows(); ++i)
    singular += b.replicates(i, theta) < 1e-4 * b.replicates(i, 1) ? 1 : 0;
  EXPECT_EQ(b.singular_by_term, std::vector<std::uint64_t>{singular});
  EXPECT_EQ(b.singular, singular);
}

TEST(FitBootstrap, BlocksOfTypeTwoHaveNoBiasAndVariancesApart) {
  FitBootstrapOptions options;
  options.type = BootstrapType::block;
  options.replicates = 999;
  options.theta = true;
  options.contrasts = {"2 * `(Intercept)`"};
  options.expressions = {"v = sigma^2"};
  const auto model = one_way(12, 6, 2, 7);
  const FitBootstrap plain = bootstrap_fit(model, Method::reml, options);
  options.resample.reb_type = 2;

  const FitBootstrap b = bootstrap_fit(model, Method::reml, options);

  const auto column = [](const FitBootstrap& of, Index c) { return of.replicates.col(c).array(); };  // sd, sigma, mean
  EXPECT_NEAR(quantity(b, "(Intercept)").bias, 0, 1e-10);
  EXPECT_NEAR(quantity(b, "2 * `(Intercept)`").bias, 0, 1e-10);
  EXPECT_NEAR(quantity(b, "v").bias, 0, 1e-10);
  EXPECT_NEAR(quantity(b, "(Intercept)").std_error, quantity(plain, "(Intercept)").std_error, 1e-10);
  EXPECT_GT(std::abs(quantity(plain, "v").bias), 1e-3);
  EXPECT_NEAR(column(b, 0).square().mean(), std::pow(b.quantities[0].estimate, 2), 1e-9);
  const auto logarithms = [&](const FitBootstrap& of) {
    Eigen::MatrixXd s(of.replicates.rows(), 2);
    s.col(0) = 2 * column(of, 0).log();
    s.col(1) = 2 * column(of, 1).log();
    const Eigen::MatrixXd centered = s.rowwise() - s.colwise().mean();
    return Eigen::MatrixXd(centered.transpose() * centered / static_cast<double>(s.rows() - 1));
  };
  const Eigen::MatrixXd before = logarithms(plain), after = logarithms(b);
  EXPECT_NEAR(after(0, 1), 0, 1e-10);
  EXPECT_GT(std::abs(before(0, 1)), 1e-4);
  EXPECT_NEAR(after(0, 0), before(0, 0), 1e-9);
  EXPECT_NEAR(after(1, 1), before(1, 1), 1e-9);
  EXPECT_LT((column(b, 3) * column(b, 1) - column(b, 0)).abs().maxCoeff(), 1e-10);  // theta sigma = sd
}

TEST(FitBootstrap, AVarianceOfZeroHasNoCorrelation) {
  const auto model = matrices("frequency ~ attitude + gender + (attitude|subject)", "politeness.csv");
  for (const BootstrapType type : {BootstrapType::parametric, BootstrapType::cases}) {
    FitBootstrapOptions options;
    options.type = type;
    options.replicates = 2000 / thinned;

    const FitBootstrap b = bootstrap_fit(model, Method::reml, options);

    int zeros = 0;
    for (Index i = 0; i < b.replicates.rows(); ++i) {
      const bool zero = b.replicates(i, 0) == 0 || b.replicates(i, 2) == 0;
      zeros += zero ? 1 : 0;
      EXPECT_EQ(std::isnan(b.replicates(i, 1)), zero);
      for (const Index sd : {Index{0}, Index{2}})
        EXPECT_TRUE(b.replicates(i, sd) == 0 || b.replicates(i, sd) > 1e-7 * b.replicates(i, 3));
    }
    EXPECT_GT(zeros, 0);
    EXPECT_EQ(quantity(b, "cor_attitudepol.(Intercept)|subject").used, b.used - static_cast<std::uint64_t>(zeros));
  }
}

TEST(FitBootstrap, FilesHoldEveryReplicate) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "replicates.csv";
  FitBootstrapOptions options;
  options.replicates = 60;
  options.first = 5;
  options.type = BootstrapType::residual;
  options.expressions = {"twice = 2 * sigma"};
  options.out = path;

  const FitBootstrap b = bootstrap_fit(sleepstudy(), Method::reml, options);

  const Table table = read_table(path, {});
  EXPECT_EQ(table.rows, 60U);
  const auto column = [&](const std::string& name) { return std::get<Numeric>(table.at(name).data); };
  EXPECT_EQ(column("replicate").front(), 5);
  for (Index i = 0; i < 60; ++i) {
    const auto row = static_cast<std::size_t>(i);
    EXPECT_EQ(column("Days")[row], b.replicates(i, 5));
    EXPECT_EQ(column("sigma")[row], b.replicates(i, 3));
    EXPECT_EQ(column("twice")[row], b.replicates(i, 6));
    EXPECT_NEAR(column("theta_(Intercept)|Subject")[row] * column("sigma")[row], b.replicates(i, 0), 1e-10);
  }
}

TEST(FitBootstrap, PredictsNothingFromTiers) {
  // Tiers draw differently, but the same law: means within 5 standard errors of their difference.
  FitBootstrapOptions options;
  options.replicates = 4000 / thinned;
  const auto model = sleepstudy();
  options.tier = Tier::symmetry;
  const FitBootstrap a = bootstrap_fit(model, Method::ml, options);
  options.tier = Tier::streaming;
  options.seed = 2;
  const FitBootstrap b = bootstrap_fit(model, Method::ml, options);
  EXPECT_EQ(a.tier, Tier::symmetry);
  EXPECT_EQ(b.tier, Tier::streaming);
  for (std::size_t q = 0; q < a.quantities.size(); ++q) {
    const double error = a.quantities[q].std_error * std::sqrt(2.0 / static_cast<double>(a.used));
    EXPECT_NEAR(a.quantities[q].bias, b.quantities[q].bias, 5 * error) << a.quantities[q].quantity.label;
  }
}

/// What each kind of 95 % interval covers in a balanced one-way layout by REML, with very many replicates: the mean is
/// a t of g - 1 degrees, sigma^2 a chi-square of g (m - 1) over them, and so are their replicates.
struct ExactCoverage {
  double mean = 0, sigma = 0;
};
ExactCoverage exact_coverage(IntervalKind kind, int g, int m) {
  const boost::math::normal normal;
  const double nu = g * (m - 1.0), level = 0.95, z = boost::math::quantile(normal, 0.975);
  const boost::math::students_t t(g - 1.0);
  const boost::math::chi_squared chi(nu);
  const auto quantile = [&](double p) { return std::sqrt(boost::math::quantile(chi, p) / nu); };
  // P(low <= sigma / estimate <= high)
  const auto between = [&](double low, double high) {
    return boost::math::cdf(chi, nu / (low * low)) - boost::math::cdf(chi, nu / (high * high));
  };
  ExactCoverage out;
  out.mean = kind == IntervalKind::studentized ? level : 2 * boost::math::cdf(t, z) - 1;
  const double low = quantile(0.025), high = quantile(0.975);
  switch (kind) {
    case IntervalKind::percentile:
      out.sigma = between(low, high);
      break;
    case IntervalKind::basic:
      out.sigma = between(2 - high, 2 - low);
      break;
    case IntervalKind::normal: {
      const double mean = std::sqrt(2 / nu) * std::exp(std::lgamma(0.5 * (nu + 1)) - std::lgamma(0.5 * nu));
      const double sd = std::sqrt(1 - mean * mean);
      out.sigma = between(2 - mean - z * sd, 2 - mean + z * sd);
      break;
    }
    case IntervalKind::bca: {
      const double z0 = boost::math::quantile(normal, boost::math::cdf(chi, nu)), a = std::sqrt(8 / nu) / 6;
      const auto adjusted = [&](double side) {
        return boost::math::cdf(normal, z0 + (z0 + side * z) / (1 - a * (z0 + side * z)));
      };
      out.sigma = between(quantile(adjusted(-1)), quantile(adjusted(1)));
      break;
    }
    case IntervalKind::shortest: {
      double best = 1e-4;
      for (double p = 1e-4; p < 0.05; p += 1e-4)
        if (quantile(p + level) - quantile(p) < quantile(best + level) - quantile(best)) best = p;
      out.sigma = between(quantile(best), quantile(best + level));
      break;
    }
    case IntervalKind::studentized:
      break;
  }
  return out;
}

TEST(FitBootstrap, IntervalsCoverTheTruthAsOftenAsTheoryHasIt) {
  // Arrange: tau far from 0, so that no estimate is on the boundary.
  const int g = 6, m = 5, sets = 600 / static_cast<int>(thinned);
  FitBootstrapOptions options;
  options.replicates = 599;
  options.intervals = all_kinds;
  options.threads = 1;
  std::map<IntervalKind, std::array<int, 2>> covered;

  // Act
  for (int s = 0; s < sets; ++s) {
    options.seed = static_cast<std::uint64_t>(s) + 1;
    const FitBootstrap b = bootstrap_fit(one_way(g, m, 4, static_cast<std::uint64_t>(s) + 100), Method::reml, options);
    ASSERT_FALSE(b.fit.singular);
    for (const IntervalKind kind : all_kinds) {
      const Interval &mean = interval(b, "(Intercept)", kind), &sigma = interval(b, "sigma", kind);
      covered[kind][0] += mean.low <= 10 && 10 <= mean.high ? 1 : 0;
      covered[kind][1] += sigma.low <= 1 && 1 <= sigma.high ? 1 : 0;
    }
  }

  // Assert: 4.5 binomial standard deviations, and 0.004 for 599 replicates in place of very many.
  for (const IntervalKind kind : all_kinds) {
    const ExactCoverage exact = exact_coverage(kind, g, m);
    const auto near = [&](int count, double share) {
      EXPECT_NEAR(count / static_cast<double>(sets), share, 4.5 * std::sqrt(share * (1 - share) / sets) + 0.004)
          << interval_kind_name(kind);
    };
    near(covered[kind][0], exact.mean);
    if (kind != IntervalKind::studentized) near(covered[kind][1], exact.sigma);
  }
  // The bounds tell them apart: normal quantiles where t is right, and basic intervals of a skew sigma.
  EXPECT_LT(exact_coverage(IntervalKind::percentile, g, m).mean, 0.9);
  EXPECT_EQ(exact_coverage(IntervalKind::studentized, g, m).mean, 0.95);
}

}  // namespace
}  // namespace batchlmm
