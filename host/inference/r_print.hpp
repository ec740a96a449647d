/// @file
/// Tables, named vectors and names as R prints them on lines of 80 columns.
#pragma once

#include <string>
#include <vector>

namespace batchlmm {

/// R's `options(width = 80)`.
inline constexpr int line_width = 80;

/// A matrix of strings with names, printed without quotes.
struct TextMatrix {
  std::vector<std::string> row_names;             ///< one a row, may be empty strings
  std::vector<std::string> column_names;          ///< one a column
  std::vector<std::vector<std::string>> columns;  ///< by column: one string a row
  bool right = false;                             ///< right-justified cells and column names
};

/// R's `print` of a character matrix; columns that do not fit on a line go to a further block.
std::string r_print(const TextMatrix& matrix);

/// R's column of stars at the right of a table of p-values, where one of them is below 0.1.
/// @param p  one a row; NaN: none
/// @return r_stars_legend, which stands below the table, or nothing
std::string add_stars(TextMatrix& table, const std::vector<double>& p);

/// R's `print` of a named vector whose elements are formatted already.
std::string r_print_named(const std::vector<std::string>& names, const std::vector<std::string>& values);

/// R's `cat(..., fill = TRUE)`: pieces separated by blanks, on as many lines as they need, closed by a newline.
std::string r_cat_fill(const std::vector<std::string>& pieces);

/// R's `abbreviate(names, minlength)`: shortened from the end (lower case vowels, then lower case letters, then the
/// rest), word starts kept, and made longer again until no two of different names are equal.
std::vector<std::string> r_abbreviate(const std::vector<std::string>& names, int minimum_length);

/// R's `make.names(names, unique = TRUE)`.
std::vector<std::string> r_make_names(const std::vector<std::string>& names);

/// @return whether `name` can stand in R code without backquotes
bool r_is_syntactic(const std::string& name);

}  // namespace batchlmm
