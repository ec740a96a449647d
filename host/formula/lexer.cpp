#include "host/formula/lexer.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <string_view>
#include <system_error>

#include "batchlmm/error.hpp"
#include "host/formula/formula.hpp"

namespace batchlmm {
namespace {

// std::isalpha and its kin follow the locale; formulas do not.
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
}
bool is_name_part(char c) { return is_letter(c) || is_digit(c) || c == '.' || c == '_'; }

/// Longer operators first.
constexpr std::array<std::string_view, 13> kOperators = {"||", "**", "%in%", "%/%", "%%", "~", "+",
                                                         "-",  "*",  "/",    ":",   "^",  "|"};

class Lexer {
public:
  explicit Lexer(const std::string& text) : text_(text) {}

  std::vector<Token> run() {
    if (text_.size() > kMaxFormulaLength)
      fail("the formula has " + std::to_string(text_.size()) + " bytes; at most " + std::to_string(kMaxFormulaLength) +
               " are accepted",
           kMaxFormulaLength);
    while (true) {
      while (at_ < text_.size() && is_space(text_[at_])) ++at_;
      if (at_ == text_.size()) break;
      tokens_.push_back(next());
    }
    tokens_.push_back({Token::Kind::end, "", 0, text_.size()});
    return std::move(tokens_);
  }

private:
  [[noreturn]] void fail(const std::string& message, std::size_t position) const {
    throw FormulaError(message, text_, position);
  }

  [[nodiscard]] char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }

  Token next() {
    const char c = peek();
    const std::size_t start = at_;
    if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return number();
    if (is_letter(c) || c == '.') {
      while (is_name_part(peek())) ++at_;
      return {Token::Kind::name, text_.substr(start, at_ - start), 0, start};
    }
    if (c == '`') return quoted_name();
    if (c == '(') return single(Token::Kind::open);
    if (c == ')') return single(Token::Kind::close);
    if (c == ',') return single(Token::Kind::comma);
    for (const std::string_view operation : kOperators) {
      if (std::string_view(text_).substr(at_, operation.size()) != operation) continue;
      at_ += operation.size();
      return {Token::Kind::operation, std::string(operation == "**" ? "^" : operation), 0, start};
    }
    if (c == '=' && peek(1) != '=') {
      ++at_;
      return {Token::Kind::operation, "=", 0, start};
    }
    if (c == '"' || c == '\'')
      fail("a text in quotes has no meaning here; names with blanks stand in `backquotes`", start);
    if (c == '_') fail("a name cannot begin with '_'; put it in `backquotes`", start);
    if (is_control(c)) fail("unexpected control character", start);
    fail(std::string("unexpected character '") + c + "'", start);
  }

  Token single(Token::Kind kind) { return {kind, std::string(1, text_[at_]), 0, at_++}; }

  Token number() {
    const std::size_t start = at_;
    while (is_digit(peek())) ++at_;
    if (peek() == '.') ++at_;
    while (is_digit(peek())) ++at_;
    if (peek() == 'e' || peek() == 'E') {
      const std::size_t sign = peek(1) == '+' || peek(1) == '-' ? 1 : 0;
      if (is_digit(peek(1 + sign))) {
        at_ += 1 + sign;
        while (is_digit(peek())) ++at_;
      }
    }
    Token token{Token::Kind::number, "", 0, start};
    const auto result = std::from_chars(text_.data() + start, text_.data() + at_, token.value);
    if (result.ec == std::errc::result_out_of_range || !std::isfinite(token.value))
      fail("the number " + text_.substr(start, at_ - start) + " is out of range", start);
    if (peek() == 'L') {
      ++at_;
      token.text = "L";
    }
    if (is_name_part(peek()))
      fail("expected an operator after the number " + text_.substr(start, at_ - start) +
               "; a name that begins with a digit stands in `backquotes`",
           at_);
    return token;
  }

  Token quoted_name() {
    const std::size_t start = at_++;
    std::string name;
    while (at_ < text_.size() && text_[at_] != '`') {
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) ++at_;
      if (is_control(text_[at_])) fail("a control character in a name", at_);
      name += text_[at_++];
    }
    if (at_ >= text_.size()) fail("the backquote is never closed", start);
    ++at_;
    if (name.empty()) fail("expected a name between the backquotes", start);
    return {Token::Kind::name, std::move(name), 0, start};
  }

  const std::string& text_;
  std::size_t at_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(const std::string& text) { return Lexer(text).run(); }

}  // namespace batchlmm
