/// @file
/// Designs of experiments, row by row, for the tests of their symmetry.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "host/model/model_matrices.hpp"

namespace batchlmm::designs {

using Column = std::vector<double>;

/// Columns of a table of n rows: factors' codes and numbers.
struct Design {
  std::map<std::string, std::vector<int>> factor;
  std::map<std::string, Column> number;
  std::vector<std::pair<std::string, std::vector<std::string>>> terms;  ///< grouping factor, columns of z
  std::vector<std::string> x;

  [[nodiscard]] std::size_t rows() const { return factor.begin()->second.size(); }

  /// Adds a row.
  void row(const std::vector<std::pair<std::string, int>>& codes,
           const std::vector<std::pair<std::string, double>>& values) {
    for (const auto& [name, code] : codes) factor[name].push_back(code);
    for (const auto& [name, value] : values) number[name].push_back(value);
    number["1"].push_back(1.0);
  }

  [[nodiscard]] Design without(std::vector<int> rows_left_out) const {
    Design out = *this;
    std::sort(rows_left_out.rbegin(), rows_left_out.rend());
    for (int i : rows_left_out) {
      for (auto& [name, values] : out.factor) values.erase(values.begin() + i);
      for (auto& [name, values] : out.number) values.erase(values.begin() + i);
    }
    return out;
  }

  /// `count` rows, drawn at random.
  [[nodiscard]] Design with_missing(int count, std::uint64_t seed) const {
    std::vector<int> all(rows());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int>(i);
    std::mt19937_64 rng(seed);
    for (std::size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[rng() % i]);
    all.resize(static_cast<std::size_t>(count));
    return without(all);
  }

  [[nodiscard]] std::shared_ptr<ModelMatrices> matrices() const {
    const auto n = static_cast<Eigen::Index>(rows());
    auto m = std::make_shared<ModelMatrices>();
    m->formula = "design";
    m->offset = Eigen::VectorXd::Zero(n);
    const auto columns = [&](const std::vector<std::string>& names) {
      Eigen::MatrixXd out(n, static_cast<Eigen::Index>(names.size()));
      for (std::size_t j = 0; j < names.size(); ++j)
        out.col(static_cast<Eigen::Index>(j)) = Eigen::Map<const Eigen::VectorXd>(number.at(names[j]).data(), n);
      return out;
    };
    m->X = columns(x);
    m->x_names = x;
    for (const auto& [group, names] : terms) {
      RandomTerm term;
      term.group = group;
      term.names = names;
      term.z = columns(names);
      std::map<int, int> code;
      for (int level : factor.at(group)) code[level] = 0;
      for (auto& [level, number_of] : code) {
        number_of = static_cast<int>(term.levels.size());
        term.levels.push_back(std::to_string(level));
      }
      for (int level : factor.at(group)) term.level_of_row.push_back(code[level]);
      m->random.push_back(std::move(term));
    }
    std::stable_sort(m->random.begin(), m->random.end(),
                     [](const RandomTerm& a, const RandomTerm& b) { return a.levels.size() > b.levels.size(); });
    std::mt19937_64 rng(1);
    m->y = Eigen::VectorXd::NullaryExpr(n, [&] { return static_cast<double>(rng() >> 11U) * 0x1p-53; });
    for (Eigen::Index i = 0; i < n; ++i) m->rows.push_back(static_cast<std::size_t>(i));
    return m;
  }
};

/// Subjects who answer each item in each of two conditions.
inline Design crossed(int subjects, int items) {
  Design d;
  for (int s = 0; s < subjects; ++s)
    for (int i = 0; i < items; ++i)
      for (int c = 0; c < 2; ++c) d.row({{"s", s}, {"i", i}}, {{"c", c - 0.5}, {"group", s % 2}});
  d.x = {"1", "c"};
  d.terms = {{"s", {"1", "c"}}, {"i", {"1", "c"}}};
  return d;
}

/// One measurement a day of each subject.
inline Design longitudinal(int subjects, int days) {
  Design d;
  for (int s = 0; s < subjects; ++s)
    for (int t = 0; t < days; ++t) d.row({{"s", s}}, {{"t", t}});
  d.x = {"1", "t"};
  d.terms = {{"s", {"1", "t"}}};
  return d;
}

/// Pupils in classes in schools.
inline Design nested(int schools, int classes, int pupils) {
  Design d;
  for (int s = 0; s < schools; ++s)
    for (int c = 0; c < classes; ++c)
      for (int p = 0; p < pupils; ++p) d.row({{"school", s}, {"class", s * classes + c}}, {{"t", p % 2}});
  d.x = {"1", "t"};
  d.terms = {{"class", {"1"}}, {"school", {"1"}}};
  return d;
}

/// Split plots: varieties on the whole plots of blocks, nitrogen on their parts (Yates 1935).
inline Design split_plot(int blocks, int varieties, int levels) {
  Design d;
  for (int b = 0; b < blocks; ++b)
    for (int v = 0; v < varieties; ++v)
      for (int k = 0; k < levels; ++k)
        d.row({{"block", b}, {"plot", b * varieties + v}},
              {{"n", 0.2 * k}, {"v1", v == 1 ? 1 : 0}, {"v2", v == 2 ? 1 : 0}});
  d.x = {"1", "v1", "v2", "n"};
  d.terms = {{"plot", {"1"}}, {"block", {"1"}}};
  return d;
}

/// Counterbalanced lists: 2 x 2 x 2 conditions, each subject sees each item in one of them.
inline Design lists(int subjects, int items) {
  Design d;
  for (int s = 0; s < subjects; ++s)
    for (int i = 0; i < items; ++i) {
      const int cell = (s + i) % 8;
      const double a = cell % 2 == 0 ? -1 : 1, b = cell / 2 % 2 == 0 ? -1 : 1, c = cell / 4 == 0 ? -1 : 1;
      d.row({{"s", s}, {"i", i}},
            {{"a", a}, {"b", b}, {"c", c}, {"ab", a * b}, {"ac", a * c}, {"bc", b * c}, {"abc", a * b * c}});
    }
  d.x = {"1", "a", "b", "c", "ab", "ac", "bc", "abc"};
  d.terms = {{"s", d.x}, {"i", d.x}};
  return d;
}

/// Each subject sees items in a cycle, at the given distances and with a covariate that goes with the distance.
inline Design cycle(int subjects, int items, const std::vector<int>& distances, const Column& covariate) {
  Design d;
  for (int s = 0; s < subjects; ++s)
    for (std::size_t r = 0; r < distances.size(); ++r)
      d.row({{"s", s}, {"i", (s + distances[r]) % items}}, {{"c", covariate[r]}});
  d.x = {"1", "c"};
  d.terms = {{"s", {"1", "c"}}, {"i", {"1", "c"}}};
  return d;
}

/// Each subject rates some of the items, in a cycle.
inline Design cyclic(int subjects, int items, int rated) {
  Design d;
  for (int s = 0; s < subjects; ++s)
    for (int r = 0; r < rated; ++r) d.row({{"s", s}, {"i", (s % items + r * 3) % items}}, {{"c", r % 2 - 0.5}});
  d.x = {"1", "c"};
  d.terms = {{"s", {"1", "c"}}, {"i", {"1", "c"}}};
  return d;
}

/// Longitudinal, groups of subjects who leave early.
inline Design dropout(const std::vector<int>& subjects, const std::vector<int>& visits) {
  Design d;
  int s = 0;
  for (std::size_t g = 0; g < subjects.size(); ++g)
    for (int j = 0; j < subjects[g]; ++j, ++s)
      for (int t = 0; t < visits[g]; ++t) d.row({{"s", s}}, {{"t", t}, {"treated", j % 2}});
  d.x = {"1", "t", "treated"};
  d.terms = {{"s", {"1", "t"}}};
  return d;
}

}  // namespace batchlmm::designs
