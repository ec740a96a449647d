#include "host/formula/random_terms.hpp"

#include <string>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/formula/deparse.hpp"

namespace batchlmm {
namespace {

using Kind = Expression::Kind;
using ExpressionPointer = std::shared_ptr<const Expression>;

constexpr std::size_t kMaxNestedFactors = 20;

bool is_binary(const Expression& e, const char* operation) { return e.kind == Kind::binary && e.name == operation; }
bool is_parenthesis(const Expression& e) { return e.kind == Kind::call && e.name == "("; }

struct Effects {
  Terms terms;
  std::string text;
};

/// The terms that `(effects || group)` stands for.
std::vector<Effects> split(const Expression& effects, const Formula& formula) {
  const Terms whole = expand_terms(&effects, formula);
  std::vector<Effects> parts;
  if (whole.intercept) parts.push_back({Terms{}, "1"});
  for (const Term& term : whole.terms) {
    Effects part;
    part.terms.intercept = false;
    for (const std::size_t v : term.variables) part.terms.variables.push_back(whole.variables[v]);
    part.terms.terms.emplace_back();
    for (std::size_t i = 0; i < term.variables.size(); ++i) part.terms.terms[0].variables.push_back(i);
    code_terms(part.terms);
    part.text = "0 + " + whole.label(term);
    parts.push_back(std::move(part));
  }
  return parts;
}

/// The grouping factors that a/b/c stands for, the finest first.
// Recursion goes as deep as the tree, which the parser bounds.
std::vector<ExpressionPointer> nested(const ExpressionPointer& group, const Formula& formula) {
  const Expression* bare = group.get();
  while (is_parenthesis(*bare)) bare = bare->arguments[0].get();
  if (!is_binary(*bare, "/")) return {group};
  std::vector<ExpressionPointer> outer = nested(bare->arguments[0], formula);
  const std::vector<ExpressionPointer> inner = nested(bare->arguments[1], formula);
  if (inner.size() != 1)
    throw FormulaError("expected one grouping factor right of '/', as in (1 | a/b/c)", formula.text,
                       bare->arguments[1]->position);
  if (outer.size() >= kMaxNestedFactors)
    throw FormulaError("more than " + std::to_string(kMaxNestedFactors) + " grouping factors nested by '/'",
                       formula.text, bare->arguments[1]->position);
  auto crossed = std::make_shared<Expression>();
  crossed->kind = Kind::binary;
  crossed->name = ":";
  crossed->arguments = {inner[0], outer[0]};
  crossed->position = group->position;
  outer.insert(outer.begin(), std::move(crossed));
  return outer;
}

/// Only columns, calls and ":" of them make a grouping factor.
void check_group(const Expression& e, const Formula& formula) {
  if (is_parenthesis(e)) return check_group(*e.arguments[0], formula);
  if (is_binary(e, ":")) {
    check_group(*e.arguments[0], formula);
    return check_group(*e.arguments[1], formula);
  }
  if (e.kind == Kind::variable && e.name != ".") return;
  if (e.kind == Kind::call && e.name != "offset") return;
  throw FormulaError("expected a grouping factor (a column, a:b or a/b) right of the bar, found " + deparse(e),
                     formula.text, e.position);
}

}  // namespace

std::vector<EffectsText> split_uncorrelated(const Expression& effects, const Formula& formula) {
  std::vector<EffectsText> texts;
  for (Effects& part : split(effects, formula)) texts.push_back(std::move(part.text));
  return texts;
}

std::vector<RandomEffects> expand_random_terms(const Formula& formula) {
  std::vector<RandomEffects> result;
  for (const RandomSyntax& syntax : formula.random) {
    std::vector<Effects> parts;
    if (syntax.uncorrelated) {
      parts = split(*syntax.lhs, formula);
    } else {
      parts.push_back({expand_terms(syntax.lhs.get(), formula), deparse(*syntax.lhs)});
      if (!parts[0].terms.intercept && parts[0].terms.terms.empty()) parts.clear();
    }
    if (parts.empty())
      throw FormulaError("a random-effects term without effects; expected a term left of the bar, as in (1 | group)",
                         formula.text, syntax.position);
    const std::vector<ExpressionPointer> groups = nested(syntax.group, formula);
    for (const ExpressionPointer& group : groups) check_group(*group, formula);
    for (const Effects& part : parts) {
      if (!part.terms.offsets.empty())
        throw FormulaError("an offset cannot stand in a random-effects term", formula.text, syntax.position);
      for (const ExpressionPointer& group : groups) {
        std::string name = group->kind == Kind::variable ? group->name : deparse(*group);
        std::string text = part.text + " | " + deparse(*group);
        result.push_back({part.terms, group, std::move(name), std::move(text), syntax.position});
      }
    }
  }
  return result;
}

}  // namespace batchlmm
