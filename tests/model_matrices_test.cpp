#include "host/model/model_matrices.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "batchlmm/error.hpp"
#include "host/data/factor.hpp"
#include "host/data/read.hpp"
#include "host/model/check_model.hpp"
#include "host/model/fixed_effects.hpp"
#include "host/model/orthogonal_polynomials.hpp"

namespace batchlmm {
namespace {

using Names = std::vector<std::string>;

Factor repeated(const Names& levels, int each, int times) {
  Names values;
  for (int t = 0; t < times; ++t)
    for (const std::string& level : levels) values.insert(values.end(), static_cast<std::size_t>(each), level);
  return make_factor(values);
}

/// Twelve rows. In R:
/// data.frame(y = ..., x = ..., z = ..., a = rep(c("p", "q", "r"), 4), b = rep(rep(c("u", "v"), each = 3), 2),
///            g = rep(c(1, 1, 2, 2, 3, 3), 2), o = ordered(rep(1:4, 3)), `a b` = 1:12)
Table example() {
  Table table;
  table.source = "example.csv";
  table.rows = 12;
  table.columns = {{"y", Numeric{1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12}},
                   {"x", Numeric{0.5, 1, std::nan(""), 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6}},
                   {"z", Numeric{-1, 0, 1, -1, 0, 1, 2, 3, -1, 2, 0, 3}},
                   {"a", repeated({"p", "q", "r"}, 1, 4)},
                   {"b", repeated({"u", "v"}, 3, 2)},
                   {"g", Numeric{1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3}},
                   {"o", repeated({"1", "2", "3", "4"}, 1, 3)},
                   {"a b", Numeric{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}};
  std::get<Factor>(table.columns[6].data).ordered = true;
  return table;
}

ModelMatrices matrices_of(const std::string& formula, const Table& table = example(),
                          const ModelOptions& options = {}) {
  return model_matrices(parse_formula(formula), table, options);
}

std::vector<double> column(const Eigen::MatrixXd& matrix, Eigen::Index j) {
  return {matrix.col(j).begin(), matrix.col(j).end()};
}

void expect_near(const Eigen::MatrixXd& found, const Eigen::MatrixXd& expected, double tolerance = 1e-14) {
  ASSERT_EQ(found.rows(), expected.rows());
  ASSERT_EQ(found.cols(), expected.cols());
  EXPECT_LE((found - expected).cwiseAbs().maxCoeff(), tolerance) << found << "\nexpected\n" << expected;
}

template <class Exception>
std::string message_of(const std::string& formula, const Table& table = example(), const ModelOptions& options = {}) {
  try {
    check_model(matrices_of(formula, table, options));
  } catch (const Exception& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << formula << ": another exception: " << error.what();
    return {};
  }
  ADD_FAILURE() << "no error for: " << formula;
  return {};
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// ---------------------------------------------------------------------------------------------- fixed effects

// Expected values: colnames(lFormula(...)$X) and its attribute "col.dropped", lme4 1.1-31.
TEST(FixedEffects, AreCodedByMarginality) {
  struct Case {
    const char* right_hand_side;
    Names names;
    Names dropped;
  };
  const std::vector<Case> cases = {
      {"a*b", {"(Intercept)", "aq", "ar", "bv", "aq:bv", "ar:bv"}, {}},
      {"a:b", {"(Intercept)", "ap:bu", "aq:bu", "ar:bu", "ap:bv", "aq:bv"}, {"ar:bv"}},
      {"0+a:b", {"ap:bu", "aq:bu", "ar:bu", "ap:bv", "aq:bv", "ar:bv"}, {}},
      {"x+x:a", {"(Intercept)", "x", "x:aq", "x:ar"}, {}},
      {"x:a", {"(Intercept)", "x:ap", "x:aq", "x:ar"}, {}},
      {"0+x:a+b", {"bu", "bv", "x:ap", "x:aq", "x:ar"}, {}},
      {"a+a:b", {"(Intercept)", "aq", "ar", "ap:bv", "aq:bv", "ar:bv"}, {}},
      {"a/b", {"(Intercept)", "aq", "ar", "ap:bv", "aq:bv", "ar:bv"}, {}},
      {"a/x", {"(Intercept)", "aq", "ar", "ap:x", "aq:x", "ar:x"}, {}},
      {"b%in%a+a", {"(Intercept)", "aq", "ar", "bv:ap", "bv:aq", "bv:ar"}, {}},
      {"(a+b+x)^2-a:b", {"(Intercept)", "aq", "ar", "bv", "x", "aq:x", "ar:x", "bv:x"}, {}},
      {"a*x*b-a:x:b-x", {"(Intercept)", "aq", "ar", "bv", "ap:x", "aq:x", "ar:x", "aq:bv", "ar:bv", "x:bv"}, {}},
      {"o*b", {"(Intercept)", "o.L", "o.Q", "o.C", "bv", "o.L:bv", "o.Q:bv", "o.C:bv"}, {}},
      {"0+o", {"o1", "o2", "o3", "o4"}, {}},
      {"poly(z,2)*b", {"(Intercept)", "poly(z, 2)1", "poly(z, 2)2", "bv", "poly(z, 2)1:bv", "poly(z, 2)2:bv"}, {}},
      {"factor(z)+scale(x)", {"(Intercept)", "factor(z)0", "factor(z)1", "factor(z)2", "factor(z)3", "scale(x)"}, {}},
      {"`a b`:a", {"(Intercept)", "`a b`:ap", "`a b`:aq", "`a b`:ar"}, {}},
      {"b:a + a", {"(Intercept)", "aq", "ar", "bv:ap", "bv:aq", "bv:ar"}, {}},
      {"-1+b:x+a", {"ap", "aq", "ar", "bu:x", "bv:x"}, {}},
      {"x+I(2*x)+a+z+I(x+z)", {"(Intercept)", "x", "aq", "ar", "z"}, {"I(2 * x)", "I(x + z)"}},
      {"a+b+a:z+b:z", {"(Intercept)", "aq", "ar", "bv", "ap:z", "aq:z", "ar:z", "bv:z"}, {}},
      {"1", {"(Intercept)"}, {}},
      {"0", {}, {}},
  };

  for (const Case& c : cases) {
    const ModelMatrices m = matrices_of(std::string("y ~ ") + c.right_hand_side + " + (1 | g)");
    EXPECT_EQ(m.x_names, c.names) << c.right_hand_side;
    EXPECT_EQ(m.dropped_columns, c.dropped) << c.right_hand_side;
    EXPECT_EQ(m.X.cols(), static_cast<Eigen::Index>(c.names.size()));
    EXPECT_EQ(m.X.rows(), m.y.size());
  }
}

TEST(FixedEffects, HaveTheValuesOfTheirColumns) {
  const ModelMatrices m = matrices_of("y ~ z * a + (1 | g)");

  ASSERT_EQ(m.x_names, (Names{"(Intercept)", "z", "aq", "ar", "z:aq", "z:ar"}));
  EXPECT_EQ(column(m.X, 1), (std::vector<double>{-1, 0, 1, -1, 0, 1, 2, 3, -1, 2, 0, 3}));
  EXPECT_EQ(column(m.X, 3), (std::vector<double>{0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1}));
  EXPECT_EQ(column(m.X, 4), (std::vector<double>{0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0}));
  EXPECT_EQ(column(m.X, 5), (std::vector<double>{0, 0, 1, 0, 0, 1, 0, 0, -1, 0, 0, 3}));
}

TEST(FixedEffects, OfTheirOwnAreAnIntercept) {
  const ModelMatrices m = matrices_of("y ~ (1 | g)");

  EXPECT_EQ(m.x_names, Names{"(Intercept)"});
  EXPECT_TRUE((m.X.array() == 1).all());
}

TEST(FixedEffects, DropTheLaterOfCollinearColumns) {
  Eigen::MatrixXd matrix(5, 5);
  matrix.col(0) << 1, 1, 1, 1, 1;
  matrix.col(1) << 0, 0, 0, 0, 0;
  matrix.col(2) << 1, 2, 3, 4, 5;
  matrix.col(3) << 3, 5, 7, 9, 11;  // 1 + 2 times column 2
  matrix.col(4) << 1, 4, 9, 16, 25;

  EXPECT_EQ(independent_columns(matrix), (std::vector<Eigen::Index>{0, 2, 4}));
}

TEST(FixedEffects, TakeRsToleranceForCollinearity) {
  Eigen::MatrixXd matrix(4, 2);
  matrix.col(0).setOnes();
  matrix.col(1) << 1, 1, 1, 1 + 1e-5;

  EXPECT_EQ(independent_columns(matrix).size(), 2U);
  matrix(3, 1) = 1 + 1e-7;  // the rest is 0.43e-7 of the length
  EXPECT_EQ(independent_columns(matrix).size(), 1U);
}

TEST(FixedEffects, AreNoMoreThanRows) {
  const Eigen::MatrixXd matrix = Eigen::MatrixXd::Random(3, 6);

  EXPECT_EQ(independent_columns(matrix), (std::vector<Eigen::Index>{0, 1, 2}));
}

// ---------------------------------------------------------------------------------------------- contrasts

// Expected values: contr.poly(5), contr.helmert(4), contr.sum(3) of R.
TEST(Contrasts, HaveRsValues) {
  const auto factor = [](int levels) {
    Factor f;
    for (int i = 0; i < levels; ++i) f.levels.push_back("l" + std::to_string(i));
    return f;
  };

  Eigen::MatrixXd poly(5, 4);
  poly << -0.63245553203367588, 0.53452248382484879, -0.31622776601683777, 0.11952286093343928,  //
      -0.31622776601683777, -0.26726124191242440, 0.63245553203367577, -0.47809144373375756,     //
      0, -0.53452248382484868, 0, 0.71713716560063634,                                           //
      0.31622776601683783, -0.26726124191242440, -0.63245553203367599, -0.47809144373375728,     //
      0.63245553203367588, 0.53452248382484879, 0.31622776601683783, 0.11952286093343928;
  expect_near(contrast_coding(Contrast::polynomial, factor(5)).matrix, poly);
  EXPECT_EQ(contrast_coding(Contrast::polynomial, factor(6)).suffixes, (Names{".L", ".Q", ".C", "^4", "^5"}));

  Eigen::MatrixXd helmert(4, 3);
  helmert << -1, -1, -1, 1, -1, -1, 0, 2, -1, 0, 0, 3;
  expect_near(contrast_coding(Contrast::helmert, factor(4)).matrix, helmert, 0);

  Eigen::MatrixXd sum(3, 2);
  sum << 1, 0, 0, 1, -1, -1;
  expect_near(contrast_coding(Contrast::sum, factor(3)).matrix, sum, 0);

  Eigen::MatrixXd treatment(3, 2);
  treatment << 0, 0, 1, 0, 0, 1;
  expect_near(contrast_coding(Contrast::treatment, factor(3)).matrix, treatment, 0);
  EXPECT_EQ(contrast_coding(Contrast::treatment, factor(3)).suffixes, (Names{"l1", "l2"}));
}

TEST(Contrasts, FollowTheOptions) {
  ModelOptions options;
  options.unordered = Contrast::sum;
  options.ordered = Contrast::helmert;
  options.contrasts = {{"b", Contrast::treatment}, {"factor(z)", Contrast::polynomial}};

  const ModelMatrices m = matrices_of("y ~ a + b + o + (1 | g)", example(), options);
  EXPECT_EQ(m.x_names, (Names{"(Intercept)", "a1", "a2", "bv", "o1", "o2", "o3"}));
  EXPECT_EQ(column(m.X, 1), (std::vector<double>{1, 0, -1, 1, 0, -1, 1, 0, -1, 1, 0, -1}));

  EXPECT_EQ(matrices_of("y ~ factor(z) + (1 | g)", example(), options).x_names[1], "factor(z).L");
  EXPECT_EQ(matrices_of("y ~ 1 + (a | g)", example(), options).random[0].names, (Names{"(Intercept)", "a1", "a2"}));
}

TEST(Contrasts, OfAnUnknownNameAreRefused) {
  ModelOptions options;
  options.contrasts = {{"aa", Contrast::sum}};
  EXPECT_CONTAINS(message_of<ModelError>("y ~ a + (1 | g)", example(), options), "contrasts for 'aa'");

  options.contrasts = {{"b", Contrast::sum}};  // a column, but not of this formula
  EXPECT_EQ(matrices_of("y ~ a + (1 | g)", example(), options).x_names[1], "aq");
}

// ---------------------------------------------------------------------------------------------- variables

// Expected values: R's poly() and scale().
TEST(Variables, PolynomialsAreRs) {
  Table table = example();
  table.rows = 8;
  table.columns = {{"y", Numeric{1, 2, 3, 4, 5, 6, 7, 9}},
                   {"x", Numeric{1, 2, 4, 7, 3, 5, 8, 6}},
                   {"g", Numeric{1, 1, 1, 1, 2, 2, 2, 2}}};
  Eigen::MatrixXd poly(8, 3);
  poly << -0.540061724867321624, 0.540061724867321624, -0.43082021842766449,  //
      -0.385758374905229684, 0.077151674981045984, 0.30772872744833196,       //
      -0.077151674981045915, -0.385758374905229739, 0.18463723646899916,      //
      0.385758374905229795, 0.077151674981045915, -0.30772872744833174,       //
      -0.231455024943137827, -0.231455024943137855, 0.43082021842766460,      //
      0.077151674981045984, -0.385758374905229739, -0.18463723646899899,      //
      0.540061724867321624, 0.540061724867321735, 0.43082021842766460,        //
      0.231455024943137883, -0.231455024943137855, -0.43082021842766460;

  expect_near(matrices_of("y ~ 0 + poly(x, 3) + (1 | g)", table).X, poly);

  const ModelMatrices raw = matrices_of("y ~ 0 + poly(x, degree = 2, raw = TRUE) + (1 | g)", table);
  EXPECT_EQ(raw.x_names, (Names{"poly(x, degree = 2, raw = TRUE)1", "poly(x, degree = 2, raw = TRUE)2"}));
  EXPECT_EQ(column(raw.X, 1), (std::vector<double>{1, 4, 16, 49, 9, 25, 64, 36}));

  Eigen::MatrixXd scaled(8, 2);
  scaled << -1.42886901662352073, 0.18523964340873711, -1.02062072615965760, 0.37047928681747422, -0.20412414523193154,
      0.74095857363494844, 1.02062072615965760, 1.29667750386115976, -0.61237243569579458, 0.55571893022621133,
      0.20412414523193154, 0.92619821704368555, 1.42886901662352073, 1.48191714726989687, 0.61237243569579458,
      1.11143786045242265;
  expect_near(matrices_of("y ~ 0 + scale(x) + scale(x, center = FALSE) + (1 | g)", table).X, scaled);
}

TEST(Variables, PolynomialsAreOrthonormalAtHighDegree) {
  const Eigen::VectorXd years = Eigen::VectorXd::LinSpaced(40, 1980, 2019);

  const Eigen::MatrixXd basis = orthogonal_polynomials(years, 20);

  expect_near(basis.transpose() * basis, Eigen::MatrixXd::Identity(20, 20), 1e-13);
  EXPECT_LE(basis.colwise().sum().cwiseAbs().maxCoeff(), 1e-13);
}

TEST(Variables, ArithmeticIsElementwise) {
  const ModelMatrices m = matrices_of(
      "I(2 * y - 1) ~ 0 + I((z + 1)^2/4) + I(-z) + exp(z) + log(`a b`, 2) + abs(z) + I(`a b` %% 5) + round(z/2) + "
      "I(log(`a b`, base = 3)^2) + I(`a b` %/% 5) + sqrt(`a b`) + (1 | g)");

  ASSERT_EQ(m.dropped_columns, Names{});
  EXPECT_EQ(m.response, "I(2 * y - 1)");
  EXPECT_EQ(m.y[2], 3);
  EXPECT_EQ(column(m.X, 0), (std::vector<double>{0, 0.25, 1, 0, 0.25, 1, 2.25, 4, 0, 2.25, 0.25, 4}));
  EXPECT_EQ(m.X(7, 1), -3);
  EXPECT_EQ(m.X(7, 2), std::exp(3.0));
  EXPECT_EQ(m.X(7, 3), 3);
  EXPECT_EQ(m.X(0, 4), 1);
  EXPECT_EQ(m.X(6, 5), 2);
  EXPECT_EQ(column(m.X, 6), (std::vector<double>{-0.0, 0, 0, -0.0, 0, 0, 1, 2, -0.0, 1, 0, 2}));
  EXPECT_NEAR(m.X(8, 7), 4, 1e-15);
  EXPECT_EQ(m.X(10, 8), 2);
  EXPECT_EQ(m.X(8, 9), 3);
}

TEST(Variables, OffsetsAreAdded) {
  const ModelMatrices m = matrices_of("y ~ a + offset(z) + offset(2 * z) + (1 | g)");

  EXPECT_EQ(m.x_names, (Names{"(Intercept)", "aq", "ar"}));
  EXPECT_EQ(m.offset[7], 9);
  EXPECT_EQ(m.y[7], 9);
  EXPECT_EQ(m.rows_dropped, 0U);
}

// ---------------------------------------------------------------------------------------------- rows

TEST(Rows, WithMissingValuesInUsedColumnsAreDropped) {
  const ModelMatrices with_x = matrices_of("y ~ x + (1 | g)");
  const ModelMatrices without_x = matrices_of("y ~ z + (1 | g)");

  EXPECT_EQ(with_x.rows_dropped, 1U);
  EXPECT_EQ(with_x.rows, (std::vector<std::size_t>{0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(with_x.y.size(), 11);
  EXPECT_EQ(with_x.random[0].level_of_row.size(), 11U);
  EXPECT_EQ(without_x.rows_dropped, 0U);
}

TEST(Rows, CountColumnsOfAnyPart) {
  EXPECT_EQ(matrices_of("y ~ 1 + (x | g)").rows_dropped, 1U);
  EXPECT_EQ(matrices_of("y ~ 1 + (1 | a:x)").rows_dropped, 1U);
  EXPECT_EQ(matrices_of("y ~ offset(x) + (1 | g)").rows_dropped, 1U);
  EXPECT_EQ(matrices_of("y ~ z - x + (1 | g)").rows_dropped, 1U);  // as R's model frame, which has it
  EXPECT_EQ(matrices_of("log(x) ~ z + (1 | g)").rows_dropped, 1U);
}

TEST(Rows, LevelsThatNoLongerOccurAreDropped) {
  Table table = example();
  auto& b = std::get<Factor>(table.columns[4].data);
  b.levels.push_back("never");
  std::get<Numeric>(table.columns[5].data)[2] = 9;  // its only row misses x

  const ModelMatrices m = matrices_of("y ~ x + b + (1 | g)", table);

  EXPECT_EQ(m.x_names, (Names{"(Intercept)", "x", "bv"}));
  EXPECT_EQ(m.random[0].levels, (Names{"1", "2", "3"}));
}

TEST(Rows, ThatAreDroppedStillCountInScale) {
  // R evaluates scale(z) on the whole table: the third row, which x drops, has its part in the mean.
  const ModelMatrices m = matrices_of("y ~ x + scale(z, scale = FALSE) + (1 | g)");

  EXPECT_NEAR(m.X(0, 2), -1 - 9.0 / 12, 1e-15);
}

TEST(Rows, WithoutAnyCompleteOneThereIsNoModel) {
  Table table = example();
  for (double& v : std::get<Numeric>(table.columns[1].data)) v = std::nan("");

  EXPECT_CONTAINS(message_of<ModelError>("y ~ x + (1 | g)", table), "no rows are left");
}

// ---------------------------------------------------------------------------------------------- random effects

// Expected values: lFormula(...)$reTrms$cnms and $flist, lme4 1.1-31.
TEST(RandomEffects, AreNamedAndOrderedAsInLme4) {
  struct TermOf {
    std::string group;
    std::size_t levels;
    Names names;
    bool operator==(const TermOf&) const = default;
  };
  const std::vector<std::pair<const char*, std::vector<TermOf>>> cases = {
      {"(1|a/g)", {{"g:a", 6, {"(Intercept)"}}, {"a", 3, {"(Intercept)"}}}},
      {"(1|g)+(0+x|g)+(1|o)", {{"o", 4, {"(Intercept)"}}, {"g", 3, {"x"}}, {"g", 3, {"(Intercept)"}}}},
      {"(1|g)+(0+x|g)+(1|b)", {{"g", 3, {"(Intercept)"}}, {"g", 3, {"x"}}, {"b", 2, {"(Intercept)"}}}},
      {"(x||a)+(1|o)", {{"o", 4, {"(Intercept)"}}, {"a", 3, {"x"}}, {"a", 3, {"(Intercept)"}}}},
      {"(a*x||g)",
       {{"g", 3, {"(Intercept)"}}, {"g", 3, {"ap", "aq", "ar"}}, {"g", 3, {"x"}}, {"g", 3, {"ap:x", "aq:x", "ar:x"}}}},
      {"(1|a/g/b)", {{"b:(g:a)", 6, {"(Intercept)"}}, {"g:a", 6, {"(Intercept)"}}, {"a", 3, {"(Intercept)"}}}},
      {"(1|a:b)+(1|a)", {{"a:b", 6, {"(Intercept)"}}, {"a", 3, {"(Intercept)"}}}},
      {"(0+a|g)", {{"g", 3, {"ap", "aq", "ar"}}}},
      {"(o|g)", {{"g", 3, {"(Intercept)", "o.L", "o.Q", "o.C"}}}},
      {"(z:a+x|b)", {{"b", 2, {"(Intercept)", "x", "z:ap", "z:aq", "z:ar"}}}},
      {"(1|factor(z))", {{"factor(z)", 5, {"(Intercept)"}}}},
  };

  for (const auto& [terms, expected] : cases) {
    std::vector<TermOf> found;
    for (const RandomTerm& term : matrices_of(std::string("y ~ ") + terms).random)
      found.push_back({term.group, term.levels.size(), term.names});
    EXPECT_EQ(found, expected) << terms;
  }
}

TEST(RandomEffects, HaveTheirValues) {
  const ModelMatrices m = matrices_of("y ~ 1 + (z | a:g)");

  const RandomTerm& term = m.random.at(0);
  EXPECT_EQ(term.levels, (Names{"p:1", "p:2", "q:1", "q:3", "r:2", "r:3"}));
  EXPECT_EQ(term.level_of_row, (std::vector<std::int32_t>{0, 2, 4, 1, 3, 5, 0, 2, 4, 1, 3, 5}));
  EXPECT_EQ(column(term.z, 0), std::vector<double>(12, 1.0));
  EXPECT_EQ(column(term.z, 1), (std::vector<double>{-1, 0, 1, -1, 0, 1, 2, 3, -1, 2, 0, 3}));
  EXPECT_EQ(term.text, "z | a:g");
}

TEST(RandomEffects, KeepANumericColumnNumericAmongTheFixedOnes) {
  const ModelMatrices m = matrices_of("y ~ g + (1 | g)");

  EXPECT_EQ(m.x_names, (Names{"(Intercept)", "g"}));
  EXPECT_EQ(m.random[0].levels, (Names{"1", "2", "3"}));
}

// ---------------------------------------------------------------------------------------------- whole models

TEST(ModelMatrices, OfPoliteness) {
  const Table table = read_table(BATCHLMM_TEST_DATA "/politeness.csv");

  const ModelMatrices m = matrices_of("frequency~attitude*gender+(1+attitude|subject)+(1|scenario)", table);

  EXPECT_EQ(m.formula, "frequency ~ attitude * gender + (1 + attitude | subject) + (1 | scenario)");
  EXPECT_EQ(m.response, "frequency");
  EXPECT_EQ(m.rows_dropped, 1U);
  EXPECT_EQ(m.y.size(), 83);
  EXPECT_EQ(m.x_names, (Names{"(Intercept)", "attitudepol", "genderM", "attitudepol:genderM"}));
  ASSERT_EQ(m.random.size(), 2U);
  EXPECT_EQ(m.random[0].group, "scenario");
  EXPECT_EQ(m.random[0].levels, (Names{"1", "2", "3", "4", "5", "6", "7"}));
  EXPECT_EQ(m.random[1].group, "subject");
  EXPECT_EQ(m.random[1].levels, (Names{"F1", "F2", "F3", "M3", "M4", "M7"}));
  EXPECT_EQ(m.random[1].names, (Names{"(Intercept)", "attitudepol"}));
}

TEST(ModelMatrices, OfNestedPastes) {
  const Table table = read_table(BATCHLMM_TEST_DATA "/pastes.csv");

  const ModelMatrices m = matrices_of("strength ~ 1 + (1 | batch/cask)", table);

  ASSERT_EQ(m.random.size(), 2U);
  EXPECT_EQ(m.random[0].group, "cask:batch");
  EXPECT_EQ(m.random[0].levels.size(), 30U);
  EXPECT_EQ(m.random[0].levels.front(), "a:A");
  EXPECT_EQ(m.random[0].levels[1], "a:B");
  EXPECT_EQ(m.random[1].group, "batch");
  EXPECT_EQ(m.random[1].levels.size(), 10U);
}

// ---------------------------------------------------------------------------------------------- errors

TEST(ModelErrors, NameThePlaceInTheFormula) {
  struct Fault {
    const char* formula;
    std::size_t position;
    const char* message;
  };
  const std::vector<Fault> faults = {
      {"y ~ Z + (1 | g)", 4, "did you mean 'z'?"},
      {"w ~ z + (1 | g)", 0, "no column 'w'"},
      {"y ~ z + (1 | subject)", 13, "no column 'subject'"},
      {"y ~ z + (xx | g)", 9, "no column 'xx'"},
      {"a ~ z + (1 | g)", 0, "response 'a' is a factor"},
      {"poly(z, 2) ~ z + (1 | g)", 0, "has 2 columns"},
      {"y ~ log(a) + (1 | g)", 8, "'a' is a factor"},
      {"y ~ I(z + a) + (1 | g)", 10, "'a' is a factor"},
      {"y ~ offset(a) + (1 | g)", 11, "'a' is a factor"},
      {"y ~ lg(z) + (1 | g)", 4, "unknown function 'lg'"},
      {"y ~ I(a:z) + (1 | g)", 6, "':' is no arithmetic"},
      {"y ~ I(poly(z, 2) + 1) + (1 | g)", 6, "stands on its own"},
      {"y ~ poly(z, a) + (1 | g)", 12, "constant"},
      {"y ~ poly(z, 1.5) + (1 | g)", 12, "degree"},
      {"y ~ poly(z, 5) + (1 | g)", 4, "distinct values"},
      {"y ~ poly(z, 2, FALSE, 1) + (1 | g)", 22, "too many arguments"},
      {"y ~ scale(z, centre = TRUE) + (1 | g)", 13, "no argument 'centre'"},
      {"y ~ scale(z, center = 3) + (1 | g)", 22, "TRUE or FALSE"},
      {"y ~ log() + (1 | g)", 4, "needs its argument 'x'"},
      {"y ~ log(z, -1) + (1 | g)", 11, "base"},
      {"y ~ round(z, 0.5) + (1 | g)", 13, "whole number of digits"},
      {"y ~ I(3) + (1 | g)", 6, "does not depend on any column"},
      {"3 ~ z + (1 | g)", 0, "does not depend on any column"},
      {"y ~ z + y + (1 | g)", 8, "stands also among"},
      {"y ~ z + (1 | poly(z, 2))", 13, "grouping factor"},
      {"y ~ factor(poly(z, 2)) + (1 | g)", 4, "cannot be a factor"},
      {"y ~ scale(I(0 * z)) + (1 | g)", 4, "constant"},
  };

  for (const Fault& fault : faults) {
    try {
      matrices_of(fault.formula);
      ADD_FAILURE() << "no error for " << fault.formula;
    } catch (const FormulaError& error) {
      EXPECT_EQ(error.position(), fault.position) << fault.formula << ": " << error.what();
      EXPECT_CONTAINS(std::string(error.what()), fault.message);
    }
  }
}

TEST(ModelErrors, NameRowAndValueThatAreNoNumber) {
  EXPECT_CONTAINS(message_of<DataError>("y ~ log(z) + (1 | g)"),
                  "'log(z)' is not a number in data row 1 of example.csv");
  EXPECT_CONTAINS(message_of<DataError>("y ~ log(z) + (1 | g)"), "z = -1");
  EXPECT_CONTAINS(message_of<DataError>("y ~ I(1/z) + (1 | g)"), "'I(1/z)' is infinite in data row 2");
  EXPECT_CONTAINS(message_of<DataError>("y ~ x + (1 | factor(sqrt(z)))"), "has no level in data row 1");

  Table table = example();
  std::get<Numeric>(table.columns[2].data)[4] = std::numeric_limits<double>::infinity();
  EXPECT_CONTAINS(message_of<DataError>("y ~ z + (1 | g)", table), "'z' is infinite in data row 5");
}

TEST(ModelErrors, NoNumberInARowThatIsDroppedAnywayIsNoError) {
  Table table = example();
  std::get<Numeric>(table.columns[2].data) = {1, 2, -3, 4, 5, 6, 7, 8, 9, 10, 11, 12};  // x is missing in the third row

  EXPECT_EQ(matrices_of("y ~ x + log(z) + (1 | g)", table).y.size(), 11);
}

TEST(ModelErrors, SayWhatIsNoMixedModel) {
  EXPECT_CONTAINS(message_of<ModelError>("y ~ z"), "no random-effects term");
  EXPECT_CONTAINS(message_of<ModelError>("I(0 * y + 3) ~ z + (1 | g)"), "is constant: 3 in each of the 12 rows");
  EXPECT_CONTAINS(message_of<ModelError>("y ~ factor(I(0 * z)) + (1 | g)"), "one level only, '0'");
  EXPECT_CONTAINS(message_of<ModelError>("y ~ factor(y):factor(z):factor(x):factor(`a b`):factor(I(-y)) + (1 | g)"),
                  "columns");
}

// The wording of the conditions is lme4's.
TEST(ModelErrors, OfGroupingFactors) {
  EXPECT_CONTAINS(message_of<ModelError>("y ~ z + (1 | I(0 * z))"), "grouping factors must have > 1 sampled level");
  EXPECT_CONTAINS(message_of<ModelError>("y ~ z + (1 | y)"),
                  "the number of levels of each grouping factor must be < number of observations");
  EXPECT_CONTAINS(message_of<ModelError>("y ~ z + (o | g)"),
                  "number of observations (=12) <= number of random effects (=12) for term (o | g)");
  EXPECT_CONTAINS(message_of<ModelError>("y ~ factor(`a b`) + (1 | g)"), "12 fixed effects for 12 rows");
  EXPECT_NO_THROW(check_model(matrices_of("y ~ z + (1 + z | g)")));
}

}  // namespace
}  // namespace batchlmm
