#include "host/study/simulator.hpp"

#include <fmt/format.h>

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

#include "batchlmm/error.hpp"
#include "host/data/nearest_name.hpp"
#include "host/data/read.hpp"
#include "host/formula/deparse.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/fit.hpp"
#include "host/study/draws.hpp"
#include "kernels/chi_square.hpp"
#include "kernels/cpu.hpp"

namespace batchlmm::study {
namespace {

/// Streams of random numbers: a law's scale variates take one each, behind the first of their kind.
enum Stream : std::uint32_t {
  parameter_stream = 1,
  share_stream = 2,
  missing_stream = 0x100,
  error_stream = 0x200,
  effect_stream = 0x300,
  error_scale_stream = 0x40000000,
  effect_scale_stream = 0x80000000,
};
constexpr int most_redraws = 10'000;

/// Draws of mean 0 and variance 1.
/// @param scale_stream  of the first draw; the others follow
void draw_law(const Law& law, std::uint64_t seed, std::uint64_t replicate, std::uint32_t stream,
              std::uint32_t scale_stream, std::span<double> out) {
  if (law.kind == Law::Kind::skewed) {
    for (double& x : out) {
      const double gamma = 0.5 * kernels::chi_square<double>(seed, replicate, scale_stream++, 2 * law.shape);
      x = (gamma - law.shape) / std::sqrt(law.shape);
    }
    return;
  }
  kernels::cpu_kernels().normals->fill(seed, replicate, stream, out.size(), out.data());
  if (law.kind == Law::Kind::t)
    for (double& x : out)
      x *= std::sqrt((law.degrees - 2) / kernels::chi_square<double>(seed, replicate, scale_stream++, law.degrees));
  if (law.kind == Law::Kind::contaminated)
    for (double& x : out) {
      const auto words = kernels::philox<double>(seed, replicate, 0, scale_stream++);
      const bool wide = kernels::uniform<double>(words.word[0], words.word[1]) < law.share;
      const double variance = 1 + law.share * (law.scale * law.scale - 1);
      x = x * (wide ? law.scale : 1) / std::sqrt(variance);
    }
}

/// Quantities of one replicate, one block of random numbers each.
class ParameterDraws {
public:
  ParameterDraws(std::uint64_t seed, std::uint64_t replicate, std::uint32_t stream)
      : seed_(seed), replicate_(replicate), stream_(stream) {}
  double next(const Quantity& quantity) {
    const double value = draw(quantity);
    return quantity.is_variance ? std::sqrt(value) : value;
  }

private:
  double draw(const Quantity& quantity) {
    if (quantity.kind == Quantity::Kind::fixed) return quantity.first;
    const auto words = kernels::philox<double>(seed_, replicate_, draw_++, stream_);
    return quantity.kind == Quantity::Kind::uniform ? uniform_between(words, quantity.first, quantity.second)
                                                    : normal_with(words, quantity.first, quantity.second);
  }

  std::uint64_t seed_, replicate_, draw_ = 0;
  std::uint32_t stream_;
};

/// A factor of a covariance matrix; none where it is indefinite.
std::optional<Eigen::MatrixXd> covariance_factor(const Eigen::VectorXd& sd, const Eigen::MatrixXd& correlation) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(correlation);
  if (eigen.eigenvalues()[0] < -1e-10) return {};
  return Eigen::MatrixXd(sd.asDiagonal() * eigen.eigenvectors() *
                         eigen.eigenvalues().cwiseMax(0).cwiseSqrt().asDiagonal());
}

std::string resolved(const std::string& path, const std::string& folder) {
  const std::filesystem::path p(path);
  return p.is_absolute() || folder.empty() ? path : (std::filesystem::path(folder) / p).string();
}

const Quantity* find(const std::vector<std::pair<std::string, Quantity>>& entries, const std::string& name) {
  const auto at = std::find_if(entries.begin(), entries.end(), [&](const auto& entry) { return entry.first == name; });
  return at == entries.end() ? nullptr : &at->second;
}

/// Names among the specification's that are none of the model's are slips.
void check_names(const std::vector<std::pair<std::string, Quantity>>& entries, const std::vector<std::string>& known,
                 const std::string& place, const std::string& what) {
  for (const auto& entry : entries)
    if (std::find(known.begin(), known.end(), entry.first) == known.end())
      throw InputError(fmt::format("{}: the truth has no {} '{}'{}", place, what, entry.first,
                                   nearest_name_hint(entry.first, known, "known")));
}

}  // namespace

TruthModel make_truth_model(const Truth& truth, const DesignTable& design, const std::string& folder) {
  TruthModel out;
  out.table = design.table;
  try {
    const Formula formula = parse_formula(truth.formula);
    if (formula.response->kind != Expression::Kind::variable)
      throw InputError(fmt::format("the truth's response must be a name, found '{}'", deparse(*formula.response)));
    // Any numbers will do that are not all the same; rows that a table of the user's lacks stay missing.
    const std::string& name = formula.response->name;
    Numeric values(out.table.rows);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
    for (Column& column : out.table.columns)
      if (column.name == name) {
        if (const auto* old = std::get_if<Numeric>(&column.data))
          for (std::size_t i = 0; i < values.size(); ++i)
            if (std::isnan((*old)[i])) values[i] = (*old)[i];
        column.data = values;
      }
    if (out.table.find(name) == nullptr) out.table.columns.push_back({name, std::move(values)});
    out.model = std::make_shared<const ModelMatrices>(model_matrices(formula, out.table, design.options));
    if (truth.from_fit) {
      ReadOptions options;
      options.factors = truth.from_fit->factor_columns;
      const Table data = read_table(resolved(truth.from_fit->data, folder), options);
      out.source = std::make_shared<const Fit>(
          fit(std::make_shared<const ModelMatrices>(model_matrices(parse_formula(truth.from_fit->formula), data)),
              Method::reml));
    }
  } catch (const InputError& error) {
    throw InputError(truth.place + ": " + error.what());
  }
  return out;
}

Simulator::Simulator(const Specification& specification, const TruthModel& model)
    : response_(specification.response), truth_(model) {
  const Truth& truth = specification.truth;
  beta_.assign(truth_.model->x_names.size(), {});
  terms_.resize(truth_.model->random.size());
  for (std::size_t t = 0; t < terms_.size(); ++t) {
    const std::size_t k = truth_.model->random[t].names.size();
    terms_[t].sd.resize(k);
    terms_[t].correlation.resize(k * (k - 1) / 2);
    for (const auto& [group, law] : response_.random_effects)
      if (group == truth_.model->random[t].group) terms_[t].law = law;
  }
  if (truth.from_fit) take_fit(truth);
  take_values(truth);

  const auto is_fixed = [](const Quantity& q) { return q.kind == Quantity::Kind::fixed; };
  fixed_ = std::all_of(beta_.begin(), beta_.end(), is_fixed) && is_fixed(sigma_);
  for (const Term& term : terms_)
    fixed_ = fixed_ && std::all_of(term.sd.begin(), term.sd.end(), is_fixed) &&
             std::all_of(term.correlation.begin(), term.correlation.end(), is_fixed);
  if (fixed_) {
    values_ = values(0, 0);
    // Column by column: as one expression it is evaluated a row at a time.
    mean_ = truth_.model->offset;
    for (Eigen::Index j = 0; j < values_.beta.size(); ++j) mean_ += values_.beta[j] * truth_.model->X.col(j);
  }

  const auto level_of_row = [&](const std::string& name, const char* what) {
    const Column* column = truth_.table.find(name);
    const auto* factor = column != nullptr ? std::get_if<Factor>(&column->data) : nullptr;
    if (factor == nullptr)
      throw InputError(fmt::format("{}: {}: expected a factor of the design, found '{}'", truth.place, what, name));
    std::vector<std::int32_t> levels;
    for (const std::size_t row : truth_.model->rows) levels.push_back(factor->codes[row]);
    return std::pair(levels, static_cast<std::int32_t>(factor->levels.size()));
  };
  if (!response_.variance_by.empty()) {
    const auto [levels, count] = level_of_row(response_.variance_by, "response.variance.by");
    if (static_cast<std::size_t>(count) != response_.variance_ratios.size())
      throw InputError(fmt::format("{}: response.variance.ratios: expected {} numbers, one a level of '{}', found {}",
                                   truth.place, count, response_.variance_by, response_.variance_ratios.size()));
    for (const std::int32_t level : levels)
      ratio_.push_back(response_.variance_ratios[static_cast<std::size_t>(level)]);
  }
  for (const Missingness& rule : response_.missing) {
    missing_unit_.emplace_back();
    missing_units_.push_back(0);
    if (rule.kind != Missingness::Kind::random)
      std::tie(missing_unit_.back(), missing_units_.back()) = level_of_row(rule.unit, "response.missing");
  }
}

void Simulator::take_fit(const Truth& truth) {
  const Fit& source = *truth_.source;
  const ModelMatrices& m = *source.model;
  const auto fixed = [](double value) { return Quantity{Quantity::Kind::fixed, value, 0}; };
  for (std::size_t j = 0; j < beta_.size(); ++j) {
    const auto at = std::find(m.x_names.begin(), m.x_names.end(), truth_.model->x_names[j]);
    if (at != m.x_names.end())
      beta_[j] = fixed(source.beta[at - m.x_names.begin()]);
    else if (find(truth.beta, truth_.model->x_names[j]) == nullptr)
      throw InputError(fmt::format("{}: the fit has no coefficient '{}', and truth.beta neither", truth.place,
                                   truth_.model->x_names[j]));
  }
  for (std::size_t t = 0; t < terms_.size(); ++t) {
    const RandomTerm& term = truth_.model->random[t];
    for (std::size_t s = 0; s < m.random.size(); ++s) {
      if (m.random[s].group != term.group || m.random[s].names != term.names) continue;
      std::size_t pair = 0;
      for (std::size_t i = 0; i < term.names.size(); ++i) {
        const auto row = static_cast<Eigen::Index>(i);
        terms_[t].sd[i] = fixed(source.random[s].sd[row]);
        for (Eigen::Index j = 0; j < row; ++j) {
          const double r = source.random[s].corr(row, j);
          terms_[t].correlation[pair++] = fixed(std::isnan(r) ? 0 : r);
        }
      }
    }
  }
  sigma_ = fixed(source.sigma);
}

void Simulator::take_values(const Truth& truth) {
  check_names(truth.beta, truth_.model->x_names, truth.place, "coefficient");
  for (std::size_t j = 0; j < beta_.size(); ++j) {
    if (const Quantity* q = find(truth.beta, truth_.model->x_names[j]))
      beta_[j] = *q;
    else if (!truth.from_fit)
      throw InputError(fmt::format("{}: expected a value of the coefficient '{}' in truth.beta, found none{}",
                                   truth.place, truth_.model->x_names[j],
                                   nearest_name_hint("", truth_.model->x_names, "coefficients")));
  }
  std::vector<std::string> groups;
  for (const RandomTerm& term : truth_.model->random) groups.push_back(term.group);
  for (const TruthTerm& given : truth.random)
    if (std::find(groups.begin(), groups.end(), given.group) == groups.end())
      throw InputError(fmt::format("{}: the truth's formula has no random-effects term on '{}'{}", truth.place,
                                   given.group, nearest_name_hint(given.group, groups, "grouping factors")));
  for (std::size_t t = 0; t < terms_.size(); ++t) {
    const RandomTerm& term = truth_.model->random[t];
    const TruthTerm* given = nullptr;
    std::vector<std::string> names;  // of all terms on this factor: (x || g) makes several
    for (const RandomTerm& other : truth_.model->random)
      if (other.group == term.group) names.insert(names.end(), other.names.begin(), other.names.end());
    for (const TruthTerm& entry : truth.random)
      if (entry.group == term.group) given = &entry;
    if (given == nullptr) {
      if (truth.from_fit) continue;
      throw InputError(
          fmt::format("{}: expected standard deviations of the term on '{}' in truth.random.{}.sd, found "
                      "none",
                      truth.place, term.group, term.group));
    }
    check_names(given->sd, names, truth.place, "random coefficient of '" + term.group + "'");
    for (std::size_t i = 0; i < term.names.size(); ++i) {
      if (const Quantity* q = find(given->sd, term.names[i]))
        terms_[t].sd[i] = *q;
      else if (!truth.from_fit)
        throw InputError(fmt::format("{}: expected a standard deviation of '{}' in truth.random.{}.sd, found none",
                                     truth.place, term.names[i], term.group));
    }
    std::size_t pair = 0;
    for (std::size_t i = 0; i < term.names.size(); ++i)
      for (std::size_t j = 0; j < i; ++j, ++pair) {
        const Quantity* q = find(given->correlation, term.names[j] + "," + term.names[i]);
        if (q == nullptr) q = find(given->correlation, term.names[i] + "," + term.names[j]);
        if (q == nullptr) q = find(given->correlation, "");
        if (q != nullptr) terms_[t].correlation[pair] = *q;
      }
  }
  if (!truth.from_fit || truth.sigma.kind != Quantity::Kind::fixed || truth.sigma.first != 0) sigma_ = truth.sigma;
}

TrueValues Simulator::values(std::uint64_t seed, std::uint64_t replicate) const {
  if (fixed_ && values_.sigma > 0) return values_;
  ParameterDraws draws(seed, replicate, parameter_stream);
  TrueValues out;
  out.beta.resize(static_cast<Eigen::Index>(beta_.size()));
  for (std::size_t j = 0; j < beta_.size(); ++j) out.beta[static_cast<Eigen::Index>(j)] = draws.next(beta_[j]);
  out.sigma = draws.next(sigma_);
  for (std::size_t t = 0; t < terms_.size(); ++t) {
    const auto k = static_cast<Eigen::Index>(terms_[t].sd.size());
    Eigen::VectorXd sd(k);
    for (Eigen::Index i = 0; i < k; ++i) sd[i] = draws.next(terms_[t].sd[static_cast<std::size_t>(i)]);
    // Correlations that are drawn may not fit together: those are drawn again, all of the term's.
    std::optional<Eigen::MatrixXd> factor;
    for (int attempt = 0; attempt < most_redraws && !factor; ++attempt) {
      Eigen::MatrixXd correlation = Eigen::MatrixXd::Identity(k, k);
      std::size_t pair = 0;
      for (Eigen::Index i = 0; i < k; ++i)
        for (Eigen::Index j = 0; j < i; ++j)
          correlation(i, j) = correlation(j, i) = draws.next(terms_[t].correlation[pair++]);
      factor = covariance_factor(sd, correlation);
    }
    if (!factor)
      throw InputError(fmt::format("the correlations of the truth's term on '{}' make no covariance matrix",
                                   truth_.model->random[t].group));
    out.factor.push_back(std::move(*factor));
  }
  return out;
}

void Simulator::draw(std::uint64_t seed, std::uint64_t replicate, std::span<double> y,
                     const ModelMatrices* other) const {
  const ModelMatrices& model = other != nullptr ? *other : *truth_.model;
  TrueValues drawn;
  if (!fixed_) drawn = values(seed, replicate);
  const TrueValues& truth = fixed_ ? values_ : drawn;
  Eigen::Map<Eigen::VectorXd> out(y.data(), static_cast<Eigen::Index>(y.size()));
  if (fixed_ && other == nullptr)
    out = mean_;
  else
    out = model.offset + model.X * truth.beta;
  std::uint32_t scale = effect_scale_stream;
  for (std::size_t t = 0; t < terms_.size(); ++t) {
    const RandomTerm& term = model.random[t];
    const auto k = static_cast<Eigen::Index>(term.names.size()), levels = static_cast<Eigen::Index>(term.levels.size());
    Eigen::MatrixXd u(k, levels);
    draw_law(terms_[t].law, seed, replicate, effect_stream + static_cast<std::uint32_t>(t), scale,
             {u.data(), static_cast<std::size_t>(u.size())});
    scale += static_cast<std::uint32_t>(k * levels);
    const Eigen::MatrixXd b = truth.factor[t] * u;
    for (Eigen::Index i = 0; i < out.size(); ++i)
      out[i] += term.z.row(i).dot(b.col(term.level_of_row[static_cast<std::size_t>(i)]));
  }
  thread_local std::vector<double> errors;
  errors.resize(y.size());
  draw_law(response_.errors, seed, replicate, error_stream, error_scale_stream, errors);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += truth.sigma * (ratio_.empty() ? 1.0 : ratio_[i]) * errors[i];
}

std::vector<std::size_t> Simulator::missing_rows(std::uint64_t seed, std::uint64_t replicate) const {
  const std::size_t n = truth_.model->rows.size();
  std::vector<bool> missing(n, false);
  ParameterDraws shares(seed, replicate, share_stream);
  for (std::size_t r = 0; r < response_.missing.size(); ++r) {
    const Missingness& rule = response_.missing[r];
    const auto stream = static_cast<std::uint32_t>(missing_stream + r);
    const double share = shares.next(rule.share);
    const auto uniform = [&](std::uint64_t draw) {
      const auto words = kernels::philox<double>(seed, replicate, draw, stream);
      return kernels::uniform<double>(words.word[0], words.word[1]);
    };
    if (rule.kind == Missingness::Kind::random) {
      for (std::size_t i = 0; i < n; ++i)
        if (uniform(i) < share) missing[i] = true;
      continue;
    }
    std::vector<bool> gone(static_cast<std::size_t>(missing_units_[r]), false), seen = gone;
    if (rule.kind == Missingness::Kind::unit)
      for (std::size_t u = 0; u < gone.size(); ++u) gone[u] = uniform(u) < share;
    for (std::size_t i = 0; i < n; ++i) {
      const auto u = static_cast<std::size_t>(missing_unit_[r][i]);
      if (rule.kind == Missingness::Kind::dropout && seen[u] && !gone[u]) gone[u] = uniform(i) < share;
      seen[u] = true;
      if (gone[u]) missing[i] = true;
    }
  }
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < n; ++i)
    if (missing[i]) rows.push_back(i);
  return rows;
}

}  // namespace batchlmm::study
