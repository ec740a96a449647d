#include "host/model/exchangeable_levels.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;

/// Cross-products that differ by less than this, relative to the largest sums of squares, are equal.
constexpr double equal_tolerance = 1e-13;

/// Cross-products of two factors' levels that occur together, ordered by the first's level, then the second's.
struct CrossProducts {
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs;
  std::vector<MatrixXd> blocks;
};

CrossProducts cross_products(const GroupingFactor& f, const GroupingFactor& g) {
  const std::vector<std::int32_t>&a = *f.level_of_row, &b = *g.level_of_row;
  std::vector<std::int32_t> order(a.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](std::int32_t x, std::int32_t y) { return std::tie(a[x], b[x], x) < std::tie(a[y], b[y], y); });
  CrossProducts out;
  for (std::int32_t row : order) {
    const std::pair<std::int32_t, std::int32_t> key(a[row], b[row]);
    if (out.pairs.empty() || out.pairs.back() != key) {
      out.pairs.push_back(key);
      out.blocks.emplace_back(MatrixXd::Zero(f.z.cols(), g.z.cols()));
    }
    out.blocks.back().noalias() += f.z.row(row).transpose() * g.z.row(row);
  }
  return out;
}

CrossProducts transposed(const CrossProducts& from) {
  std::vector<std::size_t> order(from.pairs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t x, std::size_t y) {
    return std::tie(from.pairs[x].second, from.pairs[x].first) < std::tie(from.pairs[y].second, from.pairs[y].first);
  });
  CrossProducts out;
  for (std::size_t i : order) {
    out.pairs.emplace_back(from.pairs[i].second, from.pairs[i].first);
    out.blocks.emplace_back(from.blocks[i].transpose());
  }
  return out;
}

/// A number for a matrix, weighted by place; equal matrices have nearly equal numbers.
double fingerprint(const MatrixXd& m, std::uint64_t place) {
  UniformSequence weight(0x5DEECE66DULL + place * 0x9E3779B97F4A7C15ULL);
  double sum = 0;
  for (Index j = 0; j < m.cols(); ++j)
    for (Index i = 0; i < m.rows(); ++i) sum += weight.next() * m(i, j);
  return sum;
}

std::uint64_t place_of(std::size_t factor, std::int32_t level) {
  return (static_cast<std::uint64_t>(factor) << 32U) + static_cast<std::uint64_t>(level) + 1;
}

/// The cross-products of one factor's levels with everything.
class LevelSignatures {
public:
  /// @param cross  per other factor; empty for the factor itself
  LevelSignatures(const std::vector<MatrixXd>& own, const std::vector<const CrossProducts*>& cross, double tolerance)
      : own_(own), cross_(cross), tolerance_(tolerance), begin_(cross.size()), fingerprint_(own.size()) {
    for (std::size_t l = 0; l < own.size(); ++l) fingerprint_[l] = fingerprint(own[l], 0);
    for (std::size_t g = 0; g < cross.size(); ++g) {
      if (cross[g] == nullptr) continue;
      begin_[g].assign(own.size() + 1, 0);
      for (std::size_t i = 0; i < cross[g]->pairs.size(); ++i) {
        const auto& [l, h] = cross[g]->pairs[i];
        ++begin_[g][l + 1];
        fingerprint_[l] += fingerprint(cross[g]->blocks[i], place_of(g, h));
      }
      std::partial_sum(begin_[g].begin(), begin_[g].end(), begin_[g].begin());
    }
  }

  /// Classes of equal levels, numbered by their first level.
  [[nodiscard]] std::vector<int> classes() const {
    std::vector<int> order(own_.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int x, int y) { return std::tie(fingerprint_[x], x) < std::tie(fingerprint_[y], y); });
    std::vector<int> first(own_.size());  // per level: a level of its class
    std::vector<int> open;                // representatives whose fingerprints are near
    for (int level : order) {
      std::erase_if(open, [&](int l) { return fingerprint_[level] - fingerprint_[l] > 100 * tolerance_; });
      const auto same = std::find_if(open.begin(), open.end(), [&](int l) { return equal(l, level); });
      first[level] = same == open.end() ? level : *same;
      if (same == open.end()) open.push_back(level);
    }
    std::vector<int> number(own_.size(), -1), out(own_.size());
    int next = 0;
    for (std::size_t l = 0; l < own_.size(); ++l) {
      if (number[first[l]] < 0) number[first[l]] = next++;
      out[l] = number[first[l]];
    }
    return out;
  }

private:
  [[nodiscard]] bool equal(int x, int y) const {
    if ((own_[x] - own_[y]).cwiseAbs().maxCoeff() > tolerance_) return false;
    for (std::size_t g = 0; g < cross_.size(); ++g) {
      if (cross_[g] == nullptr) continue;
      std::size_t i = begin_[g][x], j = begin_[g][y];
      const std::size_t i_end = begin_[g][x + 1], j_end = begin_[g][y + 1];
      const CrossProducts& c = *cross_[g];
      while (i < i_end || j < j_end) {
        const std::int32_t hi = i < i_end ? c.pairs[i].second : INT32_MAX,
                           hj = j < j_end ? c.pairs[j].second : INT32_MAX;
        double difference = 0;
        if (hi == hj)
          difference = (c.blocks[i] - c.blocks[j]).cwiseAbs().maxCoeff();
        else
          difference = (hi < hj ? c.blocks[i] : c.blocks[j]).cwiseAbs().maxCoeff();
        if (difference > tolerance_) return false;
        i += hi <= hj ? 1 : 0;
        j += hj <= hi ? 1 : 0;
      }
    }
    return true;
  }

  const std::vector<MatrixXd>& own_;
  const std::vector<const CrossProducts*>& cross_;
  double tolerance_;
  std::vector<std::vector<std::size_t>> begin_;
  std::vector<double> fingerprint_;
};

/// Orthonormal contrasts of the levels [begin, end): each sets one half against the other, so that all of them together
/// have c log2(c) entries.
void add_contrasts(const std::vector<int>& levels, std::size_t begin, std::size_t end,
                   std::vector<std::vector<NodeLevel>>* copies) {
  if (end - begin < 2) return;
  const std::size_t middle = begin + (end - begin) / 2;
  const double a = static_cast<double>(middle - begin), b = static_cast<double>(end - middle);
  std::vector<NodeLevel> contrast;
  for (std::size_t i = begin; i < end; ++i)
    contrast.push_back({0, levels[i], i < middle ? std::sqrt(b / (a * (a + b))) : -std::sqrt(a / (b * (a + b)))});
  copies->push_back(std::move(contrast));
  add_contrasts(levels, begin, middle, copies);
  add_contrasts(levels, middle, end, copies);
}

/// Systems by what they are made of; equal ones share their copies.
class SystemList {
public:
  SystemList(const std::vector<GroupingFactor>& factors, const kernels::Shape& shape, double tolerance)
      : factors_(factors), shape_(shape), tolerance_(tolerance) {}

  void add(const std::vector<int>& factor_of_node, MatrixXd gram, std::vector<std::vector<NodeLevel>> copies) {
    const double print = fingerprint(gram, static_cast<std::uint64_t>(gram.rows()));
    for (auto it = known_.lower_bound(print - 100 * tolerance_);
         it != known_.end() && it->first <= print + 100 * tolerance_; ++it) {
      ExchangeableSystem& other = systems_[it->second];
      if (other.factor_of_node != factor_of_node || (other.columns.gram - gram).cwiseAbs().maxCoeff() > tolerance_)
        continue;
      std::move(copies.begin(), copies.end(), std::back_inserter(other.copies));
      return;
    }
    known_.emplace(print, systems_.size());
    ExchangeableSystem system;
    system.columns.gram = std::move(gram);
    system.factor_of_node = factor_of_node;
    int column = 0;
    for (int f : factor_of_node) {
      system.column_of_node.push_back(column);
      for (int term : factors_[f].terms) {
        system.columns.blocks.push_back({column, term});
        column += shape_.term[term].k;
      }
    }
    system.copies = std::move(copies);
    systems_.push_back(std::move(system));
  }

  [[nodiscard]] std::vector<ExchangeableSystem> take() { return std::move(systems_); }

private:
  const std::vector<GroupingFactor>& factors_;
  const kernels::Shape& shape_;
  double tolerance_;
  std::vector<ExchangeableSystem> systems_;
  std::multimap<double, std::size_t> known_;
};

/// A class of levels as it stands in the sums' Gram matrix.
struct ClassNode {
  int factor = 0;
  std::vector<int> levels;
  MatrixXd own;  ///< mean of the levels' cross-products
};

int root_of(std::vector<int>& parent, int i) {
  while (parent[i] != i) i = parent[i] = parent[parent[i]];
  return i;
}

/// A bound of the largest system's columns from below, by one pass over the rows: levels that hang together, and are
/// not alike by one number each, a linear form of their cross-products. 0 where a factor's first column is not positive
/// throughout, so that levels that occur together need not hang together.
double least_largest_system(const std::vector<GroupingFactor>& factors) {
  std::vector<std::vector<double>> number(factors.size());
  std::vector<MatrixXd> weights;     // levels x columns, of the level as the other one
  std::vector<Eigen::VectorXd> own;  // of the level itself
  std::vector<int> first_level{0};
  double size = 0, most_rows = 0;
  UniformSequence random(20240531);
  for (const GroupingFactor& factor : factors) {
    if (!(factor.z.col(0).minCoeff() > 0)) return 0;
    number[weights.size()].assign(factor.levels, 0.0);
    weights.push_back(random.matrix(factor.levels, factor.z.cols()));
    own.emplace_back(random.matrix(factor.z.cols(), 1));
    first_level.push_back(first_level.back() + factor.levels);
    Eigen::VectorXd squares = Eigen::VectorXd::Zero(factor.levels), rows = squares;
    for (Index row = 0; row < factor.z.rows(); ++row) {
      squares[(*factor.level_of_row)[row]] += factor.z.row(row).squaredNorm();
      ++rows[(*factor.level_of_row)[row]];
    }
    size = std::max(size, squares.maxCoeff());
    most_rows = std::max(most_rows, rows.maxCoeff());
  }
  std::vector<int> parent(first_level.back());
  std::iota(parent.begin(), parent.end(), 0);
  std::vector<double> of_own(factors.size()), of_other(factors.size());
  for (Index row = 0; row < factors.front().z.rows(); ++row) {
    double sum = 0;
    for (std::size_t f = 0; f < factors.size(); ++f) {
      const std::int32_t level = (*factors[f].level_of_row)[row];
      const auto z = factors[f].z.row(row);
      of_own[f] = of_other[f] = 0;
      for (Index c = 0; c < z.size(); ++c) {
        of_own[f] += z[c] * own[f][c];
        of_other[f] += z[c] * weights[f](level, c);
      }
      sum += of_other[f];
      if (f > 0)
        parent[root_of(parent, first_level[f] + level)] = root_of(parent, (*factors.front().level_of_row)[row]);
    }
    for (std::size_t f = 0; f < factors.size(); ++f)
      number[f][(*factors[f].level_of_row)[row]] += of_own[f] * (of_own[f] + sum - of_other[f]);
  }
  // Numbers nearer than this may be equal but for rounding.
  const double near = (100 * equal_tolerance + most_rows * std::numeric_limits<double>::epsilon()) * size;
  std::vector<double> columns(parent.size(), 0.0);  // by root
  for (std::size_t f = 0; f < factors.size(); ++f) {
    std::vector<std::pair<int, double>> sorted;
    sorted.reserve(static_cast<std::size_t>(factors[f].levels));
    for (int l = 0; l < factors[f].levels; ++l) sorted.emplace_back(root_of(parent, first_level[f] + l), number[f][l]);
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t i = 0; i < sorted.size(); ++i)
      if (i == 0 || sorted[i].first != sorted[i - 1].first || sorted[i].second - sorted[i - 1].second > near)
        columns[sorted[i].first] += static_cast<double>(factors[f].z.cols());
  }
  return *std::max_element(columns.begin(), columns.end());
}

std::string too_large(const std::string& columns, int largest) {
  return "the design's smallest systems have " + columns + " columns; up to " + std::to_string(largest) +
         " are analysed";
}

}  // namespace

std::vector<GroupingFactor> grouping_factors(const Model& model) {
  std::vector<GroupingFactor> out;
  const auto add = [&](const PlanFactor& factor) {
    GroupingFactor g;
    g.levels = factor.levels;
    g.level_of_row = &factor.level_of_row;
    g.z.resize(static_cast<Index>(factor.level_of_row.size()), factor.columns);
    int column = 0;
    for (int b = 0; b < model.shape().terms; ++b) {
      if (std::find(factor.terms.begin(), factor.terms.end(), model.term_of(b)) == factor.terms.end()) continue;
      g.terms.push_back(b);
      g.z.middleCols(column, model.shape().term[b].k) = model.z_gauge(model.term_of(b)).columns;
      column += model.shape().term[b].k;
    }
    out.push_back(std::move(g));
  };
  for (const PlanFactor& factor : model.plan().chain) add(factor);
  for (const PlanFactor& factor : model.plan().dense) add(factor);
  return out;
}

std::optional<std::vector<ExchangeableSystem>> exchangeable_systems(const std::vector<GroupingFactor>& factors,
                                                                    const kernels::Shape& shape, int largest,
                                                                    std::string* why) {
  const std::size_t count = factors.size();
  if (const double columns = least_largest_system(factors); columns > largest) {
    *why = too_large("at least " + std::to_string(static_cast<long long>(columns)), largest);
    return std::nullopt;
  }
  std::vector<std::vector<MatrixXd>> own(count);
  double size = 0;
  for (std::size_t f = 0; f < count; ++f) {
    const Index k = factors[f].z.cols();
    own[f].assign(factors[f].levels, MatrixXd::Zero(k, k));
    for (std::size_t row = 0; row < factors[f].level_of_row->size(); ++row) {
      const auto z = factors[f].z.row(static_cast<Index>(row));
      own[f][(*factors[f].level_of_row)[row]].noalias() += z.transpose() * z;
    }
    for (const MatrixXd& m : own[f]) size = std::max(size, m.diagonal().maxCoeff());
  }
  const double tolerance = equal_tolerance * size;
  std::vector<std::vector<CrossProducts>> cross(count, std::vector<CrossProducts>(count));
  for (std::size_t f = 0; f < count; ++f)
    for (std::size_t g = f + 1; g < count; ++g) {
      cross[f][g] = cross_products(factors[f], factors[g]);
      cross[g][f] = transposed(cross[f][g]);
    }

  SystemList systems(factors, shape, tolerance);
  std::vector<ClassNode> nodes;
  std::vector<std::vector<int>> node_of_level(count);
  for (std::size_t f = 0; f < count; ++f) {
    std::vector<const CrossProducts*> others(count, nullptr);
    for (std::size_t g = 0; g < count; ++g)
      if (g != f) others[g] = &cross[f][g];
    const std::vector<int> class_of = LevelSignatures(own[f], others, tolerance).classes();
    const std::size_t first = nodes.size();
    for (std::size_t l = 0; l < class_of.size(); ++l) {
      const std::size_t node = first + static_cast<std::size_t>(class_of[l]);
      if (node == nodes.size())
        nodes.push_back({static_cast<int>(f), {}, MatrixXd::Zero(own[f][l].rows(), own[f][l].cols())});
      nodes[node].levels.push_back(static_cast<int>(l));
      nodes[node].own += own[f][l];
      node_of_level[f].push_back(static_cast<int>(node));
    }
    for (std::size_t node = first; node < nodes.size(); ++node) {
      nodes[node].own /= static_cast<double>(nodes[node].levels.size());
      std::vector<std::vector<NodeLevel>> copies;
      add_contrasts(nodes[node].levels, 0, nodes[node].levels.size(), &copies);
      if (!copies.empty()) systems.add({static_cast<int>(f)}, nodes[node].own, std::move(copies));
    }
  }

  // Cross-products of the classes' normalized sums, and which of them hang together.
  std::map<std::pair<int, int>, MatrixXd> sums;
  for (std::size_t f = 0; f < count; ++f)
    for (std::size_t g = f + 1; g < count; ++g)
      for (std::size_t i = 0; i < cross[f][g].pairs.size(); ++i) {
        const auto& [l, h] = cross[f][g].pairs[i];
        MatrixXd& sum = sums[{node_of_level[f][l], node_of_level[g][h]}];
        if (sum.size() == 0) sum = MatrixXd::Zero(factors[f].z.cols(), factors[g].z.cols());
        sum += cross[f][g].blocks[i];
      }
  std::vector<int> parent(nodes.size());
  std::iota(parent.begin(), parent.end(), 0);
  for (auto& [pair, sum] : sums) {
    sum /= std::sqrt(static_cast<double>(nodes[pair.first].levels.size()) *
                     static_cast<double>(nodes[pair.second].levels.size()));
    if (sum.cwiseAbs().maxCoeff() > tolerance) parent[root_of(parent, pair.first)] = root_of(parent, pair.second);
  }
  std::map<int, std::vector<int>> components;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    components[root_of(parent, static_cast<int>(i))].push_back(static_cast<int>(i));
  std::vector<int> position(nodes.size(), -1);  // first column within the component
  std::map<int, std::vector<std::pair<int, int>>> pairs_of;
  for (const auto& [pair, sum] : sums) {
    const int root = root_of(parent, pair.first);
    if (root == root_of(parent, pair.second)) pairs_of[root].push_back(pair);
  }
  for (auto& [root, members] : components) {
    std::stable_sort(members.begin(), members.end(), [&](int x, int y) {
      return std::make_tuple(nodes[x].factor, nodes[x].levels.size()) <
             std::make_tuple(nodes[y].factor, nodes[y].levels.size());
    });
    int columns = 0;
    std::vector<int> factor_of_node;
    std::vector<NodeLevel> copy;
    for (int i : members) {
      const int node = static_cast<int>(factor_of_node.size());
      position[i] = columns;
      columns += static_cast<int>(nodes[i].own.rows());
      factor_of_node.push_back(nodes[i].factor);
      for (int level : nodes[i].levels)
        copy.push_back({node, level, 1 / std::sqrt(static_cast<double>(nodes[i].levels.size()))});
    }
    if (columns > largest) {
      *why = too_large(std::to_string(columns), largest);
      return std::nullopt;
    }
    MatrixXd gram = MatrixXd::Zero(columns, columns);
    for (int i : members) gram.block(position[i], position[i], nodes[i].own.rows(), nodes[i].own.rows()) = nodes[i].own;
    for (const auto& pair : pairs_of[root]) {
      const MatrixXd& sum = sums[pair];
      gram.block(position[pair.first], position[pair.second], sum.rows(), sum.cols()) = sum;
      gram.block(position[pair.second], position[pair.first], sum.cols(), sum.rows()) = sum.transpose();
    }
    systems.add(factor_of_node, std::move(gram), {std::move(copy)});
  }
  return systems.take();
}

}  // namespace batchlmm
