/// @file
/// Formulas to begin fuzzing from.
#pragma once

#include <array>
#include <string_view>

namespace batchlmm::fuzz {

inline constexpr std::array<std::string_view, 32> kFormulas = {
    "y ~ x + (1 | g)",
    "y~x*a+(1+x|g)+(1|b)",
    "log(y) ~ poly(z, 2) + scale(x) * b + I(x^2) + (x || g)",
    "y ~ a * b + (1 | a/g)",
    "y ~ (a + b + x)^2 - a:b + (0 + a | g) + (1 | a:b)",
    "y ~ 0 + x:a + b + (b * x || g)",
    "y ~ -1 + a:b + (1 | g) + (0 + x | g)",
    "y ~ a/(b + x) + (1 | g/b/a)",
    "y ~ b %in% a + a + (1 | g)",
    "y ~ o * b + (o | g)",
    "y ~ factor(z) * a - 1 + (ordered(z) | g)",
    "y ~ x + I(2 * x) + I(x * 3 - 1) + `a b` + (1 | g)",
    "y ~ log(x, 2) + log(x, base = 10) + sqrt(x) + abs(z) + exp(x/10) + round(x, 1) + (1 | g)",
    "y ~ offset(x) + offset(log(x)) + z + (1 | g)",
    "y ~ (1 | g)",
    "y ~ (x + (1 | g))",
    "y ~ poly(x, 2, raw = TRUE) + scale(x, scale = FALSE) + (1 | g)",
    "I(y^2 + 1) ~ I(-x) + I(z %% 2) + I(x %/% 2) + I((x + 1) * (z - 2)^2/3) + (1 | g)",
    "y ~ x**2 + (a + x)^3 + 1 + (1 | g)",
    "y ~ a:x + x:b + (0 + a:x + b | g) + (1 | factor(z))",
    "y ~ x - a - b:x + 0 - 0 + (1 | g) - 1",
    "y ~ x + (1 | g",
    "y ~ x + 1 | g)",
    "y ~ (1 | a | b)",
    "y ~ 1e5 + 2L + .5 + 1e-3 + I(x * 1e300)",
    "y ~ ((((x))))",
    "y ~ - - + -x",
    "y ~ x ~ z",
    "~ x",
    "y ~ .x + x_1 + `\\`` + \xc3\xa4",
    "y ~ 2^-1 + -a:b + a:-b",
    "",
};

/// What mutations put in.
inline constexpr std::array<std::string_view, 40> kFragments = {
    "+",     "-",      "*",       "/",        ":",         "^",     "|",     "||",   "~",    "(",
    ")",     ",",      "=",       " ",        "`",         "%in%",  "%%",    "%/%",  "**",   "x",
    "a",     "g",      "0",       "1",        "2",         "1e308", "-1",    "I(",   "log(", "poly(x, 2)",
    "(1|g)", "(x||g)", "factor(", "scale(x)", "offset(x)", "o",     "`a b`", "TRUE", "\xff", "."};

}  // namespace batchlmm::fuzz
