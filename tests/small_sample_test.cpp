// Satterthwaite and Kenward-Roger tests: against lmerTest and pbkrtest, exact laws of balanced designs, and the
// derivatives behind them against differences of the dense definition.
#include "host/model/small_sample.hpp"

#include <gtest/gtest.h>

#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/fit.hpp"
#include "host/inference/fit_json.hpp"
#include "host/inference/summary.hpp"
#include "tests/oracle.hpp"
#include "tests/temporary_folder.hpp"

namespace batchlmm {
namespace {

namespace fs = std::filesystem;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using nlohmann::json;

Fit fit_of(const std::string& formula, const std::string& file, const std::vector<std::string>& factors,
           Method method = Method::reml) {
  return fit(std::make_shared<const ModelMatrices>(model_matrices(parse_formula(formula), read_table(file, {factors}))),
             method);
}
Fit politeness(const std::string& formula) { return fit_of(formula, BATCHLMM_TEST_DATA "/politeness.csv", {}); }

VectorXd unit(Eigen::Index p, Eigen::Index i) { return VectorXd::Unit(p, i); }
MatrixXd rows_of_identity(Eigen::Index p, Eigen::Index first, Eigen::Index count) {
  return MatrixXd::Identity(p, p).middleRows(first, count);
}

std::vector<std::string> reference_cases() {
  std::vector<std::string> names;
  const fs::path folder = fs::path(BATCHLMM_SHARED) / "reference";
  if (fs::is_directory(folder))
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() != ".json") continue;
      std::ifstream file(entry.path());
      if (json::parse(file).contains("reml_tests")) names.push_back(entry.path().stem().string());
    }
  std::sort(names.begin(), names.end());
  if (names.empty()) names.emplace_back("none");
  return names;
}

class SmallSampleReference : public ::testing::TestWithParam<std::string> {};

TEST_P(SmallSampleReference, TablesAreThoseOfLmerTest) {
  const fs::path folder = fs::path(BATCHLMM_SHARED) / "reference";
  if (GetParam() == "none") GTEST_SKIP() << "no reference folder at " << folder;
  // Arrange
  std::ifstream file(folder / (GetParam() + ".json"));
  const json r = json::parse(file);
  std::vector<std::string> factors;
  if (r["factors"].is_string()) factors = {r["factors"].get<std::string>()};
  if (r["factors"].is_array()) factors = r["factors"].get<std::vector<std::string>>();
  const Fit f = fit_of(r["formula"].get<std::string>(), (folder / r["csv"].get<std::string>()).string(), factors);
  // lmerTest differentiates numerically for Satterthwaite; the rest differs by the fits' own tolerance.
  const std::pair<SmallSample, std::pair<const char*, double>> methods[] = {
      {SmallSample::satterthwaite, {"satterthwaite", 1e-5}}, {SmallSample::kenward_roger, {"kenward_roger", 1e-6}}};
  for (const auto& [method, name] : methods) {
    SCOPED_TRACE(name.first);

    // Act
    const SmallSampleTests tests(f, method);

    // Assert
    Eigen::Index i = 0;
    for (const json& row : r["reml_tests"][name.first]) {
      const ContrastTest t = tests.test(unit(f.beta.size(), i++));
      const double df = row["df"].get<double>(), se = row["Std. Error"].get<double>();
      EXPECT_NEAR(t.df, df, name.second * df) << i;
      EXPECT_NEAR(t.se, se, 1e-6 * se) << i;
      EXPECT_NEAR(t.p, row["Pr(>|t|)"].get<double>(), 1e-6) << i;
    }
    EXPECT_EQ(i, f.beta.size());
  }
}
INSTANTIATE_TEST_SUITE_P(Cases, SmallSampleReference, ::testing::ValuesIn(reference_cases()));

TEST(SmallSample, SeveralContrastsAreThoseOfLmerTest) {
  // lmerTest 3.1-3 and pbkrtest 0.5.2 on lme4 1.1-31 (bobyqa, rhoend 1e-10): contestMD(model, L, ddf).
  const Fit f = politeness("frequency ~ attitude * gender + (1|subject) + (1|scenario)");
  const SmallSampleTests s(f, SmallSample::satterthwaite), k(f, SmallSample::kenward_roger);
  struct Expected {
    const SmallSampleTests& tests;
    Eigen::Index count;
    double f, df2, p;
  };
  for (const Expected& e : {Expected{s, 3, 13.7030875852643, 10.9147583970552, 0.000507577741227494},
                            Expected{k, 3, 12.7525676282435, 15.9526480545771, 0.000165820008453226},
                            Expected{k, 2, 16.5950856862318, 10.0224326947177, 0.000660229974876123},
                            Expected{s, 2, 17.6789637130928, 7.12526832097671, 0.0017277330056928}}) {
    const FTest t = e.tests.test(rows_of_identity(4, 1, e.count));

    EXPECT_EQ(t.df1, static_cast<double>(e.count));
    EXPECT_NEAR(t.f, e.f, 1e-5 * e.f);
    EXPECT_NEAR(t.df2, e.df2, 1e-5 * e.df2);
    EXPECT_NEAR(t.p, e.p, 1e-4 * e.p);
  }
}

TEST(SmallSample, UnbalancedSlopesAreThoseOfLmerTest) {
  // The same versions; sleepstudy without its first five rows.
  std::ifstream in(BATCHLMM_TEST_DATA "/sleepstudy.csv");
  std::string text, line;
  for (int i = 0; std::getline(in, line); ++i)
    if (i < 1 || i > 5) text += line + "\n";
  const testing::TemporaryFolder folder;
  const Fit f = fit_of("Reaction ~ Days + I(Days^2) + (Days|Subject)", folder.file("table.csv", text), {"Subject"});
  const SmallSampleTests s(f, SmallSample::satterthwaite), k(f, SmallSample::kenward_roger);
  const double s_df[] = {22.8692335980094, 120.2041673048214, 140.1004544285705},
               k_df[] = {23.6132530574093, 121.7040936296920, 139.9054100223994},
               k_se[] = {7.972808430386526, 2.822742120381673, 0.265837059063984};

  for (int i = 0; i < 3; ++i) {
    EXPECT_NEAR(s.test(unit(3, i)).df, s_df[i], 1e-4 * s_df[i]);
    EXPECT_NEAR(k.test(unit(3, i)).df, k_df[i], 1e-5 * k_df[i]);
    EXPECT_NEAR(k.test(unit(3, i)).se, k_se[i], 1e-6 * k_se[i]);
  }
  const FTest fs = s.test(rows_of_identity(3, 1, 2)), fk = k.test(rows_of_identity(3, 1, 2));
  EXPECT_NEAR(fs.f, 25.2555504964566, 1e-4);
  EXPECT_NEAR(fs.df2, 48.2356691855124, 1e-3);
  EXPECT_NEAR(fk.f, 24.7998979305931, 1e-4);
  EXPECT_NEAR(fk.df2, 39.4520601836676, 1e-4);
}

/// y of `subjects` in two conditions, as CSV.
std::string paired(int subjects, std::uint64_t seed, std::vector<double>* difference) {
  std::mt19937_64 rng(seed);
  std::normal_distribution<double> normal;
  std::ostringstream text;
  text.precision(17);
  text << "y,condition,subject\n";
  for (int s = 0; s < subjects; ++s) {
    const double own = 2 * normal(rng), a = own + normal(rng), b = own + 0.7 + normal(rng);
    text << a << ",a,s" << s << "\n" << b << ",b,s" << s << "\n";
    difference->push_back(b - a);
  }
  return text.str();
}

TEST(SmallSample, TwoConditionsAreThePairedTTest) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    // Arrange
    const testing::TemporaryFolder folder;
    std::vector<double> d;
    const Fit f = fit_of("y ~ condition + (1|subject)", folder.file("table.csv", paired(9, seed, &d)), {});
    const Eigen::Map<const VectorXd> difference(d.data(), static_cast<Eigen::Index>(d.size()));
    const double n = static_cast<double>(d.size()), mean = difference.mean(),
                 se = std::sqrt((difference.array() - mean).square().sum() / (n - 1) / n), t = mean / se;
    for (const SmallSample method : {SmallSample::satterthwaite, SmallSample::kenward_roger}) {
      // Act
      const ContrastTest test = SmallSampleTests(f, method).test(unit(2, 1));

      // Assert
      EXPECT_NEAR(test.t, t, 1e-6 * std::abs(t));
      EXPECT_NEAR(test.df, n - 1, 1e-6);
      EXPECT_NEAR(test.p, 2 * cdf(complement(boost::math::students_t(n - 1), std::abs(t))), 1e-7);
    }
  }
}

TEST(SmallSample, OneContrastIsTheSquareOfItsT) {
  const Fit f = politeness("frequency ~ attitude + gender + (1|subject) + (1|scenario)");
  for (const SmallSample method : {SmallSample::satterthwaite, SmallSample::kenward_roger}) {
    const SmallSampleTests tests(f, method);
    for (int i = 0; i < 3; ++i) {
      const ContrastTest t = tests.test(unit(3, i));
      const FTest F = tests.test(MatrixXd(unit(3, i).transpose()));
      EXPECT_NEAR(F.f, F.scaling * t.t * t.t, 1e-9 * F.f);
      EXPECT_NEAR(F.df2, t.df, 1e-9 * t.df);
    }
  }
}

TEST(SmallSample, ContrastsThatDependOnOthersAddNothing) {
  const Fit f = politeness("frequency ~ attitude + gender + (1|subject) + (1|scenario)");
  MatrixXd two(2, 3), three(3, 3);
  two << 0, 1, 0, 0, 0, 1;
  three << 0, 1, 0, 0, 0, 2, 0, 1, -3;
  for (const SmallSample method : {SmallSample::satterthwaite, SmallSample::kenward_roger}) {
    const SmallSampleTests tests(f, method);
    const FTest a = tests.test(two), b = tests.test(three);
    EXPECT_EQ(b.df1, 2);
    EXPECT_NEAR(a.f, b.f, 1e-8 * a.f);
    // Satterthwaite's degrees of freedom depend on the rows.
    if (method == SmallSample::kenward_roger) {
      EXPECT_NEAR(a.df2, b.df2, 1e-6 * a.df2);
    }
    EXPECT_THROW((void)tests.test(MatrixXd(MatrixXd::Zero(1, 3))), InputError);
  }
}

TEST(SmallSample, KenwardRogerNeedsReml) {
  const Fit f = fit_of("frequency ~ attitude + (1|subject)", BATCHLMM_TEST_DATA "/politeness.csv", {}, Method::ml);

  EXPECT_THROW(SmallSampleTests(f, SmallSample::kenward_roger), ModelError);
  EXPECT_GT(SmallSampleTests(f, SmallSample::satterthwaite).test(unit(2, 1)).df, 50);
}

TEST(SmallSample, AVarianceAtZeroLeavesOrdinaryRegression) {
  // Groups whose means differ less than chance has them: the fit is on the boundary, and has n - p degrees of freedom.
  std::ostringstream text;
  text << "y,x,g\n";
  const double y[] = {1.0, 4.1, 2.2, 3.1, 2.0, 3.2, 4.0, 0.9, 2.9, 2.1, 1.2, 4.2};
  for (int i = 0; i < 12; ++i) text << y[i] << "," << i * i % 5 << ",g" << i / 4 << "\n";
  const testing::TemporaryFolder folder;
  const Fit f = fit_of("y ~ x + (1|g)", folder.file("table.csv", text.str()), {});
  ASSERT_TRUE(f.singular);

  EXPECT_NEAR(SmallSampleTests(f, SmallSample::satterthwaite).test(unit(2, 1)).df, 10, 1e-6);
}

// --------------------------------------------------------------------------------------------------------- printed

/// The block of the fixed effects.
std::string fixed_effects(const std::string& summary) {
  const std::size_t begin = summary.find("Fixed effects:\n");
  return summary.substr(begin, summary.find("\n\n", begin) + 1 - begin);
}

TEST(SmallSample, IsPrintedAsLmerTestPrintsIt) {
  // lmerTest 3.1-3, R 4.2.2.
  const Fit f = politeness("frequency ~ attitude + gender + (1|subject) + (1|scenario)");
  const SmallSampleTests s(f, SmallSample::satterthwaite), k(f, SmallSample::kenward_roger);

  EXPECT_EQ(fixed_effects(summary_text(f, "politeness", &s)),
            R"(Fixed effects:
            Estimate Std. Error       df t value Pr(>|t|)    
(Intercept)  256.846     16.116    5.432  15.938 9.07e-06 ***
attitudepol  -19.721      5.584   70.054  -3.532 0.000735 ***
genderM     -108.516     21.013    4.007  -5.164 0.006647 ** 
---
Signif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1
)");
  EXPECT_EQ(fixed_effects(summary_text(f, "politeness", &k)),
            R"(Fixed effects:
            Estimate Std. Error       df t value Pr(>|t|)    
(Intercept)  256.846     16.116    5.422  15.938 9.22e-06 ***
attitudepol  -19.721      5.585   70.039  -3.531 0.000736 ***
genderM     -108.516     21.013    4.000  -5.164 0.006679 ** 
---
Signif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1
)");
  const Fit sleep =
      fit_of("Reaction ~ Days + (Days|Subject)", BATCHLMM_TEST_DATA "/sleepstudy.csv", {"Subject"}, Method::ml);
  const SmallSampleTests ml(sleep, SmallSample::satterthwaite);
  EXPECT_EQ(fixed_effects(summary_text(sleep, "sleepstudy", &ml)),
            R"(Fixed effects:
            Estimate Std. Error      df t value Pr(>|t|)    
(Intercept)  251.405      6.632  18.000  37.906  < 2e-16 ***
Days          10.467      1.502  18.000   6.968 1.65e-06 ***
---
Signif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1
)");
}

TEST(SmallSample, IsInTheJson) {
  const Fit f = politeness("frequency ~ attitude + (1|subject)");
  const SmallSampleTests tests(f, SmallSample::kenward_roger);
  const json all = json::parse(fit_json(f, &tests));

  EXPECT_EQ(all["ddf"], "kenward-roger");
  const ContrastTest test = tests.test(unit(2, 1));
  EXPECT_EQ(all["fixed"][1]["df"].get<double>(), test.df);
  EXPECT_EQ(all["fixed"][1]["p"].get<double>(), test.p);
  EXPECT_EQ(all["fixed"][1]["se"].get<double>(), test.se);
  EXPECT_FALSE(json::parse(fit_json(f)).contains("ddf"));
}

// ------------------------------------------------------------------------------------------------------- derivatives

/// -2 log-likelihood (REML: restricted, without X'X's part) at gamma, from the definition.
double dense_criterion(const ModelMatrices& m, const VectorXd& gamma, Method method, MatrixXd* phi) {
  const Eigen::Index n = m.y.size(), p = m.X.cols();
  MatrixXd v = gamma[gamma.size() - 1] * MatrixXd::Identity(n, n);
  Eigen::Index first = 0;
  for (const RandomTerm& term : m.random) {
    const MatrixXd z = oracle::dense_z(term);
    const Eigen::Index k = term.z.cols(), levels = z.cols() / k;
    MatrixXd sigma(k, k);
    for (Eigen::Index i = 0; i < k; ++i)
      for (Eigen::Index j = 0; j <= i; ++j) sigma(i, j) = sigma(j, i) = gamma[first++];
    for (Eigen::Index l = 0; l < levels; ++l) v += z.middleCols(l * k, k) * sigma * z.middleCols(l * k, k).transpose();
  }
  const Eigen::LLT<MatrixXd> llt(v);
  const MatrixXd vx = llt.solve(m.X);
  const VectorXd y = m.y - m.offset;
  const MatrixXd xvx = m.X.transpose() * vx;
  *phi = xvx.llt().solve(MatrixXd::Identity(p, p));
  const VectorXd r = y - m.X * (*phi * (vx.transpose() * y));
  double d = 2 * MatrixXd(llt.matrixL()).diagonal().array().log().sum() + r.dot(llt.solve(r));
  if (method == Method::reml) d += 2 * MatrixXd(MatrixXd(xvx.llt().matrixL())).diagonal().array().log().sum();
  return d;
}

TEST(VarianceComponents, AreTheDerivativesOfTheDefinition) {
  for (const oracle::Kind kind :
       {oracle::Kind::single, oracle::Kind::crossed, oracle::Kind::nested_and_crossed, oracle::Kind::same_factor})
    for (const int k : {1, 2})
      for (const Method method : {Method::ml, Method::reml}) {
        SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " k " << k);
        // Arrange: anywhere, not at an optimum.
        const std::shared_ptr<ModelMatrices> m = oracle::random_model(kind, k, 5);
        Fit f;
        f.model = m;
        f.method = method;
        f.sigma = 0.8;
        for (const RandomTerm& term : m->random) {
          TermCovariance covariance;
          covariance.lambda = MatrixXd::Zero(term.z.cols(), term.z.cols());
          for (Eigen::Index i = 0; i < term.z.cols(); ++i)
            for (Eigen::Index j = 0; j <= i; ++j) covariance.lambda(i, j) = i == j ? 0.9 + 0.1 * i : 0.3;
          f.random.push_back(covariance);
        }

        // Act
        const VarianceComponents v = variance_components(f);

        // Assert
        const Eigen::Index r = v.gamma.size();
        MatrixXd phi;
        (void)dense_criterion(*m, v.gamma, method, &phi);
        EXPECT_LT((v.phi - phi).norm(), 1e-9 * phi.norm());
        const double step = 1e-4;
        MatrixXd plus_phi, minus_phi;
        for (Eigen::Index i = 0; i < r; ++i) {
          VectorXd plus = v.gamma, minus = v.gamma;
          plus[i] += step;
          minus[i] -= step;
          const double up = dense_criterion(*m, plus, method, &plus_phi),
                       down = dense_criterion(*m, minus, method, &minus_phi);
          EXPECT_NEAR(v.gradient[i], (up - down) / (2 * step), 1e-5 * (1 + std::abs(v.gradient[i]))) << i;
          const MatrixXd slope = (plus_phi - minus_phi) / (2 * step), ours = -phi * v.p[i] * phi;
          EXPECT_LT((slope - ours).norm(), 1e-5 * (ours.norm() + 1e-3)) << i;
          for (Eigen::Index j = 0; j <= i; ++j) {
            double corners = 0;
            for (const int a : {1, -1})
              for (const int b : {1, -1}) {
                VectorXd at = v.gamma;
                at[i] += a * step;
                at[j] += b * step;
                MatrixXd unused;
                corners += a * b * dense_criterion(*m, at, method, &unused);
              }
            EXPECT_NEAR(v.hessian(i, j), corners / (4 * step * step), 2e-3 * (1 + std::abs(v.hessian(i, j))))
                << i << " " << j;
            EXPECT_EQ(v.hessian(i, j), v.hessian(j, i));
          }
        }
      }
}

}  // namespace
}  // namespace batchlmm
