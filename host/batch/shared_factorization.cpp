#include "host/batch/shared_factorization.hpp"

#include <fmt/format.h>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

#include "batchlmm/error.hpp"
#include "kernels/cpu.hpp"
#include "kernels/interpolant.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

/// The box reaches this many standard deviations of an estimate beyond the generating value: a replicate beyond is
/// fitted by the streaming tier.
constexpr double reach = 6;
constexpr double smallest_upper = 0.5;
constexpr int usual_nodes = 14, first_nodes = 20, most_nodes = 32, fewest_nodes = 6;
/// Largest error of the deviance that the tables may have at set-up, and the share of it that the end of one term's
/// Chebyshev series may bring.
constexpr double accuracy = 1e-9, series_accuracy = 1e-10;
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

kernels::InterpolantMemory<double> double_memory(const kernels::Interpolant& t, std::vector<double>& memory) {
  kernels::InterpolantMemory<double> arrays;
  memory.assign(kernels::lay_out<double>(t, nullptr, arrays), 0.0);
  kernels::lay_out<double>(t, memory.data(), arrays);
  return arrays;
}

}  // namespace

/// What is left after the terms of the levels before at one of their grid points.
struct SharedFactorization::State {
  int place = 0;               ///< among the values of the level before
  MatrixXd gram;               ///< [Z_left X_t]'P[Z_left X_t]
  MatrixXd rows;               ///< [Z_left X_t]'Py from a response vector
  MatrixXd plain;              ///< Z_left'V^{-1}Z_left
  double log_determinant = 0;  ///< of V, or of what REML has in its place
};

double SharedFactorization::Level::ratio(int abscissa) const {
  return std::expm1((abscissa < nodes ? node[abscissa] : held_out_node) * upper / 4) / scale;
}

void SharedFactorization::Level::place_nodes(int count) {
  nodes = count;
  node.resize(count);
  weight.assign(count, 1.0);
  held_out.assign(count, 1.0);
  const double angle = std::numbers::pi / (count - 1);
  for (int a = 0; a < count; ++a) node[a] = 2 - 2 * std::cos(angle * a);
  node.front() = 0;
  node.back() = 4;
  // Halfway between two nodes in the middle, where the interpolation error has a peak.
  held_out_node = 2 - 2 * std::cos(angle * ((count - 1) / 2 + 0.5));
  for (int a = 0; a < count; ++a) {
    for (int b = 0; b < count; ++b)
      if (a != b) {
        weight[a] /= node[a] - node[b];
        held_out[a] *= (held_out_node - node[b]) / (node[a] - node[b]);
      }
  }
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
  for (int b = 0; b < s.terms; ++b) columns.push_back(static_cast<double>(s.nodes[s.term[b].stage]) * s.term[b].levels);
  std::sort(columns.rbegin(), columns.rend());
  double parents = 1, sum = 0;
  for (double q : columns) {
    sum += parents * q * (s.response - 1 + usual_nodes * (1 + tested));
    parents *= usual_nodes;
  }
  return sum + parents * 20;
}

SharedFactorization::SharedFactorization(const Model& model, const MatrixXd& x, const std::vector<double>& lambda)
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
  choose_box(lambda);
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
    level.scale = 0;
    for (int node = 0; node < s.nodes[term.stage]; ++node)
      for (int l = 0; l < term.levels; ++l) {
        level.columns.push_back(stage_at[term.stage] + node * s.own[term.stage] + term.column + l);
        level.scale = std::max(level.scale, gram_(level.columns.back(), level.columns.back()));
      }
    levels_.push_back(std::move(level));
  }
  // A rotation a grid point of the levels before: the fewest columns last.
  std::stable_sort(levels_.begin(), levels_.end(),
                   [](const Level& a, const Level& b) { return a.columns.size() > b.columns.size(); });
}

void SharedFactorization::choose_box(const std::vector<double>& lambda) {
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
    const double c = levels_[b].scale, rho = ratio[row];
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
  for (Index b = 0; b < m; ++b)
    levels_[b].upper = std::max(smallest_upper, at[b] + reach * std::sqrt(std::max(covariance(b, b), 0.0)));
}

std::vector<SharedFactorization::State> SharedFactorization::add_level(std::size_t index,
                                                                       const std::vector<State>& parents) {
  Level& level = levels_[index];
  const bool last = index + 1 == levels_.size();
  const auto q = static_cast<Index>(level.columns.size());
  const Index left = parents.front().gram.rows() - q;  // the further terms' columns and the tested ones
  const double degrees = model_.shape().degrees;
  level.parent.clear();
  level.rotation.clear();
  level.shrink.clear();
  level.tested.clear();
  std::vector<State> children;
  State held_out;
  for (std::size_t g = 0; g < parents.size(); ++g) {
    const State& state = parents[g];
    level.parent.push_back(state.place);
    const Spectrum s = spectrum(state.gram.topLeftCorner(q, q), level.scale);
    const MatrixXd rotation = s.whitened * state.rows.topRows(q);
    const MatrixXd cross = s.whitened * state.gram.topRightCorner(q, left);
    Spectrum plain;
    MatrixXd plain_cross;
    const Index terms_left = left - tested();
    if (!model_.shape().reml) {
      plain = spectrum(state.plain.topLeftCorner(q, q), level.scale);
      plain_cross = plain.whitened * state.plain.topRightCorner(q, terms_left);
    }
    pack(rotation, level.rotation);
    MatrixXd shrink(level.nodes + 1, q);
    for (int a = 0; a <= level.nodes; ++a) shrink.row(a) = shrinkage(s.values, level.ratio(a)).transpose();
    pack(shrink, level.shrink);
    for (Index c = 0; c < tested(); ++c) pack(shrink * cross.col(left - tested() + c).asDiagonal(), level.tested);

    const bool is_held_out = index > 0 && g + 1 == parents.size();
    for (int a = 0; a <= level.nodes; ++a) {
      // Of a point where all levels are held out there is one; nodes go with nodes.
      const bool wanted = last || (is_held_out || index == 0 ? true : a < level.nodes);
      if (!wanted || (!last && is_held_out && a < level.nodes)) continue;
      const double ratio = level.ratio(a);
      const VectorXd weight = shrink.row(a).transpose();
      State child;
      child.place = static_cast<int>(g) * (level.nodes + 1) + a;
      child.gram = state.gram.bottomRightCorner(left, left) - cross.transpose() * weight.asDiagonal() * cross;
      const VectorXd& values = model_.shape().reml ? s.values : plain.values;
      child.log_determinant = state.log_determinant + (ratio * values.array()).log1p().sum();
      if (last) {
        determinant_.push_back(std::exp(child.log_determinant / degrees));
        const MatrixXd inverse =
            Eigen::LLT<MatrixXd>(child.gram).matrixL().solve(MatrixXd::Identity(tested(), tested()));
        for (Index c = 0; c < tested(); ++c)
          for (Index e = 0; e <= c; ++e) tested_root_.push_back(inverse(c, e));
        continue;
      }
      child.rows = state.rows.bottomRows(left) - cross.transpose() * weight.asDiagonal() * rotation;
      if (!model_.shape().reml)
        child.plain = state.plain.bottomRightCorner(terms_left, terms_left) -
                      plain_cross.transpose() * shrinkage(plain.values, ratio).asDiagonal() * plain_cross;
      if (a == level.nodes)
        held_out = std::move(child);
      else
        children.push_back(std::move(child));
    }
  }
  if (!last) children.push_back(std::move(held_out));
  return children;
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
  root.plain = select(gram_, z, z);
  root.gram = columns.transpose() * gram_ * columns - cross.transpose() * cross;
  root.rows = columns.transpose() * from_response_ - cross.transpose() * x_rows;
  if (s.reml) root.log_determinant = 2 * MatrixXd(factor.matrixL()).diagonal().array().log().sum();
  root_.clear();
  MatrixXd both(x_.cols() + tested(), entries);
  both << x_rows, root.rows.bottomRows(tested());
  pack(both, root_);

  determinant_.clear();
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

  kernels::Interpolant& t = interpolant_;
  t.levels = static_cast<int>(levels_.size());
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    const Level& from = levels_[l];
    t.level[l] = {from.term,           static_cast<int>(from.columns.size()),
                  from.nodes,          static_cast<int>(from.parent.size()),
                  from.parent.data(),  from.rotation.data(),
                  from.shrink.data(),  from.tested.data(),
                  from.scale,          from.upper,
                  from.node.data(),    from.weight.data(),
                  from.held_out.data()};
  }
  t.response = s.response;
  t.streamed = s.nodes[0] * s.own[0];
  t.x_rows = static_cast<int>(x_.cols());
  t.tested = static_cast<int>(tested());
  t.root = root_.data();
  t.determinant = determinant_.data();
  t.tested_root = tested_root_.data();
  t.held_out_row = held_out_row_.data();
  t.degrees = s.degrees;
  t.constant = s.constant;
  t.tolerance = 3 * accuracy;
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
    far[s.term[level.term].lambda] = std::sqrt(std::expm1(level.upper) / level.scale);
    add(far, 2);
  }
  return responses;
}

void SharedFactorization::choose_nodes(const std::vector<std::vector<double>>& responses) {
  // One grid that is fine enough to see where the Chebyshev series of every term ends.
  for (Level& level : levels_) level.place_nodes(first_nodes);
  while (true) {
    double bytes = 8, parents = 1;
    for (const Level& level : levels_) {
      bytes += 8 * parents * static_cast<double>(level.columns.size()) * (interpolant_.response + level.nodes);
      parents *= level.nodes;
    }
    if (bytes > most_bytes)
      throw ModelError(fmt::format("shared factorization: its tables would take {:.0f} MB, the bound is {:.0f} MB",
                                   bytes / 1e6, most_bytes / 1e6));
    make_tables();
    std::vector<double> memory;
    const kernels::InterpolantMemory<double> arrays = double_memory(interpolant_, memory);
    const kernels::InterpolantGrid grid(interpolant_);
    std::vector<std::vector<double>> series(levels_.size());  // per level: largest coefficient of each degree
    for (std::size_t l = 0; l < levels_.size(); ++l) series[l].assign(levels_[l].nodes, 0.0);
    for (const std::vector<double>& response : responses) {
      kernels::tabulate<double>(interpolant_, response.data(), arrays);
      for (int model = 0; model < (tested() > 0 ? 2 : 1); ++model) {
        const double* phi = arrays.phi[model];
        const auto at = [&](int row, int a) { return phi[static_cast<std::size_t>(row) * grid.stride + a]; };
        double lowest = std::numeric_limits<double>::infinity();
        for (int row = 0; row < grid.node_rows; ++row)
          for (int a = 0; a < grid.nodes; ++a) lowest = std::min(lowest, at(row, a));
        int step = 1;
        for (int l = static_cast<int>(levels_.size()) - 1; l >= 0; --l) {
          const int n = levels_[l].nodes;
          const bool inner = l + 1 == static_cast<int>(levels_.size());
          for (int row = 0; row < grid.node_rows; ++row)
            for (int a = 0; a < grid.nodes; ++a) {
              if (inner ? a > 0 : row / step % n > 0) continue;
              for (int degree = 0; degree < n; ++degree) {
                double c = 0;
                for (int e = 0; e < n; ++e) {
                  const double value = inner ? at(row, e) : at(row + e * step, a);
                  const double half = e == 0 || e == n - 1 ? 0.5 : 1.0;
                  // Nodes ascend: cos(pi e / (n - 1)) runs backwards, which only changes signs.
                  c += half * value * std::cos(std::numbers::pi * degree * e / (n - 1));
                }
                const double share = std::abs(c) * 2 / (n - 1) * interpolant_.degrees / lowest;
                series[l][degree] = std::max(series[l][degree], share);
              }
            }
          if (!inner) step *= n;
        }
      }
    }
    bool fine = true;
    for (std::size_t l = 0; l < levels_.size(); ++l) {
      int count = levels_[l].nodes;
      double tail = 0;
      while (count > fewest_nodes && tail + series[l][count - 1] < series_accuracy) tail += series[l][--count];
      if (count > levels_[l].nodes - 2 && levels_[l].nodes < most_nodes) {
        levels_[l].place_nodes(levels_[l].nodes + 6);
        fine = false;
      } else if (count > levels_[l].nodes - 2) {
        throw ModelError(
            fmt::format("shared factorization: {} nodes do not reach its accuracy up to a variance ratio of {:.3g}",
                        most_nodes, levels_[l].ratio(levels_[l].nodes - 1)));
      } else if (fine) {
        series[l].resize(count);
      }
    }
    if (!fine) continue;
    for (std::size_t l = 0; l < levels_.size(); ++l) levels_[l].place_nodes(static_cast<int>(series[l].size()));
    make_tables();
    return;
  }
}

double SharedFactorization::measure_error(const std::vector<std::vector<double>>& responses) const {
  const kernels::Shape& s = model_.shape();
  const kernels::Interpolant& t = interpolant_;
  const int model = tested() > 0 ? 1 : 0;
  std::vector<double> memory, scratch(kernels::cpu_kernels().scratch(s)), lambda(s.lambdas);
  const kernels::InterpolantMemory<double> arrays = double_memory(t, memory);
  std::mt19937_64 generator(7);
  double worst = 0;
  for (const std::vector<double>& response : responses) {
    kernels::tabulate<double>(t, response.data(), arrays);
    const kernels::InterpolantOptimum<double> optimum =
        kernels::fit_interpolant<double>(t, model, 1e-7, arrays, nullptr);
    for (int point = 0; point < 8; ++point) {
      double u[kernels::max_interpolated];
      for (int l = 0; l < t.levels; ++l) {
        u[l] = point == 0 ? optimum.u[l] : 4 * static_cast<double>(generator() >> 11) * 0x1p-53;
        const double rho = std::expm1(u[l] * t.level[l].upper / 4) / t.level[l].scale;
        lambda[s.term[t.level[l].term].lambda] = std::sqrt(std::max(rho, 0.0));
      }
      const double value =
          t.degrees * std::log(kernels::interpolate<double>(t, arrays.phi[model], u, arrays).phi) + t.constant;
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
  // Seven evaluations of the interpolants, and the search of the grid.
  return sum + points * 30;
}

std::size_t SharedFactorization::bytes() const {
  std::size_t sum = root_.size() + determinant_.size() + tested_root_.size() + held_out_row_.size();
  for (const Level& level : levels_) sum += level.rotation.size() + level.shrink.size() + level.tested.size();
  return 8 * sum;
}

}  // namespace batchlmm
