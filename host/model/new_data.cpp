#include "host/model/new_data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/data/nearest_name.hpp"
#include "host/formula/terms.hpp"
#include "host/model/fixed_effects.hpp"
#include "host/model/term_matrix.hpp"

namespace batchlmm {
namespace {

/// Levels by name. @throws ModelError where two have one name
std::unordered_map<std::string, std::int32_t> numbers_of(const RandomTerm& term) {
  std::unordered_map<std::string, std::int32_t> numbers;
  for (const std::string& level : term.levels)
    if (!numbers.emplace(level, static_cast<std::int32_t>(numbers.size())).second)
      throw ModelError("two levels of '" + term.group + "' are called '" + level +
                       "': rows of other data cannot be told apart");
  return numbers;
}

}  // namespace

NewData::NewData(Formula formula, const Table& table, ModelOptions options,
                 std::shared_ptr<const ModelMatrices> matrices)
    : formula_(std::move(formula)),
      options_(std::move(options)),
      matrices_(std::move(matrices)),
      fixed_(expand_terms(formula_.fixed.get(), formula_)),
      frame_(table, formula_),
      table_rows_(table.rows) {
  const std::vector<RandomEffects> written = expand_random_terms(formula_);
  std::vector<char> taken(written.size(), 0);
  for (const RandomTerm& term : matrices_->random)
    for (std::size_t i = 0; i < written.size(); ++i)
      if (taken[i] == 0 && written[i].group_name == term.group && written[i].text == term.text) {
        taken[i] = 1;
        random_.push_back(written[i]);
        break;
      }
  frame_.add({matrices_->response, formula_.response});
  frame_.add(fixed_);
  for (const RandomEffects& term : random_) {
    frame_.add(term.effects);
    frame_.add_group(*term.group);
  }
  frame_.finish();
  recipe_ = frame_.recipe();
  kept_ = fixed_effects(fixed_, frame_, options_).kept;
}

NewRows NewData::rows(const Table& table, const std::vector<TermUse>& use) const {
  ModelFrame frame(table, formula_, recipe_);
  frame.add(fixed_);
  for (std::size_t t = 0; t < random_.size(); ++t) {
    if (use[t] != TermUse::none) frame.add(random_[t].effects);
    if (use[t] == TermUse::levels) frame.add_group(*random_[t].group);
  }
  frame.finish();

  NewRows made;
  made.table_rows = table.rows;
  made.rows = frame.rows();
  const auto n = static_cast<Eigen::Index>(made.rows.size());
  const TermMatrix fixed = term_matrix(fixed_, frame, options_, "fixed effects");
  made.X.resize(n, static_cast<Eigen::Index>(kept_.size()));
  for (std::size_t j = 0; j < kept_.size(); ++j) made.X.col(static_cast<Eigen::Index>(j)) = fixed.values.col(kept_[j]);
  made.offset = Eigen::VectorXd::Zero(n);
  for (const std::size_t v : fixed_.offsets)
    made.offset += std::get<NumericValue>(frame.at(fixed_.variables[v].label)).values.col(0);
  made.terms.resize(random_.size());
  for (std::size_t t = 0; t < random_.size(); ++t) {
    if (use[t] == TermUse::none) continue;
    NewTerm& term = made.terms[t];
    term.z = term_matrix(random_[t].effects, frame, options_, "random-effects term (" + random_[t].text + ")").values;
    if (use[t] == TermUse::columns) continue;
    const Factor group = frame.group(*random_[t].group);
    const auto numbers = numbers_of(matrices_->random[t]);
    const auto known = static_cast<std::int32_t>(matrices_->random[t].levels.size());
    std::vector<std::int32_t> number;
    for (const std::string& level : group.levels) {
      const auto found = numbers.find(level);
      number.push_back(found != numbers.end() ? found->second
                                              : known + static_cast<std::int32_t>(term.new_levels.size()));
      if (found == numbers.end()) term.new_levels.push_back(level);
    }
    for (const std::int32_t code : group.codes) term.level.push_back(number[static_cast<std::size_t>(code)]);
  }
  return made;
}

NewRows NewData::own_rows() const {
  NewRows own{table_rows_, matrices_->rows, matrices_->X, matrices_->offset, {}};
  for (const RandomTerm& term : matrices_->random) own.terms.push_back({term.z, term.level_of_row, {}});
  return own;
}

std::vector<std::vector<bool>> NewData::columns_named(const std::string& text) const {
  const std::vector<RandomTerm>& random = matrices_->random;
  std::vector<std::vector<bool>> chosen;
  std::vector<std::string> groups;
  for (const RandomTerm& term : random) {
    chosen.emplace_back(term.names.size(), false);
    if (std::find(groups.begin(), groups.end(), term.group) == groups.end()) groups.push_back(term.group);
  }
  const auto known_group = [&](const std::string& group) {
    if (std::find(groups.begin(), groups.end(), group) == groups.end())
      throw InputError("expected a random-effects term of the model or its grouping factor, found '" + text + "'" +
                       nearest_name_hint(group, groups, "grouping factors"));
  };
  if (text.find('|') == std::string::npos) {
    known_group(text);
    for (std::size_t t = 0; t < random.size(); ++t)
      if (random[t].group == text) chosen[t].assign(chosen[t].size(), true);
    return chosen;
  }
  const Formula formula = parse_formula("y ~ " + (text.find('(') == std::string::npos ? "(" + text + ")" : text));
  if (formula.fixed != nullptr)
    throw InputError("expected random-effects terms only, as in '(1 | group)', found '" + text + "'");
  for (const RandomEffects& term : expand_random_terms(formula)) {
    known_group(term.group_name);
    std::vector<std::string> of_group;
    for (const RandomTerm& other : random)
      if (other.group == term.group_name) of_group.insert(of_group.end(), other.names.begin(), other.names.end());
    const auto lacks = [&](const std::string& name) {
      throw InputError(fmt::format("the model has no '{}' by '{}', which '{}' asks for{}", name, term.group_name, text,
                                   nearest_name_hint(name, of_group, "coefficients")));
    };
    for (const Variable& variable : term.effects.variables)
      if (!frame_.has(variable.label)) lacks(variable.label);
    for (const std::string& name : term_matrix(term.effects, frame_, options_, "random-effects term").names) {
      bool found = false;
      for (std::size_t t = 0; t < random.size() && !found; ++t)
        for (std::size_t c = 0; c < random[t].names.size() && !found; ++c)
          if (random[t].group == term.group_name && random[t].names[c] == name) found = chosen[t][c] = true;
      if (!found) lacks(name);
    }
  }
  return chosen;
}

}  // namespace batchlmm
