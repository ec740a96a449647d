#include "host/formula/terms.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <unordered_map>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/formula/deparse.hpp"

namespace batchlmm {
namespace {

using Kind = Expression::Kind;
using Set = std::vector<std::size_t>;  ///< the variables of a term, ascending
using Sets = std::vector<Set>;

constexpr std::size_t kMaxTerms = 5'000;
constexpr std::size_t kMaxProducts = 100'000;

Set united(const Set& a, const Set& b) {
  Set result;
  result.reserve(a.size() + b.size());
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(result));
  return result;
}

Set united(const Sets& sets) {
  Set result;
  for (const Set& set : sets) result = united(result, set);
  return result;
}

class Expander {
public:
  explicit Expander(const Formula& formula) : formula_(formula) {}

  Terms run(const Expression* tree) {
    const Sets sets = tree == nullptr ? Sets{} : expand(*tree);
    for (std::size_t i = 0; i < terms_.variables.size(); ++i) {
      const Expression& e = *terms_.variables[i].expression;
      if (e.kind == Kind::call && e.name == "offset") terms_.offsets.push_back(i);
    }
    for (const Set& set : sets) {
      const bool has_offset = std::any_of(terms_.offsets.begin(), terms_.offsets.end(), [&](std::size_t offset) {
        return std::binary_search(set.begin(), set.end(), offset);
      });
      if (!has_offset) terms_.terms.push_back({set, {}});
    }
    std::stable_sort(terms_.terms.begin(), terms_.terms.end(),
                     [](const Term& a, const Term& b) { return a.variables.size() < b.variables.size(); });
    code_terms(terms_);
    return std::move(terms_);
  }

private:
  [[noreturn]] void fail(const std::string& message, const Expression& where) const {
    throw FormulaError(message, formula_.text, where.position);
  }

  // Each function below is one of R's model.c: EncodeVars, PlusTerms, CrossTerms, ...
  // Recursion goes as deep as the tree, which the parser bounds.
  Sets expand(const Expression& e) {
    switch (e.kind) {
      case Kind::number:
        if (e.value != 0 && e.value != 1)
          fail("the number " + deparse(e) +
                   " is no term; only 0 and 1 (the intercept) are, and arithmetic stands in I()",
               e);
        terms_.intercept = (e.value == 1) == adding_;
        return {};
      case Kind::variable:
        if (e.name == ".") fail("'.' is not supported; name the columns", e);
        return {{variable(e)}};
      case Kind::call:
        if (e.name == "(") return expand(*e.arguments[0]);
        return {{variable(e)}};
      case Kind::unary_plus:
        return expand(*e.arguments[0]);
      case Kind::unary_minus:
        subtracted(*e.arguments[0]);
        return {};
      case Kind::binary:
        break;
    }
    const Expression& left = *e.arguments[0];
    const Expression& right = *e.arguments[1];
    if (e.name == "+") return sum(e);
    if (e.name == "-") {
      Sets sets = expand(left);
      const Sets out = subtracted(right);
      std::erase_if(sets, [&](const Set& set) { return std::find(out.begin(), out.end(), set) != out.end(); });
      return sets;
    }
    if (e.name == "^") return power(e);
    if (e.name != ":" && e.name != "*" && e.name != "/" && e.name != "%in%")
      fail("'" + e.name + "' has no meaning between terms; arithmetic stands in I()", e);
    Sets l = expand(left);
    Sets r = expand(right);
    // R takes "1 * x" for nothing at all; more likely I(1 * x) or 1 + x is meant.
    if (l.empty()) fail("expected a variable left of '" + e.name + "'; 0 and 1 are none", left);
    if (e.name == ":") {
      if (r.empty()) fail("expected a variable right of ':'; 0 and 1 are none", right);
      return distinct(products(l, r, e), e);
    }
    if (e.name == "%in%") return distinct(products(l, {united(r)}, e), e);
    Sets crossed = e.name == "*" ? products(l, r, e) : products({united(l)}, r, e);
    if (e.name == "*") append(l, std::move(r));
    append(l, std::move(crossed));
    return distinct(std::move(l), e);
  }

  /// A chain of "+" at once, so that a long sum takes no quadratic time.
  Sets sum(const Expression& e) {
    std::vector<const Expression*> summands;
    const Expression* rest = &e;
    for (; rest->kind == Kind::binary && rest->name == "+"; rest = rest->arguments[0].get())
      summands.push_back(rest->arguments[1].get());
    Sets sets = expand(*rest);
    for (auto it = summands.rbegin(); it != summands.rend(); ++it) append(sets, expand(**it));
    return distinct(std::move(sets), e);
  }

  Sets subtracted(const Expression& e) {
    adding_ = !adding_;
    Sets sets = expand(e);
    adding_ = !adding_;
    return sets;
  }

  Sets power(const Expression& e) {
    const Sets left = expand(*e.arguments[0]);
    const Expression& exponent = *e.arguments[1];
    if (exponent.kind != Kind::number || exponent.value < 1 || exponent.value != std::trunc(exponent.value))
      fail("expected a whole number from 1 on after '^', found " + deparse(exponent) + "; arithmetic stands in I()",
           exponent);
    Sets result = left;
    // More factors than there are terms bring nothing new.
    const double times = std::min(exponent.value, static_cast<double>(left.size()) + 1);
    for (double i = 1; i < times; ++i) {
      Sets next = distinct(products(left, result, e), e);
      if (next == result) break;
      result = std::move(next);
    }
    return result;
  }

  std::size_t variable(const Expression& e) {
    std::string label = deparse(e);
    const auto [it, is_new] = index_.try_emplace(label, terms_.variables.size());
    if (is_new) terms_.variables.push_back({std::move(label), std::make_shared<const Expression>(e)});
    return it->second;
  }

  static void append(Sets& to, Sets&& from) {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  }

  [[nodiscard]] Sets products(const Sets& left, const Sets& right, const Expression& where) const {
    if (left.size() * right.size() > kMaxProducts)
      fail("the formula expands to more than " + std::to_string(kMaxTerms) + " terms", where);
    Sets result;
    result.reserve(left.size() * right.size());
    for (const Set& l : left)
      for (const Set& r : right) result.push_back(united(l, r));
    return result;
  }

  [[nodiscard]] Sets distinct(Sets sets, const Expression& where) const {
    std::set<Set> seen;
    std::erase_if(sets, [&](const Set& set) { return set.empty() || !seen.insert(set).second; });
    if (sets.size() > kMaxTerms)
      fail("the formula expands to more than " + std::to_string(kMaxTerms) + " terms", where);
    return sets;
  }

  const Formula& formula_;
  Terms terms_;
  std::unordered_map<std::string, std::size_t> index_;
  bool adding_ = true;  ///< false within what an odd number of minus signs takes away
};

}  // namespace

std::string Terms::label(const Term& term) const {
  std::string label;
  for (const std::size_t v : term.variables) label += (label.empty() ? "" : ":") + variables[v].label;
  return label;
}

Terms expand_terms(const Expression* tree, const Formula& formula) { return Expander(formula).run(tree); }

void code_terms(Terms& terms) {
  for (std::size_t t = 0; t < terms.terms.size(); ++t) {
    Term& term = terms.terms[t];
    term.full.assign(term.variables.size(), false);
    if (term.variables.size() == 1) continue;  // R takes contrasts for a main effect, with or without intercept
    for (std::size_t i = 0; i < term.variables.size(); ++i) {
      Set rest = term.variables;
      rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
      const bool spanned = std::any_of(
          terms.terms.begin(), terms.terms.begin() + static_cast<std::ptrdiff_t>(t), [&](const Term& before) {
            return std::includes(before.variables.begin(), before.variables.end(), rest.begin(), rest.end());
          });
      term.full[i] = !spanned;
    }
  }
}

void code_without_intercept(Terms& terms, const std::vector<bool>& is_factor) {
  for (Term& term : terms.terms) {
    for (std::size_t i = 0; i < term.variables.size(); ++i) {
      if (!is_factor[term.variables[i]]) continue;
      term.full[i] = true;
      return;
    }
  }
}

}  // namespace batchlmm
