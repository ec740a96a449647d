/// @file
/// A formula's text to tokens.
#pragma once

#include <string>
#include <vector>

namespace batchlmm {

struct Token {
  enum class Kind { number, name, operation, open, close, comma, end };
  Kind kind = Kind::end;
  /// The name without backquotes; the operator ("**" already as "^"); of a number "L" where it had that suffix.
  std::string text;
  double value = 0;          ///< of a number
  std::size_t position = 0;  ///< byte offset of the first character
};

/// Names are R's (letters, digits, '.', '_', not beginning with a digit or '_'; bytes beyond ASCII count as letters) or
/// stand in backquotes, in which a backslash quotes the next character.
/// @return the tokens, the last of kind `end`
/// @throws FormulaError
std::vector<Token> tokenize(const std::string& text);

}  // namespace batchlmm
