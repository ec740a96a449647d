#include "host/batch/shared_factorization.hpp"

#include <fmt/format.h>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <random>

#include "batchlmm/error.hpp"
#include "kernels/cpu.hpp"
#include "kernels/interpolant_fit.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr double smallest_upper = 0.5;
constexpr int usual_nodes = 12, first_nodes = 20, more_nodes = 6, most_nodes = 40, fewest_nodes = 6;
/// Largest error of the deviance that the tables may have at set-up, and the share of it that the end of one term's
/// Chebyshev series may bring.
constexpr double accuracy = 1e-9, series_accuracy = 2e-10;
/// Largest error of a replicate's deviance at what is held out.
constexpr double held_out_tolerance = 3e-9;
constexpr double evaluations_a_fit = 3.5;
/// Grid points up to which no other form of the criterion is looked for.
constexpr double few_points = 200;
constexpr int most_response_entries = 1500, most_tested = 32;
constexpr double most_bytes = 128e6;
/// Eigenvalues below this share of a term's scale belong to directions that the terms before explain.
constexpr double rank_tolerance = 1e-11;

/// Appends a matrix in the layout of kernels::multiply.
void pack(const MatrixXd& m, std::vector<double>& out) {
  constexpr Index rows = kernels::packed_rows;
  for (Index block = 0; block < m.rows(); block += rows)
    for (Index e = 0; e < m.cols(); ++e)
      for (Index r = block; r < block + rows; ++r) out.push_back(r < m.rows() ? m(r, e) : 0.0);
}

MatrixXd select(const MatrixXd& m, const std::vector<int>& rows, const std::vector<int>& columns) {
  MatrixXd out(rows.size(), columns.size());
  for (std::size_t i = 0; i < rows.size(); ++i)
    for (std::size_t j = 0; j < columns.size(); ++j)
      out(static_cast<Index>(i), static_cast<Index>(j)) = m(rows[i], columns[j]);
  return out;
}

std::vector<int> range(int begin, int end) {
  std::vector<int> out;
  for (int i = begin; i < end; ++i) out.push_back(i);
  return out;
}

struct Spectrum {
  VectorXd values;    ///< 0 where the direction is none
  MatrixXd whitened;  ///< diag(values)^{-1/2} U', rows of zeros there
};

Spectrum spectrum(const MatrixXd& m, double scale) {
  const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(m);
  Spectrum s{solver.eigenvalues(), solver.eigenvectors().transpose()};
  for (Index i = 0; i < s.values.size(); ++i) {
    const bool kept = s.values[i] > rank_tolerance * scale;
    s.whitened.row(i) *= kept ? 1 / std::sqrt(s.values[i]) : 0.0;
    if (!kept) s.values[i] = 0;
  }
  return s;
}

/// rho l / (1 + rho l)
VectorXd shrinkage(const VectorXd& values, double ratio) {
  return (ratio * values.array() / (1 + ratio * values.array())).matrix();
}

/// Chebyshev coefficients from values at the points 2 - 2 cos(pi e / (n - 1)), n x n. Nodes ascend where cosines
/// descend: that only changes signs.
MatrixXd chebyshev_transform(int n) {
  return MatrixXd::NullaryExpr(n, n, [n](Index degree, Index e) {
    const double half = (e == 0 || e == n - 1 ? 0.5 : 1.0) * (degree == 0 || degree == n - 1 ? 0.5 : 1.0);
    return half * 2 / (n - 1) * std::cos(std::numbers::pi * static_cast<double>(degree * e) / (n - 1));
  });
}

using Series = std::vector<std::vector<double>>;

/// Raises series[l][degree] to the largest coefficient, times `unit`, along any line of level l.
/// @param values  rows: combinations of the nodes of the levels before the last, the first level outermost
template <class Values>
void raise_coefficients(const Values& values, double unit, Series& series) {
  Index step = 1;
  for (std::size_t l = series.size(); l-- > 0;) {
    const auto n = static_cast<Index>(series[l].size());
    const MatrixXd transform = chebyshev_transform(static_cast<int>(n));
    const auto raise = [&](const VectorXd& line) {
      const VectorXd c = transform * line;
      for (Index degree = 0; degree < n; ++degree)
        series[l][degree] = std::max(series[l][degree], std::abs(c[degree]) * unit);
    };
    if (l + 1 == series.size()) {
      for (Index row = 0; row < values.rows(); ++row) raise(values.row(row).transpose());
      continue;
    }
    for (Index row = 0; row < values.rows(); ++row) {
      if (row / step % n > 0) continue;
      for (Index a = 0; a < values.cols(); ++a) {
        VectorXd line(n);
        for (Index e = 0; e < n; ++e) line[e] = values(row + e * step, a);
        raise(line);
      }
    }
    step *= n;
  }
}

/// Leading coefficients whose rest sums to less than `accuracy`.
int coefficients_needed(const std::vector<double>& series, double accuracy) {
  int count = static_cast<int>(series.size());
  double tail = 0;
  while (count > fewest_nodes && tail + series[count - 1] < accuracy) tail += series[--count];
  return count;
}

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The kernels' arrays for one response at a time.
struct OneResponse {
  explicit OneResponse(const kernels::Interpolant& t) {
    kernels::Arena<double*> count{nullptr};
    lay_out(t, count);
    memory.assign(count.used, 0.0);
    kernels::Arena<double*> arena{memory.data()};
    lay_out(t, arena);
  }
  void lay_out(const kernels::Interpolant& t, kernels::Arena<double*>& arena) {
    tabulate = kernels::make_tabulate_scratch(t, arena);
    table = kernels::make_interpolant_table(t, arena);
    fit = kernels::make_interpolant_scratch(t, arena);
  }
  std::vector<double> memory;
  kernels::TabulateScratch<double*> tabulate;
  kernels::InterpolantTable<double*> table;
  kernels::InterpolantScratch<double*> fit;
};

/// The deviance by the interpolant phi, less the model's constant.
double interpolated_deviance(const kernels::Interpolant& t, double* phi, const double* u, const OneResponse& w) {
  return kernels::with_levels(t.levels, [&](auto levels) {
    constexpr int L = decltype(levels)::value;
    const double value = kernels::interpolate_phi<L, double>(t, phi, u, w.fit).value;
    return t.degrees * std::log(value) + kernels::leading_part<L, double>(t, u, w.fit.basis[0]).value;
  });
}

}  // namespace

/// What is left after the terms of the levels before at one of their grid points.
struct SharedFactorization::State {
  int place = 0;  ///< among the values of the level before
  MatrixXd gram;  ///< [Z_left X_t]'P[Z_left X_t]
  MatrixXd rows;  ///< [Z_left X_t]'Py from a response vector
};

void SharedFactorization::Level::place_nodes(int count) {
  nodes = count;
  node.resize(count);
  weight.assign(count, 1.0);
  const double angle = std::numbers::pi / (count - 1);
  for (int a = 0; a < count; ++a) node[a] = 2 - 2 * std::cos(angle * a);
  node.front() = 0;
  node.back() = 4;
  // Halfway between two nodes in the middle, where the interpolation error has a peak.
  const int middle = (count - 1) / 2;
  held_out_node = 2 - 2 * std::cos(angle * (middle + 0.5));
  for (int a = 0; a < count; ++a)
    for (int b = 0; b < count; ++b)
      if (a != b) weight[a] /= node[a] - node[b];
  held_out = weight;
  for (int a = 0; a < count; ++a)
    for (int b = 0; b < count; ++b)
      if (a != b) held_out[a] *= held_out_node - node[b];
}

double SharedFactorization::Level::upper() const {
  return logarithmic ? std::log1p(scale * upper_ratio) : scale * upper_ratio / (1 + scale * upper_ratio);
}

double SharedFactorization::Level::ratio_at(double u) const {
  const double x = upper() * u / 4;
  return (logarithmic ? std::expm1(x) : x / (1 - x)) / scale;
}

double SharedFactorization::Level::ratio(int abscissa) const {
  return ratio_at(abscissa < nodes ? node[abscissa] : held_out_node);
}

std::string SharedFactorization::obstacle(const Model& model) {
  const kernels::Shape& s = model.shape();
  if (model.is_large()) return "the model counts as large";
  if (s.terms > kernels::max_interpolated)
    return fmt::format("it takes up to {} variance ratios, and the model has {}", kernels::max_interpolated, s.terms);
  for (int b = 0; b < s.terms; ++b)
    if (s.term[b].k != 1) return "it takes random-effects terms of one column each";
  if (s.response > most_response_entries)
    return fmt::format("it takes up to {} random and fixed effects, and the model has {}", most_response_entries,
                       s.response - 1);
  return {};
}

double SharedFactorization::predicted_operations(const Model& model, int tested) {
  const kernels::Shape& s = model.shape();
  std::vector<double> columns;
  columns.reserve(static_cast<std::size_t>(s.terms));
  for (int b = 0; b < s.terms; ++b) columns.push_back(static_cast<double>(s.nodes[s.term[b].stage]) * s.term[b].levels);
  std::sort(columns.rbegin(), columns.rend());
  double parents = 1, sum = 0;
  for (double q : columns) {
    sum += parents * q * (s.response - 1 + usual_nodes * (1 + tested));
    parents *= usual_nodes;
  }
  return sum + parents * 30;
}

SharedFactorization::SharedFactorization(const Model& model, const MatrixXd& x, const std::vector<double>& lambda,
                                         double reach)
    : model_(model), x_(x) {
  const kernels::Shape& s = model.shape();
  std::string why = obstacle(model);
  if (why.empty() && s.p - x.cols() > most_tested)
    why = fmt::format("it takes up to {} tested fixed effects, and there are {}", most_tested, s.p - x.cols());
  if (why.empty() && s.reml && x.cols() < s.p) why = "by REML it takes one model";
  if (!why.empty()) throw ModelError("shared factorization: " + why);
  const Eigen::HouseholderQR<MatrixXd> qr(x_);
  tested_ = (MatrixXd(qr.householderQ() * MatrixXd::Identity(s.p, s.p))).rightCols(s.p - x_.cols());
  cross_products();
  list_terms();
  choose_box(lambda, reach);
  choose_leading_part();
  const std::vector<std::vector<double>> responses = sample_responses(lambda);
  choose_nodes(responses);
  for (int attempt = 0; (error_ = measure_error(responses)) > accuracy; ++attempt) {
    if (attempt == 2)
      throw ModelError(fmt::format(
          "shared factorization: the interpolant's error is {:.1e} in deviance, the bound {:.0e}", error_, accuracy));
    for (Level& level : levels_) level.place_nodes(level.nodes + 2);
    make_tables();
  }
}

void SharedFactorization::cross_products() {
  const kernels::Shape& s = model_.shape();
  const int entries = s.response - 1, K = s.own[0], x_at = entries - s.p;
  gram_ = MatrixXd::Zero(entries, entries);
  from_response_ = MatrixXd::Identity(entries, entries);
  std::vector<int> stage_at(s.stages + 1, 0);
  for (int t = 1; t <= s.stages; ++t) stage_at[t] = stage_at[t - 1] + s.nodes[t - 1] * s.own[t - 1];
  for (int j = 0; j < s.nodes[0]; ++j) {
    const Model::StreamedLevel level = model_.streamed_level(j);
    std::vector<int> outer;
    for (int column : level.touched) {
      int entry = x_at + column - 1;
      for (int t = 1; t <= s.stages; ++t)
        if (column >= s.outer[t] && column < s.outer[t] + s.own[t])
          entry = stage_at[t] + model_.node_of(t, j) * s.own[t] + column - s.outer[t];
      outer.push_back(entry);
    }
    const MatrixXd cross = level.left.transpose() * level.left + level.r.transpose() * level.r;
    const MatrixXd own = level.c * level.c.transpose(), own_outer = level.c * level.r;
    from_response_.block(j * K, j * K, K, K) = level.c;
    gram_.block(j * K, j * K, K, K) = own;
    for (std::size_t a = 0; a < outer.size(); ++a) {
      const auto ai = static_cast<Index>(a);
      for (std::size_t b = 0; b < outer.size(); ++b) gram_(outer[a], outer[b]) += cross(ai, static_cast<Index>(b));
      for (int i = 0; i < K; ++i) {
        from_response_(outer[a], j * K + i) += level.r(i, ai);
        gram_(outer[a], j * K + i) = gram_(j * K + i, outer[a]) = own_outer(i, ai);
      }
    }
  }
}

void SharedFactorization::list_terms() {
  const kernels::Shape& s = model_.shape();
  std::vector<int> stage_at(s.stages + 1, 0);
  for (int t = 1; t <= s.stages; ++t) stage_at[t] = stage_at[t - 1] + s.nodes[t - 1] * s.own[t - 1];
  for (int b = 0; b < s.terms; ++b) {
    const kernels::TermShape& term = s.term[b];
    Level level;
    level.term = b;
    level.largest = 0;
    for (int node = 0; node < s.nodes[term.stage]; ++node)
      for (int l = 0; l < term.levels; ++l) {
        level.columns.push_back(stage_at[term.stage] + node * s.own[term.stage] + term.column + l);
        level.largest = std::max(level.largest, gram_(level.columns.back(), level.columns.back()));
      }
    levels_.push_back(std::move(level));
  }
  // A rotation a grid point of the levels before: the fewest columns last.
  std::stable_sort(levels_.begin(), levels_.end(),
                   [](const Level& a, const Level& b) { return a.columns.size() > b.columns.size(); });
}

void SharedFactorization::choose_box(const std::vector<double>& lambda, double reach) {
  const kernels::Shape& s = model_.shape();
  const auto m = static_cast<Index>(levels_.size());
  // Expected information by the variance ratios: tr(P Z_bZ_b' P Z_cZ_c') / 2 = |Z_b'P Z_c|^2 / 2, where Z'PZ = G (I +
  // D G)^{-1} with G = Z'P_X Z.
  const std::vector<int> x = range(s.response - 1 - s.p, s.response - 1);
  std::vector<int> z;
  std::vector<double> ratio;
  for (const Level& level : levels_)
    for (int column : level.columns) {
      z.push_back(column);
      ratio.push_back(lambda[s.term[level.term].lambda] * lambda[s.term[level.term].lambda]);
    }
  MatrixXd g = select(gram_, z, z);
  if (s.p > 0) {
    const MatrixXd zx = select(gram_, z, x), xx = select(gram_, x, x);
    g -= zx * xx.ldlt().solve(zx.transpose());
  }
  const MatrixXd weighted = Eigen::Map<const VectorXd>(ratio.data(), static_cast<Index>(ratio.size())).asDiagonal() * g;
  const MatrixXd inside =
      (MatrixXd::Identity(g.rows(), g.cols()) + weighted).transpose().partialPivLu().solve(g.transpose()).transpose();
  MatrixXd information(m, m);
  VectorXd rate(m), at(m);
  for (Index b = 0, row = 0; b < m; row += static_cast<Index>(levels_[b].columns.size()), ++b) {
    const double c = levels_[b].largest, rho = ratio[row];
    at[b] = std::log1p(c * rho);
    rate[b] = (1 + c * rho) / c;
    for (Index d = 0, column = 0; d < m; column += static_cast<Index>(levels_[d].columns.size()), ++d)
      information(b, d) = 0.5 * inside
                                    .block(row, column, static_cast<Index>(levels_[b].columns.size()),
                                           static_cast<Index>(levels_[d].columns.size()))
                                    .squaredNorm();
  }
  information = (rate.asDiagonal() * information * rate.asDiagonal()).eval();
  const MatrixXd covariance = information.completeOrthogonalDecomposition().pseudoInverse();
  for (Index b = 0; b < m; ++b) {
    const double x = std::max(smallest_upper, at[b] + reach * std::sqrt(std::max(covariance(b, b), 0.0)));
    levels_[b].upper_ratio = std::expm1(x) / levels_[b].largest;
  }
}

std::vector<SharedFactorization::State> SharedFactorization::add_level(std::size_t index,
                                                                       const std::vector<State>& parents) {
  Level& level = levels_[index];
  const bool last = index + 1 == levels_.size();
  const auto q = static_cast<Index>(level.columns.size());
  const Index left = parents.front().gram.rows() - q;  // the further terms' columns and the tested ones
  const int nodes = level.nodes;
  level.smallest = level.largest;
  level.parent.clear();
  level.rotation.clear();
  level.shrink.clear();
  level.tested.clear();
  std::vector<State> children;
  State held_out;
  for (std::size_t g = 0; g < parents.size(); ++g) {
    const State& state = parents[g];
    level.parent.push_back(state.place);
    const Spectrum s = spectrum(state.gram.topLeftCorner(q, q), level.largest);
    for (Index i = 0; i < q; ++i)
      if (s.values[i] > 0) level.smallest = std::min(level.smallest, s.values[i]);
    const MatrixXd rotation = s.whitened * state.rows.topRows(q);
    const MatrixXd cross = s.whitened * state.gram.topRightCorner(q, left);
    pack(rotation, level.rotation);
    MatrixXd shrink(nodes + 1, q);
    for (int a = 0; a <= nodes; ++a) shrink.row(a) = shrinkage(s.values, level.ratio(a)).transpose();
    pack(shrink, level.shrink);
    for (Index c = 0; c < tested(); ++c) pack(shrink * cross.col(left - tested() + c).asDiagonal(), level.tested);

    // Nodes go with nodes; of what is held out there is one point.
    const bool is_held_out = index > 0 && g + 1 == parents.size();
    for (int a = 0; a <= nodes; ++a) {
      if (!last && (a < nodes ? is_held_out : index > 0 && !is_held_out)) continue;
      const auto weight = shrink.row(a).transpose().asDiagonal();
      State child;
      child.place = static_cast<int>(g) * (nodes + 1) + a;
      child.gram = state.gram.bottomRightCorner(left, left) - cross.transpose() * weight * cross;
      if (last) {
        const MatrixXd inverse =
            Eigen::LLT<MatrixXd>(child.gram).matrixL().solve(MatrixXd::Identity(tested(), tested()));
        for (Index c = 0; c < tested(); ++c)
          for (Index e = 0; e <= c; ++e) tested_root_.push_back(inverse(c, e));
        continue;
      }
      child.rows = state.rows.bottomRows(left) - cross.transpose() * weight * rotation;
      if (a == nodes)
        held_out = std::move(child);
      else
        children.push_back(std::move(child));
    }
  }
  if (!last) children.push_back(std::move(held_out));
  return children;
}

MatrixXd SharedFactorization::determinant_gram() const {
  const kernels::Shape& s = model_.shape();
  std::vector<int> z;
  for (const Level& level : levels_) z.insert(z.end(), level.columns.begin(), level.columns.end());
  MatrixXd gram = select(gram_, z, z);
  if (s.reml && s.p > 0) {
    const std::vector<int> x = range(s.response - 1 - s.p, s.response - 1);
    const MatrixXd cross = Eigen::LLT<MatrixXd>(select(gram_, x, x)).matrixL().solve(select(gram_, x, z));
    gram -= cross.transpose() * cross;
  }
  return gram;
}

std::vector<double> SharedFactorization::log_determinants() const {
  const kernels::Shape& s = model_.shape();
  double start = 0;
  if (s.reml && s.p > 0) {
    // log|V| + log|X'V^{-1}X| = log|X'X| + what Z'P_X Z makes of it.
    const std::vector<int> x = range(s.response - 1 - s.p, s.response - 1);
    start = 2 * MatrixXd(Eigen::LLT<MatrixXd>(select(gram_, x, x)).matrixL()).diagonal().array().log().sum();
  }
  std::vector<double> out;
  const auto descend = [&](const auto& self, std::size_t index, const MatrixXd& g, double sum) -> void {
    const Level& level = levels_[index];
    const auto q = static_cast<Index>(level.columns.size());
    const Index left = g.rows() - q;
    const Spectrum spectral = spectrum(g.topLeftCorner(q, q), level.largest);
    const MatrixXd cross = spectral.whitened * g.topRightCorner(q, left);
    for (int a = 0; a <= level.nodes; ++a) {
      const double ratio = level.ratio(a);
      const double here = sum + (ratio * spectral.values.array()).log1p().sum();
      if (index + 1 == levels_.size())
        out.push_back(here);
      else
        self(self, index + 1,
             g.bottomRightCorner(left, left) -
                 cross.transpose() * shrinkage(spectral.values, ratio).asDiagonal() * cross,
             here);
    }
  };
  descend(descend, 0, determinant_gram(), start);
  return out;
}

void SharedFactorization::choose_leading_part() {
  // Directions of range(Z_b) that other terms have too: from the null vectors of [Z]'[Z]. Of m terms that share one
  // direction m - 1 combinations vanish.
  const MatrixXd gram = determinant_gram();
  const auto m = static_cast<Index>(levels_.size());
  VectorXd unit(gram.rows());
  Index row = 0;
  for (Level& level : levels_) {
    const auto q = static_cast<Index>(level.columns.size());
    const Spectrum s = spectrum(gram.block(row, row, q, q), level.largest);
    level.own = static_cast<double>((s.values.array() > 0).count());
    level.common_rate = 0;
    unit.segment(row, q).setConstant(1 / std::sqrt(level.largest));
    row += q;
  }
  common_ = 0;
  const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(unit.asDiagonal() * gram * unit.asDiagonal());
  double rank = 0, ranks = 0;
  for (double value : solver.eigenvalues()) rank += value > 1e-9;
  for (const Level& level : levels_) ranks += level.own;
  if (m < 2 || ranks == rank) return;
  common_ = std::floor((ranks - rank) / static_cast<double>(m - 1));
  // Each such direction w = Z_b u, |w| = 1, has the rates |Z_b'w|^2: their mean over the directions.
  double directions = 0;
  for (Index i = 0; i < gram.rows(); ++i) {
    if (solver.eigenvalues()[i] > 1e-9) continue;
    VectorXd u = unit.cwiseProduct(solver.eigenvectors().col(i));
    u.tail(gram.rows() - static_cast<Index>(levels_.front().columns.size())).setZero();
    const double square = u.dot(gram * u);
    if (!(square > 1e-9)) continue;
    const VectorXd rates = gram * u / std::sqrt(square);
    directions += 1;
    shared_direction_ = unit.cwiseProduct(solver.eigenvectors().col(i));
    row = 0;
    for (Level& level : levels_) {
      const auto q = static_cast<Index>(level.columns.size());
      level.common_rate += rates.segment(row, q).squaredNorm();
      row += q;
    }
  }
  if (directions == 0) common_ = 0;
  for (Level& level : levels_) {
    level.own -= common_;
    level.common_rate /= std::max(directions, 1.0);
  }
}

void SharedFactorization::tabulate_common_rate() {
  // Given rho_1, S = Z_2'V_1^{-1}Z_2 has one small eigenvalue, that of about w, the shared direction in Z_2's
  // coordinates; times 1 + a_1 rho_1 it hardly changes. Inverse iterations from w: a few, since exact where rho_1 is
  // large is enough, and many would follow other eigenvalues where rho_1 is small (56 x 32 with a tenth of the rows
  // missing needs 16, 11, 10, 13, 20 nodes after 0, 1, 2, 4, 8).
  constexpr int inverse_iterations = 2;
  common_rates_.clear();
  if (levels_.size() != 2 || common_ != 1) return;
  const Level& first = levels_.front();
  const MatrixXd gram = determinant_gram();
  const auto q = static_cast<Index>(first.columns.size());
  const Index left = gram.rows() - q;
  const VectorXd w = shared_direction_.tail(left).normalized();
  const Spectrum s = spectrum(gram.topLeftCorner(q, q), first.largest);
  const MatrixXd cross = s.whitened * gram.topRightCorner(q, left);
  for (double u : first.node) {
    const double ratio = first.ratio_at(u);
    const MatrixXd schur =
        gram.bottomRightCorner(left, left) - cross.transpose() * shrinkage(s.values, ratio).asDiagonal() * cross;
    const auto factor = schur.ldlt();
    VectorXd v = w;
    for (int k = 0; k < inverse_iterations; ++k) v = factor.solve(v).normalized();
    common_rates_.push_back((1 + first.common_rate * ratio) / v.dot(factor.solve(v)));
  }
}

double SharedFactorization::log_leading_part(const std::vector<double>& ratios, int first) const {
  double sum = 0, common = 0;
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    sum += levels_[l].own * std::log1p(levels_[l].scale * ratios[l]);
    double rate = levels_[l].common_rate;
    if (l == 1 && !common_rates_.empty()) {
      rate = 0;
      for (int a = 0; a < levels_[0].nodes; ++a)
        rate += common_rates_[a] * (first < levels_[0].nodes ? (a == first ? 1.0 : 0.0) : levels_[0].held_out[a]);
    }
    common += rate * ratios[l];
  }
  return sum + common_ * std::log1p(common);
}

void SharedFactorization::make_tables() {
  const kernels::Shape& s = model_.shape();
  const int entries = s.response - 1;
  // [Z (levels' order) | tested X] and the smaller model's X, by entries of the response vector.
  std::vector<int> z;
  for (const Level& level : levels_) z.insert(z.end(), level.columns.begin(), level.columns.end());
  const auto q = static_cast<Index>(z.size());
  MatrixXd columns = MatrixXd::Zero(entries, q + tested()), x = MatrixXd::Zero(entries, x_.cols());
  for (Index i = 0; i < q; ++i) columns(z[i], i) = 1;
  columns.bottomRightCorner(s.p, tested()) = tested_;
  x.bottomRows(s.p) = x_;

  const Eigen::LLT<MatrixXd> factor(x.transpose() * gram_ * x);
  const MatrixXd x_root = factor.matrixL().solve(x.transpose());
  const MatrixXd cross = x_root * gram_ * columns, x_rows = x_root * from_response_;
  State root;
  root.gram = columns.transpose() * gram_ * columns - cross.transpose() * cross;
  root.rows = columns.transpose() * from_response_ - cross.transpose() * x_rows;
  root_.clear();
  MatrixXd both(x_.cols() + tested(), entries);
  both << x_rows, root.rows.bottomRows(tested());
  pack(both, root_);

  tested_root_.clear();
  std::vector<State> states{root};
  for (std::size_t l = 0; l < levels_.size(); ++l) states = add_level(l, states);
  held_out_row_.assign(1, 1.0);
  for (std::size_t l = 0; l + 1 < levels_.size(); ++l) {
    std::vector<double> next;
    for (double outer : held_out_row_)
      for (double inner : levels_[l].held_out) next.push_back(outer * inner);
    held_out_row_ = std::move(next);
  }
  // Of all combinations of abscissae those that the last level's values stand for: nodes with nodes, or all levels
  // before the last at what is held out.
  determinant_.clear();
  leading_.clear();
  tabulate_common_rate();
  const std::vector<double> all = log_determinants();
  const int last = levels_.back().nodes + 1;
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::vector<double> ratio(levels_.size());
    bool any_held_out = false, all_held_out = true;
    std::size_t place = i;
    int first = 0;
    for (std::size_t l = levels_.size(); l-- > 0;) {
      const std::size_t abscissae = static_cast<std::size_t>(levels_[l].nodes) + 1;
      const int a = static_cast<int>(place % abscissae);
      place /= abscissae;
      ratio[l] = levels_[l].ratio(a);
      if (l == 0) first = a;
      if (l + 1 == levels_.size()) continue;
      any_held_out = any_held_out || a == levels_[l].nodes;
      all_held_out = all_held_out && a == levels_[l].nodes;
    }
    if (any_held_out && !(all_held_out && levels_.size() > 1)) continue;
    const double leading = log_leading_part(ratio, first);
    determinant_.push_back(std::exp((all[i] - leading) / s.degrees));
    if (!any_held_out && static_cast<int>(i % last) < levels_.back().nodes)
      leading_.push_back(std::exp(leading / s.degrees));
  }

  kernels::Interpolant& t = interpolant_;
  t.levels = static_cast<int>(levels_.size());
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    const Level& from = levels_[l];
    kernels::InterpolantLevel& to = t.level[l];
    to.term = from.term;
    to.columns = static_cast<int>(from.columns.size());
    to.nodes = from.nodes;
    to.logarithmic = from.logarithmic;
    to.scale = from.scale;
    to.upper = from.upper();
    to.node = from.node.data();
    to.weight = from.weight.data();
    to.held_out = from.held_out.data();
    to.own = from.own;
    to.common_rate = from.common_rate;
    to.parents = static_cast<int>(from.parent.size());
    to.parent = from.parent.data();
    to.rotation = from.rotation.data();
    to.shrink = from.shrink.data();
    to.tested = from.tested.data();
  }
  t.response = s.response;
  t.streamed = s.nodes[0] * s.own[0];
  t.x_rows = static_cast<int>(x_.cols());
  t.tested = static_cast<int>(tested());
  t.root = root_.data();
  t.tested_root = tested_root_.data();
  t.held_out_row = held_out_row_.data();
  t.determinant = determinant_.data();
  t.leading = leading_.data();
  t.common = common_;
  t.common_rate = common_rates_.empty() ? nullptr : common_rates_.data();
  t.degrees = s.degrees;
  t.constant = s.constant;
  t.tolerance = held_out_tolerance;
}

std::vector<std::vector<double>> SharedFactorization::sample_responses(const std::vector<double>& lambda) const {
  const kernels::Shape& s = model_.shape();
  const ModelMatrices& m = model_.matrices();
  const Index n = m.y.size();
  std::mt19937_64 generator(20250607);
  std::normal_distribution<double> normal;
  std::vector<std::vector<double>> responses;
  const auto add = [&](const std::vector<double>& at, int count) {
    for (int i = 0; i < count; ++i) {
      VectorXd y = VectorXd::NullaryExpr(n, [&] { return normal(generator); });
      for (int b = 0; b < s.terms; ++b) {
        const RandomTerm& term = m.random[model_.term_of(b)];
        const MatrixXd& z = model_.z_gauge(model_.term_of(b)).columns;
        const VectorXd u =
            VectorXd::NullaryExpr(static_cast<Index>(term.levels.size()), [&] { return normal(generator); });
        for (Index row = 0; row < n; ++row) y[row] += at[s.term[b].lambda] * z(row, 0) * u[term.level_of_row[row]];
      }
      responses.push_back(model_.response(y));
    }
  };
  add(lambda, 4);
  add(std::vector<double>(s.lambdas, 0.0), 2);
  for (const Level& level : levels_) {
    std::vector<double> far = lambda;
    far[s.term[level.term].lambda] = std::sqrt(level.upper_ratio);
    add(far, 2);
  }
  return responses;
}

void SharedFactorization::choose_nodes(const std::vector<std::vector<double>>& responses) {
  const auto all_logarithmic = [&] {
    for (Level& level : levels_) {
      level.logarithmic = true;
      level.scale = level.largest;
    }
    return nodes_needed(responses);
  };
  const std::vector<int> logarithmic = all_logarithmic();
  // Where eigenvalues range from l to L, c = sqrt(l L) puts the singularities as far off to the left as to the right.
  for (Level& level : levels_) {
    level.logarithmic = false;
    level.scale = std::sqrt(level.smallest * level.largest);
  }
  const std::vector<int> bounded = nodes_needed(responses);
  std::vector<int> nodes;
  double points = 1;
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    levels_[l].logarithmic = logarithmic[l] <= bounded[l];
    if (levels_[l].logarithmic) levels_[l].scale = levels_[l].largest;
    nodes.push_back(std::min(logarithmic[l], bounded[l]));
    points *= nodes[l] <= most_nodes ? nodes[l] : std::numeric_limits<double>::infinity();
  }
  if (common_ > 0 && points > few_points) {
    // Far from balance |V| is no product of a few factors: in logarithmic coordinates it need not be one.
    const double common = common_;
    const std::vector<Level> levels = levels_;
    common_ = 0;
    const std::vector<int> plain = all_logarithmic();
    double plain_points = 1;
    for (int n : plain) plain_points *= n <= most_nodes ? n : std::numeric_limits<double>::infinity();
    if (plain_points < points) {
      points = plain_points;
      nodes = plain;
    } else {
      common_ = common;
      levels_ = levels;
    }
  }
  if (!std::isfinite(points))
    throw ModelError(fmt::format("shared factorization: {} nodes do not reach its accuracy", most_nodes));
  for (std::size_t l = 0; l < levels_.size(); ++l) levels_[l].place_nodes(nodes[l]);
  make_tables();
}

std::vector<int> SharedFactorization::nodes_needed(const std::vector<std::vector<double>>& responses) {
  // One grid that is fine enough to see where the Chebyshev series of every term ends.
  std::vector<int> needed(levels_.size());
  for (Level& level : levels_) level.place_nodes(first_nodes);
  for (bool fine = false; !fine;) {
    double bytes = 8, parents = 1;
    for (const Level& level : levels_) {
      bytes += 8 * parents * static_cast<double>(level.columns.size()) *
               (model_.shape().response + level.nodes * (1.0 + static_cast<double>(tested())));
      parents *= level.nodes;
    }
    if (bytes > most_bytes)
      throw ModelError(fmt::format("shared factorization: its tables would take {:.0f} MB, the bound is {:.0f} MB",
                                   bytes / 1e6, most_bytes / 1e6));
    make_tables();
    const Series series = largest_coefficients(responses);
    fine = true;
    for (std::size_t l = 0; l < levels_.size(); ++l) {
      Level& level = levels_[l];
      needed[l] = coefficients_needed(series[l], series_accuracy);
      if (needed[l] + 2 <= level.nodes) continue;
      needed[l] = most_nodes + 1;
      if (level.nodes + more_nodes > most_nodes) continue;
      level.place_nodes(level.nodes + more_nodes);
      fine = false;
    }
  }
  return needed;
}

std::vector<std::vector<double>> SharedFactorization::largest_coefficients(
    const std::vector<std::vector<double>>& responses) const {
  const OneResponse one(interpolant_);
  const kernels::InterpolantGrid grid(interpolant_);
  Series series;
  for (const Level& level : levels_) series.emplace_back(level.nodes, 0.0);
  for (const std::vector<double>& response : responses) {
    kernels::tabulate<double>(interpolant_, response.data(), one.tabulate, one.table);
    for (int model = 0; model < (tested() > 0 ? 2 : 1); ++model) {
      const Eigen::Map<const RowMajor> phi(one.table.phi[model], grid.rows, grid.stride);
      const auto nodes = phi.topLeftCorner(grid.node_rows, grid.nodes);
      raise_coefficients(nodes, interpolant_.degrees / nodes.minCoeff(), series);
    }
  }
  return series;
}

double SharedFactorization::measure_error(const std::vector<std::vector<double>>& responses) const {
  const kernels::Shape& s = model_.shape();
  const kernels::Interpolant& t = interpolant_;
  const int model = tested() > 0 ? 1 : 0;
  std::vector<double> scratch(kernels::cpu_kernels().scratch(s)), lambda(s.lambdas);
  const OneResponse one(t);
  double* const phi = one.table.phi[model];
  std::mt19937_64 generator(7);
  double worst = 0;
  for (const std::vector<double>& response : responses) {
    kernels::tabulate<double>(t, response.data(), one.tabulate, one.table);
    const kernels::InterpolantOptimum<double> optimum = kernels::with_levels(t.levels, [&](auto levels) {
      return kernels::fit_interpolant<decltype(levels)::value, double>(t, phi, 1e-7, one.fit, nullptr);
    });
    for (int point = 0; point < 8; ++point) {
      double u[kernels::max_interpolated];
      for (int l = 0; l < t.levels; ++l) {
        u[l] = point == 0 ? optimum.u[l] : 4 * static_cast<double>(generator() >> 11) * 0x1p-53;
        lambda[s.term[t.level[l].term].lambda] = std::sqrt(std::max(levels_[l].ratio_at(u[l]), 0.0));
      }
      const double value = interpolated_deviance(t, phi, u, one) + t.constant;
      const double exact = kernels::cpu_kernels()
                               .evaluate(s, model_.design(), response.data(), lambda.data(), scratch.data(), false)
                               .deviance;
      // Also true for NaN.
      if (!(std::abs(value - exact) <= worst)) worst = std::abs(value - exact);
    }
  }
  return worst;
}

double SharedFactorization::operations() const {
  const double entries = interpolant_.response - 1;
  double sum = entries * static_cast<double>(x_.cols() + tested()), points = 1;
  for (const Level& level : levels_) {
    sum += static_cast<double>(level.parent.size()) * static_cast<double>(level.columns.size()) *
           (entries + (level.nodes + 1) * (1 + static_cast<double>(tested())));
    points *= level.nodes;
  }
  return sum + evaluations_a_fit * 3 * points * (tested() > 0 ? 2 : 1);
}

std::size_t SharedFactorization::bytes() const {
  std::size_t sum = root_.size() + tested_root_.size() + held_out_row_.size() + determinant_.size() + leading_.size() +
                    common_rates_.size();
  for (const Level& level : levels_) sum += level.rotation.size() + level.shrink.size() + level.tested.size();
  return 8 * sum;
}

}  // namespace batchlmm
