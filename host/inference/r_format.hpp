/// @file
/// Numbers as R prints them: common significant digits for a whole vector, fixed or scientific notation (R's `format`).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace batchlmm {

/// R's `format(x, digits, nsmall)`: one notation and one width for all elements, the fewest significant digits that
/// show every element to `digits` of them; fixed notation unless scientific is narrower. NaN and infinities print as in
/// R.
/// @param digits  1 to 15
/// @return strings of equal width, right-justified
std::vector<std::string> r_format(const std::vector<double>& x, int digits = 7, int nsmall = 0);

/// One number alone, as `cat` and `paste` print it (7 significant digits unless told otherwise).
std::string r_number(double x, int digits = 7);

/// R's `round(x, places)` (version 4 and later): of the two neighbouring decimals the one nearer to x in double
/// arithmetic, the even one on a tie. @param places  decimals, 0 or more
double r_round(double x, int places);

/// R's `zapsmall`: rounds all elements to the decimals that give the largest one `digits` significant digits.
std::vector<double> r_zapsmall(std::vector<double> x, int digits = 7);

/// R's `format.pval` of one p-value: "< 2.2e-16" below the machine epsilon.
std::string r_format_p_value(double p, int digits);
/// The same of a column of p-values, those of like size in one notation.
std::vector<std::string> r_format_p_values(const std::vector<double>& p, int digits);

/// R's stars for a p-value: "***" up to 0.001, "**", "*", "." up to 0.1, a blank above; empty for NaN.
std::string r_stars(double p);
/// The line below a table with stars, closed by a newline.
inline constexpr const char* r_stars_legend = "---\nSignif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1\n";

/// Columns that a UTF-8 string takes on a terminal, one for each code point.
int text_width(std::string_view text);

/// `text` with blanks before it (`pad_left`) or after it (`pad_right`) up to `width` columns.
std::string pad_left(std::string_view text, int width);
std::string pad_right(std::string_view text, int width);

}  // namespace batchlmm
