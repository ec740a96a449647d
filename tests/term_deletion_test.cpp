#include "host/formula/term_deletion.hpp"

#include <gtest/gtest.h>

#include <array>

namespace batchlmm {
namespace {

using Expected = std::vector<std::array<std::string, 2>>;

void expect_deletions(const std::vector<TermDeletion>& deletions, const Expected& expected, const std::string& of) {
  SCOPED_TRACE(of);
  ASSERT_EQ(deletions.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(deletions[i].term, expected[i][0]);
    EXPECT_EQ(deletions[i].formula, expected[i][1]);
  }
}

// lmerTest 3.1-3: names(new_forms) and deparse2(new_forms) of ranova, for each formula.
TEST(TermDeletion, RandomTermsAreThoseOfRanova) {
  const auto check = [](const std::string& text, const std::string& shown, const Expected& expected) {
    const Formula formula = parse_formula(text);
    EXPECT_EQ(written_out(formula), shown);
    expect_deletions(random_term_deletions(formula), expected, text);
  };
  check("y ~ x + (1 + a + b | g)", "y ~ x + (1 + a + b | g)",
        {{"a in (1 + a + b | g)", "y ~ x + (b | g)"}, {"b in (1 + a + b | g)", "y ~ x + (a | g)"}});
  check("y ~ x + (a * b | g)", "y ~ x + (a * b | g)", {{"a:b in (a * b | g)", "y ~ x + (a + b | g)"}});
  check("y ~ x + (a:b | g)", "y ~ x + (a:b | g)", {{"a:b in (a:b | g)", "y ~ x + (1 | g)"}});
  check("y ~ x + (a - 1 | g)", "y ~ x + (a - 1 | g)", {{"a in (a - 1 | g)", "y ~ x + (1 | g)"}});
  check("y ~ x + (x || g)", "y ~ x + (1 | g) + (0 + x | g)",
        {{"(1 | g)", "y ~ x + (0 + x | g)"}, {"x in (0 + x | g)", "y ~ x + (1 | g)"}});
  check("y ~ x + (1 | a/b)", "y ~ x + (1 | b:a) + (1 | a)",
        {{"(1 | b:a)", "y ~ x + (1 | a)"}, {"(1 | a)", "y ~ x + (1 | b:a)"}});
  check("y ~ x + (1 + log(x) | a:b)", "y ~ x + (1 + log(x) | a:b)",
        {{"log(x) in (1 + log(x) | a:b)", "y ~ x + (1 | a:b)"}});
  check("y ~ 1 + (1 | g)", "y ~ (1 | g)", {{"(1 | g)", "y ~ 1"}});
  check("y ~ x - 1 + (1 | g)", "y ~ x + (1 | g) - 1", {{"(1 | g)", "y ~ x - 1"}});
  check("y ~ 0 + x + (x | g)", "y ~ x + (x | g) - 1", {{"x in (x | g)", "y ~ x + (1 | g) - 1"}});
  check("y ~ x * z + (1 | g)", "y ~ x + z + (1 | g) + x:z", {{"(1 | g)", "y ~ x + z + x:z"}});
  check("y ~ (x + z)^2 + offset(w) + (1 | g)", "y ~ x + z + (1 | g) + x:z + offset(w)",
        {{"(1 | g)", "y ~ x + z + x:z + offset(w)"}});
  check("log(y) ~ (1 | g)", "log(y) ~ (1 | g)", {{"(1 | g)", "log(y) ~ 1"}});
}

TEST(TermDeletion, ReducedTermsStayInTheirPlace) {
  // R's update puts (b - 1 | g) last.
  expect_deletions(random_term_deletions(parse_formula("y ~ x + (0 + a + b | g) + (1 | h)")),
                   {{"a in (0 + a + b | g)", "y ~ x + (b - 1 | g) + (1 | h)"},
                    {"b in (0 + a + b | g)", "y ~ x + (a - 1 | g) + (1 | h)"},
                    {"(1 | h)", "y ~ x + (0 + a + b | g)"}},
                   "two terms");
}

TEST(TermDeletion, AnEffectWithoutInterceptHasAnotherWay) {
  const std::vector<TermDeletion> deletions = random_term_deletions(parse_formula("y ~ x + (0 + a | g) + (1 | h)"));

  ASSERT_EQ(deletions.size(), 2u);
  EXPECT_EQ(deletions[0].formula, "y ~ x + (1 | g) + (1 | h)");
  EXPECT_EQ(deletions[0].otherwise, "y ~ x + (1 | h)");
  EXPECT_EQ(deletions[1].otherwise, "");
}

TEST(TermDeletion, WholeTerms) {
  expect_deletions(random_term_deletions(parse_formula("y ~ x + (1 + a | g) + (1 | h)"), false),
                   {{"(1 + a | g)", "y ~ x + (1 | h)"}, {"(1 | h)", "y ~ x + (1 + a | g)"}}, "whole");
}

// R 4.2.2: drop.scope(formula) and update(formula, . ~ . - term).
TEST(TermDeletion, FixedTermsAreThoseOfDropScope) {
  const auto check = [](const std::string& text, const Expected& expected) {
    expect_deletions(fixed_term_deletions(parse_formula(text)), expected, text);
  };
  check("y ~ a*b + c + (1|g)", {{"c", "y ~ a + b + (1 | g) + a:b"}, {"a:b", "y ~ a + b + c + (1 | g)"}});
  check("y ~ a + b:c + (1|g)", {{"a", "y ~ (1 | g) + b:c"}, {"b:c", "y ~ a + (1 | g)"}});
  check("y ~ a*b*c + (1|g)", {{"a:b:c", "y ~ a + b + c + (1 | g) + a:b + a:c + b:c"}});
  check("y ~ a + I(a^2) + (1|g)", {{"a", "y ~ I(a^2) + (1 | g)"}, {"I(a^2)", "y ~ a + (1 | g)"}});
  check("y ~ 0 + a + b + (1|g)", {{"a", "y ~ b + (1 | g) - 1"}, {"b", "y ~ a + (1 | g) - 1"}});
  check("y ~ a*b - 1 + (1|g) + offset(w)", {{"a:b", "y ~ a + b + (1 | g) + offset(w) - 1"}});
  check("log(y) ~ (1|g) + a", {{"a", "log(y) ~ (1 | g)"}});
  check("y ~ b + a:b + a + (1|g)", {{"b:a", "y ~ b + a + (1 | g)"}});
  check("y ~ 1 + (1|g)", {});
}

TEST(TermDeletion, ResultsAreFormulas) {
  for (const char* text : {"y ~ `a b` * poly(x, 2) + (1 + `a b` | g/h) + (0 + x || k)", "y ~ 0 + (1|g)"}) {
    const Formula formula = parse_formula(text);
    std::vector<TermDeletion> all = random_term_deletions(formula);
    for (const TermDeletion& deletion : fixed_term_deletions(formula)) all.push_back(deletion);
    all.push_back({"", written_out(formula), ""});
    for (const TermDeletion& deletion : all) EXPECT_NO_THROW(parse_formula(deletion.formula)) << deletion.formula;
  }
}

}  // namespace
}  // namespace batchlmm
