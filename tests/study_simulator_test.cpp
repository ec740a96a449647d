// Responses drawn from a study's truth: their moments, their laws, and what is missing.
#include "host/study/simulator.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "batchlmm/error.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/fit.hpp"
#include "host/study/study_file.hpp"

namespace batchlmm::study {
namespace {

struct Made {
  Specification specification;
  DesignTable design;
  std::unique_ptr<TruthModel> truth;
  std::unique_ptr<Simulator> simulator;
};

Made made(const std::string& truth_and_response, const std::string& design = R"toml(
[design]
kind = "crossed"
units = { subject = 4, item = 3 }
[design.factors.c]
levels = ["A", "B"]
codes = [-0.5, 0.5]
)toml") {
  const StudyFile file = StudyFile::parse(
      "[study]\nreplicates = 1\n" + design + truth_and_response + "\n[models.m]\nformula = \"y ~ 1 + (1 | subject)\"\n",
      "s.toml");
  Made out{file.specification(0), {}, nullptr, nullptr};
  out.design = make_design(out.specification.design, "", 1);
  out.truth = std::make_unique<TruthModel>(make_truth_model(out.specification.truth, out.design, ""));
  out.simulator = std::make_unique<Simulator>(out.specification, *out.truth);
  return out;
}

const std::string slopes = R"toml(
[truth]
formula = "y ~ c + (1 + c | subject) + (1 | item)"
sigma = 2
[truth.beta]
"(Intercept)" = 10
c = 3
[truth.random.subject]
sd = { "(Intercept)" = 1.5, c = 1 }
correlation = -0.4
[truth.random.item]
sd = { "(Intercept)" = 0.7 }
)toml";

std::string fault(const std::string& truth) {
  try {
    made(truth);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

// 20,000 draws of 24 numbers: every mean within 5 standard errors, every covariance within 5 of its own,
// sqrt((v_ii v_jj + v_ij^2) / n).
TEST(StudySimulator, MeansAndCovariancesAreTheTruths) {
  const Made m = made(slopes);
  constexpr int draws = 20000;
  const ModelMatrices& model = m.simulator->model();
  const Eigen::Index n = model.X.rows();
  Eigen::VectorXd sum = Eigen::VectorXd::Zero(n);
  Eigen::MatrixXd squares = Eigen::MatrixXd::Zero(n, n);
  std::vector<double> y(static_cast<std::size_t>(n));

  const Eigen::VectorXd mean = model.X * Eigen::Vector2d(10, 3);
  for (int i = 0; i < draws; ++i) {
    m.simulator->draw(5, static_cast<std::uint64_t>(i), y);
    const Eigen::VectorXd centred = Eigen::Map<Eigen::VectorXd>(y.data(), n) - mean;
    sum += centred;
    squares += centred * centred.transpose();
  }

  Eigen::Matrix2d subject;
  subject << 1.5 * 1.5, -0.4 * 1.5, -0.4 * 1.5, 1;
  Eigen::MatrixXd covariance = 4 * Eigen::MatrixXd::Identity(n, n);
  for (Eigen::Index i = 0; i < n; ++i)
    for (Eigen::Index j = 0; j < n; ++j) {
      const auto row = static_cast<std::size_t>(i), column = static_cast<std::size_t>(j);
      for (const RandomTerm& term : model.random) {
        if (term.level_of_row[row] != term.level_of_row[column]) continue;
        covariance(i, j) += term.group == "item" ? 0.49 : term.z.row(i).dot(subject * term.z.row(j).transpose());
      }
    }
  for (Eigen::Index i = 0; i < n; ++i) {
    EXPECT_NEAR(sum[i] / draws, 0, 5 * std::sqrt(covariance(i, i) / draws));
    for (Eigen::Index j = 0; j <= i; ++j) {
      const double error =
          std::sqrt((covariance(i, i) * covariance(j, j) + covariance(i, j) * covariance(i, j)) / draws);
      EXPECT_NEAR(squares(i, j) / draws, covariance(i, j), 5 * error) << i << " " << j;
    }
  }
}

TEST(StudySimulator, AReplicateIsAFunctionOfSeedAndIndex) {
  const Made m = made(slopes);
  std::vector<double> a(24), b(24), c(24), d(24);

  m.simulator->draw(5, 1, a);
  m.simulator->draw(5, 2, b);
  m.simulator->draw(5, 1, c);
  m.simulator->draw(6, 1, d);

  EXPECT_EQ(a, c);
  EXPECT_NE(a, b);
  EXPECT_NE(a, d);
}

// Errors of each law: mean 0 and variance 1 within 5 standard errors (of the variance: sqrt((kurtosis - 1) / n)), and
// the law's skewness or kurtosis.
TEST(StudySimulator, LawsHaveMeanZeroAndVarianceOne) {
  const std::string base = R"toml(
[truth]
formula = "y ~ 1 + (1 | subject)"
sigma = 1
[truth.beta]
"(Intercept)" = 0
[truth.random.subject]
sd = { "(Intercept)" = 0 }
[response]
errors = )toml";
  struct Expected {
    const char* law;
    double skewness, kurtosis;
  };
  for (const Expected& law : {Expected{"\"gaussian\"", 0, 3}, Expected{"{ t = 12 }", 0, 3 + 6.0 / 8},
                              Expected{"{ skewed = 4 }", 1, 3 + 6.0 / 4},
                              Expected{"{ contaminated = [0.1, 3] }", 0, 3 * (0.9 + 8.1) / (1.8 * 1.8)}}) {
    const Made m = made(base + law.law);
    double s1 = 0, s2 = 0, s3 = 0, s4 = 0, n = 0;
    std::vector<double> y(24);
    for (std::uint64_t i = 0; i < 10000; ++i) {
      m.simulator->draw(3, i, y);
      for (const double x : y) {
        s1 += x;
        s2 += x * x;
        s3 += x * x * x;
        s4 += x * x * x * x;
        n += 1;
      }
    }
    EXPECT_NEAR(s1 / n, 0, 5 / std::sqrt(n)) << law.law;
    EXPECT_NEAR(s2 / n, 1, 5 * std::sqrt((law.kurtosis - 1) / n)) << law.law;
    EXPECT_NEAR(s3 / n, law.skewness, 0.1) << law.law;
    EXPECT_NEAR(s4 / n, law.kurtosis, 0.06 * law.kurtosis) << law.law;
  }
}

TEST(StudySimulator, ParametersAreDrawnFromTheirDistributions) {
  std::string truth = slopes;
  truth.replace(truth.find("c = 3"), 5, "c = { normal = [3, 0.5] }");
  truth.replace(truth.find("sigma = 2"), 9, "sigma = { uniform = [1, 2] }");
  truth.replace(truth.find("correlation = -0.4"), 18, "correlation = { uniform = [-0.8, 0.8] }");
  const Made m = made(truth);
  double slope = 0, sigma = 0, correlation = 0;
  constexpr int draws = 4000;

  for (std::uint64_t i = 0; i < draws; ++i) {
    const TrueValues v = m.simulator->values(1, i);
    const Eigen::MatrixXd s = v.factor[0] * v.factor[0].transpose();
    slope += v.beta[1] / draws;
    sigma += v.sigma / draws;
    correlation += std::abs(s(1, 0) / std::sqrt(s(0, 0) * s(1, 1))) / draws;
    ASSERT_NEAR(std::sqrt(s(0, 0)), 1.5, 1e-12);
    ASSERT_TRUE(v.sigma >= 1 && v.sigma <= 2);
  }

  EXPECT_FALSE(m.simulator->fixed_truth());
  EXPECT_NEAR(slope, 3, 5 * 0.5 / std::sqrt(draws));
  EXPECT_NEAR(sigma, 1.5, 5 * 0.29 / std::sqrt(draws));
  EXPECT_NEAR(correlation, 0.4, 5 * 0.24 / std::sqrt(draws));
}

TEST(StudySimulator, VarianceDependsOnAFactor) {
  const std::string design =
      "[design]\nkind = \"crossed\"\nunits = { subject = 4 }\nreplications = 5\n"
      "[design.factors.g]\nlevels = [\"a\", \"b\"]\n";
  const Made m = made(R"toml(
[truth]
formula = "y ~ 1 + (1 | subject)"
sigma = 2
[truth.beta]
"(Intercept)" = 0
[truth.random.subject]
sd = { "(Intercept)" = 0 }
[response]
variance = { by = "g", ratios = [1, 3] }
)toml",
                      design);
  const auto& g = std::get<Factor>(m.design.table.at("g").data).codes;
  double sum[2] = {0, 0}, n[2] = {0, 0};
  std::vector<double> y(40);

  for (std::uint64_t i = 0; i < 2000; ++i) {
    m.simulator->draw(1, i, y);
    for (std::size_t r = 0; r < 40; ++r) {
      sum[g[r]] += y[r] * y[r];
      n[g[r]] += 1;
    }
  }

  EXPECT_NEAR(sum[0] / n[0], 4, 5 * 4 * std::sqrt(2 / n[0]));
  EXPECT_NEAR(sum[1] / n[1], 36, 5 * 36 * std::sqrt(2 / n[1]));
}

TEST(StudySimulator, RowsAreMissingByTheirRules) {
  const Made random = made(slopes + "[response.missing]\nrandom = 0.2\n");
  const Made unit = made(slopes + "[response.missing]\nunit = { of = \"item\", share = 0.3 }\n");
  const Made dropout = made(slopes + "[response.missing]\ndropout = { of = \"subject\", hazard = 0.4 }\n");
  double missing = 0, first = 0;
  const auto& item = unit.simulator->model().random[0].group == "item" ? unit.simulator->model().random[0]
                                                                       : unit.simulator->model().random[1];
  const auto& subject = item.group == unit.simulator->model().random[0].group ? unit.simulator->model().random[1]
                                                                              : unit.simulator->model().random[0];
  constexpr int draws = 3000;

  for (std::uint64_t i = 0; i < draws; ++i) {
    missing += static_cast<double>(random.simulator->missing_rows(1, i).size()) / draws / 24;
    const auto rows = unit.simulator->missing_rows(1, i);
    std::vector<int> count(3, 0);
    for (const std::size_t r : rows) ++count[static_cast<std::size_t>(item.level_of_row[r])];
    for (const int c : count) ASSERT_TRUE(c == 0 || c == 8);
    // Who has dropped out does not come back.
    std::vector<bool> gone(24, false), out(4, false);
    for (const std::size_t r : dropout.simulator->missing_rows(1, i)) gone[r] = true;
    for (std::size_t r = 0; r < 24; ++r) {
      const auto s = static_cast<std::size_t>(subject.level_of_row[r]);
      ASSERT_TRUE(gone[r] || !out[s]);
      out[s] = gone[r];
    }
    first += gone[1] ? 1.0 / draws : 0;
    EXPECT_FALSE(gone[0]);
  }

  EXPECT_NEAR(missing, 0.2, 5 * std::sqrt(0.16 / (24.0 * draws)));
  EXPECT_NEAR(first, 0.4, 5 * std::sqrt(0.24 / draws));
}

TEST(StudySimulator, ATruthIsTakenFromAFit) {
  const std::string design =
      "[design]\nkind = \"table\"\ndata = \"" BATCHLMM_TEST_DATA "/sleepstudy.csv\"\nfactors = [\"Subject\"]\n";
  const Made m =
      made("[truth]\nfrom_fit = { formula = \"Reaction ~ Days + (Days | Subject)\", data = \"" BATCHLMM_TEST_DATA
           "/sleepstudy.csv\" }\n[truth.beta]\nDays = 5\n",
           design);
  const Fit fitted =
      fit(std::make_shared<const ModelMatrices>(model_matrices(parse_formula("Reaction ~ Days + (Days | Subject)"),
                                                               read_table(BATCHLMM_TEST_DATA "/sleepstudy.csv"))),
          Method::reml);

  const TrueValues v = m.simulator->values(1, 0);

  EXPECT_EQ(v.beta[0], fitted.beta[0]);
  EXPECT_EQ(v.beta[1], 5);
  EXPECT_EQ(v.sigma, fitted.sigma);
  const Eigen::MatrixXd covariance = v.factor[0] * v.factor[0].transpose(),
                        expected =
                            fitted.sigma * fitted.sigma * fitted.random[0].lambda * fitted.random[0].lambda.transpose();
  EXPECT_LT((covariance - expected).norm(), 1e-9 * expected.norm());
}

TEST(StudySimulator, SlipsInTheTruthAreTold) {
  const auto changed = [](const std::string& from, const std::string& to) {
    std::string text = slopes;
    return text.replace(text.find(from), from.size(), to);
  };
  EXPECT_EQ(fault(changed("c = 3", "d = 3")), "s.toml:12:11: the truth has no coefficient 'd' (known: (Intercept), c)");
  EXPECT_EQ(fault(changed("c = 3", "")).substr(0, 86),
            "s.toml:12:11: expected a value of the coefficient 'c' in truth.beta, found none (coeff");
  EXPECT_EQ(fault(changed("y ~ c + (1 + c | subject)", "y ~ c + (1 | subject)")).substr(0, 80),
            "s.toml:12:11: the truth has no random coefficient of 'subject' 'c' (known: (Inte");
  EXPECT_EQ(fault(changed("y ~ c +", "y ~ z +")).substr(0, 50), "s.toml:12:11: no column 'z' in the design (columns");
  EXPECT_EQ(fault(changed("y ~ c +", "log(y) ~ c +")),
            "s.toml:12:11: the truth's response must be a name, found 'log(y)'");
}

}  // namespace
}  // namespace batchlmm::study
