#include <algorithm>
#include <string_view>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/formula/formula.hpp"
#include "host/formula/lexer.hpp"
#include "host/formula/operators.hpp"

namespace batchlmm {
namespace {

using Kind = Expression::Kind;
using ExpressionPointer = std::shared_ptr<const Expression>;

/// A tree and its depth, which `kMaxDepth` bounds: whatever walks the tree later recurses that deep.
struct Parsed {
  ExpressionPointer tree;
  int depth = 1;
};

/// Recursive descent with precedence climbing.
class Parser {
public:
  explicit Parser(const std::string& text) : text_(text), tokens_(tokenize(text)) {}

  Formula run() {
    if (peek().kind == Token::Kind::end) fail("the formula is empty; expected 'response ~ terms'", 0);
    if (is_operation("~")) fail("the formula has no response; expected one before '~'", peek().position);
    Formula formula;
    formula.text = text_;
    formula.response = expression(Precedence::bar).tree;
    if (!is_operation("~")) {
      reject_closing_parenthesis();
      fail("expected '~' after the response, found " + described(peek()), peek().position);
    }
    last_ = &tokens_[at_++];
    formula.right_hand_side = expression(Precedence::bar).tree;
    reject_closing_parenthesis();
    if (is_operation("~")) fail("a second '~'; expected one response and one right-hand side", peek().position);
    if (peek().kind != Token::Kind::end) fail("expected an operator, found " + described(peek()), peek().position);
    return formula;
  }

private:
  [[noreturn]] void fail(const std::string& message, std::size_t position) const {
    throw FormulaError(message, text_, position);
  }

  [[nodiscard]] const Token& peek() const { return tokens_[at_]; }
  [[nodiscard]] bool is_operation(std::string_view operation) const {
    return peek().kind == Token::Kind::operation && peek().text == operation;
  }

  void reject_closing_parenthesis() const {
    if (peek().kind == Token::Kind::close) fail("')' without its '('", peek().position);
  }

  [[nodiscard]] std::string described(const Token& token) const {
    if (token.kind == Token::Kind::end) return "the end of the formula";
    if (token.kind == Token::Kind::number) return "a number";
    return "'" + token.text + "'";
  }

  Parsed node(Kind kind, std::string name, std::vector<Parsed> arguments, std::size_t position,
              double value = 0) const {
    auto tree = std::make_shared<Expression>();
    tree->kind = kind;
    tree->name = std::move(name);
    tree->value = value;
    tree->position = position;
    int depth = 0;
    for (Parsed& argument : arguments) {
      depth = std::max(depth, argument.depth);
      tree->arguments.push_back(std::move(argument.tree));
    }
    if (depth >= kMaxDepth)
      fail("the formula is too long: at most " + std::to_string(kMaxDepth) + " operators may follow each other",
           position);
    return {std::move(tree), depth + 1};
  }

  /// An expression whose binary operators bind at least as tightly as `weakest`.
  Parsed expression(Precedence weakest) {
    if (++nesting_ > kMaxNesting)
      fail("the formula is nested too deeply: at most " + std::to_string(kMaxNesting) + " levels are accepted",
           peek().position);
    Parsed left = operand();
    while (peek().kind == Token::Kind::operation) {
      const Token& operation = peek();
      const Precedence precedence = precedence_of(operation.text);
      if (precedence < weakest || precedence == Precedence::none) break;
      last_ = &operation;
      ++at_;
      // '^' groups from the right, all others from the left.
      const auto tighter = static_cast<Precedence>(static_cast<int>(precedence) + 1);
      Parsed right = expression(precedence == Precedence::power ? precedence : tighter);
      const std::size_t position = left.tree->position;
      left = node(Kind::binary, operation.text, {std::move(left), std::move(right)}, position);
    }
    --nesting_;
    return left;
  }

  Parsed operand() {
    const Token& token = peek();
    switch (token.kind) {
      case Token::Kind::number:
        ++at_;
        return node(Kind::number, token.text, {}, token.position, token.value);
      case Token::Kind::name:
        ++at_;
        if (peek().kind == Token::Kind::open) return call(token);
        return node(Kind::variable, token.text, {}, token.position);
      case Token::Kind::open: {
        last_ = &token;
        ++at_;
        Parsed inner = expression(Precedence::bar);
        if (peek().kind != Token::Kind::close) {
          if (peek().kind == Token::Kind::end) fail("'(' is never closed", token.position);
          fail("expected ')' or an operator, found " + described(peek()), peek().position);
        }
        ++at_;
        return node(Kind::call, "(", {std::move(inner)}, token.position);
      }
      case Token::Kind::operation:
        if (token.text == "+" || token.text == "-") {
          last_ = &token;
          ++at_;
          return node(token.text == "-" ? Kind::unary_minus : Kind::unary_plus, token.text,
                      {expression(Precedence::sign)}, token.position);
        }
        break;
      default:
        break;
    }
    const std::string after = last_ == nullptr ? "at the beginning" : "after '" + last_->text + "'";
    fail("expected a term " + after + ", found " + described(token), token.position);
  }

  /// The argument list; `function` is the token before the opening parenthesis, which is the current one.
  Parsed call(const Token& function) {
    // In the tree that name stands for a pair of parentheses.
    if (function.text == "(") fail("'(' is no function", function.position);
    const Token& open = peek();
    last_ = &open;
    ++at_;
    std::vector<Parsed> arguments;
    if (peek().kind != Token::Kind::close) {
      while (true) {
        arguments.push_back(argument());
        if (peek().kind != Token::Kind::comma) break;
        last_ = &peek();
        ++at_;
      }
    }
    if (peek().kind == Token::Kind::end) fail("'(' is never closed", open.position);
    if (peek().kind != Token::Kind::close)
      fail("expected ')' or ',' among the arguments of " + function.text + "(), found " + described(peek()),
           peek().position);
    ++at_;
    return node(Kind::call, function.text, std::move(arguments), function.position);
  }

  Parsed argument() {
    const Token& name = peek();
    const Token& next = tokens_[std::min(at_ + 1, tokens_.size() - 1)];
    if (name.kind != Token::Kind::name || next.kind != Token::Kind::operation || next.text != "=")
      return expression(Precedence::bar);
    last_ = &next;
    at_ += 2;
    return node(Kind::binary, "=", {node(Kind::variable, name.text, {}, name.position), expression(Precedence::bar)},
                name.position);
  }

  const std::string& text_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int nesting_ = 0;
  const Token* last_ = nullptr;  ///< the operator, '(' or ',' that the next operand follows
};

bool is_bar(const Expression& tree) { return tree.kind == Kind::binary && (tree.name == "|" || tree.name == "||"); }

/// The first bar in the tree, or nullptr.
const Expression* find_bar(const Expression& tree) {
  if (is_bar(tree)) return &tree;
  for (const ExpressionPointer& argument : tree.arguments)
    if (const Expression* bar = find_bar(*argument)) return bar;
  return nullptr;
}

/// Takes the random-effects terms out of a right-hand side.
class RandomExtractor {
public:
  explicit RandomExtractor(Formula& formula) : formula_(formula) {}

  /// @return what is left of the tree, null when nothing is
  ExpressionPointer extract(const ExpressionPointer& tree) {
    if (is_bar(*tree)) fail("a random-effects term stands in parentheses: '(effects | group)'", tree->position);
    if (tree->kind == Kind::call && tree->name == "(") {
      if (is_bar(*tree->arguments[0])) {
        take(*tree->arguments[0], tree->position);
        return nullptr;
      }
      return with_arguments(tree, {extract(tree->arguments[0])});
    }
    if (tree->kind == Kind::unary_plus) return with_arguments(tree, {extract(tree->arguments[0])});
    if (tree->kind == Kind::binary && tree->name == "+")
      return with_arguments(tree, {extract(tree->arguments[0]), extract(tree->arguments[1])});
    if (tree->kind == Kind::binary && tree->name == "-" && find_bar(*tree->arguments[1]) == nullptr)
      return with_arguments(tree, {extract(tree->arguments[0]), tree->arguments[1]});
    if (const Expression* bar = find_bar(*tree))
      fail("a random-effects term '(effects | group)' can only be added with '+'", bar->position);
    return tree;
  }

private:
  [[noreturn]] void fail(const std::string& message, std::size_t position) const {
    throw FormulaError(message, formula_.text, position);
  }

  void take(const Expression& bar, std::size_t position) {
    for (const ExpressionPointer& side : bar.arguments)
      if (const Expression* inner = find_bar(*side))
        fail("a random-effects term has one bar: '(effects | group)'; found another within it", inner->position);
    formula_.random.push_back({bar.arguments[0], bar.arguments[1], bar.name == "||", position});
  }

  /// The tree with other arguments, of which some may be null; the tree itself where they are the same.
  static ExpressionPointer with_arguments(const ExpressionPointer& tree, std::vector<ExpressionPointer> arguments) {
    if (arguments == tree->arguments) return tree;
    if (arguments.size() == 1 || arguments[1] == nullptr) {
      // A pair of parentheses or a plus sign around what is left changes nothing.
      return arguments[0];
    }
    if (arguments[0] == nullptr && tree->name == "+") return arguments[1];
    auto changed = std::make_shared<Expression>(*tree);
    if (arguments[0] == nullptr) {  // "(1 | g) - 1": a sign is left
      changed->kind = Kind::unary_minus;
      arguments.erase(arguments.begin());
    }
    changed->arguments = std::move(arguments);
    return changed;
  }

  Formula& formula_;
};

}  // namespace

Formula parse_formula(const std::string& text) {
  Formula formula = Parser(text).run();
  if (const Expression* bar = find_bar(*formula.response))
    throw FormulaError("a bar in the response; random-effects terms stand right of '~'", text, bar->position);
  formula.fixed = RandomExtractor(formula).extract(formula.right_hand_side);
  return formula;
}

}  // namespace batchlmm
