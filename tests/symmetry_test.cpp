// Strata of regular designs: those that theory says, log-determinants and quadratic forms against dense ones from the
// rows; irregular designs refused.
#include "host/model/symmetry.hpp"

#include <gtest/gtest.h>

#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "tests/designs.hpp"
#include "tests/oracle.hpp"

namespace batchlmm {
namespace {

using designs::Design;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using Orders = std::vector<std::pair<int, int>>;

Orders orders_of(const Strata& strata) {
  Orders out;
  for (const Stratum& s : strata.strata) out.emplace_back(s.d, s.m);
  return out;
}

/// Largest relative error of log|V| and y'V^{-1}y over random T and y, from the dense n x n matrix.
double dense_error(const Model& model, const Strata& strata) {
  const kernels::Shape& shape = model.shape();
  const Eigen::Index n = model.matrices().y.size();
  std::mt19937_64 rng(11);
  std::normal_distribution<double> normal;
  double worst = 0;
  for (int draw = 0; draw < 3; ++draw) {
    std::vector<double> t(static_cast<std::size_t>(shape.parameters));
    MatrixXd v = MatrixXd::Identity(n, n);
    for (int b = 0; b < shape.terms; ++b) {
      const int k = shape.term[b].k;
      const MatrixXd lambda = MatrixXd::NullaryExpr(k, k, [&] { return normal(rng); }) * std::pow(10.0, draw - 1) * 0.7;
      const MatrixXd product = lambda * lambda.transpose();
      for (int i = 0; i < k; ++i)
        for (int j = 0; j <= i; ++j) t[shape.term[b].parameter + kernels::triangle(i, j)] = product(i, j);
      RandomTerm term = model.matrices().random[static_cast<std::size_t>(model.term_of(b))];
      term.z = model.z_gauge(model.term_of(b)).columns * lambda;
      const MatrixXd z = oracle::dense_z(term);
      v += z * z.transpose();
    }
    const VectorXd y = VectorXd::NullaryExpr(n, [&] { return normal(rng); });
    const Eigen::LLT<MatrixXd> llt(v);
    const double log_det = 2 * MatrixXd(llt.matrixL()).diagonal().array().log().sum(), form = y.dot(llt.solve(y));

    double strata_log_det = 0, strata_form = y.squaredNorm();
    for (const Stratum& s : strata.strata) {
      MatrixXd vs = MatrixXd::Identity(s.d, s.d);
      for (int a = 0; a < shape.parameters; ++a)
        if (s.generators[static_cast<std::size_t>(a)].size() > 0)
          vs += t[static_cast<std::size_t>(a)] * s.generators[static_cast<std::size_t>(a)];
      const Eigen::LLT<MatrixXd> stratum_llt(vs);
      strata_log_det += 2 * s.m * MatrixXd(stratum_llt.matrixL()).diagonal().array().log().sum();
      const VectorXd coordinates = s.basis.transpose() * y;
      const MatrixXd by_copies = Eigen::Map<const MatrixXd>(coordinates.data(), s.m, s.d);
      const MatrixXd products = by_copies.transpose() * by_copies;
      strata_form += (stratum_llt.solve(products) - products).trace();
    }
    worst =
        std::max({worst, std::abs(strata_log_det - log_det) / std::abs(log_det), std::abs(strata_form - form) / form});
  }
  return worst;
}

struct Case {
  std::string name;
  Design design;
  Orders strata;
};

Design with_terms(Design design, std::vector<std::pair<std::string, std::vector<std::string>>> terms) {
  design.terms = std::move(terms);
  return design;
}

/// 24 subjects, 24 items, a condition between the items (Barr et al. 2013).
Design between_items() {
  Design d;
  for (int s = 0; s < 24; ++s)
    for (int i = 0; i < 24; ++i) d.row({{"s", s}, {"i", i}}, {{"c", i < 12 ? -0.5 : 0.5}});
  d.x = {"1", "c"};
  d.terms = {{"s", {"1", "c"}}, {"i", {"1"}}};
  return d;
}

Design latin_square_lists() {
  Design d;
  for (int s = 0; s < 20; ++s)
    for (int i = 0; i < 10; ++i) d.row({{"s", s}, {"i", i}}, {{"c", (s + i) % 2 - 0.5}});
  d.x = {"1", "c"};
  d.terms = {{"s", {"1", "c"}}, {"i", {"1", "c"}}};
  return d;
}

Design one_way(const std::vector<int>& sizes) {
  Design d;
  for (std::size_t g = 0; g < sizes.size(); ++g)
    for (int j = 0; j < sizes[g]; ++j) d.row({{"g", static_cast<int>(g)}}, {});
  d.x = {"1"};
  d.terms = {{"g", {"1"}}};
  return d;
}

Design moved(Design design, const std::string& column, double by) {
  for (double& value : design.number.at(column)) value += by;
  return design;
}

std::vector<Case> regular_designs() {
  const Design crossed = designs::crossed(12, 7);
  return {
      {"longitudinal", designs::longitudinal(18, 10), {{2, 18}}},
      {"longitudinal, dates", moved(designs::longitudinal(18, 10), "t", 1e6), {{2, 18}}},
      {"one way", one_way({4, 4, 4, 4, 4}), {{1, 5}}},
      {"one way, sizes", one_way({3, 3, 3, 5, 5, 5, 5, 8, 8}), {{1, 2}, {1, 3}, {1, 4}}},
      {"one way, one large", one_way({1, 1, 1, 1, 20}), {{1, 1}, {1, 4}}},
      {"crossed, intercepts", with_terms(crossed, {{"s", {"1"}}, {"i", {"1"}}}), {{1, 1}, {1, 6}, {1, 11}}},
      {"crossed, slopes", crossed, {{2, 1}, {2, 6}, {2, 11}}},
      {"crossed, dates", moved(crossed, "c", 45000), {{2, 1}, {2, 6}, {2, 11}}},
      {"crossed, zero correlations",
       with_terms(crossed, {{"s", {"1"}}, {"s", {"c"}}, {"i", {"1"}}, {"i", {"c"}}}),
       {{1, 1}, {1, 1}, {1, 6}, {1, 6}, {1, 11}, {1, 11}}},
      // The items' slopes on what is between subjects: of the subjects' contrasts one is among them.
      {"crossed, slopes on a covariate between subjects",
       with_terms(crossed, {{"s", {"1", "c"}}, {"i", {"1", "c", "group"}}}),
       {{2, 10}, {3, 6}, {4, 1}}},
      {"nested", designs::nested(8, 3, 4), {{1, 8}, {1, 16}}},
      {"split plot", designs::split_plot(6, 3, 4), {{1, 6}, {1, 12}}},
      {"between items", between_items(), {{1, 22}, {2, 1}, {2, 23}}},
      {"dropout", designs::dropout({30, 18, 12}, {6, 4, 3}), {{2, 12}, {2, 18}, {2, 30}}},
      {"two lists", latin_square_lists(), {{2, 1}, {2, 1}, {2, 8}, {2, 18}}},
      // Eight lists in a cycle: the characters of the cyclic group, those that are not real in pairs.
      {"eight lists", designs::lists(24, 16), {{8, 1}, {8, 1}, {8, 8}, {8, 16}, {16, 1}, {16, 1}, {16, 1}}},
      // The same with rows whose phases do not cancel, for a cycle of seven with every subject twice.
      {"cycle", designs::cycle(14, 7, {0, 1, 3}, {-1, 0, 1}), {{2, 1}, {2, 7}, {6, 1}, {6, 1}, {6, 1}}},
      {"cycle, intercepts",
       with_terms(designs::cycle(14, 7, {0, 1, 3}, {-1, 0, 1}), {{"s", {"1"}}, {"i", {"1"}}}),
       {{1, 1}, {1, 7}, {2, 6}}},
  };
}

TEST(Symmetry, FindsTheStrataThatTheorySays) {
  for (const Case& c : regular_designs()) {
    const Model model(c.design.matrices(), Method::reml);
    std::string why;

    const std::optional<Strata> strata = find_strata(model, {}, &why);

    ASSERT_TRUE(strata) << c.name << ": " << why;
    EXPECT_EQ(orders_of(*strata), c.strata) << c.name;
    int rank = 0;
    for (const Stratum& s : strata->strata) rank += s.d * s.m;
    EXPECT_EQ(strata->rank, rank) << c.name;
    EXPECT_LE(strata->certificate, 1e-12) << c.name;
    EXPECT_LE(dense_error(model, *strata), 1e-11) << c.name;
    EXPECT_LE(verify_strata(model, *strata), 1e-12) << c.name;
  }
}

TEST(Symmetry, MaximumLikelihoodIsVerifiedToo) {
  const Model model(designs::crossed(12, 7).matrices(), Method::ml);
  std::string why;
  std::optional<Strata> strata = find_strata(model, {}, &why);
  ASSERT_TRUE(strata) << why;

  EXPECT_LE(verify_strata(model, *strata), 1e-12);

  // A wrong generator is seen.
  for (MatrixXd& g : strata->strata.back().generators)
    if (g.size() > 0) g *= 1 + 1e-6;
  EXPECT_GE(verify_strata(model, *strata), 1e-9);
}

TEST(Symmetry, TheRankOfTheBasesIsThatOfZ) {
  const Model model(designs::lists(24, 16).matrices(), Method::ml);
  MatrixXd z(model.matrices().y.size(), 0);
  for (const RandomTerm& term : model.matrices().random) {
    const MatrixXd part = oracle::dense_z(term);
    z.conservativeResize(Eigen::NoChange, z.cols() + part.cols());
    z.rightCols(part.cols()) = part;
  }
  std::string why;

  const std::optional<Strata> strata = find_strata(model, {}, &why);

  ASSERT_TRUE(strata) << why;
  EXPECT_EQ(strata->rank, Eigen::ColPivHouseholderQR<MatrixXd>(z).rank());
  MatrixXd outside = z;
  for (const Stratum& s : strata->strata) outside -= s.basis * (s.basis.transpose() * z);
  EXPECT_LE(outside.cwiseAbs().maxCoeff(), 1e-12);
}

TEST(Symmetry, AFewMissingRowsLeaveLargerStrata) {
  const Model model(designs::crossed(12, 7).with_missing(2, 5).matrices(), Method::ml);
  std::string why;

  const std::optional<Strata> strata = find_strata(model, {}, &why);

  ASSERT_TRUE(strata) << why;
  EXPECT_GE(strata->strata.back().d, 4);
  EXPECT_LE(dense_error(model, *strata), 1e-11);
}

TEST(Symmetry, IrregularDesignsAreRefused) {
  std::mt19937_64 rng(3);
  std::normal_distribution<double> normal;
  Design unique_times = designs::longitudinal(30, 6);
  for (double& t : unique_times.number["t"]) t += 0.3 * normal(rng);
  std::vector<std::pair<std::string, Design>> cases = {{"unique times", unique_times},
                                                       {"10 % missing", designs::crossed(50, 20).with_missing(200, 3)}};
  for (const auto& [name, design] : cases) {
    const Model model(design.matrices(), Method::ml);
    std::string why;

    EXPECT_FALSE(find_strata(model, {}, &why)) << name;

    EXPECT_NE(why.find("irregular"), std::string::npos) << name << ": " << why;
    EXPECT_EQ(why.find('\n'), std::string::npos);
  }
  for (oracle::Kind kind : {oracle::Kind::crossed, oracle::Kind::deep, oracle::Kind::same_factor}) {
    const Model model(oracle::random_model(kind, 2, 17), Method::ml);
    std::string why;

    EXPECT_FALSE(find_strata(model, {}, &why)) << static_cast<int>(kind);
  }
}

TEST(Symmetry, ManyLevelsThatDifferAreRefusedByTheRows) {
  // Arrange: every level has rows missing of its own, so that all of them make one system.
  const Model model(designs::crossed(50, 20).with_missing(200, 3).matrices(), Method::ml);
  int columns = 0;
  for (const RandomTerm& term : model.matrices().random)
    columns += static_cast<int>(term.levels.size()) * static_cast<int>(term.z.cols());
  SymmetryOptions options;
  options.largest_system = columns - 1;
  std::string smaller, enough;

  // Act
  EXPECT_FALSE(find_strata(model, options, &smaller));
  options.largest_system = columns;
  EXPECT_FALSE(find_strata(model, options, &enough));

  // Assert
  EXPECT_NE(smaller.find("at least " + std::to_string(columns) + " columns"), std::string::npos) << smaller;
  EXPECT_NE(enough.find("irregular"), std::string::npos) << enough;
}

TEST(Symmetry, LevelsThatAreAlikeCountOnceHoweverMany) {
  // One system of few columns, whatever the number of levels.
  for (const Design& design : {designs::crossed(120, 60), designs::longitudinal(300, 4)}) {
    const Model model(design.matrices(), Method::ml);
    SymmetryOptions options;
    options.largest_system = 8;
    std::string why;

    EXPECT_TRUE(find_strata(model, options, &why)) << why;
  }
}

TEST(Symmetry, NearlyRegularDesignsAreExactOrRefused) {
  for (const bool crossed : {false, true})
    for (const double size : {1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-6, 1e-4, 1e-2}) {
      std::mt19937_64 rng(3);
      std::normal_distribution<double> normal;
      Design design = crossed ? designs::crossed(12, 7) : designs::longitudinal(40, 6);
      for (double& t : design.number[crossed ? "c" : "t"]) t += size * normal(rng);
      const Model model(design.matrices(), Method::ml);
      std::string why;

      const std::optional<Strata> strata = find_strata(model, {}, &why);

      if (strata) {
        EXPECT_LE(dense_error(model, *strata), 1e-11) << crossed << " " << size;
        EXPECT_LE(verify_strata(model, *strata), 1e-11) << crossed << " " << size;
      }
      EXPECT_TRUE(strata || size > 1e-14) << crossed << " " << size << ": " << why;
      EXPECT_FALSE(strata && size >= 1e-8) << crossed << " " << size;
    }
}

TEST(Symmetry, BitsDoNotDependOnTheRun) {
  const Model model(designs::lists(24, 16).matrices(), Method::ml);
  std::string why;

  const std::optional<Strata> a = find_strata(model, {}, &why), b = find_strata(model, {}, &why);

  ASSERT_TRUE(a && b);
  ASSERT_EQ(a->strata.size(), b->strata.size());
  for (std::size_t s = 0; s < a->strata.size(); ++s) {
    EXPECT_TRUE(MatrixXd(a->strata[s].basis) == MatrixXd(b->strata[s].basis));
    for (std::size_t g = 0; g < a->strata[s].generators.size(); ++g)
      EXPECT_TRUE(a->strata[s].generators[g] == b->strata[s].generators[g]);
  }
}

TEST(Symmetry, AnySeedFindsTheSameStrata) {
  const Model model(designs::lists(24, 16).matrices(), Method::ml);
  SymmetryOptions options;
  for (options.seed = 1; options.seed <= 5; ++options.seed) {
    std::string why;

    const std::optional<Strata> strata = find_strata(model, options, &why);

    ASSERT_TRUE(strata) << why;
    EXPECT_EQ(orders_of(*strata), (Orders{{8, 1}, {8, 1}, {8, 8}, {8, 16}, {16, 1}, {16, 1}, {16, 1}}));
  }
}

TEST(Symmetry, ManyLevelsTakeNoDenseEigenproblem) {
  const Model model(designs::longitudinal(5000, 4).matrices(), Method::ml);
  std::string why;

  const std::optional<Strata> strata = find_strata(model, {}, &why);

  ASSERT_TRUE(strata) << why;
  EXPECT_EQ(orders_of(*strata), (Orders{{2, 5000}}));
  EXPECT_LE(strata->strata[0].basis.nonZeros(), 20000 * 2 * 15);
}

TEST(Symmetry, ManyRowsLoseNoSymmetry) {
  const Model model(designs::crossed(120, 60).matrices(), Method::ml);
  std::string why;

  const std::optional<Strata> strata = find_strata(model, {}, &why);

  ASSERT_TRUE(strata) << why;
  EXPECT_EQ(orders_of(*strata), (Orders{{2, 1}, {2, 59}, {2, 119}}));
}

TEST(Symmetry, BasesThatAreTooLargeAreNotMade) {
  const Model model(designs::longitudinal(18, 10).matrices(), Method::ml);
  SymmetryOptions options;
  options.largest_basis = 100;
  std::string why;

  EXPECT_FALSE(find_strata(model, options, &why));

  EXPECT_NE(why.find("too large"), std::string::npos) << why;
}

// Kronmueller & Barr (2007), 56 subjects and 32 items in eight lists, three of 1792 rows missing.
TEST(Symmetry, CounterbalancedListsOfAPublishedExperiment) {
  const std::string path = std::string(BATCHLMM_SHARED) + "/data/kb07.csv";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const Table table = read_table(path);
  const std::string maximal =
      "rt_trunc ~ 1 + spkr*prec*load + (1 + spkr*prec*load | subj) + (1 + spkr*prec*load | item)";
  const Model model(std::make_shared<const ModelMatrices>(model_matrices(parse_formula(maximal), table)), Method::ml);
  std::string why;

  const std::optional<Strata> strata = find_strata(model, {}, &why);

  ASSERT_TRUE(strata) << why;
  EXPECT_EQ(strata->rank, 640);
  EXPECT_LE(verify_strata(model, *strata), 1e-11);
}

}  // namespace
}  // namespace batchlmm
