#include "host/inference/modes_inverse.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "batchlmm/error.hpp"
#include "host/model/blas.hpp"
#include "host/model/memory.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using Sparse = SparseFactor::Matrix;

/// Multiply-adds of a sparse factor take as long as so many of matrix products (measured on two factors of 6000
/// levels).
constexpr double dense_speed = 20;

[[noreturn]] void no_factor(const std::string& what) {
  throw ComputationError(what + " cannot be computed: a factorization failed");
}

class SparseModesInverse final : public ModesInverse {
public:
  /// Multiply-adds that `compute` will take.
  double analyze(const Sparse& equations) {
    factor_.analyzePattern(equations);
    double operations = 0;
    for (Index c = 0; c < equations.cols(); ++c) {
      const auto n = static_cast<double>(factor_.column_counts()[c]);
      operations += 1.5 * (n + 1) * (n + 2);
    }
    return operations;
  }
  [[nodiscard]] double bytes() const { return 32 * factor_.expected_entries(); }
  [[nodiscard]] bool has_places() const { return factor_.expected_entries() < 2e9; }
  void compute(const Sparse& equations, const std::string& what) {
    factor_.factorize(equations);
    if (factor_.info() != Eigen::Success) no_factor(what);
    factor_.selected_inverse(inverse_);
  }

  [[nodiscard]] double entry(std::int32_t i, std::int32_t j) const override { return inverse_[factor_.entry(i, j)]; }

  [[nodiscard]] double form(const Vector& w) const override {
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i)
      for (std::size_t j = 0; j <= i; ++j) {
        const std::int32_t at = factor_.entry(w[i].first, w[j].first);
        if (at < 0) return solved_form(w);
        sum += (i == j ? 1 : 2) * inverse_[at] * w[i].second * w[j].second;
      }
    return sum;
  }

  [[nodiscard]] MatrixXd solve(const MatrixXd& a) const override {
    MatrixXd x = factor_.permutationP() * a;
    factor_.matrixL().solveInPlace(x);
    factor_.matrixU().solveInPlace(x);
    return factor_.permutationPinv() * x;
  }

private:
  /// The same as |L^{-1}w|^2: only columns on the way from w's to the root of the elimination tree take part.
  [[nodiscard]] double solved_form(const Vector& w) const {
    const Sparse& l = factor_.l();
    const std::int32_t *outer = l.outerIndexPtr(), *inner = l.innerIndexPtr();
    std::vector<std::int32_t> reached;
    for (const auto& entry : w)
      for (std::int32_t j = factor_.place(entry.first);;) {
        reached.push_back(j);
        if (outer[j] + 1 == outer[j + 1]) break;
        j = inner[outer[j] + 1];
      }
    std::sort(reached.begin(), reached.end());
    reached.erase(std::unique(reached.begin(), reached.end()), reached.end());
    std::vector<double> value(reached.size(), 0.0);
    for (const auto& [column, entry] : w)
      value[std::lower_bound(reached.begin(), reached.end(), factor_.place(column)) - reached.begin()] += entry;
    double sum = 0;
    for (std::size_t i = 0; i < reached.size(); ++i) {
      const std::int32_t j = reached[i];
      const double v = value[i] / l.valuePtr()[outer[j]];
      sum += v * v;
      std::size_t to = i;
      for (std::int32_t e = outer[j] + 1; e < outer[j + 1]; ++e) {
        while (reached[to] != inner[e]) ++to;  // all rows of a reached column are reached
        value[to] -= l.valuePtr()[e] * v;
      }
    }
    return sum;
  }

  SparseFactor factor_;
  std::vector<double> inverse_;
};

/// Levels j with own columns D_j, that touch the rest by B_j: S = E - sum B_j'D_j^{-1}B_j, and the inverse has the
/// blocks S^{-1}, -P_j S^{-1}, D_j^{-1} + P_j S^{-1}P_j' with P_j = D_j^{-1}B_j.
class DenseModesInverse final : public ModesInverse {
public:
  DenseModesInverse(const Sparse& equations, const std::vector<std::int32_t>& level_of, std::int32_t levels,
                    const std::string& what)
      : level_of_(level_of), place_(level_of.size()), levels_(static_cast<std::size_t>(levels)) {
    for (std::size_t c = 0; c < level_of.size(); ++c) {
      if (level_of[c] >= 0) {
        std::vector<std::int32_t>& own = levels_[static_cast<std::size_t>(level_of[c])].own;
        place_[c] = static_cast<std::int32_t>(own.size());
        own.push_back(static_cast<std::int32_t>(c));
      } else {
        place_[c] = static_cast<std::int32_t>(rest_.size());
        rest_.push_back(static_cast<std::int32_t>(c));
      }
    }
    const auto size = static_cast<Index>(rest_.size());
    inverse_ = MatrixXd::Zero(size, size);
    for (Index c = 0; c < size; ++c)
      for (Sparse::InnerIterator it(equations, rest_[static_cast<std::size_t>(c)]); it; ++it)
        if (level_of_[static_cast<std::size_t>(it.row())] < 0)
          inverse_(place_[static_cast<std::size_t>(it.row())], c) = it.value();

    MatrixXd own, touching;
    for (Level& level : levels_) {
      const auto k = static_cast<Index>(level.own.size());
      own = MatrixXd::Zero(k, k);
      for (const std::int32_t c : level.own)
        for (Sparse::InnerIterator it(equations, c); it; ++it)
          if (level_of_[static_cast<std::size_t>(it.row())] < 0)
            level.touched.push_back(place_[static_cast<std::size_t>(it.row())]);
          else
            own(place_[static_cast<std::size_t>(it.row())], place_[static_cast<std::size_t>(c)]) = it.value();
      std::sort(level.touched.begin(), level.touched.end());
      level.touched.erase(std::unique(level.touched.begin(), level.touched.end()), level.touched.end());
      const auto t = static_cast<Index>(level.touched.size());
      touching = MatrixXd::Zero(k, t);
      for (const std::int32_t c : level.own)
        for (Sparse::InnerIterator it(equations, c); it; ++it)
          if (level_of_[static_cast<std::size_t>(it.row())] < 0)
            touching(place_[static_cast<std::size_t>(c)], touch(level, place_[static_cast<std::size_t>(it.row())])) =
                it.value();
      const Eigen::LLT<MatrixXd> llt(own);
      if (llt.info() != Eigen::Success) no_factor(what);
      level.d = llt.solve(MatrixXd::Identity(k, k));
      level.p = llt.solve(touching);
      // The lower triangle is enough.
      for (Index e = 0; e < t; ++e)
        for (Index f = e; f < t; ++f)
          inverse_(level.touched[static_cast<std::size_t>(f)], level.touched[static_cast<std::size_t>(e)]) -=
              touching.col(f).dot(level.p.col(e));
    }
    if (size > 0) {
      const int n = static_cast<int>(size);
      int info = 0;
      dpotrf_("L", &n, inverse_.data(), &n, &info);
      if (info != 0) no_factor(what);
      dpotri_("L", &n, inverse_.data(), &n, &info);
      if (info != 0) no_factor(what);
      for (Index c = 0; c < size; ++c)
        for (Index r = c + 1; r < size; ++r) inverse_(c, r) = inverse_(r, c);
    }
    for (Level& level : levels_) {
      const auto t = static_cast<Index>(level.touched.size());
      MatrixXd block(t, t);
      for (Index e = 0; e < t; ++e)
        for (Index f = 0; f < t; ++f)
          block(f, e) =
              inverse_(level.touched[static_cast<std::size_t>(f)], level.touched[static_cast<std::size_t>(e)]);
      level.d += level.p * block * level.p.transpose();
    }
  }

  /// Bytes that it will hold, and multiply-adds in the time of matrix products.
  static std::pair<double, double> cost(const Sparse& equations, const std::vector<std::int32_t>& level_of,
                                        std::int32_t levels) {
    double rest = 0, pairs = 0, entries = 0;
    std::vector<double> touched(static_cast<std::size_t>(levels), 0.0);
    for (std::size_t c = 0; c < level_of.size(); ++c) {
      if (level_of[c] < 0) {
        ++rest;
        continue;
      }
      const auto n = static_cast<double>(equations.outerIndexPtr()[c + 1] - equations.outerIndexPtr()[c]);
      touched[static_cast<std::size_t>(level_of[c])] = std::max(touched[static_cast<std::size_t>(level_of[c])], n);
      entries += n;
    }
    for (const double t : touched) pairs += t * t;
    const auto k = static_cast<double>(level_of.size()) - rest;
    const double own = k / std::max(1.0, static_cast<double>(levels));
    return {8 * (rest * rest + 3 * entries + 2 * k * own), rest * rest * rest + dense_speed * pairs * own};
  }

  [[nodiscard]] double entry(std::int32_t i, std::int32_t j) const override {
    const std::int32_t level = level_of_[static_cast<std::size_t>(i)];
    const std::int32_t a = place_[static_cast<std::size_t>(i)], b = place_[static_cast<std::size_t>(j)];
    return level < 0 ? inverse_(a, b) : levels_[static_cast<std::size_t>(level)].d(a, b);
  }

  [[nodiscard]] double form(const Vector& w) const override {
    double sum = 0;
    for (const auto& [i, a] : w)
      for (const auto& [j, b] : w)
        if (level_of_[static_cast<std::size_t>(i)] < 0 && level_of_[static_cast<std::size_t>(j)] < 0)
          sum += a * b * inverse_(place_[static_cast<std::size_t>(i)], place_[static_cast<std::size_t>(j)]);
        else if (level_of_[static_cast<std::size_t>(i)] < 0)
          sum -= 2 * a * b * across(i, j);
        else if (level_of_[static_cast<std::size_t>(j)] >= 0)
          sum += a * b * within(i, j);
    return sum;
  }

  [[nodiscard]] MatrixXd solve(const MatrixXd& a) const override {
    MatrixXd rest(static_cast<Index>(rest_.size()), a.cols());
    for (Index r = 0; r < rest.rows(); ++r) rest.row(r) = a.row(rest_[static_cast<std::size_t>(r)]);
    for (const Level& level : levels_)
      for (std::size_t e = 0; e < level.touched.size(); ++e)
        for (std::size_t i = 0; i < level.own.size(); ++i)
          rest.row(level.touched[e]) -= level.p(static_cast<Index>(i), static_cast<Index>(e)) * a.row(level.own[i]);
    const MatrixXd solved = inverse_ * rest;
    MatrixXd x(a.rows(), a.cols());
    for (Index r = 0; r < rest.rows(); ++r) x.row(rest_[static_cast<std::size_t>(r)]) = solved.row(r);
    for (const Level& level : levels_) {
      // D_j^{-1}a_j - P_j x of the rest; level.d has P_j S^{-1}P_j' in it, which is taken off again.
      const auto k = static_cast<Index>(level.own.size()), t = static_cast<Index>(level.touched.size());
      MatrixXd own(k, a.cols()), touched(t, a.cols()), block(t, t);
      for (Index i = 0; i < k; ++i) own.row(i) = a.row(level.own[static_cast<std::size_t>(i)]);
      for (Index e = 0; e < t; ++e) {
        touched.row(e) = solved.row(level.touched[static_cast<std::size_t>(e)]);
        for (Index f = 0; f < t; ++f)
          block(f, e) =
              inverse_(level.touched[static_cast<std::size_t>(f)], level.touched[static_cast<std::size_t>(e)]);
      }
      const MatrixXd out = level.d * own - level.p * (block * (level.p.transpose() * own)) - level.p * touched;
      for (Index i = 0; i < k; ++i) x.row(level.own[static_cast<std::size_t>(i)]) = out.row(i);
    }
    return x;
  }

private:
  struct Level {
    std::vector<std::int32_t> own, touched;  ///< columns of the equations; places in the rest, ascending
    MatrixXd d;                              ///< the level's block of the inverse
    MatrixXd p;                              ///< own x touched: D_j^{-1}B_j
  };
  static Index touch(const Level& level, std::int32_t place) {
    return std::lower_bound(level.touched.begin(), level.touched.end(), place) - level.touched.begin();
  }
  /// (P_j S^{-1}) of a column j of a level and a column i of the rest: minus the inverse's entry.
  [[nodiscard]] double across(std::int32_t i, std::int32_t j) const {
    const Level& level = levels_[static_cast<std::size_t>(level_of_[static_cast<std::size_t>(j)])];
    const std::int32_t row = place_[static_cast<std::size_t>(i)], own = place_[static_cast<std::size_t>(j)];
    double sum = 0;
    for (std::size_t e = 0; e < level.touched.size(); ++e)
      sum += level.p(own, static_cast<Index>(e)) * inverse_(level.touched[e], row);
    return sum;
  }
  /// The inverse's entry of two columns of levels.
  [[nodiscard]] double within(std::int32_t i, std::int32_t j) const {
    const std::int32_t a = level_of_[static_cast<std::size_t>(i)], b = level_of_[static_cast<std::size_t>(j)];
    if (a == b) return entry(i, j);
    const Level &left = levels_[static_cast<std::size_t>(a)], &right = levels_[static_cast<std::size_t>(b)];
    double sum = 0;
    for (std::size_t e = 0; e < left.touched.size(); ++e)
      for (std::size_t f = 0; f < right.touched.size(); ++f)
        sum += left.p(place_[static_cast<std::size_t>(i)], static_cast<Index>(e)) *
               inverse_(left.touched[e], right.touched[f]) *
               right.p(place_[static_cast<std::size_t>(j)], static_cast<Index>(f));
    return sum;
  }

  std::vector<std::int32_t> level_of_, place_, rest_;
  std::vector<Level> levels_;
  MatrixXd inverse_;  ///< S^{-1}
};

}  // namespace

std::unique_ptr<ModesInverse> make_sparse_modes_inverse(const Sparse& equations, const std::string& what) {
  auto sparse = std::make_unique<SparseModesInverse>();
  sparse->analyze(equations);
  require_memory(sparse->bytes(), what);
  sparse->compute(equations, what);
  return sparse;
}

std::unique_ptr<ModesInverse> make_dense_modes_inverse(const Sparse& equations,
                                                       const std::vector<std::int32_t>& level_of, std::int32_t levels,
                                                       const std::string& what) {
  require_memory(DenseModesInverse::cost(equations, level_of, levels).first, what);
  return std::make_unique<DenseModesInverse>(equations, level_of, levels, what);
}

std::unique_ptr<ModesInverse> make_modes_inverse(const Sparse& equations, const std::vector<std::int32_t>& level_of,
                                                 std::int32_t levels, const std::string& what) {
  auto sparse = std::make_unique<SparseModesInverse>();
  const double sparse_operations = dense_speed * sparse->analyze(equations);
  const auto [bytes, operations] = DenseModesInverse::cost(equations, level_of, levels);
  const double room = available_memory();
  const bool dense_fits = bytes <= room, sparse_fits = sparse->bytes() <= room && sparse->has_places();
  if (dense_fits && (operations < sparse_operations || !sparse_fits)) {
    sparse.reset();
    return std::make_unique<DenseModesInverse>(equations, level_of, levels, what);
  }
  require_memory(sparse->bytes(), what);
  if (!sparse->has_places()) throw ModelError(what + " has more entries than can be numbered");
  sparse->compute(equations, what);
  return sparse;
}

}  // namespace batchlmm
