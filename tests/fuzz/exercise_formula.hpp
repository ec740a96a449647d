/// @file
/// What must hold for any text taken as a formula; used by the fuzzer and by the tests.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "batchlmm/error.hpp"
#include "host/data/factor.hpp"
#include "host/formula/deparse.hpp"
#include "host/formula/formula.hpp"
#include "host/formula/random_terms.hpp"
#include "host/formula/terms.hpp"
#include "host/model/check_model.hpp"
#include "host/model/model_matrices.hpp"

namespace batchlmm::fuzz {

/// Twelve rows: y, x, z numeric (x with a missing value), a, b, g factors, o ordered, "a b" numeric.
inline const Table& small_table() {
  static const Table table = [] {
    Table t;
    t.source = "small table";
    t.rows = 12;
    const double nan = std::nan("");
    t.columns = {
        {"y", Numeric{1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12}},
        {"x", Numeric{0.5, 1, nan, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6}},
        {"z", Numeric{-1, 0, 1, -1, 0, 1, 2, 3, -1, 2, 0, 3}},
        {"a b", Numeric{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
        {"a", make_factor(std::vector<std::string>{"p", "q", "r", "p", "q", "r", "p", "q", "r", "p", "q", "r"})},
        {"b", make_factor(std::vector<std::string>{"u", "u", "u", "v", "v", "v", "u", "u", "u", "v", "v", "v"})},
        {"g", make_factor(Numeric{1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3})},
        {"o", make_factor(Numeric{1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4})}};
    std::get<Factor>(t.columns.back().data).ordered = true;
    return t;
  }();
  return table;
}

inline void require(bool holds, const char* property, const std::string& text) {
  if (!holds) throw std::logic_error(std::string(property) + " does not hold for: " + text);
}

/// A message that is one line, and a place within the text.
inline void check_error(const FormulaError& error, const std::string& text) {
  require(error.position() <= text.size(), "the position lies within the formula", text);
  require(std::string(error.what()).find('\n') == std::string::npos, "the message is one line", text);
}

/// @return whether the text is a formula
/// @throws std::logic_error where a property is violated; nothing else
inline bool exercise_formula(const std::string& text) {
  try {
    const Formula formula = parse_formula(text);
    const Terms fixed = expand_terms(formula.fixed.get(), formula);
    const auto random = expand_random_terms(formula);

    // What is deparsed means the same and deparses to itself.
    const std::string deparsed = deparse(formula);
    try {
      const Formula again = parse_formula(deparsed);
      require(deparse(again) == deparsed, "deparsing is idempotent", text);
      const Terms fixed_again = expand_terms(again.fixed.get(), again);
      const auto random_again = expand_random_terms(again);
      require(fixed.intercept == fixed_again.intercept && fixed.terms.size() == fixed_again.terms.size() &&
                  random.size() == random_again.size(),
              "deparsing keeps the terms", text);
      for (std::size_t i = 0; i < fixed.terms.size(); ++i)
        require(fixed.label(fixed.terms[i]) == fixed_again.label(fixed_again.terms[i]), "deparsing keeps the labels",
                text);
      for (const RandomEffects& term : random)
        require(std::any_of(random_again.begin(), random_again.end(),
                            [&](const RandomEffects& r) { return r.group_name == term.group_name; }),
                "deparsing keeps the groups", text);
    } catch (const FormulaError& error) {
      // Written out, `||` nests deeper and takes more room; the largest doubles exceed the range after rounding.
      const std::string message = error.what();
      require(message.find("too deeply") != std::string::npos || message.find("too long") != std::string::npos ||
                  message.find("out of range") != std::string::npos || message.find("accepted") != std::string::npos,
              "what is deparsed can be parsed", text + " => " + deparsed + ": " + message);
    }

    try {
      const ModelMatrices m = model_matrices(formula, small_table());
      require(m.X.allFinite() && m.y.allFinite() && m.offset.allFinite(), "values are finite", text);
      require(static_cast<std::size_t>(m.X.cols()) == m.x_names.size() && m.X.rows() == m.y.size(),
              "X has a name a column", text);
      require(m.X.cols() <= m.X.rows(), "X has full column rank", text);
      for (std::size_t t = 0; t < m.random.size(); ++t) {
        const RandomTerm& term = m.random[t];
        require(term.z.allFinite() && static_cast<std::size_t>(term.z.cols()) == term.names.size() &&
                    term.z.rows() == m.y.size() && term.level_of_row.size() == static_cast<std::size_t>(m.y.size()),
                "random-effects terms have their sizes", text);
        require(t == 0 || m.random[t - 1].levels.size() >= term.levels.size(), "terms are in order", text);
        for (const std::int32_t level : term.level_of_row)
          require(level >= 0 && static_cast<std::size_t>(level) < term.levels.size(), "levels are in range", text);
      }
      check_model(m);
    } catch (const FormulaError&) {
      throw;
    } catch (const InputError&) {
      // What the formula makes of this table is no model.
    }
    return true;
  } catch (const FormulaError& error) {
    check_error(error, text);
    return false;
  }
}

}  // namespace batchlmm::fuzz
