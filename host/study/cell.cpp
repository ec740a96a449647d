#include "host/study/cell.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>
#include <tuple>

#include "batchlmm/error.hpp"
#include "host/batch/batch.hpp"
#include "host/batch/bootstrap.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/contrast_text.hpp"
#include "host/inference/parameters.hpp"
#include "host/inference/reference_law.hpp"
#include "host/model/kernel_lambda.hpp"
#include "host/study/design.hpp"
#include "host/study/f1_f2.hpp"
#include "host/study/simulator.hpp"

namespace batchlmm::study {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
/// Replicates whose responses are held at a time: as many as fit into so much memory, at least so many.
constexpr double panel_bytes = 64e6;
constexpr std::uint64_t fewest_in_panel = 64, most_in_panel = 1U << 14U;

std::uint64_t replicates_in_panel(std::uint64_t rows) {
  const auto fit = static_cast<std::uint64_t>(panel_bytes / (8.0 * static_cast<double>(rows)));
  return std::clamp(fit, fewest_in_panel, most_in_panel);
}

/// What makes the responses of a batch's items now.
struct Current {
  std::span<const double> panel;  ///< replicates x n
  std::vector<std::vector<std::size_t>> missing;
  std::vector<Table> tables;  ///< covariates drawn anew
};

/// Calls `work(i)` for i = 0 .. count - 1 on several threads.
void in_parallel(std::uint64_t count, int threads, const std::function<void(std::uint64_t)>& work) {
  std::atomic<std::uint64_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto run = [&] {
    try {
      for (std::uint64_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      next = count;
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> pool;
  for (int t = 1; t < threads && static_cast<std::uint64_t>(t) < count; ++t) pool.emplace_back(run);
  run();
  for (std::thread& thread : pool) thread.join();
  if (failure) std::rethrow_exception(failure);
}

/// One model by one method, ready for many responses.
struct FittedModel {
  std::string name;  ///< of the study's model
  std::shared_ptr<const ModelMatrices> matrices;
  Formula formula;
  Method method = Method::reml;
  Hypotheses hypotheses;  ///< that are tested in every fit
  std::unique_ptr<Batch> batch;
  [[nodiscard]] int parameters() const {
    std::size_t count = static_cast<std::size_t>(matrices->X.cols()) + 1;
    for (const RandomTerm& term : matrices->random) count += term.names.size() * (term.names.size() + 1) / 2;
    return static_cast<int>(count);
  }
};

std::vector<Eigen::MatrixXd> lambdas_of(const ModelMatrices& model, const Eigen::VectorXd& theta) {
  std::vector<Eigen::MatrixXd> out;
  Eigen::Index at = 0;
  for (const RandomTerm& term : model.random) {
    const auto k = static_cast<Eigen::Index>(term.names.size());
    Eigen::MatrixXd lambda = Eigen::MatrixXd::Zero(k, k);
    for (Eigen::Index c = 0; c < k; ++c)
      for (Eigen::Index r = c; r < k; ++r) lambda(r, c) = theta[at++];
    out.push_back(std::move(lambda));
  }
  return out;
}

std::vector<std::size_t> all_rows(std::size_t n) {
  std::vector<std::size_t> rows(n);
  std::iota(rows.begin(), rows.end(), std::size_t{0});
  return rows;
}

/// A model's matrices on covariates that were drawn anew. @return none where they leave other columns or rows than
/// those of the design: the replicate cannot be fitted, and is counted as such
std::optional<ModelMatrices> matrices_like(const ModelMatrices& design, const Formula& formula, const Table& table,
                                           const ModelOptions& options) {
  try {
    ModelMatrices out = model_matrices(formula, table, options);
    if (out.x_names == design.x_names && out.rows == design.rows) return out;
  } catch (const InputError&) {
    // An infinite logarithm, for one.
  }
  return {};
}

/// Of a true covariance what a model with this term estimates.
double true_parameter(const Parameter& parameter, const ModelMatrices& model, const ModelMatrices& truth,
                      const TrueValues& values) {
  if (parameter.kind == ParameterKind::sigma) return values.sigma;
  if (parameter.kind == ParameterKind::fixed) {
    const auto at = std::find(truth.x_names.begin(), truth.x_names.end(), parameter.label);
    return at == truth.x_names.end() ? nan : values.beta[at - truth.x_names.begin()];
  }
  const RandomTerm& term = model.random[static_cast<std::size_t>(parameter.term)];
  for (std::size_t t = 0; t < truth.random.size(); ++t)
    if (truth.random[t].group == term.group && truth.random[t].names == term.names) {
      const Eigen::MatrixXd covariance = values.factor[t] * values.factor[t].transpose();
      const double row = std::sqrt(covariance(parameter.row, parameter.row));
      const double column = std::sqrt(covariance(parameter.column, parameter.column));
      return parameter.kind == ParameterKind::sd ? row : covariance(parameter.row, parameter.column) / (row * column);
    }
  return nan;
}

}  // namespace

struct DesignCache::Prepared {
  DesignTable design;
  TruthModel truth;
  Current current;
  /// By formula, method, and the small-sample tests of its fits (-1: none).
  std::map<std::tuple<std::string, Method, int>, FittedModel> models;
};

DesignCache::DesignCache() = default;
DesignCache::~DesignCache() = default;

std::uint64_t cell_seed(const Specification& specification, std::uint64_t cell) {
  if (specification.common_numbers) return specification.seed;
  // SplitMix64 (Steele, Lea and Flood 2014) of seed and cell.
  std::uint64_t z = specification.seed + (cell + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31U);
}

struct Cell::Impl {
  Impl(Specification given, const std::string& folder, std::uint64_t seed, DesignCache& cache)
      : specification(std::move(given)), seed(seed) {
    prepared = find_prepared(folder, cache);
    simulator.emplace(specification, prepared->truth);
    const ModelMatrices& truth = simulator->model();
    for (const ModelToFit& model : specification.models) {
      FittedModel& entry = fitted(model, model.method);
      if (entry.matrices->rows != truth.rows)
        throw InputError(
            fmt::format("{}: the model '{}' uses {} rows of the table, the truth {}: their missing values "
                        "differ",
                        model.place, model.name, entry.matrices->rows.size(), truth.rows.size()));
      own.push_back(&entry);
    }
    for (const Test& test : specification.tests) prepare(test);
    // A model whose fits are tested anyway is not fitted once more without.
    for (std::size_t m = 0; m < own.size(); ++m)
      for (const PreparedTest& test : tests)
        for (std::size_t i = 0; i < test.hypothesis.size(); ++i)
          if (test.full[i]->matrices->formula == own[m]->matrices->formula && test.full[i]->method == own[m]->method)
            own[m] = test.full[i];
    for (const Selection& selection : specification.selections) {
      selected.emplace_back();
      for (const std::string& name : selection.models)
        selected.back().push_back(&fitted(model_named(name), Method::ml));
    }
    name_series();
  }

  bool take_truth(const Truth& truth, std::uint64_t new_seed) {
    const Truth& old = specification.truth;
    const auto same_source = [&] {
      if (truth.from_fit.has_value() != old.from_fit.has_value()) return false;
      return !truth.from_fit ||
             (truth.from_fit->formula == old.from_fit->formula && truth.from_fit->data == old.from_fit->data &&
              truth.from_fit->factor_columns == old.from_fit->factor_columns);
    };
    if (truth.formula != old.formula || !same_source()) return false;
    specification.truth = truth;
    seed = new_seed;
    simulator.emplace(specification, prepared->truth);
    return true;
  }

  static DesignCache::Prepared* find_prepared_in(DesignCache& cache, const std::string& key) {
    for (auto& [name, entry] : cache.kept_)
      if (name == key) return entry.get();
    return nullptr;
  }

  /// All that the design, and which models are fitted to it, depend on.
  std::string design_key() const {
    const Design& d = specification.design;
    std::string key = fmt::format("{}|{}|{}|{}|{}|{}", d.kind, d.replications, d.data, d.extend_along, d.extend_to,
                                  specification.seed);
    for (const Unit& u : d.units) key += fmt::format("|u {} {} {}", u.name, u.count, u.nested);
    for (const ExperimentalFactor& f : d.factors)
      key += fmt::format("|f {} {} {} {} {} {}", f.name, fmt::join(f.levels, ","), fmt::join(f.codes, ","),
                         static_cast<int>(f.coding), f.between, fmt::join(f.latin, ","));
    for (const Covariate& c : d.covariates)
      key += fmt::format("|c {} {} {} {} {} {} {}", c.name, static_cast<int>(c.kind), fmt::join(c.values, ","), c.first,
                         c.second, c.by, c.anew);
    key += fmt::format("|t {} {}", specification.truth.formula, fmt::join(d.factor_columns, ","));
    if (const auto& from = specification.truth.from_fit)
      key += fmt::format("|s {} {} {}", from->formula, from->data, fmt::join(from->factor_columns, ","));
    return key;
  }

  DesignCache::Prepared* find_prepared(const std::string& folder, DesignCache& cache) {
    constexpr std::size_t most_kept = 8;
    const std::string key = design_key();
    if (auto* found = find_prepared_in(cache, key)) return found;
    auto entry = std::make_unique<DesignCache::Prepared>();
    entry->design = make_design(specification.design, folder, specification.seed);
    entry->truth = make_truth_model(specification.truth, entry->design, folder);
    if (cache.kept_.size() >= most_kept) cache.kept_.erase(cache.kept_.begin());
    cache.kept_.emplace_back(key, std::move(entry));
    return cache.kept_.back().second.get();
  }

  [[nodiscard]] const ModelToFit& model_named(const std::string& name) const {
    return *std::find_if(specification.models.begin(), specification.models.end(),
                         [&](const ModelToFit& m) { return m.name == name; });
  }

  /// @param tests  small-sample tests of every fit
  FittedModel& fitted(const ModelToFit& model, Method method, std::optional<SmallSample> tests = {}) {
    const auto [at, added] =
        prepared->models.try_emplace({model.formula, method, tests ? static_cast<int>(*tests) : -1});
    FittedModel& entry = at->second;
    if (!added) return entry;
    entry.name = model.name;
    try {
      entry.formula = parse_formula(model.formula);
      const Formula truth = parse_formula(specification.truth.formula);
      if (entry.formula.response->kind != Expression::Kind::variable ||
          entry.formula.response->name != truth.response->name)
        throw InputError(fmt::format("the response of the model '{}' must be that of the truth, '{}'", model.name,
                                     truth.response->name));
      entry.matrices = std::make_shared<const ModelMatrices>(
          model_matrices(entry.formula, simulator->table(), prepared->design.options));
      entry.method = method;
      if (tests) entry.hypotheses.method = *tests;
      entry.batch = std::make_unique<Batch>(entry.matrices, method);
    } catch (const InputError& error) {
      prepared->models.erase(at);
      throw InputError(model.place + ": " + error.what());
    }
    // Items 0 .. most - 1 are responses on the design, most .. 2 most - 1 variants of it.
    Current* current = &prepared->current;
    entry.batch->add_responses(0, most_in_panel, [current](std::uint64_t i, std::span<double> y) {
      std::copy_n(current->panel.data() + i * y.size(), y.size(), y.data());
    });
    const FittedModel* self = &entry;
    const ModelOptions* options = &prepared->design.options;
    entry.batch->add(0, most_in_panel, [current, self, options](std::uint64_t i, DesignVariant& variant) {
      const Eigen::Index n = self->matrices->y.size();
      variant.y = Eigen::Map<const Eigen::VectorXd>(current->panel.data() + i * static_cast<std::size_t>(n), n);
      variant.missing = current->missing.empty() ? std::vector<std::size_t>{} : current->missing[i];
      variant.columns.clear();
      if (current->tables.empty()) return;
      const auto own = matrices_like(*self->matrices, self->formula, current->tables[i], *options);
      if (own)
        exchange(*self, *own, variant);
      else
        variant.missing = all_rows(static_cast<std::size_t>(n));
    });
    return entry;
  }

  /// The columns in which a model on other covariates differs.
  static void exchange(const FittedModel& model, const ModelMatrices& other, DesignVariant& variant) {
    const ModelMatrices& base = *model.matrices;
    const auto take = [&](const std::string& name, const Eigen::VectorXd& values, const Eigen::VectorXd& old) {
      // An interaction goes with what it is made of, also where its own numbers happen to be the same.
      const bool same = values == old && name.find(':') == std::string::npos;
      if (same || std::any_of(variant.columns.begin(), variant.columns.end(),
                              [&](const auto& column) { return column.name == name; }))
        return;
      variant.columns.push_back({name, values});
    };
    for (std::size_t j = 0; j < base.x_names.size(); ++j) {
      const auto c = static_cast<Eigen::Index>(j);
      take(base.x_names[j], other.X.col(c), base.X.col(c));
    }
    for (std::size_t t = 0; t < base.random.size(); ++t)
      for (std::size_t j = 0; j < base.random[t].names.size(); ++j) {
        const auto c = static_cast<Eigen::Index>(j);
        take(base.random[t].names[j], other.random[t].z.col(c), base.random[t].z.col(c));
      }
  }

  /// What a test needs, found once.
  struct PreparedTest {
    std::vector<const FittedModel*> full, null;                        ///< one, or one for each candidate
    std::vector<std::unique_ptr<const Model>> full_model, null_model;  ///< bootstrap: the same, assembled
    int selection = -1;                                                ///< of the full model
    std::vector<Eigen::MatrixXd> contrast;                             ///< per full model
    std::vector<std::size_t> hypothesis;         ///< small-sample tests, per full model: index of BatchFit::tests
    std::vector<Eigen::VectorXd> true_contrast;  ///< per full model: of the truth's coefficients; empty: not one of it
    std::vector<int> df;                         ///< lrt
    std::vector<std::int32_t> subject, item, condition;
    int subjects = 0, items = 0, conditions = 0;
  };

  void prepare(const Test& test) {
    PreparedTest out;
    std::vector<std::string> fulls{test.full};
    for (std::size_t s = 0; s < specification.selections.size(); ++s)
      if (specification.selections[s].name == test.full) {
        out.selection = static_cast<int>(s);
        fulls = specification.selections[s].models;
      }
    const bool on_means = test.kind == Test::Kind::f1 || test.kind == Test::Kind::f2 ||
                          test.kind == Test::Kind::f1_f2 || test.kind == Test::Kind::min_f;
    try {
      if (on_means) {
        prepare_means(test, out);
      } else if (test.kind == Test::Kind::lrt || test.kind == Test::Kind::bootstrap) {
        for (std::size_t i = 0; i < fulls.size(); ++i) {
          out.full.push_back(&fitted(model_named(fulls[i]), Method::ml));
          out.null.push_back(&fitted(model_named(test.nulls[i]), Method::ml));
          out.df.push_back(out.full.back()->parameters() - out.null.back()->parameters());
          if (test.kind == Test::Kind::bootstrap) {
            out.full_model.push_back(std::make_unique<const Model>(out.full.back()->matrices, Method::ml));
            out.null_model.push_back(std::make_unique<const Model>(out.null.back()->matrices, Method::ml));
          }
          if (out.df.back() <= 0)
            throw InputError(fmt::format("the test '{}': '{}' has no more parameters than '{}'", test.name, fulls[i],
                                         test.nulls[i]));
        }
      } else {
        for (const std::string& name : fulls) {
          const ModelToFit& model = model_named(name);
          std::optional<SmallSample> tested;
          if (test.kind == Test::Kind::satterthwaite) tested = SmallSample::satterthwaite;
          if (test.kind == Test::Kind::kenward_roger) tested = SmallSample::kenward_roger;
          FittedModel& entry = fitted(model, model.method, tested);
          out.full.push_back(&entry);
          out.contrast.push_back(contrast_matrix(test.contrast, entry.matrices->x_names));
          if (tested) out.hypothesis.push_back(add_hypothesis(entry, out.contrast.back()));
          if (test.kind == Test::Kind::wald && out.contrast.back().rows() != 1)
            throw InputError(
                fmt::format("the test '{}': expected one contrast, found {}", test.name, out.contrast.back().rows()));
          out.true_contrast.push_back(true_contrast(out.contrast.back(), *out.full.back()->matrices));
        }
      }
    } catch (const InputError& error) {
      const std::string what = error.what();
      throw InputError(what.starts_with(test.place.substr(0, test.place.find(':'))) ? what : test.place + ": " + what);
    }
    tests.push_back(std::move(out));
  }

  /// @return the index of the hypothesis among those of the model's batch
  static std::size_t add_hypothesis(FittedModel& model, const Eigen::MatrixXd& rows) {
    std::vector<Hypothesis>& list = model.hypotheses.list;
    for (std::size_t i = 0; i < list.size(); ++i)
      if (list[i].l.rows() == rows.rows() && list[i].l == rows) return i;
    list.push_back({rows, {}});
    model.batch->set_tests(model.hypotheses);
    return list.size() - 1;
  }

  /// One row's contrast in the truth's coefficients; empty where the truth lacks one of them.
  [[nodiscard]] Eigen::VectorXd true_contrast(const Eigen::MatrixXd& contrast, const ModelMatrices& model) const {
    if (contrast.rows() != 1) return {};
    const ModelMatrices& truth = simulator->model();
    Eigen::VectorXd out = Eigen::VectorXd::Zero(truth.X.cols());
    for (Eigen::Index j = 0; j < contrast.cols(); ++j) {
      if (contrast(0, j) == 0) continue;
      const auto at = std::find(truth.x_names.begin(), truth.x_names.end(), model.x_names[static_cast<std::size_t>(j)]);
      if (at == truth.x_names.end()) return {};
      out[at - truth.x_names.begin()] = contrast(0, j);
    }
    return out;
  }

  void prepare_means(const Test& test, PreparedTest& out) const {
    const Table& table = simulator->table();
    const auto take = [&](const std::string& name, std::vector<std::int32_t>& codes, int& count) {
      const Column& column = table.at(name);
      const auto* factor = std::get_if<Factor>(&column.data);
      std::vector<double> values;  // of a factor with numbers for codes: its distinct ones
      if (factor == nullptr) {
        values = std::get<Numeric>(column.data);
        std::sort(values.begin(), values.end());
        values.erase(std::unique(values.begin(), values.end()), values.end());
      }
      for (const std::size_t row : simulator->model().rows)
        codes.push_back(factor != nullptr
                            ? factor->codes[row]
                            : static_cast<std::int32_t>(
                                  std::lower_bound(values.begin(), values.end(), std::get<Numeric>(column.data)[row]) -
                                  values.begin()));
      count = static_cast<int>(factor != nullptr ? factor->levels.size() : values.size());
    };
    take(test.factor, out.condition, out.conditions);
    if (out.conditions < 2 || out.conditions > 1000)
      throw InputError(
          fmt::format("the test '{}': expected a factor of 2 to 1000 levels, found {}", test.name, out.conditions));
    if (!test.subjects.empty()) take(test.subjects, out.subject, out.subjects);
    if (!test.items.empty()) take(test.items, out.item, out.items);
  }

  void name_series() {
    std::vector<SeriesName> series;
    for (std::size_t m = 0; m < own.size(); ++m) {
      const std::string& name = specification.models[m].name;
      const auto add = [&](const std::string& term, Measure measure) { series.push_back({name, term, measure}); };
      for (int s = 0; s < status_count; ++s) add(status_name(static_cast<Status>(s)), Measure::status);
      add("", Measure::singular);
      values.push_back({name, "", "status"});
      values.push_back({name, "", "criterion"});
      parameters.push_back(model_parameters(*own[m]->matrices));
      // Fixed effects first, as in a table of results.
      std::stable_partition(parameters.back().begin(), parameters.back().end(),
                            [](const Parameter& p) { return p.kind == ParameterKind::fixed; });
      known.emplace_back();
      const TrueValues some = simulator->values(seed, 0);
      for (const Parameter& parameter : parameters.back()) {
        const bool is_known = !std::isnan(true_parameter(parameter, *own[m]->matrices, simulator->model(), some)) ||
                              (parameter.kind == ParameterKind::correlation &&
                               has_term(*own[m]->matrices, static_cast<std::size_t>(parameter.term)));
        known.back().push_back(is_known);
        add(parameter.label, Measure::estimate);
        values.push_back({name, parameter.label, "estimate"});
        if (is_known) {
          add(parameter.label, Measure::error);
          add(parameter.label, Measure::squared_error);
        }
        if (parameter.kind == ParameterKind::fixed) {
          add(parameter.label, Measure::variance);
          values.push_back({name, parameter.label, "std.error"});
        }
      }
    }
    for (const Selection& selection : specification.selections) {
      for (const std::string& model : selection.models) series.push_back({selection.name, model, Measure::chosen});
      values.push_back({selection.name, "", "chosen"});
    }
    for (std::size_t t = 0; t < tests.size(); ++t) {
      const Test& test = specification.tests[t];
      series.push_back({test.name, "", Measure::rejected});
      values.push_back({test.name, "", "p.value"});
      if (!has_interval(t)) continue;
      series.push_back({test.name, test.contrast, Measure::covered});
      series.push_back({test.name, test.contrast, Measure::width});
    }
    names = std::make_shared<const std::vector<SeriesName>>(std::move(series));
  }

  [[nodiscard]] bool has_term(const ModelMatrices& model, std::size_t term) const {
    const auto& random = simulator->model().random;
    return std::any_of(random.begin(), random.end(), [&](const RandomTerm& other) {
      return other.group == model.random[term].group && other.names == model.random[term].names;
    });
  }
  [[nodiscard]] bool has_interval(std::size_t t) const {
    return !tests[t].true_contrast.empty() && std::all_of(tests[t].true_contrast.begin(), tests[t].true_contrast.end(),
                                                          [](const Eigen::VectorXd& l) { return l.size() > 0; });
  }

  void draw(std::uint64_t first, std::uint64_t count, int threads) {
    Current& current = prepared->current;
    const std::size_t n = simulator->model().rows.size();
    panel.resize(count * n);
    current.panel = panel;
    const bool anew = !prepared->design.anew.empty();
    current.missing.assign(simulator->has_missing() || anew ? count : 0, {});
    current.tables.assign(anew ? count : 0, {});
    const Formula truth = parse_formula(specification.truth.formula);
    in_parallel(count, threads, [&](std::uint64_t i) {
      const std::span<double> y(panel.data() + i * n, n);
      if (current.tables.empty()) {
        simulator->draw(seed, first + i, y);
      } else {
        current.tables[i] = simulator->table();
        draw_covariates(prepared->design, seed, first + i, current.tables[i]);
        const auto model = matrices_like(simulator->model(), truth, current.tables[i], prepared->design.options);
        if (!model) {
          std::fill(y.begin(), y.end(), 0.0);
          current.missing[i] = all_rows(n);
          return;
        }
        simulator->draw(seed, first + i, y, &*model);
      }
      if (simulator->has_missing()) current.missing[i] = simulator->missing_rows(seed, first + i);
    });
  }

  /// One replicate's numbers of the current piece.
  struct Fits {
    std::map<const FittedModel*, std::vector<BatchFit>> of;
  };

  /// Each replicate has a design of its own.
  [[nodiscard]] bool has_variants() const { return simulator->has_missing() || !prepared->design.anew.empty(); }

  /// The models that are fitted in every replicate, each once.
  [[nodiscard]] std::vector<const FittedModel*> wanted() const {
    std::vector<const FittedModel*> out;
    const auto want = [&](const std::vector<const FittedModel*>& models) {
      for (const FittedModel* model : models)
        if (std::find(out.begin(), out.end(), model) == out.end()) out.push_back(model);
    };
    want(own);
    for (const PreparedTest& test : tests) {
      want(test.full);
      want(test.null);
    }
    for (const auto& models : selected) want(models);
    return out;
  }

  [[nodiscard]] std::vector<FittedName> fitted_names() const {
    std::vector<FittedName> out;
    for (const FittedModel* model : wanted())
      out.push_back({model->name, model->method, has_variants() ? Tier::streaming : model->batch->tier(0)});
    return out;
  }

  [[nodiscard]] double memory(std::uint64_t count, int threads) const {
    BatchOptions options;
    options.threads = threads;
    const auto held = static_cast<double>(count), n = static_cast<double>(simulator->model().rows.size());
    double bytes = 8 * held * n, most = 0;
    if (!prepared->design.anew.empty()) bytes += 8 * held * n * static_cast<double>(simulator->table().columns.size());
    for (const FittedModel* model : wanted()) {
      const ModelMatrices& matrices = *model->matrices;
      const auto p = static_cast<double>(matrices.X.cols());
      double columns = p + 2;
      for (const RandomTerm& term : matrices.random) columns += static_cast<double>(term.names.size()) + 1;
      // The design, and a fit of every replicate: its numbers, and five vectors' own.
      bytes += 8 * n * columns + held * (static_cast<double>(sizeof(BatchFit)) + 8 * (p * p + p + 10) + 5 * 16.0);
      most = std::max(most, model->batch->memory(options));
    }
    return bytes + most;
  }

  void fit_all(std::uint64_t count, int threads, Fits& fits) const {
    BatchOptions options;
    options.threads = threads;
    for (const FittedModel* model : wanted()) {
      std::vector<BatchFit>& to = fits.of[model];
      to.reserve(count);
      model->batch->fit_each(
          has_variants() ? most_in_panel : 0, count,
          [&](std::uint64_t, std::span<const BatchFit> some) { to.insert(to.end(), some.begin(), some.end()); },
          options);
    }
  }

  [[nodiscard]] int choose(std::size_t s, const Fits& fits, std::size_t i) const {
    const Selection& selection = specification.selections[s];
    const std::vector<const FittedModel*>& models = selected[s];
    const auto fit = [&](std::size_t m) -> const BatchFit& { return fits.of.at(models[m])[i]; };
    if (selection.kind == Selection::Kind::aic || selection.kind == Selection::Kind::bic) {
      int best = -1;
      double least = std::numeric_limits<double>::infinity();
      for (std::size_t m = 0; m < models.size(); ++m) {
        if (!is_used(fit(m).status)) continue;
        const double penalty = selection.kind == Selection::Kind::aic
                                   ? 2.0
                                   : std::log(static_cast<double>(simulator->model().rows.size()));
        const double criterion = fit(m).criterion + penalty * models[m]->parameters();
        if (criterion < least) {
          least = criterion;
          best = static_cast<int>(m);
        }
      }
      return best;
    }
    if (selection.kind == Selection::Kind::drop_singular) {
      for (std::size_t m = 0; m < models.size(); ++m)
        if (fit(m).status == Status::converged) return static_cast<int>(m);
      return is_used(fit(models.size() - 1).status) ? static_cast<int>(models.size()) - 1 : -1;
    }
    // Backward: simpler as long as the test of what is dropped stays above alpha.
    std::size_t at = 0;
    while (at + 1 < models.size()) {
      if (!is_used(fit(at).status) || !is_used(fit(at + 1).status)) {
        if (!is_used(fit(at).status)) {
          ++at;
          continue;
        }
        break;
      }
      const int df = models[at]->parameters() - models[at + 1]->parameters();
      if (df > 0 && chi_square_p(df, fit(at + 1).criterion - fit(at).criterion) < selection.alpha) break;
      ++at;
    }
    return is_used(fit(at).status) ? static_cast<int>(at) : -1;
  }

  /// p, and the interval where the test has one.
  struct TestResult {
    double p = nan, low = nan, high = nan;
    std::size_t model = 0;
  };

  [[nodiscard]] TestResult result(std::size_t t, const Fits& fits, const std::vector<int>& chosen,
                                  std::uint64_t replicate, std::size_t i) const {
    const Test& test = specification.tests[t];
    const PreparedTest& prepared_test = tests[t];
    TestResult out;
    if (prepared_test.full.empty()) {
      const std::size_t n = simulator->model().rows.size();
      const std::span<const double> y(panel.data() + i * n, n);
      static const std::vector<std::size_t> none;
      const auto& missing = prepared->current.missing.empty() ? none : prepared->current.missing[i];
      MeansTest f1, f2;
      if (prepared_test.subjects > 0)
        f1 = means_test(y, prepared_test.subject, prepared_test.subjects, prepared_test.condition,
                        prepared_test.conditions, missing);
      if (prepared_test.items > 0)
        f2 = means_test(y, prepared_test.item, prepared_test.items, prepared_test.condition, prepared_test.conditions,
                        missing);
      out.p = test.kind == Test::Kind::f1      ? f1.p
              : test.kind == Test::Kind::f2    ? f2.p
              : test.kind == Test::Kind::f1_f2 ? (std::isnan(f1.p) || std::isnan(f2.p) ? nan : std::max(f1.p, f2.p))
                                               : min_f(f1, f2).p;
      return out;
    }
    if (prepared_test.selection >= 0) {
      const int m = chosen[static_cast<std::size_t>(prepared_test.selection)];
      if (m < 0) return out;
      out.model = static_cast<std::size_t>(m);
    }
    const BatchFit& full = fits.of.at(prepared_test.full[out.model])[i];
    if (!is_used(full.status)) return out;
    if (test.kind == Test::Kind::lrt || test.kind == Test::Kind::bootstrap) {
      const BatchFit& null = fits.of.at(prepared_test.null[out.model])[i];
      if (!is_used(null.status)) return out;
      const double statistic = null.criterion - full.criterion;
      out.p = test.kind == Test::Kind::lrt ? chi_square_p(prepared_test.df[out.model], statistic)
                                           : bootstrap_p(test, prepared_test, out.model, null, statistic, replicate);
      return out;
    }
    if (!prepared_test.hypothesis.empty()) {
      const HypothesisTest& h = full.tests[prepared_test.hypothesis[out.model]];
      out.p = h.p;
      if (prepared_test.contrast[out.model].rows() == 1 && h.df > 0) {
        const double half =
            h.std_error * boost::math::quantile(boost::math::students_t(h.df), 0.5 + 0.5 * specification.level);
        out.low = h.estimate - half;
        out.high = h.estimate + half;
      }
      return out;
    }
    const Eigen::VectorXd l = prepared_test.contrast[out.model].row(0);
    const double estimate = l.dot(full.beta), error = std::sqrt(l.dot(full.vcov * l));
    const boost::math::normal standard;
    const double z = boost::math::quantile(standard, 0.5 + 0.5 * specification.level);
    out.p = 2 * boost::math::cdf(boost::math::complement(standard, std::abs(estimate) / error));
    out.low = estimate - z * error;
    out.high = estimate + z * error;
    return out;
  }

  /// The parametric bootstrap inside a replicate: from its null fit, with numbers of its own.
  [[nodiscard]] double bootstrap_p(const Test& test, const PreparedTest& on, std::size_t m, const BatchFit& null_fit,
                                   double statistic, std::uint64_t replicate) const {
    const Model &null = *on.null_model[m], &full = *on.full_model[m];
    const std::vector<double> lambda = kernel_lambda(null, lambdas_of(null.matrices(), null_fit.theta));
    Specification inner;
    inner.seed = seed ^ 0x5851F42D4C957F2DULL;
    const Bootstrap bootstrap(null, full, embed(null, full), lambda, null_fit.sigma, cell_seed(inner, replicate));
    BootstrapRun run;
    run.count = test.inner;
    run.observed = statistic;
    const ReplicateSummary summary = bootstrap.run(run);
    return static_cast<double>(1 + summary.extreme) / static_cast<double>(1 + summary.used);
  }

  void add_piece(std::uint64_t first, std::uint64_t count, int threads, std::vector<SeriesSums>& sums,
                 const std::function<void(const ReplicateValue&)>& keep) {
    draw(first, count, threads);
    Fits fits;
    fit_all(count, threads, fits);
    // Tests first, in parallel; then everything is added up in order.
    std::vector<std::vector<int>> chosen(count);
    std::vector<std::vector<TestResult>> results(count);
    in_parallel(count, threads, [&](std::uint64_t i) {
      for (std::size_t s = 0; s < selected.size(); ++s) chosen[i].push_back(choose(s, fits, i));
      for (std::size_t t = 0; t < tests.size(); ++t) results[i].push_back(result(t, fits, chosen[i], first + i, i));
    });
    for (std::uint64_t i = 0; i < count; ++i) {
      std::size_t at = 0;
      std::uint32_t value = 0;
      const auto add = [&](double x) {
        if (!std::isnan(x)) sums[at].add(x);
        ++at;
      };
      const auto put = [&](double x) {
        if (keep) keep({first + i, value, x});
        ++value;
      };
      const TrueValues truth = simulator->values(seed, first + i);
      for (std::size_t m = 0; m < own.size(); ++m) {
        const BatchFit& fit = fits.of.at(own[m])[i];
        const bool used = is_used(fit.status);
        for (int s = 0; s < status_count; ++s) add(static_cast<int>(fit.status) == s ? 1 : 0);
        add(used ? (fit.status == Status::boundary ? 1 : 0) : nan);
        put(static_cast<double>(fit.status));
        put(fit.criterion);
        const std::vector<Eigen::MatrixXd> lambda =
            used ? lambdas_of(*own[m]->matrices, fit.theta) : std::vector<Eigen::MatrixXd>{};
        for (std::size_t j = 0; j < parameters[m].size(); ++j) {
          const Parameter& parameter = parameters[m][j];
          const double estimate = used ? parameter_value(parameter, fit.beta, lambda, fit.sigma) : nan;
          add(estimate);
          put(estimate);
          if (known[m][j]) {
            const double error = estimate - true_parameter(parameter, *own[m]->matrices, simulator->model(), truth);
            add(error);
            add(error * error);
          }
          if (parameter.kind == ParameterKind::fixed) {
            const double variance = used ? fit.vcov(parameter.row, parameter.row) : nan;
            add(variance);
            put(std::sqrt(variance));
          }
        }
      }
      for (std::size_t s = 0; s < selected.size(); ++s) {
        for (std::size_t m = 0; m < selected[s].size(); ++m)
          add(chosen[i][s] < 0 ? nan : chosen[i][s] == static_cast<int>(m) ? 1 : 0);
        put(chosen[i][s]);
      }
      for (std::size_t t = 0; t < tests.size(); ++t) {
        const TestResult& test = results[i][t];
        add(std::isnan(test.p) ? nan : test.p < specification.alpha ? 1 : 0);
        put(test.p);
        if (!has_interval(t)) continue;
        const double value_of_truth = tests[t].true_contrast[test.model].dot(truth.beta);
        const bool has = !std::isnan(test.low);
        add(has ? (test.low <= value_of_truth && value_of_truth <= test.high ? 1 : 0) : nan);
        add(test.high - test.low);
      }
    }
  }

  Specification specification;
  std::uint64_t seed;
  DesignCache::Prepared* prepared = nullptr;
  std::optional<Simulator> simulator;
  std::vector<const FittedModel*> own;  ///< the study's models by their own methods
  std::vector<PreparedTest> tests;
  std::vector<std::vector<const FittedModel*>> selected;
  std::vector<std::vector<Parameter>> parameters;  ///< per model
  std::vector<std::vector<bool>> known;            ///< per model and parameter: the truth has it
  SeriesNames names;
  std::vector<ValueName> values;
  std::vector<double> panel;
};

Cell::Cell(Specification specification, const std::string& folder, std::uint64_t seed, DesignCache& cache)
    : impl_(std::make_unique<Impl>(std::move(specification), folder, seed, cache)) {}
Cell::~Cell() = default;
Cell::Cell(Cell&&) noexcept = default;
Cell& Cell::operator=(Cell&&) noexcept = default;
const Specification& Cell::specification() const { return impl_->specification; }
std::uint64_t Cell::rows() const { return impl_->simulator->model().rows.size(); }
bool Cell::take_truth(const Truth& truth, std::uint64_t seed) { return impl_->take_truth(truth, seed); }
const std::vector<SeriesName>& Cell::series() const { return *impl_->names; }
SeriesNames Cell::series_names() const { return impl_->names; }
const std::vector<ValueName>& Cell::value_names() const { return impl_->values; }

std::vector<FittedName> Cell::fits() const { return impl_->fitted_names(); }
double Cell::memory(std::uint64_t count, int threads) const {
  return impl_->memory(std::min(count, replicates_in_panel(rows())), thread_count(threads));
}

std::vector<SeriesSums> Cell::run(std::uint64_t first, std::uint64_t count, int threads,
                                  const std::function<void(const ReplicateValue&)>& keep) {
  std::vector<SeriesSums> sums(impl_->names->size());
  const std::uint64_t piece = replicates_in_panel(rows());
  for (std::uint64_t at = 0; at < count; at += piece)
    impl_->add_piece(first + at, std::min(piece, count - at), thread_count(threads), sums, keep);
  return sums;
}

}  // namespace batchlmm::study
