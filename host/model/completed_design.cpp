#include "host/model/completed_design.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace batchlmm {
namespace {

using Codes = std::vector<std::int32_t>;

/// A column of X takes part in the pattern when it has at most this many distinct values, or one in eight rows.
constexpr std::size_t few_values = 16;

std::uint64_t mixed(std::uint64_t hash, std::uint64_t value) {
  std::uint64_t z = (hash ^ value) + 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31U);
}

/// Numbers of distinct values in the order in which they occur.
template <class Values>
Codes codes_of(const Values& values, std::int32_t* count) {
  std::unordered_map<std::uint64_t, std::int32_t> known;
  Codes out;
  out.reserve(static_cast<std::size_t>(values.size()));
  for (const auto& value : values) {
    std::uint64_t bits = 0;
    if constexpr (std::is_floating_point_v<std::decay_t<decltype(value)>>)
      bits = std::bit_cast<std::uint64_t>(value + 0.0);  // -0 is 0
    else
      bits = static_cast<std::uint64_t>(value);
    out.push_back(known.emplace(bits, static_cast<std::int32_t>(known.size())).first->second);
  }
  *count = static_cast<std::int32_t>(known.size());
  return out;
}

struct Factor {
  Codes level_of_row;
  std::int32_t levels = 0;
};

/// What the rows' pattern is made of, for one model or two.
struct Pattern {
  std::vector<Factor> factors;  ///< distinct grouping factors
  std::vector<Factor> z;        ///< distinct columns of the random effects, by value
  std::vector<Factor> x;        ///< distinct columns of X with few values
};

void add_distinct(std::vector<Factor>* list, Factor factor) {
  const bool known =
      std::any_of(list->begin(), list->end(), [&](const Factor& f) { return f.level_of_row == factor.level_of_row; });
  if (!known) list->push_back(std::move(factor));
}

void add_pattern(const ModelMatrices& matrices, Pattern* pattern) {
  const auto add = [](std::vector<Factor>* list, const auto& values, std::size_t most) {
    Factor factor;
    factor.level_of_row = codes_of(values, &factor.levels);
    if (factor.levels > 1 && static_cast<std::size_t>(factor.levels) <= most) add_distinct(list, std::move(factor));
  };
  const auto n = static_cast<std::size_t>(matrices.y.size());
  for (const RandomTerm& term : matrices.random) {
    add(&pattern->factors, term.level_of_row, n);
    for (Eigen::Index c = 0; c < term.z.cols(); ++c) add(&pattern->z, term.z.col(c), n);
  }
  for (Eigen::Index c = 0; c < matrices.X.cols(); ++c) add(&pattern->x, matrices.X.col(c), std::max(few_values, n / 8));
}

/// Every level of `inner` occurs in one level of `outer` only.
bool nested(const Factor& inner, const Factor& outer) {
  std::vector<std::int32_t> seen(static_cast<std::size_t>(inner.levels), -1);
  for (std::size_t i = 0; i < inner.level_of_row.size(); ++i) {
    std::int32_t& at = seen[static_cast<std::size_t>(inner.level_of_row[i])];
    if (at < 0) at = outer.level_of_row[i];
    if (at != outer.level_of_row[i]) return false;
  }
  return true;
}

/// A row to be added: like `like`, in another level.
struct AddedRow {
  std::int32_t own = 0;   ///< an observed row of the level
  std::int32_t like = 0;  ///< an observed row of another level
  Codes level;            ///< per factor; from Factor::levels on, a level that was not observed at all
};

struct Completion {
  std::size_t factor = 0;
  std::vector<AddedRow> rows;
};

/// Types of the rows of one factor's levels: a type occurs at most once in a level.
struct RowTypes {
  std::vector<std::int32_t> type_of_row;
  std::vector<std::vector<std::int32_t>> rows_of_level;   ///< by type, ascending
  std::vector<std::vector<std::int32_t>> types_of_level;  ///< ascending
};

RowTypes row_types(const Factor& f, const std::vector<const Factor*>& varying) {
  const std::size_t n = f.level_of_row.size();
  RowTypes out;
  out.type_of_row.resize(n);
  out.rows_of_level.resize(static_cast<std::size_t>(f.levels));
  out.types_of_level.resize(static_cast<std::size_t>(f.levels));
  std::unordered_map<std::uint64_t, std::int32_t> types;
  std::unordered_map<std::uint64_t, std::uint64_t> occurrences;
  types.reserve(n);
  occurrences.reserve(n);
  for (std::size_t i = 0; i < n; ++i) {
    std::uint64_t hash = 1;
    for (const Factor* column : varying) hash = mixed(hash, static_cast<std::uint64_t>(column->level_of_row[i]));
    // Rows that are alike within a level are told apart by their order.
    hash = mixed(hash, occurrences[mixed(hash, static_cast<std::uint64_t>(f.level_of_row[i]))]++);
    out.type_of_row[i] = types.emplace(hash, static_cast<std::int32_t>(types.size())).first->second;
    out.rows_of_level[static_cast<std::size_t>(f.level_of_row[i])].push_back(static_cast<std::int32_t>(i));
  }
  for (std::size_t l = 0; l < out.rows_of_level.size(); ++l) {
    std::sort(out.rows_of_level[l].begin(), out.rows_of_level[l].end(),
              [&](std::int32_t a, std::int32_t b) { return out.type_of_row[a] < out.type_of_row[b]; });
    for (std::int32_t row : out.rows_of_level[l]) out.types_of_level[l].push_back(out.type_of_row[row]);
  }
  return out;
}

/// Levels that are, or are to become, alike.
struct Kind {
  std::vector<std::int32_t> types;   ///< of the complete level, ascending
  std::vector<std::size_t> members;  ///< indices of sets of types
  int levels = 0;
};

/// Gathers levels whose types differ by little, as long as the rows that they lack are few.
/// @return nothing where too many rows are missing or too many kinds are left
std::optional<std::vector<std::pair<std::vector<std::int32_t>, std::vector<std::int32_t>>>> kinds_of_levels(
    const RowTypes& types, int most_rows, int most_patterns) {
  std::map<std::vector<std::int32_t>, std::vector<std::int32_t>> sets;  // levels of each set of types
  for (std::size_t l = 0; l < types.types_of_level.size(); ++l) {
    sets[types.types_of_level[l]].push_back(static_cast<std::int32_t>(l));
    if (static_cast<int>(sets.size()) > most_rows + most_patterns) return std::nullopt;
  }
  // Large sets first: what is small may be a part of one.
  std::vector<std::pair<const std::vector<std::int32_t>*, const std::vector<std::int32_t>*>> order;
  order.reserve(sets.size());
  for (const auto& [set, levels] : sets) order.emplace_back(&set, &levels);
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first->size(), a.second->size()) > std::pair(b.first->size(), b.second->size());
  });
  std::vector<Kind> kinds;
  int spent = 0;
  for (std::size_t s = 0; s < order.size(); ++s) {
    const std::vector<std::int32_t>& set = *order[s].first;
    const int levels = static_cast<int>(order[s].second->size());
    int best = -1, best_cost = 0;
    bool too_many = false;
    std::vector<std::int32_t> best_union;
    for (std::size_t k = 0; k < kinds.size(); ++k) {
      std::vector<std::int32_t> all;
      std::set_union(set.begin(), set.end(), kinds[k].types.begin(), kinds[k].types.end(), std::back_inserter(all));
      const int lacks = static_cast<int>(all.size() - set.size()),
                grows = static_cast<int>(all.size() - kinds[k].types.size());
      // Rows are missing where most are there, and where fewer levels lack them than have them: the lists of a
      // counterbalanced experiment, or subjects who leave early, are kinds of their own.
      if (3 * std::max(lacks, grows) > static_cast<int>(all.size()) || levels > std::max(1, kinds[k].levels / 3))
        continue;
      const int cost = levels * lacks + kinds[k].levels * grows;
      if (spent + cost > most_rows) {
        too_many = too_many || 4 * std::max(lacks, grows) <= static_cast<int>(all.size());
        continue;
      }
      if (best >= 0 && cost >= best_cost) continue;
      best = static_cast<int>(k);
      best_cost = cost;
      best_union = std::move(all);
    }
    if (best < 0 && too_many) return std::nullopt;
    if (best < 0) {
      kinds.push_back({set, {s}, levels});
      if (static_cast<int>(kinds.size()) > most_patterns) return std::nullopt;
    } else {
      kinds[best].types = std::move(best_union);
      kinds[best].members.push_back(s);
      kinds[best].levels += levels;
      spent += best_cost;
    }
  }
  std::vector<std::pair<std::vector<std::int32_t>, std::vector<std::int32_t>>> out;
  for (Kind& kind : kinds) {
    std::vector<std::int32_t> levels;
    for (std::size_t s : kind.members) levels.insert(levels.end(), order[s].second->begin(), order[s].second->end());
    std::sort(levels.begin(), levels.end());
    out.emplace_back(std::move(kind.types), std::move(levels));
  }
  return out;
}

std::vector<const Factor*> varying_columns(const Pattern& pattern, std::size_t f, bool with_x) {
  std::vector<const Factor*> out;
  const Factor& factor = pattern.factors[f];
  for (std::size_t g = 0; g < pattern.factors.size(); ++g)
    if (g != f && !nested(factor, pattern.factors[g]) && !nested(pattern.factors[g], factor))
      out.push_back(&pattern.factors[g]);
  for (const Factor& column : pattern.z)
    if (!nested(factor, column)) out.push_back(&column);
  if (with_x)
    for (const Factor& column : pattern.x)
      if (!nested(factor, column)) out.push_back(&column);
  return out;
}

/// Whether the levels have more than `most` sets of types, told by some of them.
bool has_more_sets(const Factor& f, const std::vector<const Factor*>& varying, int most) {
  std::vector<std::vector<std::uint64_t>> rows(static_cast<std::size_t>(std::min(f.levels, 2 * (most + 1))));
  for (std::size_t i = 0; i < f.level_of_row.size(); ++i) {
    const auto level = static_cast<std::size_t>(f.level_of_row[i]);
    if (level >= rows.size()) continue;
    std::uint64_t hash = 1;
    for (const Factor* column : varying) hash = mixed(hash, static_cast<std::uint64_t>(column->level_of_row[i]));
    rows[level].push_back(hash);
  }
  for (std::vector<std::uint64_t>& level : rows) std::sort(level.begin(), level.end());
  return std::set<std::vector<std::uint64_t>>(rows.begin(), rows.end()).size() > static_cast<std::size_t>(most);
}

std::optional<Completion> completion_by(const Pattern& pattern, std::size_t f,
                                        const std::vector<const Factor*>& varying, int most_rows, int most_patterns) {
  const Factor& factor = pattern.factors[f];
  if (has_more_sets(factor, varying, most_rows + most_patterns)) return std::nullopt;
  const RowTypes types = row_types(factor, varying);
  const auto kinds = kinds_of_levels(types, most_rows, most_patterns);
  if (!kinds) return std::nullopt;
  Completion out;
  out.factor = f;
  // Levels of factors within this one that were not observed at all, by factor, level and the level that it is like.
  std::map<std::array<std::int32_t, 3>, std::int32_t> new_levels;
  std::vector<std::int32_t> count;
  for (const Factor& g : pattern.factors) count.push_back(g.levels);
  for (const auto& [all, levels] : *kinds) {
    // Rows to copy, from the most complete levels of the kind.
    std::vector<std::int32_t> order = levels;
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      return types.types_of_level[a].size() > types.types_of_level[b].size();
    });
    std::unordered_map<std::int32_t, std::int32_t> row_of_type;
    for (std::int32_t l : order)
      for (std::int32_t row : types.rows_of_level[l]) row_of_type.emplace(types.type_of_row[row], row);
    for (std::int32_t l : levels) {
      const std::vector<std::int32_t>& own = types.types_of_level[l];
      std::vector<std::int32_t> lacking;
      std::set_difference(all.begin(), all.end(), own.begin(), own.end(), std::back_inserter(lacking));
      for (std::int32_t type : lacking) {
        AddedRow added{types.rows_of_level[l].front(), row_of_type.at(type), {}};
        for (std::size_t g = 0; g < pattern.factors.size(); ++g) {
          const Codes& codes = pattern.factors[g].level_of_row;
          if (g == f || nested(factor, pattern.factors[g])) {
            added.level.push_back(codes[added.own]);
          } else if (!nested(pattern.factors[g], factor)) {
            added.level.push_back(codes[added.like]);
          } else {
            // A factor within this one: the level of the rows here that are like the neighbours of `like`.
            std::int32_t found = -1;
            for (std::int32_t neighbour : types.rows_of_level[factor.level_of_row[added.like]]) {
              if (found >= 0 || codes[neighbour] != codes[added.like]) continue;
              const auto at = std::lower_bound(own.begin(), own.end(), types.type_of_row[neighbour]);
              if (at != own.end() && *at == types.type_of_row[neighbour])
                found = codes[types.rows_of_level[l][static_cast<std::size_t>(at - own.begin())]];
            }
            if (found < 0) {
              const auto [it, is_new] =
                  new_levels.emplace(std::array{static_cast<std::int32_t>(g), l, codes[added.like]}, count[g]);
              if (is_new) ++count[g];
              found = it->second;
            }
            added.level.push_back(found);
          }
        }
        out.rows.push_back(std::move(added));
      }
    }
  }
  if (out.rows.empty()) return std::nullopt;
  return out;
}

/// The row whose value of a column an added row takes.
/// @param within  the column varies within levels of the completion's factor
std::int32_t source_of(const AddedRow& row, bool within) { return within ? row.like : row.own; }

/// The pattern with the added rows.
Pattern completed(const Pattern& pattern, const Completion& completion) {
  Pattern out = pattern;
  for (const AddedRow& row : completion.rows)
    for (std::size_t g = 0; g < out.factors.size(); ++g) {
      out.factors[g].level_of_row.push_back(row.level[g]);
      out.factors[g].levels = std::max(out.factors[g].levels, row.level[g] + 1);
    }
  const auto extend = [&](const std::vector<Factor>& from, std::vector<Factor>* to) {
    for (std::size_t c = 0; c < from.size(); ++c) {
      const bool within = !nested(pattern.factors[completion.factor], from[c]);
      for (const AddedRow& row : completion.rows)
        (*to)[c].level_of_row.push_back(from[c].level_of_row[source_of(row, within)]);
    }
  };
  extend(pattern.z, &out.z);
  extend(pattern.x, &out.x);
  return out;
}

/// Kinds of levels of all factors together.
std::size_t count_kinds(const Pattern& pattern, bool with_x) {
  std::size_t count = 0;
  for (std::size_t f = 0; f < pattern.factors.size(); ++f) {
    RowTypes types = row_types(pattern.factors[f], varying_columns(pattern, f, with_x));
    count += std::set<std::vector<std::int32_t>>(types.types_of_level.begin(), types.types_of_level.end()).size();
  }
  return count;
}

std::shared_ptr<const ModelMatrices> fill(const ModelMatrices& from, const Pattern& pattern,
                                          const Completion& completion) {
  const Eigen::Index n = from.y.size(), added = static_cast<Eigen::Index>(completion.rows.size());
  auto out = std::make_shared<ModelMatrices>(from);
  const Factor& factor = pattern.factors[completion.factor];
  const auto extend = [&](Eigen::MatrixXd* matrix) {
    matrix->conservativeResize(n + added, Eigen::NoChange);
    for (Eigen::Index c = 0; c < matrix->cols(); ++c) {
      Factor column;
      column.level_of_row = codes_of(matrix->col(c).head(n), &column.levels);
      const bool within = !nested(factor, column);
      for (Eigen::Index i = 0; i < added; ++i)
        (*matrix)(n + i, c) = (*matrix)(source_of(completion.rows[i], within), c);
    }
  };
  extend(&out->X);
  out->y.conservativeResize(n + added);
  out->y.tail(added).setZero();
  out->offset.conservativeResize(n + added);
  out->offset.tail(added).setZero();
  out->rows.resize(static_cast<std::size_t>(n + added), std::numeric_limits<std::size_t>::max());
  for (RandomTerm& term : out->random) {
    extend(&term.z);
    std::int32_t count = 0;
    const Codes codes = codes_of(term.level_of_row, &count);
    std::size_t g = 0;
    while (g < pattern.factors.size() && pattern.factors[g].level_of_row != codes) ++g;
    const std::int32_t observed = static_cast<std::int32_t>(term.levels.size());
    for (const AddedRow& row : completion.rows) {
      if (g == pattern.factors.size()) {  // a factor of one level is no part of the pattern
        term.level_of_row.push_back(0);
      } else if (row.level[g] >= count) {
        const std::int32_t level = observed + row.level[g] - count;
        while (static_cast<std::int32_t>(term.levels.size()) <= level)
          term.levels.push_back("(missing " + std::to_string(term.levels.size()) + ")");
        term.level_of_row.push_back(level);
      } else {
        const auto row_of_level = std::find(codes.begin(), codes.end(), row.level[g]);
        term.level_of_row.push_back(term.level_of_row[static_cast<std::size_t>(row_of_level - codes.begin())]);
      }
    }
  }
  return out;
}

std::optional<CompletedDesign> complete(const ModelMatrices& matrices, const ModelMatrices* second,
                                        const CompletionOptions& options) {
  Pattern pattern;
  add_pattern(matrices, &pattern);
  if (second != nullptr) add_pattern(*second, &pattern);
  const auto n = static_cast<double>(matrices.y.size());
  const int most =
      std::min(options.most_missing, static_cast<int>(options.largest_share / (1 - options.largest_share) * n + 1e-9));
  if (most < 1) return std::nullopt;

  // X is no part of the strata, so a completion may be wrong there; but it is better right.
  for (const bool with_x : {true, false}) {
    std::optional<Completion> best;
    std::pair<std::size_t, std::size_t> best_score;
    for (std::size_t f = 0; f < pattern.factors.size(); ++f) {
      const std::vector<const Factor*> varying = varying_columns(pattern, f, with_x);
      // Without X's columns nothing else is found where none of them varies.
      if (!with_x && varying.size() == varying_columns(pattern, f, true).size()) continue;
      std::optional<Completion> completion = completion_by(pattern, f, varying, most, options.most_patterns);
      if (!completion) continue;
      const std::pair<std::size_t, std::size_t> score(count_kinds(completed(pattern, *completion), with_x),
                                                      completion->rows.size());
      if (best && score >= best_score) continue;
      best = std::move(completion);
      best_score = score;
    }
    if (!best) continue;
    CompletedDesign out;
    out.matrices = fill(matrices, pattern, *best);
    if (second != nullptr) out.second = fill(*second, pattern, *best);
    for (int i = 0; i < static_cast<int>(matrices.y.size()); ++i) out.observed.push_back(i);
    for (std::size_t i = 0; i < best->rows.size(); ++i)
      out.missing.push_back(static_cast<int>(matrices.y.size()) + static_cast<int>(i));
    return out;
  }
  return std::nullopt;
}

}  // namespace

std::optional<CompletedDesign> complete_design(const ModelMatrices& matrices, const CompletionOptions& options) {
  return complete(matrices, nullptr, options);
}

std::optional<CompletedDesign> complete_design(const ModelMatrices& matrices, const ModelMatrices& second,
                                               const CompletionOptions& options) {
  return complete(matrices, &second, options);
}

}  // namespace batchlmm
