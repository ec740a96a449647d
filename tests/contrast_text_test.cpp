// Contrasts of fixed effects from text.
#include "host/inference/contrast_text.hpp"

#include <gtest/gtest.h>

#include "batchlmm/error.hpp"

namespace batchlmm {
namespace {

const std::vector<std::string> names{"(Intercept)",         "attitudepol", "genderM",
                                     "attitudepol:genderM", "poly(x, 2)1", "b c"};

Eigen::VectorXd one(const std::string& text) {
  const Eigen::MatrixXd matrix = contrast_matrix(text, names);
  EXPECT_EQ(matrix.rows(), 1);
  return matrix.row(0);
}
Eigen::VectorXd expected(std::initializer_list<double> values) {
  Eigen::VectorXd out = Eigen::VectorXd::Zero(6);
  Eigen::Index i = 0;
  for (const double value : values) out[i++] = value;
  return out;
}
std::string message(const std::string& text) {
  try {
    contrast_matrix(text, names);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ContrastText, LinearExpressions) {
  EXPECT_EQ(one("attitudepol"), expected({0, 1}));
  EXPECT_EQ(one("(Intercept)+attitudepol / 2"), expected({1, 0.5}));
  EXPECT_EQ(one("attitudepol - (genderM - 3*attitudepol:genderM)/2"), expected({0, 1, -0.5, 1.5}));
  EXPECT_EQ(one("-`b c` + 2 * 3 * `poly(x, 2)1`"), expected({0, 0, 0, 0, 6, -1}));
  EXPECT_EQ(one("poly(x, 2)1 * -1e-1"), expected({0, 0, 0, 0, -0.1}));
  EXPECT_EQ(one("genderM + 1 - 1"), expected({0, 0, 1}));
}

TEST(ContrastText, NumbersAndRows) {
  EXPECT_EQ(one(" 0, 1,-0.5 ,0,0, +2"), expected({0, 1, -0.5, 0, 0, 2}));

  const Eigen::MatrixXd two = contrast_matrix("attitudepol; 0,0,1,0,0,0", names);

  ASSERT_EQ(two.rows(), 2);
  EXPECT_EQ(Eigen::VectorXd(two.row(0)), expected({0, 1}));
  EXPECT_EQ(Eigen::VectorXd(two.row(1)), expected({0, 0, 1}));
}

TEST(ContrastText, FaultsAreToldWithTheirPlace) {
  EXPECT_EQ(message("attitudepol - gendrM"),
            "contrast 'attitudepol - gendrM', character 15: unknown coefficient 'gendrM'; did you mean 'genderM'? "
            "(coefficients: (Intercept), attitudepol, genderM, attitudepol:genderM, poly(x, 2)1, b c)");
  EXPECT_EQ(message("attitudepol * genderM"),
            "contrast 'attitudepol * genderM', character 22: expected a number times a coefficient, found a product of "
            "two");
  EXPECT_EQ(message("genderM + 1"),
            "contrast 'genderM + 1', character 12: expected a linear contrast, found the constant 1");
  EXPECT_EQ(message("1,2"), "contrast '1,2': expected 6 numbers, one a coefficient, found 2");
  EXPECT_EQ(message("genderM - genderM"),
            "contrast 'genderM - genderM': expected a contrast, found one of zeros alone");
  EXPECT_EQ(message(""), "contrast '', character 1: expected a coefficient or a number, found the end");
  EXPECT_EQ(message("genderM;"), "contrast 'genderM;', character 9: expected a coefficient or a number, found the end");
  EXPECT_EQ(message("genderM)"), "contrast 'genderM)', character 8: expected an operator or the end, found ')'");
  EXPECT_EQ(message("(genderM"), "contrast '(genderM', character 9: expected ')'");
  EXPECT_EQ(message("genderM / 0"),
            "contrast 'genderM / 0', character 12: expected a divisor that is a number and not 0");
  EXPECT_EQ(message("`b c"), "contrast '`b c', character 1: expected a closing backquote");
  EXPECT_NE(message(std::string(100000, '(')), "accepted");
  EXPECT_NE(message(std::string(100000, '-')), "accepted");
}

}  // namespace
}  // namespace batchlmm
