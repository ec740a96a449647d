#include "host/model/matrix_algebra.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <utility>

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// Eigenvalues of the Gram matrix up to this share of the largest count as 0.
constexpr double rank_tolerance = 1e-11;
/// Entries of a generic element below this share of its size link nothing.
constexpr double link_tolerance = 1e-9;
/// Deviations of a generic element from the block form up to this are rounding.
constexpr double form_tolerance = 1e-9;
/// A system of fewer columns is analysed at once, without a look at the number of its distinct eigenvalues first.
constexpr Index small_system = 64;

struct Cluster {
  Index first = 0, size = 0;
};

class Decomposition {
public:
  Decomposition(const ColumnSystem& system, const kernels::Shape& shape, std::uint64_t seed)
      : system_(system), shape_(shape), random_(seed), scale_(shape.terms, 0.0) {
    std::vector<int> count(shape.terms, 0);
    for (const ColumnSystem::Block& block : system.blocks) {
      const int k = shape.term[block.term].k;
      scale_[block.term] += system.gram.diagonal().segment(block.first, k).sum();
      count[block.term] += k;
    }
    for (int b = 0; b < shape.terms; ++b) scale_[b] = scale_[b] > 0 ? count[b] / scale_[b] : 1.0;
  }

  /// A generic, positive definite element that is linear in the generators, sum over blocks of z L_b L_b' z', as L'AL.
  void make_first_element() {
    factor_.resize(shape_.terms);
    for (int b = 0; b < shape_.terms; ++b) {
      const int k = shape_.term[b].k;
      const MatrixXd random = random_.matrix(k, k);
      const MatrixXd c = MatrixXd::Identity(k, k) * (1.5 + 0.5 * random_.next()) + random * random.transpose();
      factor_[b] = MatrixXd(c.llt().matrixL()) * std::sqrt(scale_[b]);
    }
    first_ = times_factor(times_factor(system_.gram).transpose());
    first_ = ((first_ + first_.transpose()) * 0.5).eval();
  }

  /// Distinct eigenvalues of the first element that a random vector sees: the steps of Lanczos' method until it breaks
  /// down, at most `most` + 1.
  Index distinct_eigenvalues(Index most) {
    const Index w = first_.rows();
    const Index columns = std::min(most + 1, w);
    MatrixXd krylov(w, columns);
    VectorXd v = first_.selfadjointView<Eigen::Lower>() * VectorXd(random_.matrix(w, 1));
    const double size = first_.diagonal().maxCoeff();
    for (Index j = 0; j < columns; ++j) {
      const double norm = v.norm();
      if (j > 0 && norm < 1e-10 * size) return j;
      krylov.col(j) = v / norm;
      v = first_.selfadjointView<Eigen::Lower>() * krylov.col(j);
      for (int twice = 0; twice < 2; ++twice)
        v -= krylov.leftCols(j + 1) * (krylov.leftCols(j + 1).transpose() * v).eval();
    }
    return columns;
  }

  /// Coordinates in the eigenvectors of the first element.
  void reduce() {
    const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(first_);
    const VectorXd& all = eigen.eigenvalues();
    const Index w = all.size();
    Index rank = 0;
    while (rank < w && all[w - 1 - rank] > rank_tolerance * all[w - 1]) ++rank;
    values_ = all.tail(rank);
    const MatrixXd vectors = eigen.eigenvectors().rightCols(rank);
    weights_.resize(w, rank);
    for (const ColumnSystem::Block& block : system_.blocks) {
      const int k = shape_.term[block.term].k;
      weights_.middleRows(block.first, k) = factor_[block.term] * vectors.middleRows(block.first, k);
    }
    weights_ *= values_.cwiseSqrt().cwiseInverse().asDiagonal();
    coordinates_ = weights_.transpose() * system_.gram;
  }

  /// Coordinates in the eigenvectors of an element with products.
  void reduce_anew() {
    const MatrixXd a = linear_element(), b = linear_element(), c = linear_element();
    const MatrixXd bc = b * c;
    MatrixXd h = a / a.norm() + (bc + bc.transpose()) * (0.7 / bc.norm());
    const MatrixXd bab = b * a * b;
    h += bab * (0.8 / bab.norm());
    h = ((h + h.transpose()) * 0.5).eval();
    const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(h);
    values_ = eigen.eigenvalues();
    weights_ = (weights_ * eigen.eigenvectors()).eval();
    coordinates_ = (eigen.eigenvectors().transpose() * coordinates_).eval();
  }

  [[nodiscard]] Index rank() const { return values_.size(); }

  /// Equal eigenvalues, told from distinct ones by the largest ratio of consecutive gaps.
  void find_clusters() {
    const Index r = rank();
    const double size = std::max(values_.cwiseAbs().maxCoeff(), 1e-300);
    std::vector<double> gaps;
    for (Index i = 0; i + 1 < r; ++i) gaps.push_back(std::max((values_[i + 1] - values_[i]) / size, 1e-18));
    std::vector<double> sorted = gaps;
    std::sort(sorted.begin(), sorted.end());
    double cut = 1e-9, best = 0;
    for (std::size_t i = 0; i <= sorted.size(); ++i) {
      const double low = std::max(i > 0 ? sorted[i - 1] : 1e-15, 1e-15), high = i < sorted.size() ? sorted[i] : 1.0;
      const double middle = std::sqrt(low * high);
      if (middle > 1e-13 && middle < 1e-5 && high / low > best) {
        best = high / low;
        cut = middle;
      }
    }
    clusters_.clear();
    for (Index i = 0; i < r;) {
      Index j = i;
      while (j + 1 < r && gaps[j] <= cut) ++j;
      clusters_.push_back({i, j - i + 1});
      i = j + 1;
    }
  }
  [[nodiscard]] Index clusters() const { return static_cast<Index>(clusters_.size()); }

  /// Clusters that a second element links make one part; their copies are aligned along a maximum spanning forest.
  std::optional<std::vector<BlockPart>> assemble(std::string* why) {
    const Index count = clusters();
    const MatrixXd second = linear_element();
    const double size = std::max(second.norm() / std::sqrt(static_cast<double>(rank())), 1e-300);
    MatrixXd link(count, count);
    for (Index i = 0; i < count; ++i)
      for (Index j = 0; j <= i; ++j) {
        const Cluster &a = clusters_[i], &b = clusters_[j];
        link(i, j) = link(j, i) = second.block(a.first, b.first, a.size, b.size).norm() /
                                  (size * std::sqrt(static_cast<double>(std::min(a.size, b.size))));
      }
    std::vector<MatrixXd> rotation(count);
    std::vector<bool> placed(count, false);
    std::vector<std::vector<Index>> members;
    for (Index start = 0; start < count; ++start) {
      if (placed[start]) continue;
      placed[start] = true;
      rotation[start] = first_frame(clusters_[start]);
      members.push_back({start});
      VectorXd strength = link.col(start);
      std::vector<Index> parent(count, start);
      for (;;) {
        Index next = -1;
        for (Index j = 0; j < count; ++j)
          if (!placed[j] && strength[j] > link_tolerance && (next < 0 || strength[j] > strength[next])) next = j;
        if (next < 0) break;
        const Cluster &a = clusters_[parent[next]], &b = clusters_[next];
        if (a.size != b.size) {
          *why = "linked eigenspaces of unequal dimension";
          return std::nullopt;
        }
        // A multiple of an orthogonal matrix, up to rounding: its orthogonal factor by Newton-Schulz steps.
        MatrixXd o = rotation[parent[next]].transpose() * second.block(a.first, b.first, a.size, b.size);
        o *= std::sqrt(static_cast<double>(a.size)) / o.norm();
        MatrixXd excess = o * o.transpose() - MatrixXd::Identity(a.size, a.size);
        if (excess.norm() > 0.1) {
          *why = "copies that do not match";
          return std::nullopt;
        }
        for (int step = 0; step < 3; ++step) {
          o -= (0.5 * excess * o).eval();
          excess = o * o.transpose() - MatrixXd::Identity(a.size, a.size);
        }
        rotation[next] = o.transpose();
        placed[next] = true;
        members.back().push_back(next);
        for (Index j = 0; j < count; ++j)
          if (!placed[j] && link(next, j) > strength[j]) {
            strength[j] = link(next, j);
            parent[j] = next;
          }
      }
    }

    MatrixXd third = linear_element();
    const double third_size = std::max(third.cwiseAbs().maxCoeff(), 1e-300);
    for (const std::vector<Index>& part : members)
      for (Index i : part)
        for (Index j : part) {
          const Cluster &a = clusters_[i], &b = clusters_[j];
          third.block(a.first, b.first, a.size, b.size) =
              (rotation[i].transpose() * third.block(a.first, b.first, a.size, b.size) * rotation[j]).eval();
        }
    std::vector<BlockPart> parts;
    for (const std::vector<Index>& part : members) {
      std::optional<BlockPart> made = make_part(part, rotation, third, third_size, why);
      if (!made) return std::nullopt;
      parts.push_back(std::move(*made));
      for (Index i : part)
        for (Index j : part)
          third.block(clusters_[i].first, clusters_[j].first, clusters_[i].size, clusters_[j].size).setZero();
    }
    if (third.cwiseAbs().maxCoeff() > form_tolerance * third_size) {
      *why = "no block form within rounding";
      return std::nullopt;
    }
    for (BlockPart& part : parts) find_generators(part);
    return parts;
  }

private:
  [[nodiscard]] MatrixXd times_factor(const MatrixXd& m) const {
    MatrixXd out(m.rows(), m.cols());
    for (const ColumnSystem::Block& block : system_.blocks) {
      const int k = shape_.term[block.term].k;
      out.middleCols(block.first, k).noalias() = m.middleCols(block.first, k) * factor_[block.term];
    }
    return out;
  }

  /// A random combination of the generators, in the coordinates.
  MatrixXd linear_element() {
    std::vector<MatrixXd> c(shape_.terms);
    for (int b = 0; b < shape_.terms; ++b) {
      c[b] = random_.matrix(shape_.term[b].k, shape_.term[b].k);
      c[b] = ((c[b] + c[b].transpose()) * (0.5 * scale_[b])).eval();
    }
    MatrixXd times(coordinates_.rows(), coordinates_.cols());
    for (const ColumnSystem::Block& block : system_.blocks) {
      const int k = shape_.term[block.term].k;
      times.middleCols(block.first, k).noalias() = coordinates_.middleCols(block.first, k) * c[block.term];
    }
    MatrixXd out = times * coordinates_.transpose();
    return (out + out.transpose()) * 0.5;
  }

  /// The copies' frame in a part's first cluster: given vectors, projected and made orthonormal, so that it does not
  /// hang on rounding in the eigenvectors.
  MatrixXd first_frame(const Cluster& cluster) {
    const Index m = cluster.size;
    const MatrixXd given = coordinates_.middleRows(cluster.first, m) * random_.matrix(coordinates_.cols(), m);
    const Eigen::HouseholderQR<MatrixXd> qr(given);
    MatrixXd q = qr.householderQ();
    for (Index j = 0; j < m; ++j)
      if (qr.matrixQR()(j, j) < 0) q.col(j) = -q.col(j);
    return q;
  }

  std::optional<BlockPart> make_part(const std::vector<Index>& members, const std::vector<MatrixXd>& rotation,
                                     const MatrixXd& third, double third_size, std::string* why) {
    const Index d = static_cast<Index>(members.size()), m = clusters_[members[0]].size;
    BlockPart part{static_cast<int>(d), static_cast<int>(m), MatrixXd(weights_.rows(), d * m), {}};
    for (Index i = 0; i < d; ++i)
      part.weights.middleCols(i * m, m) = weights_.middleCols(clusters_[members[i]].first, m) * rotation[members[i]];
    if (m == 1) return part;
    // Copies are equal where every block is a multiple of the identity.
    double deviation = 0;
    MatrixXd sum = MatrixXd::Zero(m, m);
    for (Index i = 0; i < d; ++i)
      for (Index j = 0; j < d; ++j) {
        MatrixXd block = third.block(clusters_[members[i]].first, clusters_[members[j]].first, m, m);
        block.diagonal().array() -= block.trace() / static_cast<double>(m);
        deviation = std::max(deviation, block.cwiseAbs().maxCoeff());
        sum += random_.next() * block;
      }
    if (deviation <= form_tolerance * third_size) return part;
    // Complex type: the blocks are a I + b J with J'J = I, J' = -J; a pair (v, Jv) of the copies makes two rows.
    const MatrixXd skew = (sum - sum.transpose()) * 0.5;
    const MatrixXd j = skew * (std::sqrt(static_cast<double>(m)) / std::max(skew.norm(), 1e-300));
    if (m % 2 != 0 || (j * j + MatrixXd::Identity(m, m)).norm() > 1e-7) {
      *why = "a component of neither real nor complex type";
      return std::nullopt;
    }
    const Index half = m / 2;
    MatrixXd v(m, half), jv(m, half);
    Index found = 0;
    for (Index t = 0; t < m && found < half; ++t) {
      VectorXd x = VectorXd::Unit(m, t);
      for (int twice = 0; twice < 2; ++twice) {
        x -= v.leftCols(found) * (v.leftCols(found).transpose() * x).eval();
        x -= jv.leftCols(found) * (jv.leftCols(found).transpose() * x).eval();
      }
      if (x.norm() < 0.2 / std::sqrt(static_cast<double>(m))) continue;
      v.col(found) = x.normalized();
      jv.col(found) = j * v.col(found);
      ++found;
    }
    if (found < half) {
      *why = "a complex component whose copies do not pair";
      return std::nullopt;
    }
    BlockPart paired{static_cast<int>(2 * d), static_cast<int>(half), MatrixXd(weights_.rows(), d * m), {}};
    for (Index i = 0; i < d; ++i) {
      paired.weights.middleCols(2 * i * half, half) = part.weights.middleCols(i * m, m) * v;
      paired.weights.middleCols((2 * i + 1) * half, half) = part.weights.middleCols(i * m, m) * jv;
    }
    return paired;
  }

  void find_generators(BlockPart& part) const {
    const Index d = part.d, m = part.m;
    const MatrixXd y = part.weights.transpose() * system_.gram;  // (d m) x w
    std::vector<Index> nodes(shape_.terms, 0);
    for (const ColumnSystem::Block& block : system_.blocks) ++nodes[block.term];
    // Per coefficient: (m nodes) x d.
    std::vector<std::vector<MatrixXd>> column(shape_.terms);
    for (int b = 0; b < shape_.terms; ++b) column[b].assign(shape_.term[b].k, MatrixXd(m * nodes[b], d));
    std::fill(nodes.begin(), nodes.end(), 0);
    for (const ColumnSystem::Block& block : system_.blocks) {
      for (int q = 0; q < shape_.term[block.term].k; ++q)
        for (Index i = 0; i < d; ++i)
          column[block.term][q].col(i).segment(nodes[block.term] * m, m) = y.col(block.first + q).segment(i * m, m);
      ++nodes[block.term];
    }
    part.generators.resize(shape_.parameters);
    for (int a = 0; a < shape_.parameters; ++a) {
      const int b = shape_.parameter_term[a], i = shape_.parameter_row[a], j = shape_.parameter_column[a];
      const MatrixXd g = column[b][i].transpose() * column[b][j] / static_cast<double>(m);
      part.generators[a] = i == j ? MatrixXd((g + g.transpose()) * 0.5) : MatrixXd(g + g.transpose());
    }
  }

  const ColumnSystem& system_;
  const kernels::Shape& shape_;
  UniformSequence random_;
  std::vector<double> scale_;  ///< per term: 1 / mean square of its columns
  std::vector<MatrixXd> factor_;
  MatrixXd first_;
  VectorXd values_;       ///< r, ascending
  MatrixXd weights_;      ///< w x r: columns * weights is orthonormal
  MatrixXd coordinates_;  ///< r x w, of the columns
  std::vector<Cluster> clusters_;
};

}  // namespace

double UniformSequence::next() {
  state_ += 0x9E3779B97F4A7C15ULL;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  z ^= z >> 31U;
  return static_cast<double>(z >> 11U) * 0x1p-52 - 1.0 + 0x1p-53;
}

MatrixXd UniformSequence::matrix(Index rows, Index columns) {
  MatrixXd out(rows, columns);
  for (Index j = 0; j < columns; ++j)
    for (Index i = 0; i < rows; ++i) out(i, j) = next();
  return out;
}

std::optional<std::vector<BlockPart>> block_form(const ColumnSystem& system, const kernels::Shape& shape,
                                                 const BlockFormOptions& options, int* tries, std::string* why) {
  const auto irregular = [&] {
    *why = "the design is irregular: more than " + std::to_string(options.largest_sum) +
           " distinct variances in its covariance matrices";
    return std::nullopt;
  };
  Decomposition decomposition(system, shape, options.seed);
  decomposition.make_first_element();
  if (system.gram.rows() > std::max<Index>(small_system, options.largest_sum) &&
      decomposition.distinct_eigenvalues(options.largest_sum) > options.largest_sum)
    return irregular();
  decomposition.reduce();
  if (decomposition.rank() == 0) return std::vector<BlockPart>();
  for (int t = 1; t <= options.tries; ++t) {
    *tries = std::max(*tries, t);
    if (t > 1) decomposition.reduce_anew();
    decomposition.find_clusters();
    if (decomposition.clusters() > options.largest_sum) return irregular();
    std::optional<std::vector<BlockPart>> parts = decomposition.assemble(why);
    if (parts) return parts;
  }
  return std::nullopt;
}

}  // namespace batchlmm
