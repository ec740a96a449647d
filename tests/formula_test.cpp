#include "host/formula/formula.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "batchlmm/error.hpp"
#include "host/formula/deparse.hpp"
#include "host/formula/random_terms.hpp"
#include "host/formula/terms.hpp"

namespace batchlmm {
namespace {

/// A tree with all its parentheses: "(a + (b * c))".
std::string shape(const Expression& e) {
  switch (e.kind) {
    case Expression::Kind::number:
    case Expression::Kind::variable:
      return deparse(e);
    case Expression::Kind::unary_minus:
      return "(-" + shape(*e.arguments[0]) + ")";
    case Expression::Kind::unary_plus:
      return "(+" + shape(*e.arguments[0]) + ")";
    case Expression::Kind::call: {
      if (e.name == "(") return shape(*e.arguments[0]);
      std::string text = e.name + "[";
      for (const auto& argument : e.arguments) text += shape(*argument) + ";";
      return text + "]";
    }
    case Expression::Kind::binary:
      return "(" + shape(*e.arguments[0]) + e.name + shape(*e.arguments[1]) + ")";
  }
  return {};
}

std::string shape_of(const std::string& right_hand_side) {
  return shape(*parse_formula("y ~ " + right_hand_side).right_hand_side);
}

std::string labels(const Terms& terms) {
  std::string text;
  for (const Term& term : terms.terms) text += (text.empty() ? "" : " ") + terms.label(term);
  return text;
}

Terms terms_of(const std::string& right_hand_side) {
  const Formula formula = parse_formula("y ~ " + right_hand_side);
  return expand_terms(formula.fixed.get(), formula);
}

/// The error that a formula gives when it is parsed and expanded.
FormulaError error_of(const std::string& text) {
  try {
    const Formula formula = parse_formula(text);
    expand_terms(formula.fixed.get(), formula);
    expand_random_terms(formula);
  } catch (const FormulaError& error) {
    return error;
  }
  ADD_FAILURE() << "no error for: " << text.substr(0, 200);
  return {"", "", 0};
}

TEST(Parser, BindsOperatorsAsR) {
  EXPECT_EQ(shape_of("a + b * c"), "(a+(b*c))");
  EXPECT_EQ(shape_of("a - b - c"), "((a-b)-c)");
  EXPECT_EQ(shape_of("a * b : c"), "(a*(b:c))");
  EXPECT_EQ(shape_of("a / b / c"), "((a/b)/c)");
  EXPECT_EQ(shape_of("a %in% b * c"), "((a%in%b)*c)");
  EXPECT_EQ(shape_of("a %in% b : c"), "(a%in%(b:c))");
  EXPECT_EQ(shape_of("a : b ^ 2"), "(a:(b^2))");
  EXPECT_EQ(shape_of("2 ^ 3 ^ 2"), "(2^(3^2))");
  EXPECT_EQ(shape_of("a ** 2"), "(a^2)");
  EXPECT_EQ(shape_of("(a + b) * c"), "((a+b)*c)");
}

TEST(Parser, BindsSignsBetweenPowerAndInteraction) {
  EXPECT_EQ(shape_of("-2 ^ 2"), "(-(2^2))");
  EXPECT_EQ(shape_of("-a : b"), "((-a):b)");
  EXPECT_EQ(shape_of("2 ^ -1 : 3"), "((2^(-1)):3)");
  EXPECT_EQ(shape_of("a - -b + +c"), "((a-(-b))+(+c))");
}

TEST(Parser, ReadsNamesNumbersAndCalls) {
  EXPECT_EQ(shape_of("`a b` + .x_1 + x.y + \xc3\xa4"), "(((`a b`+.x_1)+x.y)+\xc3\xa4)");
  EXPECT_EQ(shape_of("f(1e5, .5, 2L, 1.) + g()"), "(f[1e+05;0.5;2L;1;]+g[])");
  EXPECT_EQ(shape_of("poly(x, 2, raw = TRUE)"), "poly[x;2;(raw=TRUE);]");
  EXPECT_EQ(parse_formula("y ~ `a\\`b`").right_hand_side->name, "a`b");
}

TEST(Parser, KeepsPositions) {
  const Formula formula = parse_formula("log(y) ~ x + I( z )");

  EXPECT_EQ(formula.response->position, 0U);
  EXPECT_EQ(formula.fixed->arguments[1]->position, 13U);
  EXPECT_EQ(formula.fixed->arguments[1]->arguments[0]->position, 16U);
}

TEST(Parser, SeparatesRandomEffectsTerms) {
  const Formula formula = parse_formula("y ~ a + (1 + x | g) - 1 + ((z || h/i)) + (b + (1 | k))");

  ASSERT_EQ(formula.random.size(), 3U);
  EXPECT_EQ(deparse(*formula.random[0].lhs), "1 + x");
  EXPECT_EQ(deparse(*formula.random[0].group), "g");
  EXPECT_FALSE(formula.random[0].uncorrelated);
  EXPECT_EQ(formula.random[0].position, 8U);
  EXPECT_TRUE(formula.random[1].uncorrelated);
  EXPECT_EQ(deparse(*formula.random[2].group), "k");
  EXPECT_EQ(deparse(*formula.fixed), "a - 1 + b");
}

TEST(Parser, LeavesNoFixedPartWhereThereIsNone) {
  EXPECT_EQ(parse_formula("y ~ (1 | g) + (1 | h)").fixed, nullptr);
  EXPECT_EQ(deparse(*parse_formula("y ~ (1 | g) - 1").fixed), "-1");
}

struct Fault {
  const char* formula;
  std::size_t position;
  const char* message;
};

TEST(FormulaErrors, NameThePlace) {
  const std::vector<Fault> faults = {
      {"", 0, "empty"},
      {"   ", 0, "empty"},
      {"~ x + (1|g)", 0, "no response"},
      {"y", 1, "expected '~'"},
      {"y x ~ z", 2, "expected '~' after the response, found 'x'"},
      {"y ~", 3, "after '~', found the end"},
      {"y ~ x + (1|g", 8, "'(' is never closed"},
      {"y ~ f(x", 5, "'(' is never closed"},
      {"y ~ f(x y)", 8, "expected ')' or ','"},
      {"y ~ (x y)", 7, "expected ')' or an operator"},
      {"y ~ x + (1|g))", 13, "')' without its '('"},
      {"y) ~ x", 1, "')' without its '('"},
      {"y ~ x + (1|g) +", 15, "after '+', found the end"},
      {"y ~ x + * a", 8, "after '+', found '*'"},
      {"y ~ x a", 6, "expected an operator, found 'a'"},
      {"y ~ x ~ z", 6, "second '~'"},
      {"y ~ ()", 5, "expected a term"},
      {"y ~ (1 | a | b)", 5, "another within it"},
      {"y ~ (1 + (1 | a) | b)", 10, "another within it"},
      {"y ~ (1 | g) * x", 5, "only be added"},
      {"y ~ x - (1 | g)", 9, "only be added"},
      {"y ~ log(x | g)", 8, "only be added"},
      {"y ~ x + 1 | g", 4, "parentheses"},
      {"(1 | g) ~ x", 1, "bar in the response"},
      {"y ~ x + ( | g)", 10, "expected a term"},
      {"y ~ x + (1 | )", 13, "expected a term"},
      {"y ~ x + (0 | g)", 8, "without effects"},
      {"y ~ x + (1 | g + h)", 13, "grouping factor"},
      {"y ~ x + (1 | 2)", 13, "grouping factor"},
      {"y ~ x + (1 | a/(b + c))", 16, "grouping factor"},
      {"y ~ x + (1 | a/(b/c))", 15, "one grouping factor right of '/'"},
      {"y ~ (offset(x) | g)", 4, "offset"},
      {"y ~ \"a\"", 4, "quotes"},
      {"y ~ `a", 4, "backquote"},
      {"y ~ ``", 4, "between the backquotes"},
      {"y ~ _a", 4, "begin with '_'"},
      {"y ~ 2x", 5, "after the number 2"},
      {"y ~ x > 3", 6, "unexpected character '>'"},
      {"y ~ f(x == 3)", 8, "unexpected character '='"},
      {"y ~ 1e999", 4, "out of range"},
      {"y ~ 3 + x", 4, "number 3"},
      {"y ~ .", 4, "'.'"},
      {"y ~ x^a", 6, "whole number"},
      {"y ~ x^0", 6, "whole number"},
      {"y ~ x^1.5", 6, "whole number"},
      {"y ~ 1:x", 4, "0 and 1"},
      {"y ~ x:(a - a)", 6, "0 and 1"},
      {"y ~ x %% 2", 4, "arithmetic stands in I()"},
      {"y ~ `(`()", 4, "no function"},
  };

  for (const Fault& fault : faults) {
    const FormulaError error = error_of(fault.formula);
    EXPECT_EQ(error.position(), fault.position) << fault.formula << ": " << error.what();
    EXPECT_NE(std::string(error.what()).find(fault.message), std::string::npos)
        << fault.formula << ": " << error.what();
    EXPECT_EQ(error.formula(), fault.formula);
  }
}

TEST(FormulaErrors, ShowACaretUnderThePlace) { EXPECT_EQ(error_of("y ~ x + * a").caret(), "y ~ x + * a\n        ^"); }

TEST(FormulaErrors, BoundNestingAndLength) {
  const auto repeated = [](const std::string& text, int times) {
    std::string result;
    for (int i = 0; i < times; ++i) result += text;
    return result;
  };

  EXPECT_NE(std::string(error_of("y ~ " + repeated("(", 50'000)).what()).find("nested too deeply"), std::string::npos);
  EXPECT_NE(std::string(error_of("y ~ " + repeated("-", 50'000) + "x").what()).find("nested too deeply"),
            std::string::npos);
  EXPECT_NE(std::string(error_of("y ~ x" + repeated("^2", 30'000)).what()).find("nested too deeply"),
            std::string::npos);
  EXPECT_NE(std::string(error_of("y ~ x" + repeated("+x", 40'000)).what()).find("too long"), std::string::npos);
  EXPECT_NE(std::string(error_of("y ~ " + repeated(" ", 200'000)).what()).find("at most"), std::string::npos);
  EXPECT_NE(std::string(error_of("y ~ (a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p+q+r+s+t+u+v+w+x+z)^25").what()).find("terms"),
            std::string::npos);
}

TEST(FormulaErrors, BoundNestedFactors) {
  std::string text = "y ~ (1 | a";
  for (int i = 0; i < kMaxDepth - 10; ++i) text += "/a";

  EXPECT_NE(std::string(error_of(text + ")").what()).find("nested by '/'"), std::string::npos);
}

TEST(FormulaErrors, AcceptALongSum) {
  std::string text = "y ~ x0";
  for (int i = 1; i < kMaxDepth; ++i) text += " + x" + std::to_string(i);

  const Formula formula = parse_formula(text);

  EXPECT_EQ(expand_terms(formula.fixed.get(), formula).terms.size(), static_cast<std::size_t>(kMaxDepth));
  EXPECT_EQ(deparse(formula), text);
}

// Expected values: attr(terms(y ~ ...), "term.labels") and "intercept" of R 4.2.2.
TEST(Terms, ExpandAsR) {
  struct Case {
    const char* right_hand_side;
    const char* labels;
    bool intercept;
  };
  const std::vector<Case> cases = {
      {"(a+b+c)^2", "a b c a:b a:c b:c", true},
      {"a*b*c-a:b:c", "a b c a:b a:c b:c", true},
      {"a/b/c", "a a:b a:b:c", true},
      {"a/(b+c)", "a a:b a:c", true},
      {"(a+b)/c", "a b a:b:c", true},
      {"b+a:b", "b b:a", true},
      {"b:a+a:b", "b:a", true},
      {"(a+b+c)^3-(a+b)^2", "c a:c b:c a:b:c", true},
      {"(a*b)%in%c", "a:c b:c a:b:c", true},
      {"a+b-1-(a)", "b", false},
      {"a:b:c+a:b+c", "c a:b a:b:c", true},
      {"0+a", "a", false},
      {"a+0+1", "a", true},
      {"a-1+1", "a", true},
      {"-1+a- -1", "a", true},
      {"a+offset(b)*c", "a c", true},
      {"(a+b)^2/c", "a b a:b a:b:c", true},
      {"log(a)*b+I(a+b)", "log(a) b I(a + b) log(a):b", true},
      {"1-a+b", "b", true},
      {"-a-b+c", "c", true},
      {"c+b+a+c:a+b:a+a:b:c", "c b a c:a b:a c:b:a", true},
  };

  for (const Case& c : cases) {
    const Terms terms = terms_of(c.right_hand_side);
    EXPECT_EQ(labels(terms), c.labels) << c.right_hand_side;
    EXPECT_EQ(terms.intercept, c.intercept) << c.right_hand_side;
  }
}

TEST(Terms, KnowVariablesThatAreTakenOut) {
  const Terms terms = terms_of("a - b + offset(log(c))");

  ASSERT_EQ(terms.variables.size(), 3U);
  EXPECT_EQ(terms.variables[1].label, "b");
  EXPECT_EQ(terms.offsets, std::vector<std::size_t>{2});
}

TEST(Terms, AreOneWhereTheyAreWrittenDifferently) {
  EXPECT_EQ(labels(terms_of("log(x,2) + log( x , 2)")), "log(x, 2)");
}

// Expected values: names(lFormula(...)$reTrms$cnms) and the formula of lme4 1.1-31.
TEST(RandomTerms, ExpandAsLme4) {
  struct Case {
    const char* term;
    const char* expanded;
  };
  const std::vector<Case> cases = {
      {"(1 | g)", "g[1 | g]"},
      {"(1 + x | g)", "g[1 + x | g]"},
      {"(1 | a/b)", "b:a[1 | b:a] a[1 | a]"},
      {"(1 | a/b/c)", "c:(b:a)[1 | c:(b:a)] b:a[1 | b:a] a[1 | a]"},
      {"(1 | a:b)", "a:b[1 | a:b]"},
      {"(1 | a:b/c)", "c:(a:b)[1 | c:(a:b)] a:b[1 | a:b]"},
      {"(1 | (a/b))", "b:a[1 | b:a] a[1 | a]"},
      {"(x || g)", "g[1 | g] g[0 + x | g]"},
      {"(0 + x || g)", "g[0 + x | g]"},
      {"(1 || g)", "g[1 | g]"},
      {"(a * x || g)", "g[1 | g] g[0 + a | g] g[0 + x | g] g[0 + a:x | g]"},
      {"(x || a/b)", "b:a[1 | b:a] a[1 | a] b:a[0 + x | b:a] a[0 + x | a]"},
      {"(1 | factor(g))", "factor(g)[1 | factor(g)]"},
      {"(1 | `g h`)", "g h[1 | `g h`]"},
      {"(1 | `g h`:a)", "`g h`:a[1 | `g h`:a]"},
  };

  for (const Case& c : cases) {
    std::string found;
    for (const RandomEffects& term : expand_random_terms(parse_formula(std::string("y ~ ") + c.term)))
      found += (found.empty() ? "" : " ") + term.group_name + "[" + term.text + "]";
    EXPECT_EQ(found, c.expanded) << c.term;
  }
}

// Expected values: deparse(lme4::expandDoubleVerts(...)).
TEST(Deparse, WritesAsR) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"y~x+(1|g)", "y ~ x + (1 | g)"},
      {"y ~ a*b+a : b-x/z^2", "y ~ a * b + a:b - x/z^2"},
      {"y~-x+ +x", "y ~ -x + +x"},
      {"log(y)~I((x+1)*2)+log(x,base=2)+(x||g)",
       "log(y) ~ I((x + 1) * 2) + log(x, base = 2) + ((1 | g) + (0 + x | g))"},
      {"y~`a b`+`ok`+(1|a/b)", "y ~ `a b` + ok + (1 | a/b)"},
      {"y~100000*x+123456+1e-20+0.1+2L+a%in%b+I(x%%2)",
       "y ~ 1e+05 * x + 123456 + 1e-20 + 0.1 + 2L + a %in% b + I(x%%2)"},
      {"y~-(-x)^2^3-(a-b)", "y ~ -(-x)^2^3 - (a - b)"},
      {"y~(a*x||g)+(0+b||g/h)", "y ~ ((1 | g) + (0 + a | g) + (0 + x | g) + (0 + a:x | g)) + ((0 + b | g/h))"},
  };

  for (const auto& [text, expected] : cases) EXPECT_EQ(deparse(parse_formula(text)), expected);
}

}  // namespace
}  // namespace batchlmm
