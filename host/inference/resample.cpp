#include "host/inference/resample.hpp"

#include <fmt/format.h>

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

#include "batchlmm/error.hpp"
#include "host/data/nearest_name.hpp"
#include "kernels/normal.hpp"

namespace batchlmm {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

constexpr std::array<const char*, 6> type_names{"parametric", "use-u", "residual", "wild", "case", "block"};

/// Streams of a replicate's random numbers.
enum Stream : std::uint32_t { errors, weights, donors, rows_drawn, first_term };

/// Uniform numbers and indices of one replicate, one after the other.
class Draws {
public:
  Draws(std::uint64_t seed, std::uint64_t replicate, std::uint32_t stream)
      : seed_(seed), replicate_(replicate), stream_(stream) {}
  /// 0 .. count - 1; the probabilities differ by less than count / 2^64.
  std::size_t below(std::size_t count) {
    return static_cast<std::size_t>((static_cast<unsigned __int128>(next()) * count) >> 64U);
  }
  /// On (0, 1).
  double uniform() { return (static_cast<double>(next() >> 11U) + 0.5) * 0x1p-53; }

private:
  std::uint64_t next() {
    if (have_) {
      have_ = false;
      return spare_;
    }
    const auto words = kernels::philox<double>(seed_, replicate_, block_++, stream_);
    spare_ = (words.word[2] << 32U) | words.word[3];
    have_ = true;
    return (words.word[0] << 32U) | words.word[1];
  }

  std::uint64_t seed_, replicate_;
  std::uint32_t stream_;
  std::uint64_t block_ = 0, spare_ = 0;
  bool have_ = false;
};

double weight(ResampleOptions::WildWeights weights, double u) {
  using Weights = ResampleOptions::WildWeights;
  const double root = std::sqrt(5.0);
  switch (weights) {
    case Weights::mammen:
      return u < (root + 1) / (2 * root) ? (1 - root) / 2 : (1 + root) / 2;
    case Weights::rademacher:
      return u < 0.5 ? -1 : 1;
    case Weights::webb: {
      const int i = std::min(5, static_cast<int>(6 * u));
      const int half_squares = 1 + i / 2;
      return (i % 2 == 0 ? -1 : 1) * std::sqrt(0.5 * half_squares);
    }
    case Weights::normal:
      break;
  }
  return 0;
}

/// Rows are levels: centred, and turned so that their covariance (divisor: levels) is root * root'.
/// @param values  levels x k
/// @param root    k x k, any factor of the covariance that is wanted
/// @return whether they could be: they span what the covariance spans
bool reflate(Eigen::Ref<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>> values,
             const MatrixXd& root) {
  constexpr double negligible = 1e-12;
  const MatrixXd target = root * root.transpose();
  const Index k = root.rows();
  const VectorXd scale = target.diagonal().cwiseSqrt();
  values.rowwise() -= values.colwise().mean().eval();
  MatrixXd scaled = values;
  for (Index j = 0; j < k; ++j) {
    if (scale[j] > 0)
      scaled.col(j) /= scale[j];
    else
      scaled.col(j).setZero();
  }
  MatrixXd correlation = target;
  for (Index i = 0; i < k; ++i)
    for (Index j = 0; j < k; ++j)
      correlation(i, j) = scale[i] * scale[j] > 0 ? target(i, j) / (scale[i] * scale[j]) : 0;
  const MatrixXd found = scaled.transpose() * scaled / static_cast<double>(values.rows());
  const Eigen::SelfAdjointEigenSolver<MatrixXd> of_target(correlation), of_found(found);
  const double most_target = std::max(of_target.eigenvalues().maxCoeff(), 0.0),
               most_found = std::max(of_found.eigenvalues().maxCoeff(), 0.0);
  const auto rank = [&](const Eigen::SelfAdjointEigenSolver<MatrixXd>& e, double most) {
    return (e.eigenvalues().array() > negligible * most).count();
  };
  const Index wanted = most_target > 0 ? rank(of_target, most_target) : 0,
              there = most_found > 0 ? rank(of_found, most_found) : 0;
  if (there < wanted) return false;
  MatrixXd map = MatrixXd::Zero(k, k);
  if (wanted == k) {
    // Cholesky factors, as Carpenter, Goldstein and Rasbash have it.
    const MatrixXd from = found.llt().matrixL(), to = correlation.llt().matrixL();
    map = to * from.triangularView<Eigen::Lower>().solve(MatrixXd::Identity(k, k));
  } else if (wanted > 0) {
    // A singular covariance: the same within what it spans.
    const MatrixXd basis = of_target.eigenvectors().rightCols(wanted);
    const MatrixXd from = (basis.transpose() * found * basis).llt().matrixL();
    const VectorXd to = of_target.eigenvalues().tail(wanted).cwiseSqrt();
    map = basis * to.asDiagonal() * from.triangularView<Eigen::Lower>().solve(MatrixXd::Identity(wanted, wanted)) *
          basis.transpose();
  }
  values = scaled * map.transpose() * scale.asDiagonal();
  return true;
}

/// Each level of `inner` lies in one of `outer`.
bool is_nested(const std::vector<std::int32_t>& inner, const std::vector<std::int32_t>& outer) {
  std::vector<std::int32_t> parent(inner.size(), -1);
  for (std::size_t i = 0; i < inner.size(); ++i) {
    std::int32_t& p = parent[static_cast<std::size_t>(inner[i])];
    if (p >= 0 && p != outer[i]) return false;
    p = outer[i];
  }
  return true;
}

Clusters clusters_of(std::string name, const std::vector<std::int32_t>& of_row, std::size_t levels) {
  Clusters out{std::move(name), of_row, {}};
  out.rows.resize(levels);
  for (std::size_t i = 0; i < of_row.size(); ++i)
    out.rows[static_cast<std::size_t>(of_row[i])].push_back(static_cast<int>(i));
  return out;
}

std::string factor_list(const ModelMatrices& m) {
  std::string out;
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const std::string& name = m.random[t].group;
    const auto same = [&](const RandomTerm& term) { return term.group == name; };
    if (std::find_if(m.random.begin(), m.random.begin() + static_cast<std::ptrdiff_t>(t), same) !=
        m.random.begin() + static_cast<std::ptrdiff_t>(t))
      continue;
    out += (out.empty() ? "" : ", ") + name;
  }
  return out;
}

}  // namespace

const char* bootstrap_type_name(BootstrapType type) { return type_names.at(static_cast<std::size_t>(type)); }

BootstrapType bootstrap_type_of_name(const std::string& name) {
  const std::string known = name == "reb" ? "block" : name == "use.u" ? "use-u" : name;
  for (std::size_t i = 0; i < type_names.size(); ++i)
    if (known == type_names.at(i)) return static_cast<BootstrapType>(i);
  throw InputError("--type: expected parametric, use-u, residual, wild, case or block, found '" + name + "'");
}

std::unique_ptr<Clusters> independent_clusters(const ModelMatrices& model) {
  for (const RandomTerm& outer : model.random)
    if (std::all_of(model.random.begin(), model.random.end(),
                    [&](const RandomTerm& inner) { return is_nested(inner.level_of_row, outer.level_of_row); }))
      return std::make_unique<Clusters>(clusters_of(outer.group, outer.level_of_row, outer.levels.size()));
  return nullptr;
}

ResponseResampler::ResponseResampler(const Fit& fit, BootstrapType type, const ResampleOptions& options,
                                     std::uint64_t seed)
    : fit_(fit), type_(type), seed_(seed), weights_(options.weights) {
  const ModelMatrices& m = *fit.model;
  if (type == BootstrapType::use_u) {
    mean_ = fit.fitted;
    return;
  }
  mean_ = m.offset + m.X * fit.beta;
  if (type == BootstrapType::residual)
    prepare_residual();
  else if (type == BootstrapType::wild)
    prepare_wild(options);
  else
    prepare_block(options.reb_type);
}

void ResponseResampler::prepare_residual() {
  const ModelMatrices& m = *fit_.model;
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const RandomTerm& term = m.random[t];
    effects_.emplace_back(fit_.modes[t]);
    if (!reflate(effects_.back(), fit_.sigma * fit_.random[t].lambda))
      throw ModelError(fmt::format(
          "residual bootstrap: the modes of the {} levels of '{}' cannot have the covariance of the {} coefficients of "
          "({}); expected more levels",
          term.levels.size(), term.group, term.names.size(), term.text));
  }
  Levels errors = m.y - fit_.fitted;
  if (!reflate(errors, MatrixXd::Constant(1, 1, fit_.sigma)))
    throw ModelError("residual bootstrap: all residuals are equal; expected residuals that differ");
  residual_ = errors;
}

void ResponseResampler::prepare_wild(const ResampleOptions& options) {
  const ModelMatrices& m = *fit_.model;
  clusters_ = independent_clusters(m);
  if (clusters_ == nullptr)
    throw ModelError("wild bootstrap: weights go to independent clusters of rows, and the grouping factors " +
                     factor_list(m) + " are crossed; expected one in which the others are nested");
  residual_ = m.y - mean_;
  MatrixXd basis(m.X.rows(), m.X.cols());
  if (m.X.cols() > 0) basis = m.X.householderQr().householderQ() * MatrixXd::Identity(m.X.rows(), m.X.cols());
  constexpr double saturated = 1e-10;  // X alone fits the row
  for (Index i = 0; i < residual_.size(); ++i) {
    const double left = 1 - basis.row(i).squaredNorm();
    if (left < saturated)
      residual_[i] = 0;
    else
      residual_[i] /= options.correction == ResampleOptions::Correction::hc2 ? std::sqrt(left) : left;
  }
}

void ResponseResampler::prepare_block(int reb_type) {
  const ModelMatrices& m = *fit_.model;
  Index k = 0;
  for (const RandomTerm& term : m.random) {
    if (term.level_of_row != m.random.front().level_of_row)
      throw ModelError("block bootstrap: expected one grouping factor, found " + factor_list(m));
    k += term.z.cols();
  }
  const RandomTerm& factor = m.random.front();
  clusters_ = std::make_unique<Clusters>(clusters_of(factor.group, factor.level_of_row, factor.levels.size()));
  residual_ = m.y - mean_;
  Levels together = Levels::Zero(static_cast<Index>(factor.levels.size()), k);
  for (Index j = 0; j < together.rows(); ++j) {
    const std::vector<int>& rows = clusters_->rows[static_cast<std::size_t>(j)];
    const auto n = static_cast<Index>(rows.size());
    MatrixXd z(n, k);
    VectorXd r(n);
    for (Index i = 0; i < n; ++i) {
      Index at = 0;
      for (const RandomTerm& term : m.random) {
        z.row(i).segment(at, term.z.cols()) = term.z.row(rows[static_cast<std::size_t>(i)]);
        at += term.z.cols();
      }
      r[i] = residual_[rows[static_cast<std::size_t>(i)]];
    }
    Eigen::ColPivHouseholderQR<MatrixXd> qr(z);
    if (n < k || qr.rank() < k)
      throw ModelError(
          fmt::format("block bootstrap: the {} rows of level '{}' of '{}' do not determine {} coefficients; expected "
                      "levels that do",
                      n, factor.levels[static_cast<std::size_t>(j)], factor.group, k));
    const VectorXd u = qr.solve(r);
    together.row(j) = u.transpose();
    r -= z * u;
    for (Index i = 0; i < n; ++i) residual_[rows[static_cast<std::size_t>(i)]] = r[i];
  }
  if (reb_type == 1) {
    MatrixXd root = MatrixXd::Zero(k, k);
    Index at = 0;
    for (std::size_t t = 0; t < m.random.size(); ++t) {
      const Index width = m.random[t].z.cols();
      root.block(at, at, width, width) = fit_.sigma * fit_.random[t].lambda;
      at += width;
    }
    Levels errors = residual_;
    if (!reflate(together, root) || !reflate(errors, MatrixXd::Constant(1, 1, fit_.sigma)))
      throw ModelError(fmt::format(
          "block bootstrap: the {} levels of '{}' cannot have the covariance of {} coefficients; expected more levels",
          factor.levels.size(), factor.group, k));
    residual_ = errors;
  }
  Index at = 0;
  for (const RandomTerm& term : m.random) {
    effects_.emplace_back(together.middleCols(at, term.z.cols()));
    at += term.z.cols();
  }
}

/// Adds Z b* with levels drawn with replacement.
/// @param together  one draw of levels for all terms
void ResponseResampler::add_levels(std::uint64_t replicate, bool together, std::span<double> y) const {
  const ModelMatrices& m = *fit_.model;
  std::vector<std::size_t> drawn;
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const RandomTerm& term = m.random[t];
    if (t == 0 || !together) {
      Draws draws(seed_, replicate, first_term + static_cast<std::uint32_t>(t));
      drawn.resize(term.levels.size());
      for (std::size_t& level : drawn) level = draws.below(drawn.size());
    }
    for (std::size_t i = 0; i < y.size(); ++i)
      y[i] += term.z.row(static_cast<Index>(i))
                  .dot(effects_[t].row(static_cast<Index>(drawn[static_cast<std::size_t>(term.level_of_row[i])])));
  }
}

void ResponseResampler::draw(std::uint64_t replicate, std::span<double> y) const {
  const std::size_t n = y.size();
  std::copy(mean_.data(), mean_.data() + n, y.begin());
  switch (type_) {
    case BootstrapType::use_u: {
      kernels::Normals<double> normals(seed_, replicate, errors);
      for (double& value : y) value += fit_.sigma * normals.next();
      return;
    }
    case BootstrapType::residual: {
      add_levels(replicate, false, y);
      Draws draws(seed_, replicate, errors);
      for (double& value : y) value += residual_[static_cast<Index>(draws.below(n))];
      return;
    }
    case BootstrapType::wild: {
      std::vector<double> w(clusters_->rows.size());
      if (weights_ == ResampleOptions::WildWeights::normal) {
        kernels::Normals<double> normals(seed_, replicate, weights);
        for (double& value : w) value = normals.next();
      } else {
        Draws draws(seed_, replicate, weights);
        for (double& value : w) value = weight(weights_, draws.uniform());
      }
      for (std::size_t i = 0; i < n; ++i)
        y[i] += w[static_cast<std::size_t>(clusters_->of_row[i])] * residual_[static_cast<Index>(i)];
      return;
    }
    default: {
      add_levels(replicate, true, y);
      Draws blocks(seed_, replicate, donors), draws(seed_, replicate, errors);
      for (const std::vector<int>& rows : clusters_->rows) {
        const std::vector<int>& from = clusters_->rows[blocks.below(clusters_->rows.size())];
        for (const int row : rows) y[static_cast<std::size_t>(row)] += residual_[from[draws.below(from.size())]];
      }
    }
  }
}

void CaseResampler::add_stage(int term, const std::string& name) {
  const ModelMatrices& m = *fit_.model;
  const std::size_t n = m.rows.size();
  Stage stage;
  stage.term = term;
  if (term >= 0) {
    const RandomTerm& factor = m.random[static_cast<std::size_t>(term)];
    stage.units = clusters_of(name, factor.level_of_row, factor.levels.size());
  } else {
    std::vector<std::int32_t> each(n);
    std::iota(each.begin(), each.end(), 0);
    stage.units = clusters_of(name, each, n);
  }
  // Drawn within the factors around it that are not drawn themselves.
  std::vector<const std::vector<std::int32_t>*> around;
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const std::vector<std::int32_t>& levels = m.random[t].level_of_row;
    if (same_factor_[t] >= 0 || levels == stage.units.of_row) continue;
    // Rows alone are drawn within the factor of most levels.
    if (term < 0 ? stages_.empty() && t == 0 : is_nested(stage.units.of_row, levels)) around.push_back(&levels);
  }
  std::map<std::vector<std::int32_t>, std::int32_t> strata;
  for (const std::vector<int>& rows : stage.units.rows) {
    std::vector<std::int32_t> key;
    key.reserve(around.size());
    for (const auto* levels : around) key.push_back((*levels)[static_cast<std::size_t>(rows.front())]);
    stage.stratum.push_back(strata.emplace(std::move(key), static_cast<std::int32_t>(strata.size())).first->second);
  }
  stage.strata = static_cast<std::int32_t>(strata.size());
  stages_.push_back(std::move(stage));
}

CaseResampler::CaseResampler(const Fit& fit, const std::vector<std::string>& cases, std::uint64_t seed)
    : fit_(fit), seed_(seed) {
  const ModelMatrices& m = *fit.model;
  std::vector<std::string> known;
  for (const RandomTerm& term : m.random)
    if (std::find(known.begin(), known.end(), term.group) == known.end()) known.push_back(term.group);
  std::vector<int> chosen;
  bool rows = false;
  for (const std::string& name : cases) {
    if (name == "rows" && std::find(known.begin(), known.end(), name) == known.end()) {
      rows = true;
      continue;
    }
    const auto found =
        std::find_if(m.random.begin(), m.random.end(), [&](const RandomTerm& term) { return term.group == name; });
    if (found == m.random.end()) {
      known.emplace_back("rows");
      throw InputError("--case: expected a grouping factor of the model, or rows, found '" + name + "'" +
                       nearest_name_hint(name, known, "they are"));
    }
    chosen.push_back(static_cast<int>(found - m.random.begin()));
  }
  if (cases.empty()) {
    const std::unique_ptr<Clusters> clusters = independent_clusters(m);
    if (clusters == nullptr)
      throw InputError("case bootstrap: the grouping factors " + factor_list(m) +
                       " are crossed; expected --case with the one whose levels are drawn");
    for (std::size_t t = 0; t < m.random.size() && chosen.empty(); ++t)
      if (m.random[t].group == clusters->factor) chosen.push_back(static_cast<int>(t));
  }
  const auto level_of_row = [&](int t) -> const std::vector<std::int32_t>& {
    return m.random[static_cast<std::size_t>(t)].level_of_row;
  };
  std::sort(chosen.begin(), chosen.end(), [&](int a, int b) {
    return m.random[static_cast<std::size_t>(a)].levels.size() < m.random[static_cast<std::size_t>(b)].levels.size();
  });
  chosen.erase(
      std::unique(chosen.begin(), chosen.end(), [&](int a, int b) { return level_of_row(a) == level_of_row(b); }),
      chosen.end());
  for (std::size_t i = 1; i < chosen.size(); ++i)
    if (!is_nested(level_of_row(chosen[i]), level_of_row(chosen[i - 1])))
      throw InputError("--case: expected factors that are nested in each other, found '" +
                       m.random[static_cast<std::size_t>(chosen[i])].group + "', which is not nested in '" +
                       m.random[static_cast<std::size_t>(chosen[i - 1])].group + "'");
  same_factor_.assign(m.random.size(), -1);
  inside_.assign(m.random.size(), -1);
  for (std::size_t t = 0; t < m.random.size(); ++t)
    for (std::size_t s = 0; s < chosen.size(); ++s) {
      if (m.random[t].level_of_row == level_of_row(chosen[s]))
        same_factor_[t] = static_cast<int>(s);
      else if (is_nested(m.random[t].level_of_row, level_of_row(chosen[s])))
        inside_[t] = static_cast<int>(s);
    }
  for (const int term : chosen) add_stage(term, m.random[static_cast<std::size_t>(term)].group);
  if (rows) add_stage(-1, "rows");
  levels_in_.resize(m.random.size());
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    if (same_factor_[t] >= 0 || inside_[t] < 0) continue;
    for (const std::vector<int>& unit : stages_[static_cast<std::size_t>(inside_[t])].units.rows) {
      std::vector<std::int32_t> levels;
      levels.reserve(unit.size());
      for (const int row : unit) levels.push_back(m.random[t].level_of_row[static_cast<std::size_t>(row)]);
      std::sort(levels.begin(), levels.end());
      levels.erase(std::unique(levels.begin(), levels.end()), levels.end());
      levels_in_[t].push_back(std::move(levels));
    }
  }
}

std::string CaseResampler::description() const {
  std::string out;
  for (const Stage& stage : stages_) out += (out.empty() ? "" : ", ") + stage.units.factor;
  return out;
}

std::shared_ptr<const ModelMatrices> CaseResampler::draw(std::uint64_t replicate) const {
  const ModelMatrices& m = *fit_.model;
  Draws draws(seed_, replicate, rows_drawn);

  // Copies of units, stage by stage: what is copied, into whose place. A place beyond the original levels is new.
  struct Copy {
    std::int32_t source, place;
    std::size_t parent;  // among the copies of the stage before
  };
  std::vector<std::vector<Copy>> copies(stages_.size());
  std::vector<std::vector<std::int32_t>> pool;
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    const Stage& stage = stages_[s];
    auto next_new = static_cast<std::int32_t>(stage.units.rows.size());
    // Units of this stage within a unit of the stage before, by stratum.
    const auto draw_within = [&](const std::vector<std::int32_t>& sources, const std::vector<std::int32_t>& places,
                                 std::size_t parent) {
      pool.assign(static_cast<std::size_t>(stage.strata), {});
      for (const std::int32_t unit : sources)
        pool[static_cast<std::size_t>(stage.stratum[static_cast<std::size_t>(unit)])].push_back(unit);
      for (std::size_t j = 0; j < sources.size(); ++j) {
        const auto& from = pool[static_cast<std::size_t>(stage.stratum[static_cast<std::size_t>(sources[j])])];
        copies[s].push_back({from[draws.below(from.size())], j < places.size() ? places[j] : next_new++, parent});
      }
    };
    const auto units_in = [&](const Stage& outer, std::int32_t unit) {
      std::vector<std::int32_t> units;
      if (unit >= static_cast<std::int32_t>(outer.units.rows.size())) return units;
      for (const int row : outer.units.rows[static_cast<std::size_t>(unit)])
        units.push_back(stage.units.of_row[static_cast<std::size_t>(row)]);
      std::sort(units.begin(), units.end());
      units.erase(std::unique(units.begin(), units.end()), units.end());
      return units;
    };
    if (s == 0) {
      std::vector<std::int32_t> all(stage.units.rows.size());
      std::iota(all.begin(), all.end(), 0);
      draw_within(all, all, 0);
    } else {
      for (std::size_t c = 0; c < copies[s - 1].size(); ++c)
        draw_within(units_in(stages_[s - 1], copies[s - 1][c].source), units_in(stages_[s - 1], copies[s - 1][c].place),
                    c);
    }
  }

  // The rows, and the copy of each stage that each stands in.
  std::vector<int> rows;
  std::vector<std::vector<std::size_t>> copy_of_row(stages_.size());
  for (std::size_t c = 0; c < copies.back().size(); ++c)
    for (const int row : stages_.back().units.rows[static_cast<std::size_t>(copies.back()[c].source)]) {
      rows.push_back(row);
      std::size_t at = c;
      for (std::size_t s = stages_.size(); s-- > 0;) {
        copy_of_row[s].push_back(at);
        at = copies[s][at].parent;
      }
    }
  const auto n = static_cast<Index>(rows.size());

  auto out = std::make_shared<ModelMatrices>();
  out->formula = m.formula;
  out->response = m.response;
  out->x_names = m.x_names;
  out->dropped_columns = m.dropped_columns;
  out->rows_dropped = m.rows_dropped;
  out->y.resize(n);
  out->offset.resize(n);
  out->X.resize(n, m.X.cols());
  out->rows.reserve(rows.size());
  for (Index i = 0; i < n; ++i) {
    const int from = rows[static_cast<std::size_t>(i)];
    out->y[i] = m.y[from];
    out->offset[i] = m.offset[from];
    out->X.row(i) = m.X.row(from);
    out->rows.push_back(m.rows[static_cast<std::size_t>(from)]);
  }
  std::vector<std::int32_t> label(rows.size()), number;
  for (std::size_t t = 0; t < m.random.size(); ++t) {
    const RandomTerm& term = m.random[t];
    auto next_new = static_cast<std::int32_t>(term.levels.size());
    std::map<std::pair<std::size_t, std::int32_t>, std::int32_t> new_labels;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::int32_t level = term.level_of_row[static_cast<std::size_t>(rows[i])];
      if (same_factor_[t] >= 0) {
        const auto s = static_cast<std::size_t>(same_factor_[t]);
        label[i] = copies[s][copy_of_row[s][i]].place;
        next_new = std::max(next_new, label[i] + 1);
      } else if (inside_[t] >= 0) {
        const auto s = static_cast<std::size_t>(inside_[t]);
        const Copy& copy = copies[s][copy_of_row[s][i]];
        const auto& from = levels_in_[t][static_cast<std::size_t>(copy.source)];
        const auto rank = static_cast<std::size_t>(std::lower_bound(from.begin(), from.end(), level) - from.begin());
        const bool old = copy.place < static_cast<std::int32_t>(levels_in_[t].size()) &&
                         rank < levels_in_[t][static_cast<std::size_t>(copy.place)].size();
        if (old) {
          label[i] = levels_in_[t][static_cast<std::size_t>(copy.place)][rank];
        } else {
          const auto [place, added] = new_labels.try_emplace({copy_of_row[s][i], level}, next_new);
          if (added) ++next_new;
          label[i] = place->second;
        }
      } else {
        label[i] = level;
      }
    }
    RandomTerm& to = out->random.emplace_back();
    to.group = term.group;
    to.names = term.names;
    to.text = term.text;
    number.assign(static_cast<std::size_t>(next_new), -1);
    for (const std::int32_t l : label) number[static_cast<std::size_t>(l)] = 0;
    std::int32_t count = 0;
    for (std::size_t l = 0; l < number.size(); ++l)
      if (number[l] == 0) {
        number[l] = count++;
        to.levels.push_back(l < term.levels.size() ? term.levels[l] : "copy " + std::to_string(l));
      }
    to.level_of_row.resize(rows.size());
    to.z.resize(n, term.z.cols());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      to.level_of_row[i] = number[static_cast<std::size_t>(label[i])];
      to.z.row(static_cast<Index>(i)) = term.z.row(rows[i]);
    }
  }
  return out;
}

}  // namespace batchlmm
