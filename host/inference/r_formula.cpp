#include "host/inference/r_formula.hpp"

#include <cctype>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "host/inference/r_format.hpp"

namespace batchlmm {
namespace {

struct Token {
  enum class Kind { operand, number, operation, open, close, comma, end };
  Kind kind = Kind::end;
  std::string text;
};

bool starts_with_at(std::string_view text, std::size_t i, std::string_view prefix) {
  return text.substr(i, prefix.size()) == prefix;
}

/// @return nothing where the text has a character that no formula has
std::optional<std::vector<Token>> tokens_of(std::string_view text) {
  using Kind = Token::Kind;
  static constexpr std::string_view operations[] = {"||", "**", "<=", ">=", "==", "!=", "&&", "~", "+", "-",
                                                    "*",  "/",  ":",  "^",  "|",  "&",  "<",  ">", "!", "="};
  const auto is_digit = [&](std::size_t i) {
    return i < text.size() && std::isdigit(static_cast<unsigned char>(text[i])) != 0;
  };
  std::vector<Token> tokens;
  std::size_t i = 0;
  while (i < text.size()) {
    const char c = text[i];
    if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      ++i;
    } else if (c == '`' || c == '"' || c == '\'') {
      const auto end = text.find(c, i + 1);
      if (end == std::string_view::npos) return std::nullopt;
      const std::string inside(text.substr(i + 1, end - i - 1));
      tokens.push_back({Kind::operand, c == '\'' ? '"' + inside + '"' : c + inside + c});
      i = end + 1;
    } else if (is_digit(i) || (c == '.' && is_digit(i + 1))) {
      std::size_t end = i;
      while (is_digit(end) || (end < text.size() && text[end] == '.')) ++end;
      if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
        const std::size_t sign = end + 1 < text.size() && (text[end + 1] == '+' || text[end + 1] == '-') ? 1 : 0;
        if (is_digit(end + 1 + sign)) {
          end += 1 + sign;
          while (is_digit(end)) ++end;
        }
      }
      tokens.push_back({Kind::number, std::string(text.substr(i, end - i))});
      i = end;
    } else if (std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '.' || (c & 0x80) != 0) {
      std::size_t end = i;
      while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '.' ||
                                   text[end] == '_' || (text[end] & 0x80) != 0)) {
        ++end;
      }
      tokens.push_back({Kind::operand, std::string(text.substr(i, end - i))});
      i = end;
    } else if (c == '(' || c == ')' || c == ',') {
      tokens.push_back({c == '(' ? Kind::open : c == ')' ? Kind::close : Kind::comma, std::string(1, c)});
      ++i;
    } else if (c == '%') {
      const auto end = text.find('%', i + 1);
      if (end == std::string_view::npos) return std::nullopt;
      tokens.push_back({Kind::operation, std::string(text.substr(i, end - i + 1))});
      i = end + 1;
    } else {
      bool found = false;
      for (const auto operation : operations) {
        if (!starts_with_at(text, i, operation)) continue;
        tokens.push_back({Kind::operation, operation == "**" ? "^" : std::string(operation)});
        i += operation.size();
        found = true;
        break;
      }
      if (!found) return std::nullopt;
    }
  }
  tokens.push_back({Kind::end, ""});
  return tokens;
}

/// R's precedence of binary operators; 0: none.
int precedence(const std::string& operation) {
  if (operation == "=") return 1;
  if (operation == "~") return 2;
  if (operation == "|" || operation == "||") return 3;
  if (operation == "&" || operation == "&&") return 4;
  if (operation == "<" || operation == ">" || operation == "<=" || operation == ">=" || operation == "==" ||
      operation == "!=") {
    return 6;
  }
  if (operation == "+" || operation == "-") return 7;
  if (operation == "*" || operation == "/") return 8;
  if (operation.front() == '%') return 9;
  if (operation == ":") return 10;
  if (operation == "^") return 12;
  return 0;
}
constexpr int unary_precedence = 11;
constexpr int not_precedence = 5;

/// Reads the tokens by precedence and writes them at once: a break belongs to the operator after which it stands and
/// indents only that operator's right-hand side, as in R.
class Writer {
public:
  Writer(std::vector<Token> tokens, int cutoff) : tokens_(std::move(tokens)), cutoff_(cutoff) {}

  /// @return whether all tokens made one expression
  bool write() {
    expression(0);
    return good_ && token().kind == Token::Kind::end;
  }
  std::vector<std::string> lines() && {
    lines_.push_back(std::move(line_));
    return std::move(lines_);
  }

private:
  const Token& token() const { return tokens_[next_]; }
  void put(std::string_view text) {
    if (at_line_start_) {
      for (int i = 1; i <= indent_; ++i) line_ += i <= 4 ? "    " : "  ";
      at_line_start_ = false;
    }
    line_ += text;
  }
  /// Starts a new line where this one is long; @return whether it did
  void break_line(bool& broken) {
    if (text_width(line_) <= cutoff_) return;
    if (!broken) {
      broken = true;
      ++indent_;
    }
    lines_.push_back(std::move(line_));
    line_.clear();
    at_line_start_ = true;
  }

  void expression(int lowest) {
    operand();
    while (good_ && token().kind == Token::Kind::operation) {
      const std::string operation = token().text;
      const int level = precedence(operation);
      if (level == 0 || level < lowest) return;
      ++next_;
      const bool tight = operation == "/" || operation == ":" || operation == "^";
      bool broken = false;
      if (tight) {
        put(operation);
      } else {
        put(" " + operation + " ");
        if (operation != "=") break_line(broken);
      }
      expression(operation == "^" ? unary_precedence : level + 1);
      if (broken) --indent_;
    }
  }

  void operand() {
    using Kind = Token::Kind;
    const Token current = token();
    switch (current.kind) {
      case Kind::operation:
        if (current.text != "-" && current.text != "+" && current.text != "!" && current.text != "~") break;
        ++next_;
        put(current.text);
        return expression(current.text == "!" ? not_precedence : current.text == "~" ? 3 : unary_precedence);
      case Kind::open:
        ++next_;
        put("(");
        expression(0);
        return close();
      case Kind::number:
        ++next_;
        return put(r_number(std::strtod(current.text.c_str(), nullptr), 15));
      case Kind::operand:
        ++next_;
        put(current.text);
        if (token().kind == Kind::open) call();
        return;
      default:
        break;
    }
    good_ = false;
  }

  void call() {
    ++next_;
    put("(");
    bool broken = false;
    while (good_ && token().kind != Token::Kind::close) {
      expression(0);
      if (token().kind != Token::Kind::comma) break;
      ++next_;
      put(", ");
      break_line(broken);
    }
    if (broken) --indent_;
    close();
  }

  void close() {
    if (token().kind != Token::Kind::close) {
      good_ = false;
      return;
    }
    ++next_;
    put(")");
  }

  std::vector<Token> tokens_;
  int cutoff_;
  std::size_t next_ = 0;
  bool good_ = true;
  bool at_line_start_ = true;
  int indent_ = 0;
  std::string line_;
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> r_deparse(const std::string& formula, int cutoff) {
  auto tokens = tokens_of(formula);
  if (!tokens) return {formula};
  Writer writer(std::move(*tokens), cutoff);
  if (!writer.write()) return {formula};
  return std::move(writer).lines();
}

std::string r_formula(const std::string& formula) {
  return r_deparse(formula, std::numeric_limits<int>::max()).front();
}

}  // namespace batchlmm
