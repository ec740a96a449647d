// Profile likelihood: against lme4, the closed forms of the balanced one-way layout, and the dense definition.
#include "host/inference/profile.hpp"

#include <gtest/gtest.h>

#include <Eigen/Eigenvalues>
#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <filesystem>
#include <map>
#include <random>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/held_criterion.hpp"
#include "host/inference/profile_report.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

struct Case {
  std::string formula, file, factor;
};
const std::map<std::string, Case> cases{
    {"sleepstudy", {"Reaction ~ Days + (Days | Subject)", "sleepstudy.csv", ""}},
    {"dyestuff", {"Yield ~ 1 + (1 | Batch)", "dyestuff.csv", ""}},
    {"penicillin", {"diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin.csv", ""}},
    {"pastes", {"strength ~ 1 + (1 | batch/cask)", "pastes.csv", ""}},
    {"politeness",
     {"frequency ~ attitude + (1 + attitude | subject) + (1 + attitude | scenario)", "politeness.csv", ""}},
    {"machines", {"score ~ Machine + (1 | Worker) + (1 | Worker:Machine)", "machines.csv", "Worker"}},
    {"machines by worker", {"score ~ Machine + (Machine | Worker)", "machines.csv", "Worker"}},
    {"dyestuff2", {"Yield ~ 1 + (1 | Batch)", "dyestuff2.csv", ""}},
    {"orthodont", {"distance ~ age * Sex + (age | Subject)", "orthodont.csv", ""}},
};

/// Null where the table is in the folder of references, and that is not here.
std::shared_ptr<const ModelMatrices> matrices_of(const std::string& name) {
  const Case& one = cases.at(name);
  std::filesystem::path path = std::filesystem::path(BATCHLMM_TEST_DATA) / one.file;
  if (!std::filesystem::exists(path)) path = std::filesystem::path(BATCHLMM_SHARED) / "reference" / one.file;
  if (!std::filesystem::exists(path)) return nullptr;
  std::vector<std::string> factors;
  if (!one.factor.empty()) factors.push_back(one.factor);
  return std::make_shared<const ModelMatrices>(
      model_matrices(parse_formula(one.formula), read_table(path.string(), {factors})));
}

const ParameterProfile& of(const Profile& p, const std::string& label) {
  for (const ParameterProfile& one : p.profiles)
    if (one.parameter.label == label) return one;
  throw std::out_of_range(label);
}

void expect_sound(const Profile& p) {
  EXPECT_TRUE(p.certified);
  for (const ParameterProfile& one : p.profiles) {
    SCOPED_TRACE(one.parameter.label);
    EXPECT_TRUE(one.low.certified && one.high.certified);
    double before = -INFINITY;
    for (const ProfilePoint& point : one.points) {
      EXPECT_TRUE(point.certified) << point.value;
      EXPECT_GE(point.zeta, before - 1e-6) << point.value;
      EXPECT_NEAR(point.deviance, p.deviance + point.zeta * point.zeta, 1e-9 * std::abs(p.deviance));
      before = point.zeta;
    }
    EXPECT_TRUE(one.low.bound || one.low.value < one.estimate);
    EXPECT_TRUE(one.high.bound || one.high.value > one.estimate);
  }
}

// R 4.2.2, lme4 1.1-31: confint(profile(lmer(f, data, REML = FALSE, control = lmerControl("bobyqa", optCtrl =
// list(rhoend = 1e-10), calc.derivs = FALSE)), signames = FALSE, devtol = 1e-12, optimizer = "bobyqa")).
struct Interval {
  const char *name, *label;
  double low, high;
};
constexpr Interval lme4_intervals[] = {{"sleepstudy", "sd_(Intercept)|Subject", 14.3815878573, 37.7159962544},
                                       {"sleepstudy", "cor_Days.(Intercept)|Subject", -0.4815007388, 0.6849859708},
                                       {"sleepstudy", "sd_Days|Subject", 3.8011641022, 8.7533831599},
                                       {"sleepstudy", "sigma", 22.8982668766, 28.8579965400},
                                       {"sleepstudy", "(Intercept)", 237.6806954894, 265.1295146187},
                                       {"sleepstudy", "Days", 7.3586532600, 13.5759187523},
                                       {"dyestuff", "sd_(Intercept)|Batch", 12.19853520, 84.06304672},
                                       {"dyestuff", "sigma", 38.22998488, 67.65769625},
                                       {"dyestuff", "(Intercept)", 1486.45149997, 1568.54849437},
                                       {"penicillin", "sd_(Intercept)|plate", 0.6335657875, 1.1821039840},
                                       {"penicillin", "sd_(Intercept)|sample", 1.0957892643, 3.5562919148},
                                       {"penicillin", "sigma", 0.4858454002, 0.6294534785},
                                       {"penicillin", "(Intercept)", 21.2666273835, 24.6778176174},
                                       {"pastes", "sd_(Intercept)|cask:batch", 2.1579337084, 4.053588941},
                                       {"pastes", "sd_(Intercept)|batch", 0, 2.946591111},
                                       {"pastes", "sigma", 0.6520233561, 1.085448104},
                                       {"pastes", "(Intercept)", 58.6636503785, 61.443016369},
                                       {"machines", "sd_(Intercept)|Worker:Machine", 2.3528036617, 5.431502914},
                                       {"machines", "sd_(Intercept)|Worker", 1.9514580535, 9.410583980},
                                       {"machines", "sigma", 0.7759506575, 1.234965742},
                                       {"machines", "(Intercept)", 47.3951610841, 57.315948636},
                                       {"machines", "MachineB", 3.7380903701, 12.195242944},
                                       {"machines", "MachineC", 9.6880903701, 18.145242944}};

class ProfileOf : public ::testing::TestWithParam<const char*> {};

TEST_P(ProfileOf, IntervalsAreLme4s) {
  // Arrange
  const auto matrices = matrices_of(GetParam());
  if (!matrices) GTEST_SKIP() << "no reference folder";

  // Act
  const Profile p = profile(matrices);

  // Assert
  expect_sound(p);
  for (const Interval& expected : lme4_intervals) {
    if (std::string(expected.name) != GetParam()) continue;
    SCOPED_TRACE(expected.label);
    const ParameterProfile& one = of(p, expected.label);
    // lme4 interpolates zeta by splines between its points.
    EXPECT_NEAR(one.low.value, expected.low, 3e-4 * std::abs(expected.low));
    EXPECT_NEAR(one.high.value, expected.high, 3e-4 * std::abs(expected.high));
    EXPECT_EQ(one.low.bound, expected.low == 0);
    for (const ProfilePoint& point : one.points)
      if (point.value == one.low.value && !one.low.bound) {
        EXPECT_NEAR(point.zeta, -1.959963984540054, 1e-8);
      }
  }
}
INSTANTIATE_TEST_SUITE_P(Tables, ProfileOf,
                         ::testing::Values("sleepstudy", "dyestuff", "penicillin", "pastes", "machines"));

// Points of lme4's profiles, from the same call (near the boundary its optimizer stops above the minimum: at 1.1286 of
// sd_(Intercept)|Subject, by 0.11 in deviance).
struct Zeta {
  const char *name, *label;
  double value, zeta;
};
constexpr Zeta lme4_points[] = {{"sleepstudy", "(Intercept)", 213.908194455, -4.286826181},
                                {"sleepstudy", "(Intercept)", 261.701387323, 1.503944417},
                                {"sleepstudy", "cor_Days.(Intercept)|Subject", -0.870029596268, -4.5633689},
                                {"sleepstudy", "cor_Days.(Intercept)|Subject", 0.502760088507, 1.329065078},
                                {"sleepstudy", "cor_Days.(Intercept)|Subject", 1, 2.977582993},
                                {"sleepstudy", "Days", 8.13222884978, -1.505706865},
                                {"sleepstudy", "sd_(Intercept)|Subject", 16.1521052936, -1.555465534},
                                {"sleepstudy", "sd_(Intercept)|Subject", 73.7799061368, 4.466280062},
                                {"sleepstudy", "sd_Days|Subject", 2.00934975428, -4.290839355},
                                {"sleepstudy", "sd_Days|Subject", 8.55053363902, 1.858164879},
                                {"sleepstudy", "sigma", 20.2591299789, -4.2999592},
                                {"sleepstudy", "sigma", 34.3710357322, 4.558029963},
                                {"dyestuff", "sd_(Intercept)|Batch", 0, -2.324398007},
                                {"dyestuff", "sd_(Intercept)|Batch", 216.931897943, 3.691140528},
                                {"dyestuff", "sigma", 31.4650441829, -3.696339622},
                                {"penicillin", "(Intercept)", 29.0166103387, 3.896006631},
                                {"penicillin", "sd_(Intercept)|plate", 0.675676036667, -1.501272614},
                                {"penicillin", "sd_(Intercept)|sample", 10.4999801909, 3.937864108},
                                {"penicillin", "sigma", 0.737373219507, 4.052445926}};

TEST(HeldParameter, ZetaIsLme4s) {
  for (const char* name : {"sleepstudy", "dyestuff", "penicillin"}) {
    // Arrange
    const auto matrices = matrices_of(name);
    const std::vector<Parameter> parameters = model_parameters(*matrices);
    ParameterHolder holder(matrices);
    const HeldMinimum estimate = holder.unconstrained();
    for (const Zeta& expected : lme4_points) {
      if (std::string(expected.name) != name) continue;
      SCOPED_TRACE(std::string(name) + ": " + expected.label);
      const Parameter& parameter = parameters[find_parameter(parameters, expected.label)];

      // Act: from the estimate, however far it is
      const HeldMinimum at = holder.hold(parameter)->minimum(expected.value, estimate.state);

      // Assert: lme4's minimum is no lower
      const double lme4 = estimate.deviance + expected.zeta * expected.zeta;
      EXPECT_TRUE(at.certified);
      EXPECT_LE(at.deviance, lme4 + 2e-4);
      EXPECT_NEAR(std::sqrt(at.deviance - estimate.deviance), std::abs(expected.zeta), 2e-3);
    }
  }
}

/// Minimal deviance of the balanced one-way layout: K log t + N - K log s^2, t = sigma^2 + n sigma_b^2.
struct OneWay {
  double groups = 0, size = 0, between = 0, within = 0, mean = 0;
  [[nodiscard]] double deviance(double residual, double t, double mu) const {
    return groups * (size - 1) * std::log(residual) + within / residual + groups * std::log(t) +
           (between + groups * size * (mean - mu) * (mean - mu)) / t + groups * size * std::log(2 * M_PI);
  }
};
OneWay one_way(const ModelMatrices& m) {
  OneWay w;
  w.groups = static_cast<double>(m.random[0].levels.size());
  w.size = static_cast<double>(m.y.size()) / w.groups;
  w.mean = m.y.mean();
  VectorXd means = VectorXd::Zero(static_cast<Eigen::Index>(w.groups));
  for (Eigen::Index i = 0; i < m.y.size(); ++i) means[m.random[0].level_of_row[i]] += m.y[i] / w.size;
  for (Eigen::Index i = 0; i < m.y.size(); ++i) w.within += std::pow(m.y[i] - means[m.random[0].level_of_row[i]], 2);
  w.between = w.size * (means.array() - w.mean).square().sum();
  return w;
}

TEST(Profile, BalancedOneWayHasClosedForms) {
  for (const char* name : {"dyestuff", "dyestuff2"}) {  // a variance above 0, and one at 0
    const auto matrices = matrices_of(name);
    if (!matrices) GTEST_SKIP() << "no reference folder";
    SCOPED_TRACE(name);
    // Arrange
    const OneWay w = one_way(*matrices);
    const double n = w.groups * w.size;

    // Act
    const Profile p = profile(matrices);

    // Assert
    expect_sound(p);
    for (const ProfilePoint& point : of(p, "sigma").points) {
      const double residual = point.value * point.value, t = std::max(w.between / w.groups, residual);
      EXPECT_NEAR(point.deviance, w.deviance(residual, t, w.mean), 1e-8) << point.value;
    }
    for (const ProfilePoint& point : of(p, "(Intercept)").points) {
      const double between = w.between + n * std::pow(w.mean - point.value, 2);
      double residual = w.within / (w.groups * (w.size - 1)), t = between / w.groups;
      if (t < residual) t = residual = (w.within + between) / n;
      EXPECT_NEAR(point.deviance, w.deviance(residual, t, point.value), 1e-8) << point.value;
    }
    const ParameterProfile& sd = of(p, "sd_(Intercept)|Batch");
    EXPECT_EQ(sd.low.bound, std::string(name) == "dyestuff2");
    for (const ProfilePoint& point : sd.points) {
      // sigma^2 alone is left: its stationarity, by bisection of a function that changes sign once.
      const double variance = w.size * point.value * point.value;
      double low = 1e-3, high = 1e6;
      for (int i = 0; i < 200; ++i) {
        const double s = 0.5 * (low + high), t = s + variance;
        (w.groups * (w.size - 1) / s - w.within / (s * s) + w.groups / t - w.between / (t * t) > 0 ? high : low) = s;
      }
      EXPECT_NEAR(point.deviance, w.deviance(low, low + variance, w.mean), 1e-8) << point.value;
    }
  }
}

TEST(Profile, SlopesAreThoseOfTheMinima) {
  for (const char* name : {"sleepstudy", "penicillin", "politeness"}) {
    // Arrange
    const auto matrices = matrices_of(name);
    const Profile p = profile(matrices);
    ParameterHolder holder(matrices);
    for (const ParameterProfile& one : p.profiles) {
      SCOPED_TRACE(std::string(name) + ": " + one.parameter.label);
      const auto held = holder.hold(one.parameter);
      int compared = 0;
      for (std::size_t i = 1; i + 1 < one.points.size(); i += 3) {
        const ProfilePoint& point = one.points[i];
        if (std::abs(point.zeta) < 0.5) continue;
        const double h = 1e-4 * (one.points[i + 1].value - one.points[i - 1].value);

        // Act
        const double up = held->minimum(point.value + h, point.state).deviance,
                     down = held->minimum(point.value - h, point.state).deviance;

        // Assert
        const double expected = (up - down) / (2 * h) / (2 * point.zeta);
        EXPECT_NEAR(point.slope, expected, 1e-5 * std::abs(expected) + 1e-9 / h) << point.value;
        ++compared;
      }
      EXPECT_TRUE(compared > 2 || one.parameter.kind == ParameterKind::correlation);
    }
  }
}

/// -2 log-likelihood at given parameters, by the dense definition.
double dense_deviance(const ModelMatrices& m, const ParameterState& state) {
  const Eigen::Index n = m.y.size();
  MatrixXd v = MatrixXd::Identity(n, n);
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const MatrixXd z = oracle::dense_z(m.random[t]);
    const Eigen::Index k = state.lambda[t].rows();
    for (Eigen::Index l = 0; l < z.cols() / k; ++l) {
      const MatrixXd zl = z.middleCols(l * k, k) * state.lambda[t];
      v += zl * zl.transpose();
    }
  }
  v *= state.sigma * state.sigma;
  const Eigen::LLT<MatrixXd> llt(v);
  const VectorXd r = llt.matrixL().solve(m.y - m.offset - m.X * state.beta);
  return 2 * MatrixXd(llt.matrixL()).diagonal().array().log().sum() + r.squaredNorm() +
         static_cast<double>(n) * std::log(2 * M_PI);
}

/// Moves all parameters a little and puts the held one back.
ParameterState neighbour(const Parameter& held, double value, ParameterState state, std::mt19937_64& rng) {
  std::normal_distribution<double> normal;
  constexpr double share = 0.01;
  for (Eigen::Index j = 0; j < state.beta.size(); ++j)
    state.beta[j] += share * (1 + std::abs(state.beta[j])) * normal(rng) * 0.1;
  state.sigma *= std::exp(share * normal(rng));
  for (MatrixXd& l : state.lambda)
    for (Eigen::Index i = 0; i < l.rows(); ++i)
      for (Eigen::Index j = 0; j <= i; ++j) l(i, j) += share * normal(rng) * (0.1 + l.row(i).norm());
  MatrixXd* own =
      held.kind == ParameterKind::sd || held.kind == ParameterKind::correlation ? &state.lambda[held.term] : nullptr;
  switch (held.kind) {
    case ParameterKind::fixed:
      state.beta[held.row] = value;
      break;
    case ParameterKind::sigma:
      state.sigma = value;
      break;
    case ParameterKind::sd:
      own->row(held.row) *= value / (state.sigma * own->row(held.row).norm());
      break;
    case ParameterKind::correlation: {  // two coefficients
      const double a = own->row(0).norm(), b = own->row(1).norm();
      *own << a, 0, value * b, std::sqrt(1 - value * value) * b;
      break;
    }
  }
  return state;
}

TEST(Profile, PointsAreMinimaOfTheDenseDeviance) {
  std::mt19937_64 rng(5);
  for (const char* name : {"sleepstudy", "politeness", "pastes"}) {
    // Arrange
    const auto matrices = matrices_of(name);

    // Act
    const Profile p = profile(matrices);

    // Assert
    expect_sound(p);
    for (const ParameterProfile& one : p.profiles) {
      SCOPED_TRACE(std::string(name) + ": " + one.parameter.label);
      for (std::size_t i = 0; i < one.points.size(); i += 5) {
        const ProfilePoint& point = one.points[i];
        EXPECT_NEAR(dense_deviance(*matrices, point.state), point.deviance, 1e-7) << point.value;
        const double value = parameter_value(one.parameter, point.state.beta, point.state.lambda, point.state.sigma);
        if (std::isnan(value) || point.value == 0) continue;  // beside a standard deviation of 0
        EXPECT_NEAR(value, point.value, 1e-7 * std::abs(point.value));
        for (int trial = 0; trial < 3; ++trial)
          EXPECT_GE(dense_deviance(*matrices, neighbour(one.parameter, point.value, point.state, rng)),
                    point.deviance - 1e-7)
              << point.value;
      }
    }
  }
}

TEST(Profile, IntervalsReachTheBoundaryWhereTheyShould) {
  // Arrange
  const auto matrices = matrices_of("politeness");

  // Act
  const Profile p = profile(matrices);

  // Assert: a singular fit, its correlation at -1
  EXPECT_NEAR(of(p, "cor_attitudepol.(Intercept)|subject").estimate, -1, 1e-6);
  for (const char* label : {"cor_attitudepol.(Intercept)|subject", "cor_attitudepol.(Intercept)|scenario"}) {
    EXPECT_EQ(of(p, label).low.value, -1);
    EXPECT_EQ(of(p, label).high.value, 1);
    // No worse than without the slope: its zeta at 0 bounds the correlation's.
    const std::string sd =
        std::string("sd_attitudepol|") + (std::string(label).ends_with("subject") ? "subject" : "scenario");
    EXPECT_EQ(of(p, sd).low.value, 0);
    EXPECT_LE(of(p, label).points.back().zeta, -of(p, sd).points.front().zeta + 1e-8);
    EXPECT_GE(of(p, label).points.front().zeta, of(p, sd).points.front().zeta - 1e-8);
  }
}

TEST(Profile, CorrelationBesideAStandardDeviationOfZeroIsAnything) {
  // Arrange: slopes that do not vary
  auto m = std::make_shared<ModelMatrices>(*matrices_of("sleepstudy"));
  std::mt19937_64 rng(3);
  std::normal_distribution<double> normal;
  std::vector<double> level(18);
  for (double& l : level) l = 30 * normal(rng);
  for (Eigen::Index i = 0; i < m->y.size(); ++i)
    m->y[i] = 250 + 10 * m->X(i, 1) + (i % 2 ? 25.0 : -25.0) * (i / 10 % 2 ? 1.0 : -1.0);

  // Act
  const Profile p = profile(m);

  // Assert
  expect_sound(p);
  const ParameterProfile& one = of(p, "cor_Days.(Intercept)|Subject");
  EXPECT_TRUE(std::isnan(one.estimate));
  EXPECT_EQ(one.low.value, -1);
  EXPECT_EQ(one.high.value, 1);
  EXPECT_NE(profile_text(p, "table").find("where every correlation is as good"), std::string::npos);
}

TEST(Profile, ThreeCoefficientsAndSmallSlopes) {
  for (const char* name : {"machines by worker", "orthodont"}) {
    const auto matrices = matrices_of(name);
    if (!matrices) GTEST_SKIP() << "no reference folder";
    const Profile p = profile(matrices);
    SCOPED_TRACE(name);
    expect_sound(p);
    for (const ParameterProfile& one : p.profiles)
      for (std::size_t i = 0; i < one.points.size(); i += 7)
        EXPECT_NEAR(dense_deviance(*matrices, one.points[i].state), one.points[i].deviance, 1e-7);
  }
}

TEST(Profile, LevelsNest) {
  const auto matrices = matrices_of("pastes");
  ParameterProfile before;
  for (const double level : {0.5, 0.9, 0.95, 0.999}) {
    ProfileOptions options;
    options.level = level;
    options.parameters = {"sd_(Intercept)|cask:batch"};
    const Profile p = profile(matrices, options);
    ASSERT_EQ(p.profiles.size(), 1);
    const ParameterProfile& one = p.profiles[0];
    EXPECT_NEAR(p.quantile, boost::math::quantile(boost::math::normal(), 0.5 + 0.5 * level), 1e-12);
    if (level > 0.5) {
      EXPECT_LT(one.low.value, before.low.value);
      EXPECT_GT(one.high.value, before.high.value);
    }
    before = one;
  }
}

TEST(Profile, HeldCriteriaHaveTheirDerivatives) {
  for (const auto kind : {oracle::Kind::single, oracle::Kind::crossed}) {
    // Arrange
    const auto matrices = oracle::random_model(kind, 2, 11);
    const Model model(matrices, Method::ml);
    const kernels::Shape& s = model.shape();
    const auto inner = make_criterion(model, matrices->y);
    HeldSigmaCriterion sigma(model, *inner);
    sigma.hold(1.3);
    HeldSdCriterion sd(model, *inner, 0, 1);
    sd.hold(0.8);
    std::mt19937_64 rng(2);
    std::normal_distribution<double> normal;
    std::vector<double> lambda(s.lambdas, 0.0);
    for (int b = 0; b < s.terms; ++b)
      for (int i = 0; i < s.term[b].k; ++i)
        for (int j = 0; j <= i; ++j) lambda[s.term[b].lambda + i * s.term[b].k + j] = (i == j) + 0.3 * normal(rng);
    for (HeldCriterion* held : {static_cast<HeldCriterion*>(&sigma), static_cast<HeldCriterion*>(&sd)}) {
      const CriterionValue at = held->evaluate(lambda, true);
      EXPECT_NEAR(held->evaluate(lambda, false).deviance, at.deviance, 1e-9);
      EXPECT_GE(Eigen::SelfAdjointEigenSolver<MatrixXd>(at.information).eigenvalues()[0], -1e-8);
      // Along a direction M of the factors: dT = M lambda' + lambda M'.
      for (int e = 0; e < s.lambdas; ++e) {
        constexpr double h = 1e-5;
        const auto moved = [&](double step) {
          std::vector<double> l = lambda;
          l[e] += step;
          return held->evaluate(l, true);
        };
        VectorXd direction = VectorXd::Zero(s.parameters);
        int own = 0;
        for (int b = 0; b < s.terms; ++b)
          if (e >= s.term[b].lambda && e < s.term[b].lambda + s.term[b].k * s.term[b].k) own = b;
        const int k = s.term[own].k, first = s.term[own].lambda, row = (e - first) / k, column = (e - first) % k;
        for (int i = 0; i < k; ++i)
          for (int j = 0; j <= i; ++j)
            direction[s.term[own].parameter + kernels::triangle(i, j)] =
                (i == row) * lambda[first + j * k + column] + (j == row) * lambda[first + i * k + column];

        // Act
        const CriterionValue up = moved(h), down = moved(-h);

        // Assert: T moves by dT + O(h^2), which central differences do not see
        EXPECT_NEAR(at.gradient.dot(direction), (up.deviance - down.deviance) / (2 * h), 1e-5);
        const VectorXd change = (up.gradient - down.gradient) / (2 * h);
        EXPECT_LT((at.hessian * direction - change).norm(), 1e-5 * (1 + change.norm()));
      }
    }
  }
}

TEST(Profile, BadQuestionsAreRefused) {
  const auto matrices = matrices_of("dyestuff");
  ProfileOptions options;
  options.parameters = {"sgma"};
  EXPECT_THROW(profile(matrices, options), InputError);
  options.parameters = {};
  options.level = 1;
  EXPECT_THROW(profile(matrices, options), InputError);
}

}  // namespace
}  // namespace batchlmm
