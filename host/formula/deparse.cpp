#include "host/formula/deparse.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "host/data/factor.hpp"
#include "host/formula/operators.hpp"
#include "host/formula/random_terms.hpp"

namespace batchlmm {
namespace {

using Kind = Expression::Kind;

/// R's reserved words but TRUE and FALSE, which stand for themselves among arguments.
constexpr std::array<std::string_view, 17> kReserved = {
    "if",   "else", "repeat", "while", "function",    "for",      "next",          "break",      "in",
    "NULL", "Inf",  "NaN",    "NA",    "NA_integer_", "NA_real_", "NA_character_", "NA_complex_"};

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_syntactic(std::string_view name) {
  if (name.empty() || !(is_letter(name[0]) || name[0] == '.')) return false;
  if (name.size() > 1 && name[0] == '.' && is_digit(name[1])) return false;
  if (std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end()) return false;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return is_letter(c) || is_digit(c) || c == '.' || c == '_'; });
}

/// Writes a formula with its `||` terms expanded; `formula` null writes an expression as it is.
class Deparser {
public:
  explicit Deparser(const Formula* formula = nullptr) : formula_(formula) {}

  // Recursion goes as deep as the tree, which the parser bounds.
  [[nodiscard]] std::string text(const Expression& e) const {
    switch (e.kind) {
      case Kind::number:
        return format_number(e.value) + e.name;
      case Kind::variable:
        return quote_name(e.name);
      case Kind::unary_minus:
        return "-" + text(*e.arguments[0]);
      case Kind::unary_plus:
        return "+" + text(*e.arguments[0]);
      case Kind::call: {
        if (e.name == "(") return "(" + text(*e.arguments[0]) + ")";
        std::string out = quote_name(e.name) + "(";
        for (std::size_t i = 0; i < e.arguments.size(); ++i) out += (i > 0 ? ", " : "") + text(*e.arguments[i]);
        return out + ")";
      }
      case Kind::binary:
        return binary(e);
    }
    return {};
  }

private:
  [[nodiscard]] std::string binary(const Expression& e) const {
    if (e.name == "=") return quote_name(e.arguments[0]->name) + " = " + text(*e.arguments[1]);
    if (e.name == "||" && formula_ != nullptr) {
      std::string out;
      for (const EffectsText& part : split_uncorrelated(*e.arguments[0], *formula_))
        out += (out.empty() ? "(" : " + (") + part + " | " + text(*e.arguments[1]) + ")";
      return out;
    }
    const Precedence own = precedence_of(e.name);
    const bool from_right = own == Precedence::power;
    const auto side = [&](const Expression& child, bool tight) {
      const Precedence inner = child.kind == Kind::binary ? precedence_of(child.name) : Precedence::power;
      const bool parentheses = child.kind == Kind::binary && (inner < own || (inner == own && tight));
      return parentheses ? "(" + text(child) + ")" : text(child);
    };
    const bool spaces = own <= Precedence::sum || e.name == "*" || e.name == "%in%";
    const std::string operation = spaces ? " " + e.name + " " : e.name;
    return side(*e.arguments[0], from_right) + operation + side(*e.arguments[1], !from_right);
  }

  const Formula* formula_;
};

}  // namespace

std::string quote_name(const std::string& name) {
  if (is_syntactic(name)) return name;
  std::string quoted = "`";
  for (const char c : name) {
    if (c == '`' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "`";
}

std::string deparse(const Expression& expression) { return Deparser().text(expression); }

std::string deparse(const Formula& formula) {
  return deparse(*formula.response) + " ~ " + Deparser(&formula).text(*formula.right_hand_side);
}

}  // namespace batchlmm
