#include "host/model/symmetry.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "host/model/criterion.hpp"
#include "host/model/exchangeable_levels.hpp"
#include "host/model/matrix_algebra.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// Generators of two strata that differ by less than this, relative to their size, are those of one stratum.
constexpr double same_tolerance = 1e-11;
/// Entries of a generator below this, relative to its size over all strata, are zero.
constexpr double zero_tolerance = 1e-13;
constexpr int probes = 3;

/// A part of a system, with its rows turned to those of an equal part found before.
struct Piece {
  const ExchangeableSystem* system = nullptr;
  BlockPart part;
  [[nodiscard]] Index copies() const { return static_cast<Index>(system->copies.size()) * part.m; }
};

/// A stratum in the making: parts that are the same representation of the algebra.
struct Pieces {
  std::vector<Piece> pieces;
  [[nodiscard]] const BlockPart& first() const { return pieces.front().part; }
  [[nodiscard]] Index copies() const {
    Index sum = 0;
    for (const Piece& piece : pieces) sum += piece.copies();
    return sum;
  }
};

/// Tells whether two parts are the same up to a rotation of the rows, by the eigenvectors of one generic element and
/// signs from a second.
class Matcher {
public:
  Matcher(const kernels::Shape& shape, const std::vector<double>& scale, std::uint64_t seed)
      : scale_(scale),
        coefficient_{UniformSequence(seed).matrix(shape.parameters, 1),
                     UniformSequence(seed + 1).matrix(shape.parameters, 1)} {}

  /// The rotation O with generators(b) = O' generators(a) O, if there is one.
  [[nodiscard]] std::optional<MatrixXd> match(const BlockPart& a, const BlockPart& b) const {
    if (a.d != b.d) return std::nullopt;
    const Index d = a.d;
    const Eigen::SelfAdjointEigenSolver<MatrixXd> ea(element(a, 0)), eb(element(b, 0));
    const double size = std::max(ea.eigenvalues().cwiseAbs().maxCoeff(), 1e-300);
    if ((ea.eigenvalues() - eb.eigenvalues()).cwiseAbs().maxCoeff() > 1e-10 * size) return std::nullopt;
    for (Index i = 0; i + 1 < d; ++i)
      if (ea.eigenvalues()[i + 1] - ea.eigenvalues()[i] < 1e-7 * size) return std::nullopt;
    const MatrixXd sa = ea.eigenvectors().transpose() * element(a, 1) * ea.eigenvectors();
    const MatrixXd sb = eb.eigenvectors().transpose() * element(b, 1) * eb.eigenvectors();
    // Signs along a maximum spanning tree of the second element.
    VectorXd sign = VectorXd::Zero(d);
    sign[0] = 1;
    for (Index step = 1; step < d; ++step) {
      Index from = -1, to = -1;
      for (Index i = 0; i < d; ++i)
        for (Index j = 0; j < d; ++j)
          if (sign[i] != 0 && sign[j] == 0 && (from < 0 || std::abs(sa(i, j)) > std::abs(sa(from, to)))) {
            from = i;
            to = j;
          }
      sign[to] = sign[from] * (sa(from, to) * sb(from, to) < 0 ? -1.0 : 1.0);
    }
    const MatrixXd rotation = ea.eigenvectors() * sign.asDiagonal() * eb.eigenvectors().transpose();
    for (std::size_t g = 0; g < scale_.size(); ++g)
      if ((rotation.transpose() * a.generators[g] * rotation - b.generators[g]).cwiseAbs().maxCoeff() >
          same_tolerance * scale_[g])
        return std::nullopt;
    return rotation;
  }

private:
  [[nodiscard]] MatrixXd element(const BlockPart& part, int which) const {
    MatrixXd sum = MatrixXd::Zero(part.d, part.d);
    for (std::size_t g = 0; g < scale_.size(); ++g)
      sum += coefficient_[which](static_cast<Index>(g), 0) / scale_[g] * part.generators[g];
    return sum;
  }

  const std::vector<double>& scale_;
  std::array<MatrixXd, 2> coefficient_;
};

/// Per generator, its largest entry over all parts.
std::vector<double> generator_scale(const std::vector<Piece>& pieces, int parameters) {
  std::vector<double> scale(parameters, 1e-300);
  for (const Piece& piece : pieces)
    for (int a = 0; a < parameters; ++a) scale[a] = std::max(scale[a], piece.part.generators[a].cwiseAbs().maxCoeff());
  return scale;
}

/// Rows of each level.
using LevelRows = std::vector<std::vector<std::int32_t>>;

LevelRows rows_of_levels(const GroupingFactor& factor) {
  LevelRows rows(factor.levels);
  for (std::size_t row = 0; row < factor.level_of_row->size(); ++row)
    rows[(*factor.level_of_row)[row]].push_back(static_cast<std::int32_t>(row));
  return rows;
}

/// Builds the bases of the strata from their pieces.
class BasisBuilder {
public:
  BasisBuilder(const std::vector<GroupingFactor>& factors, double largest)
      : factors_(factors), n_(factors.front().z.rows()), largest_(largest) {
    for (const GroupingFactor& factor : factors) rows_.push_back(rows_of_levels(factor));
    position_.resize(static_cast<std::size_t>(n_));
  }

  /// @return false where more entries than `largest` are needed
  bool make(const Pieces& stratum, Eigen::SparseMatrix<double>* out) {
    const Index d = stratum.first().d, copies = stratum.copies();
    std::vector<Column> columns(static_cast<std::size_t>(d * copies));
    Index first_copy = 0;
    for (const Piece& piece : stratum.pieces)
      for (std::size_t e = 0; e < piece.system->copies.size(); ++e, first_copy += piece.part.m)
        if (!add_copies(piece, piece.system->copies[e], first_copy, copies, &columns)) return false;
    out->resize(n_, d * copies);
    std::size_t entries = 0;
    for (const Column& column : columns) entries += column.size();
    out->reserve(static_cast<Index>(entries));
    for (std::size_t j = 0; j < columns.size(); ++j) {
      out->startVec(static_cast<Index>(j));
      for (const auto& [row, value] : columns[j]) out->insertBack(row, static_cast<Index>(j)) = value;
      Column().swap(columns[j]);
    }
    out->finalize();
    return true;
  }

private:
  using Column = std::vector<std::pair<std::int32_t, double>>;

  bool add_copies(const Piece& piece, const std::vector<NodeLevel>& shares, Index first_copy, Index copies,
                  std::vector<Column>* columns) {
    touched_.clear();
    for (const NodeLevel& share : shares) {
      const std::vector<std::int32_t>& rows = rows_[piece.system->factor_of_node[share.node]][share.level];
      touched_.insert(touched_.end(), rows.begin(), rows.end());
    }
    std::sort(touched_.begin(), touched_.end());
    touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
    const Index d = piece.part.d, m = piece.part.m;
    entries_ += static_cast<double>(touched_.size()) * static_cast<double>(d * m);
    if (entries_ > largest_) return false;
    for (std::size_t i = 0; i < touched_.size(); ++i) position_[touched_[i]] = static_cast<Index>(i);
    MatrixXd values = MatrixXd::Zero(d * m, static_cast<Index>(touched_.size()));
    for (const NodeLevel& share : shares) {
      const int f = piece.system->factor_of_node[share.node];
      const MatrixXd weights =
          share.weight *
          piece.part.weights.middleRows(piece.system->column_of_node[share.node], factors_[f].z.cols()).transpose();
      for (std::int32_t row : rows_[f][share.level])
        values.col(position_[row]).noalias() += weights * factors_[f].z.row(row).transpose();
    }
    for (Index i = 0; i < d; ++i)
      for (Index c = 0; c < m; ++c) {
        Column& column = (*columns)[static_cast<std::size_t>(i * copies + first_copy + c)];
        column.reserve(touched_.size());
        for (std::size_t r = 0; r < touched_.size(); ++r)
          column.emplace_back(touched_[r], values(i * m + c, static_cast<Index>(r)));
      }
    return true;
  }

  const std::vector<GroupingFactor>& factors_;
  Index n_;
  double largest_, entries_ = 0;
  std::vector<LevelRows> rows_;  ///< per factor
  std::vector<std::int32_t> touched_;
  std::vector<Index> position_;  ///< of a row among the touched ones
};

/// Z_a Z_b' x + Z_b Z_a' x (a = b: once) for all parameters, n x (parameters x columns of x).
MatrixXd apply_generators(const Model& model, const std::vector<GroupingFactor>& factors, const MatrixXd& x) {
  const kernels::Shape& shape = model.shape();
  const Index n = x.rows(), count = x.cols();
  MatrixXd out = MatrixXd::Zero(n, shape.parameters * count);
  for (const GroupingFactor& factor : factors) {
    Index column = 0;
    for (int b : factor.terms) {
      const int k = shape.term[b].k;
      std::vector<MatrixXd> sums(k, MatrixXd::Zero(factor.levels, count));
      for (int q = 0; q < k; ++q)
        for (Index row = 0; row < n; ++row)
          sums[q].row((*factor.level_of_row)[row]) += factor.z(row, column + q) * x.row(row);
      for (int i = 0; i < k; ++i)
        for (int j = 0; j <= i; ++j) {
          auto to = out.middleCols((shape.term[b].parameter + kernels::triangle(i, j)) * count, count);
          for (Index row = 0; row < n; ++row) {
            const std::int32_t level = (*factor.level_of_row)[row];
            to.row(row) += factor.z(row, column + i) * sums[j].row(level);
            if (i != j) to.row(row) += factor.z(row, column + j) * sums[i].row(level);
          }
        }
      column += k;
    }
  }
  return out;
}

double certify(const Model& model, const std::vector<GroupingFactor>& factors, const Strata& strata,
               const std::vector<double>& scale, std::uint64_t seed) {
  const int parameters = model.shape().parameters;
  const Index n = factors.front().z.rows();
  UniformSequence random(seed);
  const MatrixXd x = random.matrix(n, probes) * std::numbers::sqrt3;
  MatrixXd left = apply_generators(model, factors, x);
  double worst = 0;
  MatrixXd sum = MatrixXd::Zero(n, probes);
  std::vector<MatrixXd> given;
  for (const Stratum& s : strata.strata) {
    given.push_back(random.matrix(s.basis.cols(), probes) * std::numbers::sqrt3);
    sum += s.basis * given.back();
    const MatrixXd coordinates = s.basis.transpose() * x;
    MatrixXd images = MatrixXd::Zero(s.basis.cols(), left.cols());
    for (int a = 0; a < parameters; ++a)
      if (s.generators[a].size() > 0)
        for (int i = 0; i < s.d; ++i)
          for (int j = 0; j < s.d; ++j)
            images.block(i * s.m, a * probes, s.m, probes) +=
                s.generators[a](i, j) * coordinates.middleRows(j * s.m, s.m);
    left -= s.basis * images;
  }
  for (int a = 0; a < parameters; ++a)
    worst = std::max(worst, left.middleCols(a * probes, probes).cwiseAbs().maxCoeff() / scale[a]);
  for (std::size_t i = 0; i < given.size(); ++i)
    worst = std::max(worst, (strata.strata[i].basis.transpose() * sum - given[i]).cwiseAbs().maxCoeff());
  return std::isfinite(worst) ? worst : std::numeric_limits<double>::infinity();
}

}  // namespace

std::optional<Strata> find_strata(const Model& model, const SymmetryOptions& options, std::string* why) {
  const kernels::Shape& shape = model.shape();
  const std::vector<GroupingFactor> factors = grouping_factors(model);
  const Index n = factors.front().z.rows();
  double columns = 0;
  for (const GroupingFactor& factor : factors) columns += static_cast<double>(factor.levels * factor.z.cols());
  const std::optional<std::vector<ExchangeableSystem>> systems =
      exchangeable_systems(factors, shape, options.largest_system, why);
  if (!systems) return std::nullopt;

  // The parts of one system are distinct representations; those of different systems may be the same.
  const int allowed = std::min(options.largest_sum,
                               static_cast<int>(options.largest_share * std::min(columns, static_cast<double>(n))));
  Strata out;
  std::vector<Piece> pieces;
  int orders = 0;
  for (const ExchangeableSystem& system : *systems) {
    const BlockFormOptions block_options{options.tries, allowed, options.seed};
    std::optional<std::vector<BlockPart>> parts = block_form(system.columns, shape, block_options, &out.tries, why);
    if (!parts) return std::nullopt;
    for (BlockPart& part : *parts) {
      orders += part.d;
      pieces.push_back({&system, std::move(part)});
    }
    if (orders > 2 * options.largest_sum) {
      *why = "the design is irregular: the orders of its strata add up to more than " + std::to_string(orders);
      return std::nullopt;
    }
  }

  // Parts that are the same representation make one stratum.
  const std::vector<double> scale = generator_scale(pieces, shape.parameters);
  const Matcher matcher(shape, scale, options.seed);
  std::vector<Pieces> strata;
  double rank = 0;
  for (Piece& piece : pieces) {
    rank += static_cast<double>(piece.part.d) * static_cast<double>(piece.copies());
    Pieces* same = nullptr;
    for (std::size_t i = 0; i < strata.size() && same == nullptr; ++i) {
      const std::optional<MatrixXd> rotation = matcher.match(strata[i].first(), piece.part);
      if (!rotation) continue;
      same = &strata[i];
      const Index m = piece.part.m;
      MatrixXd turned = MatrixXd::Zero(piece.part.weights.rows(), piece.part.weights.cols());
      for (Index r = 0; r < piece.part.d; ++r)
        for (Index c = 0; c < piece.part.d; ++c)
          turned.middleCols(r * m, m) += (*rotation)(r, c) * piece.part.weights.middleCols(c * m, m);
      piece.part.weights = std::move(turned);
    }
    if (same == nullptr) same = &strata.emplace_back();
    same->pieces.push_back(std::move(piece));
  }
  int sum = 0;
  for (const Pieces& stratum : strata) sum += stratum.first().d;
  if (sum > options.largest_share * rank) {
    *why = "the design is irregular: the orders of its strata add up to " + std::to_string(sum) + " of " +
           std::to_string(static_cast<long long>(rank)) + " dimensions";
    return std::nullopt;
  }
  BasisBuilder builder(factors, options.largest_basis);
  std::stable_sort(strata.begin(), strata.end(), [](const Pieces& a, const Pieces& b) {
    return std::pair<Index, Index>(a.first().d, a.copies()) < std::pair<Index, Index>(b.first().d, b.copies());
  });
  out.strata.reserve(strata.size());  // a sparse matrix is copied when it moves
  for (const Pieces& from : strata) {
    Stratum& stratum = out.strata.emplace_back();
    if (!builder.make(from, &stratum.basis)) {
      *why = "the bases of the strata are too large to be held";
      return std::nullopt;
    }
    stratum.d = from.first().d;
    stratum.m = static_cast<int>(from.copies());
    stratum.generators = from.first().generators;
    for (int a = 0; a < shape.parameters; ++a)
      if (stratum.generators[a].cwiseAbs().maxCoeff() <= zero_tolerance * scale[a]) stratum.generators[a].resize(0, 0);
    out.rank += static_cast<int>(stratum.basis.cols());
  }
  out.certificate = certify(model, factors, out, scale, options.seed + 2);
  if (!(out.certificate <= options.tolerance)) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.1e, above %.1e", out.certificate, options.tolerance);
    *why = std::string("the design deviates from the block form by ") + text.data();
    return std::nullopt;
  }
  return out;
}

double verify_strata(const Model& model, const Strata& strata) {
  // An evaluation of a model with many crossed levels takes longer than the search for the strata.
  const int draws = model.plan().schur > 100 ? 1 : 3;
  const kernels::Shape& shape = model.shape();
  const MatrixXd& x = model.x_gauge().columns;
  const Index n = x.rows(), p = x.cols();
  UniformSequence random(7);
  MatrixXd columns(n, p + draws);
  columns << x, random.matrix(n, draws);
  // Given T, [X y]'V^{-1}[X y] = sum over strata of the coordinates' cross-products, and what is orthogonal to Z.
  MatrixXd rest = columns;
  std::vector<MatrixXd> coordinates;
  for (const Stratum& s : strata.strata) {
    coordinates.emplace_back(s.basis.transpose() * columns);
    rest -= s.basis * coordinates.back();
  }
  const MatrixXd rest_products = rest.transpose() * rest;
  double worst = 0;
  for (int draw = 0; draw < draws; ++draw) {
    std::vector<double> lambda(shape.lambdas, 0.0);
    std::vector<double> t(shape.parameters);
    for (int b = 0; b < shape.terms; ++b) {
      const int k = shape.term[b].k;
      const double spread = std::pow(10.0, draw - 1) / std::sqrt(shape.term[b].scale);
      Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> l(
          lambda.data() + shape.term[b].lambda, k, k);
      for (int i = 0; i < k; ++i)
        for (int j = 0; j <= i; ++j) l(i, j) = spread * (i == j ? 1.2 + random.next() : random.next());
      const MatrixXd product = l * l.transpose();
      for (int i = 0; i < k; ++i)
        for (int j = 0; j <= i; ++j) t[shape.term[b].parameter + kernels::triangle(i, j)] = product(i, j);
    }
    const CriterionValue value = make_criterion(model, columns.col(p + draw))->evaluate(lambda, false);
    MatrixXd products = rest_products;
    double log_det = 0;
    for (std::size_t i = 0; i < strata.strata.size(); ++i) {
      const Stratum& s = strata.strata[i];
      MatrixXd v = MatrixXd::Identity(s.d, s.d);
      for (int a = 0; a < shape.parameters; ++a)
        if (s.generators[a].size() > 0) v += t[a] * s.generators[a];
      const Eigen::LLT<MatrixXd> llt(v);
      if (llt.info() != Eigen::Success) return std::numeric_limits<double>::infinity();
      log_det += 2 * s.m * MatrixXd(llt.matrixL()).diagonal().array().log().sum();
      const MatrixXd inverse = llt.solve(MatrixXd::Identity(s.d, s.d));
      for (int r = 0; r < s.d; ++r)
        for (int c = 0; c < s.d; ++c)
          products.noalias() += inverse(r, c) * (coordinates[i].middleRows(r * s.m, s.m).transpose() *
                                                 coordinates[i].middleRows(c * s.m, s.m));
    }
    double r2 = products(p + draw, p + draw);
    if (p > 0) {
      const Eigen::LLT<MatrixXd> llt(products.topLeftCorner(p, p));
      if (llt.info() != Eigen::Success) return std::numeric_limits<double>::infinity();
      const VectorXd xy = products.col(p + draw).head(p);
      r2 -= xy.dot(llt.solve(xy));
      if (shape.reml)
        log_det +=
            2 * MatrixXd(llt.matrixL()).diagonal().array().log().sum() + 2 * log_abs_determinant(model.x_gauge());
    }
    const double expected =
        value.deviance - shape.degrees * (1 + std::log(2 * std::numbers::pi * value.r2 / shape.degrees));
    if (!value.ok || !std::isfinite(expected)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, std::abs(log_det - expected) / static_cast<double>(n));
    worst = std::max(worst, std::abs(r2 - value.r2) / value.r2);
  }
  return std::isfinite(worst) ? worst : std::numeric_limits<double>::infinity();
}

}  // namespace batchlmm
