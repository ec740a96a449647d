#include "host/study/study_file.hpp"

#include <Eigen/Eigenvalues>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "host/study/toml_reader.hpp"

namespace batchlmm::study {
namespace {

constexpr std::uint64_t most_cells = 100'000'000;
constexpr std::int64_t most_rows = 50'000'000;

Quantity quantity(const TomlReader& reader, const toml::node& node, std::string_view key, double least,
                  double most = std::numeric_limits<double>::infinity()) {
  if (!node.is_table()) return {Quantity::Kind::fixed, reader.number(node, key, least, most), 0};
  const toml::table& table = *node.as_table();
  const toml::node* pair = nullptr;
  Quantity out;
  if (table.size() == 1 && (pair = table.get("uniform")) != nullptr)
    out.kind = Quantity::Kind::uniform;
  else if (table.size() == 1 && (pair = table.get("normal")) != nullptr)
    out.kind = Quantity::Kind::normal;
  else
    reader.fail(node, fmt::format("'{}': expected a number, {{uniform = [LOW, HIGH]}} or {{normal = [MEAN, SD]}}",
                                  reader.full(key)));
  const std::vector<double> values = reader.numbers(*pair, key);
  if (values.size() != 2)
    reader.fail(*pair, fmt::format("'{}': expected two numbers, found {}", reader.full(key), values.size()));
  out.first = values[0];
  out.second = values[1];
  if (out.kind == Quantity::Kind::uniform && !(least <= out.first && out.first <= out.second && out.second <= most))
    reader.fail(*pair, fmt::format("'{}': expected LOW <= HIGH within the possible values, found {} and {}",
                                   reader.full(key), out.first, out.second));
  if (out.kind == Quantity::Kind::normal && out.second < 0)
    reader.fail(*pair, fmt::format("'{}': expected a standard deviation of at least 0, found {}", reader.full(key),
                                   out.second));
  if (out.kind == Quantity::Kind::normal && std::isfinite(least))
    reader.fail(*pair, fmt::format("'{}': expected a uniform distribution, found a normal one: values below {} are "
                                   "impossible",
                                   reader.full(key), least));
  return out;
}

void check_name(const TomlReader& reader, const std::string& name) {
  if (name.empty()) reader.fail(reader.source(), fmt::format("'{}': expected a name, found none", reader.path()));
}

std::vector<Unit> units(TomlReader reader, bool nested) {
  std::vector<Unit> out;
  double product = 1;
  for (const std::string& name : reader.keys()) {
    check_name(reader, name);
    const toml::node& node = reader.required(name);
    out.push_back({name, reader.whole(node, name, 1, most_rows), nested && !out.empty()});
    product *= static_cast<double>(out.back().count);
    if (product > static_cast<double>(most_rows))
      reader.fail(node, fmt::format("'{}': the units make {:.3g} combinations; at most {} are accepted",
                                    reader.full(name), product, most_rows));
  }
  return out;
}

const std::vector<std::string> codings{"treatment", "sum", "helmert", "polynomial"};

ExperimentalFactor factor(TomlReader reader, const std::string& name, const std::vector<std::string>& unit_names) {
  ExperimentalFactor out;
  reader.expect({"levels", "codes", "coding", "between", "latin"});
  out.name = name;
  const toml::node& levels = reader.required("levels");
  out.levels = reader.texts(levels, "levels");
  if (out.levels.size() < 2)
    reader.fail(levels, fmt::format("'{}': expected two levels or more", reader.full("levels")));
  for (std::size_t i = 0; i < out.levels.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (out.levels[i] == out.levels[j])
        reader.fail(levels,
                    fmt::format("'{}': the level '{}' stands there twice", reader.full("levels"), out.levels[i]));
  if (const toml::node* node = reader.take("codes")) {
    out.codes = reader.numbers(*node, "codes");
    if (out.codes.size() != out.levels.size())
      reader.fail(*node, fmt::format("'{}': expected {} numbers, one a level, found {}", reader.full("codes"),
                                     out.levels.size(), out.codes.size()));
  }
  if (const toml::node* node = reader.take("coding")) {
    if (!out.codes.empty())
      reader.fail(*node, fmt::format("'{}': expected either codes or a coding, found both", reader.path()));
    out.coding = static_cast<Contrast>(reader.choice(*node, "coding", codings));
  }
  const toml::node* between = reader.take("between");
  if (between != nullptr) out.between = unit_names[reader.choice(*between, "between", unit_names)];
  if (const toml::node* node = reader.take("latin")) {
    if (between != nullptr)
      reader.fail(*node, fmt::format("'{}': expected either between or latin, found both", reader.path()));
    for (const toml::node& unit : reader.list(*node, "latin"))
      out.latin.push_back(unit_names[reader.choice(unit, "latin", unit_names)]);
    if (out.latin.size() != 2 || out.latin[0] == out.latin[1])
      reader.fail(*node, fmt::format("'{}': expected two units", reader.full("latin")));
  }
  reader.finish();
  return out;
}

Covariate covariate(TomlReader reader, const std::string& name, const std::vector<std::string>& unit_names) {
  Covariate out;
  reader.expect({"values", "normal", "uniform", "by", "anew"});
  out.name = name;
  const toml::node* values = reader.take("values");
  const toml::node* normal = reader.take("normal");
  const toml::node* uniform = reader.take("uniform");
  if ((values != nullptr) + (normal != nullptr) + (uniform != nullptr) != 1)
    reader.fail(reader.source(), fmt::format("'{}': expected one of values, normal and uniform", reader.path()));
  const toml::node* by = reader.take("by");
  const toml::node* anew = reader.take("anew");
  if (values != nullptr) {
    out.values = reader.numbers(*values, "values");
    if (by != nullptr || anew != nullptr)
      reader.fail(by != nullptr ? *by : *anew, fmt::format("'{}': values are not drawn", reader.path()));
  } else {
    out.kind = normal != nullptr ? Covariate::Kind::normal : Covariate::Kind::uniform;
    const toml::node& pair = normal != nullptr ? *normal : *uniform;
    const std::vector<double> two = reader.numbers(pair, normal != nullptr ? "normal" : "uniform");
    if (two.size() != 2 || !(normal != nullptr ? two[1] > 0 : two[0] < two[1]))
      reader.fail(pair, fmt::format("'{}': expected {}", reader.path(),
                                    normal != nullptr ? "a mean and a standard deviation above 0" : "LOW < HIGH"));
    out.first = two[0];
    out.second = two[1];
    if (by != nullptr) out.by = unit_names[reader.choice(*by, "by", unit_names)];
    if (anew != nullptr) out.anew = reader.boolean(*anew, "anew");
  }
  reader.finish();
  return out;
}

const std::vector<std::string> kinds{"crossed", "nested", "longitudinal", "split_plot", "table"};

Design design(TomlReader reader) {
  Design out;
  reader.expect({"kind", "data", "factors", "extend", "units", "covariates", "replications"});
  const toml::node& kind = reader.required("kind");
  out.kind = kinds[reader.choice(kind, "kind", kinds)];
  if (out.kind == "table") {
    const toml::node& data = reader.required("data");
    out.data = reader.text(data, "data");
    out.place = reader.place(data);
    if (const toml::node* node = reader.take("factors")) out.factor_columns = reader.texts(*node, "factors");
    TomlReader extend = reader.table("extend");
    extend.expect({"along", "to"});
    if (!extend.empty()) {
      out.extend_along = extend.text(extend.required("along"), "along");
      out.extend_to = extend.whole(extend.required("to"), "to", 1, most_rows);
      extend.finish();
    }
    reader.finish();
    return out;
  }

  TomlReader unit_table = reader.table("units");
  out.units = units(unit_table, out.kind == "nested" || out.kind == "split_plot");
  if (out.units.empty()) reader.fail(reader.source(), "'design.units': expected one unit at least, found none");
  if (out.kind == "split_plot" && out.units.size() != 2)
    reader.fail(
        unit_table.source(),
        fmt::format("'design.units': expected two units, blocks and whole plots in each, found {}", out.units.size()));
  std::vector<std::string> unit_names;
  for (const Unit& unit : out.units) unit_names.push_back(unit.name);
  TomlReader factors = reader.table("factors");
  for (const std::string& name : factors.keys()) out.factors.push_back(factor(factors.table(name), name, unit_names));
  TomlReader covariates = reader.table("covariates");
  for (const std::string& name : covariates.keys())
    out.covariates.push_back(covariate(covariates.table(name), name, unit_names));
  if (out.kind == "longitudinal" && std::none_of(out.covariates.begin(), out.covariates.end(),
                                                 [](const Covariate& c) { return c.kind == Covariate::Kind::values; }))
    reader.fail(kind, "'design.kind': a longitudinal design needs a covariate with values, its time points");
  if (out.kind == "split_plot" &&
      std::none_of(out.factors.begin(), out.factors.end(),
                   [&](const ExperimentalFactor& f) { return f.between == out.units[1].name; }))
    reader.fail(kind, fmt::format("'design.kind': a split plot needs a factor between '{}'", out.units[1].name));
  if (const toml::node* node = reader.take("replications"))
    out.replications = reader.whole(*node, "replications", 1, most_rows);
  reader.finish();
  std::vector<std::string> names = unit_names;
  for (const ExperimentalFactor& f : out.factors) names.push_back(f.name);
  for (const Covariate& c : out.covariates) names.push_back(c.name);
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
    reader.fail(reader.source(), fmt::format("'design': the name '{}' stands for two columns", *twice));
  return out;
}

/// Fixed correlations must make a matrix that is positive semidefinite.
void check_correlations(const TomlReader& reader, const TruthTerm& term, const toml::node& node) {
  const auto k = static_cast<Eigen::Index>(term.sd.size());
  Eigen::MatrixXd matrix = Eigen::MatrixXd::Identity(k, k);
  for (Eigen::Index i = 0; i < k; ++i)
    for (Eigen::Index j = 0; j < i; ++j) {
      const auto& a = term.sd[static_cast<std::size_t>(j)].first;
      const auto& b = term.sd[static_cast<std::size_t>(i)].first;
      const Quantity* found = nullptr;
      for (const auto& [pair, value] : term.correlation)
        if (pair.empty() || pair == fmt::format("{},{}", a, b) || pair == fmt::format("{},{}", b, a))
          if (found == nullptr || !pair.empty()) found = &value;
      if (found != nullptr && found->kind != Quantity::Kind::fixed) return;
      matrix(i, j) = matrix(j, i) = found != nullptr ? found->first : 0;
    }
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(matrix, Eigen::EigenvaluesOnly);
  if (eigen.eigenvalues()[0] < -1e-10)
    reader.fail(node, fmt::format("'{}': impossible correlations: the matrix that they make has the eigenvalue {:.4g}, "
                                  "below 0",
                                  reader.full("correlation"), eigen.eigenvalues()[0]));
}

TruthTerm truth_term(TomlReader reader, const std::string& group) {
  TruthTerm out;
  reader.expect({"sd", "variance", "correlation"});
  out.group = group;
  for (const char* key : {"sd", "variance"}) {
    TomlReader sd = reader.table(key);
    for (const std::string& name : sd.keys()) {
      const toml::node& node = sd.required(name);
      if (std::any_of(out.sd.begin(), out.sd.end(), [&](const auto& entry) { return entry.first == name; }))
        sd.fail(node, fmt::format("'{}': expected a standard deviation or a variance, found both", sd.full(name)));
      out.sd.emplace_back(name, quantity(sd, node, name, 0));
      out.sd.back().second.is_variance = std::string_view(key) == "variance";
    }
  }
  if (out.sd.empty())
    reader.fail(reader.source(), fmt::format("'{}': expected standard deviations, found none", reader.full("sd")));
  if (const toml::node* node = reader.take("correlation")) {
    if (node->is_table() && node->as_table()->get("uniform") == nullptr) {
      TomlReader pairs = reader.table("correlation");
      for (const std::string& pair : pairs.keys()) {
        const std::size_t comma = pair.find(',');
        const auto known = [&](const std::string& name) {
          return std::any_of(out.sd.begin(), out.sd.end(), [&](const auto& entry) { return entry.first == name; });
        };
        const toml::node& value = pairs.required(pair);
        if (comma == std::string::npos || !known(pair.substr(0, comma)) || !known(pair.substr(comma + 1)))
          reader.fail(value, fmt::format("'{}': expected \"FIRST,SECOND\", two names that have a standard deviation",
                                         pairs.full(pair)));
        out.correlation.emplace_back(pair, quantity(pairs, value, pair, -1, 1));
      }
    } else {
      out.correlation.emplace_back("", quantity(reader, *node, "correlation", -1, 1));
    }
    check_correlations(reader, out, *node);
  }
  reader.finish();
  return out;
}

Truth truth(TomlReader reader) {
  Truth out;
  reader.expect({"formula", "beta", "random", "sigma", "residual_variance", "from_fit"});
  TomlReader from = reader.table("from_fit");
  from.expect({"formula", "data", "factors"});
  if (!from.empty()) {
    out.from_fit.emplace();
    out.from_fit->formula = from.text(from.required("formula"), "formula");
    out.from_fit->data = from.text(from.required("data"), "data");
    if (const toml::node* node = from.take("factors")) out.from_fit->factor_columns = from.texts(*node, "factors");
    from.finish();
  }
  const toml::node* formula = reader.take("formula");
  if (formula == nullptr && !out.from_fit) reader.required("formula");
  out.formula = formula != nullptr ? reader.text(*formula, "formula") : out.from_fit->formula;
  out.place = formula != nullptr ? reader.place(*formula) : from.place(from.required("formula"));
  TomlReader beta = reader.table("beta");
  for (const std::string& name : beta.keys())
    out.beta.emplace_back(name, quantity(beta, beta.required(name), name, -std::numeric_limits<double>::infinity()));
  TomlReader random = reader.table("random");
  for (const std::string& group : random.keys()) out.random.push_back(truth_term(random.table(group), group));
  const toml::node* sigma = reader.take("sigma");
  const toml::node* variance = reader.take("residual_variance");
  if (sigma != nullptr && variance != nullptr)
    reader.fail(*variance, "'truth.residual_variance': expected sigma or the residual variance, found both");
  if (sigma != nullptr || variance != nullptr) {
    const toml::node& node = sigma != nullptr ? *sigma : *variance;
    const char* key = sigma != nullptr ? "sigma" : "residual_variance";
    out.sigma = quantity(reader, node, key, 0);
    out.sigma.is_variance = sigma == nullptr;
    if (out.sigma.first == 0 && out.sigma.kind == Quantity::Kind::fixed)
      reader.fail(node, fmt::format("'truth.{}': expected a number above 0, found 0", key));
  } else if (!out.from_fit) {
    reader.required("sigma");
  }
  reader.finish();
  return out;
}

Law law(TomlReader& reader, std::string_view key) {
  const toml::node* node = reader.take(key);
  Law out;
  if (node == nullptr) return out;
  if (!node->is_table()) {
    reader.choice(*node, key, {"gaussian"});
    return out;
  }
  TomlReader table = reader.table(key);
  const toml::node* t = table.take("t");
  const toml::node* skewed = table.take("skewed");
  const toml::node* contaminated = table.take("contaminated");
  if ((t != nullptr) + (skewed != nullptr) + (contaminated != nullptr) != 1) {
    table.finish();
    reader.fail(*node,
                fmt::format("'{}': expected \"gaussian\", {{t = DEGREES}}, {{skewed = SHAPE}} or {{contaminated = "
                            "[SHARE, SCALE]}}",
                            reader.full(key)));
  }
  if (t != nullptr) {
    out.kind = Law::Kind::t;
    out.degrees = table.number(*t, "t", 2.01);
  } else if (skewed != nullptr) {
    out.kind = Law::Kind::skewed;
    out.shape = table.number(*skewed, "skewed", 1e-3);
  } else {
    out.kind = Law::Kind::contaminated;
    const std::vector<double> two = table.numbers(*contaminated, "contaminated");
    if (two.size() != 2 || !(two[0] >= 0 && two[0] <= 1) || !(two[1] > 0))
      table.fail(*contaminated,
                 fmt::format("'{}': expected a share from 0 to 1 and a scale above 0", table.full("contaminated")));
    out.share = two[0];
    out.scale = two[1];
  }
  table.finish();
  return out;
}

Response response(TomlReader reader, const Design& design) {
  Response out;
  reader.expect({"errors", "random_effects", "variance", "missing"});
  out.errors = law(reader, "errors");
  TomlReader effects = reader.table("random_effects");
  for (const std::string& group : effects.keys()) out.random_effects.emplace_back(group, law(effects, group));
  TomlReader variance = reader.table("variance");
  variance.expect({"by", "ratios"});
  if (!variance.empty()) {
    out.variance_by = variance.text(variance.required("by"), "by");
    const toml::node& ratios = variance.required("ratios");
    out.variance_ratios = variance.numbers(ratios, "ratios");
    for (const double ratio : out.variance_ratios)
      if (!(ratio > 0))
        variance.fail(ratios, fmt::format("'{}': expected numbers above 0, found {}", variance.full("ratios"), ratio));
    for (const ExperimentalFactor& f : design.factors)
      if (f.name == out.variance_by && f.levels.size() != out.variance_ratios.size())
        variance.fail(ratios,
                      fmt::format("'{}': expected {} numbers, one a level of '{}', found {}", variance.full("ratios"),
                                  f.levels.size(), f.name, out.variance_ratios.size()));
    variance.finish();
  }
  TomlReader missing = reader.table("missing");
  missing.expect({"random", "unit", "dropout"});
  if (!missing.empty()) {
    Missingness one;
    if (const toml::node* node = missing.take("random")) {
      one.share = quantity(missing, *node, "random", 0, 0.99);
      out.missing.push_back(one);
    }
    for (const char* key : {"unit", "dropout"})
      if (missing.take(key) != nullptr) {
        TomlReader table = missing.table(key);
        one.kind = std::string_view(key) == "unit" ? Missingness::Kind::unit : Missingness::Kind::dropout;
        const char* share = one.kind == Missingness::Kind::unit ? "share" : "hazard";
        table.expect({"of", share});
        one.unit = table.text(table.required("of"), "of");
        one.share = quantity(table, table.required(share), share, 0, 0.99);
        table.finish();
        out.missing.push_back(one);
      }
    missing.finish();
  }
  reader.finish();
  return out;
}

const std::vector<std::string> methods{"REML", "ML"};
const std::vector<std::string> selection_kinds{"aic", "bic", "backward", "drop_singular"};
const std::vector<std::string> test_kinds{"lrt", "wald", "satterthwaite", "kenward_roger", "bootstrap",
                                          "f1",  "f2",   "f1_f2",         "min_f"};

Test test(TomlReader reader, const std::string& name, const std::vector<std::string>& models,
          const std::vector<std::string>& model_names, const std::vector<Selection>& selections) {
  Test out;
  out.name = name;
  reader.expect({"kind", "null", "full", "inner", "model", "contrast", "factor", "subjects", "items"});
  out.place = place_of(reader.file(), reader.source());
  const toml::node& kind = reader.required("kind");
  out.kind = static_cast<Test::Kind>(reader.choice(kind, "kind", test_kinds));
  const auto model = [&](const char* key) {
    const toml::node& node = reader.required(key);
    return models[reader.choice(node, key, models)];
  };
  switch (out.kind) {
    case Test::Kind::lrt:
    case Test::Kind::bootstrap: {
      out.full = model("full");
      std::size_t candidates = 1;
      for (const Selection& selection : selections)
        if (selection.name == out.full) candidates = selection.models.size();
      const toml::node& null = reader.required("null");
      if (candidates > 1) {
        for (const toml::node& node : reader.list(null, "null"))
          out.nulls.push_back(model_names[reader.choice(node, "null", model_names)]);
      } else {
        out.nulls.push_back(model_names[reader.choice(null, "null", model_names)]);
      }
      if (out.nulls.size() != candidates)
        reader.fail(null,
                    fmt::format("'{}': expected a list of {} models, the null of each that '{}' may choose, found {}",
                                reader.full("null"), candidates, out.full, out.nulls.size()));
      if (out.kind == Test::Kind::bootstrap)
        out.inner = reader.whole(reader.required("inner"), "inner", 1, 1'000'000'000);
      break;
    }
    case Test::Kind::wald:
    case Test::Kind::satterthwaite:
    case Test::Kind::kenward_roger:
      out.full = model("model");
      out.contrast = reader.text(reader.required("contrast"), "contrast");
      break;
    default:
      out.factor = reader.text(reader.required("factor"), "factor");
      if (out.kind != Test::Kind::f2) out.subjects = reader.text(reader.required("subjects"), "subjects");
      if (out.kind != Test::Kind::f1) out.items = reader.text(reader.required("items"), "items");
  }
  reader.finish();
  return out;
}

Specification specification(const std::string& file, const toml::table& root, const Replacements& replacements) {
  TomlReader reader(file, &root, "", replacements, root.source());
  Specification out;
  TomlReader head = reader.table("study");
  reader.expect({"study", "design", "truth", "response", "models", "selections", "tests", "grid", "cells"});
  head.expect({"name", "seed", "replicates", "precision", "alpha", "level", "target_power", "common_random_numbers"});
  if (const toml::node* node = head.take("name")) out.name = head.text(*node, "name");
  if (const toml::node* node = head.take("seed")) out.seed = head.whole(*node, "seed", 0);
  out.replicates = head.whole(head.required("replicates"), "replicates", 1);
  if (const toml::node* node = head.take("precision")) out.precision = head.number(*node, "precision", 1e-9, 0.5);
  if (const toml::node* node = head.take("alpha")) out.alpha = head.number(*node, "alpha", 1e-12, 1 - 1e-12);
  if (const toml::node* node = head.take("level")) out.level = head.number(*node, "level", 1e-6, 1 - 1e-12);
  if (const toml::node* node = head.take("target_power"))
    out.target_power = head.number(*node, "target_power", 0.01, 0.999);
  if (const toml::node* node = head.take("common_random_numbers"))
    out.common_numbers = head.boolean(*node, "common_random_numbers");
  head.finish();

  out.design = design(reader.table("design"));
  out.truth = truth(reader.table("truth"));
  out.response = response(reader.table("response"), out.design);
  std::vector<std::string> names;
  TomlReader models = reader.table("models");
  for (const std::string& name : models.keys()) {
    TomlReader model = models.table(name);
    model.expect({"formula", "method"});
    const toml::node& formula = model.required("formula");
    ModelToFit one{name, model.text(formula, "formula"), model.place(formula), Method::reml};
    if (const toml::node* node = model.take("method"))
      one.method = model.choice(*node, "method", methods) == 0 ? Method::reml : Method::ml;
    model.finish();
    out.models.push_back(std::move(one));
    names.push_back(name);
  }
  if (out.models.empty()) reader.fail(root.source(), "'models': expected one model at least, found none");
  const std::vector<std::string> model_names = names;
  TomlReader selections = reader.table("selections");
  for (const std::string& name : selections.keys()) {
    TomlReader one = selections.table(name);
    one.expect({"kind", "models", "alpha"});
    Selection selection;
    selection.name = name;
    selection.kind = static_cast<Selection::Kind>(one.choice(one.required("kind"), "kind", selection_kinds));
    const toml::node& candidates = one.required("models");
    for (const toml::node& node : one.list(candidates, "models"))
      selection.models.push_back(model_names[one.choice(node, "models", model_names)]);
    if (selection.models.size() < 2)
      one.fail(candidates, fmt::format("'{}': expected two models or more", one.full("models")));
    if (const toml::node* node = one.take("alpha")) selection.alpha = one.number(*node, "alpha", 0, 1);
    if (std::find(model_names.begin(), model_names.end(), name) != model_names.end())
      one.fail(one.source(), fmt::format("'{}': a model has this name already", one.path()));
    one.finish();
    out.selections.push_back(std::move(selection));
    names.push_back(name);
  }
  TomlReader tests = reader.table("tests");
  for (const std::string& name : tests.keys())
    out.tests.push_back(test(tests.table(name), name, names, model_names, out.selections));
  reader.take("grid");
  reader.take("cells");
  reader.finish();
  return out;
}

}  // namespace

/// One key of the grid's product: a path, or several with commas between them that have the same value.
struct GridKey {
  std::string path;  ///< as written
  toml::source_region source;
  const toml::array* values;
  bool of_truth = false;  ///< all its paths are values within the truth
};

class StudyFile::Impl {
public:
  Impl(std::string text, std::string name) : text_(std::move(text)), name_(std::move(name)) {
    try {
      root_ = toml::parse(text_, name_);
    } catch (const toml::parse_error& error) {
      throw InputError(place_of(name_, error.source()) + ": " +
                       detail::one_line(std::string(error.description()), 300));
    }
    read_grid();
    check();
  }

  void read_grid() {
    const toml::node* grid = root_.get("grid");
    const toml::node* list = root_.get("cells");
    if (grid != nullptr && list != nullptr)
      throw InputError(place_of(name_, list->source()) + ": expected either a grid or a list of cells, found both");
    if (grid != nullptr) {
      if (!grid->is_table()) throw InputError(place_of(name_, grid->source()) + ": 'grid': expected a table");
      flatten(*grid->as_table(), "");
      std::sort(keys_.begin(), keys_.end(),
                [](const GridKey& a, const GridKey& b) { return a.source.begin < b.source.begin; });
      if (keys_.empty())
        throw InputError(place_of(name_, grid->source()) + ": 'grid': expected a list of values, found an empty grid");
      for (const GridKey& key : keys_) {
        names_.push_back(key.path);
        cells_ *= key.values->size();
        if (cells_ > most_cells)
          throw InputError(place_of(name_, key.source) + fmt::format(": 'grid': more than {} cells", most_cells));
      }
    }
    if (list != nullptr) {
      list_ = list->as_array();
      if (list_ == nullptr || list_->empty() || !list_->is_homogeneous(toml::node_type::table))
        throw InputError(place_of(name_, list->source()) + ": 'cells': expected a list of tables with something in it");
      cells_ = list_->size();
      for (const toml::node& cell : *list_)
        for (const auto& [key, value] : *cell.as_table())
          if (std::find(names_.begin(), names_.end(), key.str()) == names_.end()) names_.emplace_back(key.str());
    }
  }

  /// "truth.beta.x" may be written as one quoted key or as tables in each other.
  void flatten(const toml::table& table, const std::string& path) {
    for (const auto& [key, value] : table) {
      const std::string full = path.empty() ? std::string(key.str()) : path + "." + std::string(key.str());
      if (value.is_table()) {
        flatten(*value.as_table(), full);
        continue;
      }
      const toml::array* values = value.as_array();
      if (values == nullptr || values->empty())
        throw InputError(
            place_of(name_, value.source()) +
            fmt::format(": 'grid.{}': expected a list with something in it, found {}", full, TomlReader::found(value)));
      keys_.push_back({full, key.source(), values, is_of_truth(full)});
    }
  }

  /// Calls `each` for all paths of a key.
  template <typename Each>
  static void for_paths(std::string_view key, Each each) {
    while (!key.empty()) {
      const std::size_t comma = std::min(key.find(','), key.size());
      std::string_view path = key.substr(0, comma);
      while (path.starts_with(' ')) path.remove_prefix(1);
      while (path.ends_with(' ')) path.remove_suffix(1);
      each(path);
      key.remove_prefix(std::min(comma + 1, key.size()));
    }
  }
  static bool is_of_truth(std::string_view key) {
    bool out = true;
    for_paths(key, [&](std::string_view path) { out = out && path.starts_with("truth."); });
    return out;
  }
  /// Puts a value in the place of all paths of a key.
  static void replace(Replacements& to, std::string_view key, const Replacement& value) {
    for_paths(key, [&](std::string_view path) { to[std::string(path)] = value; });
  }

  /// What stands in for the file's values at a cell.
  [[nodiscard]] Replacements replacements(std::uint64_t cell) const {
    Replacements out;
    if (list_ != nullptr) {
      for (const auto& [key, value] : *(*list_)[cell].as_table())
        replace(out, key.str(), {&value, key.source(), false});
      return out;
    }
    for (std::size_t i = keys_.size(); i-- > 0;) {
      const std::uint64_t size = keys_[i].values->size();
      replace(out, keys_[i].path, {&(*keys_[i].values)[cell % size], keys_[i].source, false});
      cell /= size;
    }
    return out;
  }

  [[nodiscard]] Specification specification(std::uint64_t cell) const {
    const Replacements values = replacements(cell);
    Specification out = study::specification(name_, root_, values);
    for (const auto& [path, replacement] : values)
      if (!replacement.taken)
        throw InputError(place_of(name_, replacement.key) +
                         fmt::format(": '{}' is no value of the study that a grid can change", path));
    return out;
  }

  /// Whether two cells of the product of lists differ in values of the truth alone.
  [[nodiscard]] bool differ_in_truth(std::uint64_t a, std::uint64_t b) const {
    if (list_ != nullptr) return false;
    for (std::size_t i = keys_.size(); i-- > 0; a /= keys_[i].values->size(), b /= keys_[i].values->size()) {
      const std::uint64_t size = keys_[i].values->size();
      if (a % size != b % size && !keys_[i].of_truth) return false;
    }
    return true;
  }

  [[nodiscard]] std::uint64_t groups() const {
    if (list_ != nullptr) return cells_;
    std::uint64_t out = 1;
    for (const GridKey& key : keys_) out *= key.of_truth ? 1 : key.values->size();
    return out;
  }
  [[nodiscard]] std::uint64_t first_cell(std::uint64_t group) const {
    if (list_ != nullptr) return group;
    std::uint64_t out = 0, stride = 1;
    for (std::size_t i = keys_.size(); i-- > 0; stride *= keys_[i].values->size()) {
      if (keys_[i].of_truth) continue;
      const std::uint64_t size = keys_[i].values->size();
      out += stride * (group % size);
      group /= size;
    }
    return out;
  }

  /// Changes the truth of a cell into that of another where that takes no more than setting numbers: they were checked
  /// when the file was read. @return false where it takes more; the truth may be changed in part then
  [[nodiscard]] bool set_truth(std::uint64_t from, std::uint64_t to, Truth& truth) const {
    for (std::size_t i = keys_.size(); i-- > 0; from /= keys_[i].values->size(), to /= keys_[i].values->size()) {
      const std::uint64_t size = keys_[i].values->size();
      if (from % size == to % size) continue;
      const toml::node &before = (*keys_[i].values)[from % size], &after = (*keys_[i].values)[to % size];
      if (!before.is_number() || !after.is_number()) return false;
      bool set = true;
      for_paths(keys_[i].path,
                [&](std::string_view path) { set = set && set_number(path, *after.value<double>(), truth); });
      if (!set) return false;
    }
    return true;
  }
  static bool set_number(std::string_view path, double value, Truth& truth) {
    const auto set = [value](Quantity& quantity) {
      if (quantity.kind != Quantity::Kind::fixed || quantity.is_variance) return false;
      quantity.first = value;
      return true;
    };
    const auto set_among = [&](std::vector<std::pair<std::string, Quantity>>& entries, std::string_view name) {
      for (auto& [entry, quantity] : entries)
        if (entry == name) return set(quantity);
      return false;
    };
    constexpr std::string_view beta = "truth.beta.", random = "truth.random.", sd = ".sd.";
    if (path == "truth.sigma") return set(truth.sigma);
    if (path.starts_with(beta)) return set_among(truth.beta, path.substr(beta.size()));
    if (!path.starts_with(random)) return false;
    path.remove_prefix(random.size());
    for (TruthTerm& term : truth.random)
      if (path.starts_with(term.group) && path.substr(term.group.size()).starts_with(sd))
        return set_among(term.sd, path.substr(term.group.size() + sd.size()));
    return false;
  }

  /// The truth of a cell whose other values have been read.
  [[nodiscard]] Truth truth(std::uint64_t cell) const {
    const Replacements values = replacements(cell);
    TomlReader reader(name_, &root_, "", values, root_.source());
    return study::truth(reader.table("truth"));
  }

  /// Every value of the grid once, with the others at their first.
  void check() const {
    for (const std::string& name : names_)
      for (const char* key : {"study.precision", "study.target_power"})
        if (name.find(key) != std::string::npos)
          throw InputError(fmt::format("{}: '{}' is one for the whole study and cannot stand in a grid", name_, key));
    if (list_ != nullptr) {
      for (std::uint64_t cell = 0; cell < cells_; ++cell) (void)specification(cell);
      return;
    }
    (void)specification(0);
    std::uint64_t stride = 1;
    for (std::size_t i = keys_.size(); i-- > 0;) {
      for (std::size_t v = 1; v < keys_[i].values->size(); ++v) (void)specification(stride * v);
      stride *= keys_[i].values->size();
    }
  }

  [[nodiscard]] std::vector<bool> grid_numeric() const {
    std::vector<bool> out;
    const auto is_number = [](const toml::node& node) { return node.is_number(); };
    for (const GridKey& key : keys_) out.push_back(std::all_of(key.values->begin(), key.values->end(), is_number));
    if (list_ == nullptr) return out;
    for (const std::string& name : names_)
      out.push_back(std::all_of(list_->begin(), list_->end(), [&](const toml::node& cell) {
        const toml::node* value = cell.as_table()->get(name);
        return value == nullptr || value->is_number();
      }));
    return out;
  }

  [[nodiscard]] std::vector<GridValue> grid_values(std::uint64_t cell) const {
    std::vector<GridValue> out;
    out.reserve(names_.size());
    std::uint64_t stride = cells_;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      const toml::node* found = nullptr;
      if (list_ != nullptr) {
        found = (*list_)[cell].as_table()->get(names_[i]);
        if (found == nullptr) continue;
      } else {
        const std::uint64_t size = keys_[i].values->size();
        stride /= size;
        found = &(*keys_[i].values)[cell / stride % size];
      }
      const toml::node& node = *found;
      GridValue value{names_[i], false, 0, {}};
      if (node.is_number()) {
        value.is_number = true;
        value.number = *node.value<double>();
      } else if (const auto text = node.value_exact<std::string>()) {
        value.text = *text;
      } else {
        std::ostringstream stream;
        node.visit([&](const auto& concrete) {
          if constexpr (toml::is_table<decltype(concrete)> || toml::is_array<decltype(concrete)>)
            stream << toml::toml_formatter(concrete);
          else
            stream << concrete;
        });
        value.text = stream.str();
      }
      out.push_back(std::move(value));
    }
    return out;
  }

  std::string text_, name_;
  toml::table root_;
  std::vector<GridKey> keys_;
  const toml::array* list_ = nullptr;
  std::vector<std::string> names_;
  std::uint64_t cells_ = 1;
};

StudyFile::StudyFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StudyFile::StudyFile(StudyFile&&) noexcept = default;
StudyFile& StudyFile::operator=(StudyFile&&) noexcept = default;
StudyFile::~StudyFile() = default;

StudyFile StudyFile::read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()) || text.str().empty())
    throw InputError("cannot read the study file " + path + (file ? ": it is empty" : ""));
  return parse(text.str(), path);
}
StudyFile StudyFile::parse(std::string text, std::string name) {
  return StudyFile(std::make_unique<Impl>(std::move(text), std::move(name)));
}
const std::string& StudyFile::text() const { return impl_->text_; }
std::uint64_t StudyFile::cells() const { return impl_->cells_; }
const std::vector<std::string>& StudyFile::grid_keys() const { return impl_->names_; }
std::vector<bool> StudyFile::grid_numeric() const { return impl_->grid_numeric(); }
std::vector<GridValue> StudyFile::grid_values(std::uint64_t cell) const { return impl_->grid_values(cell); }
std::uint64_t StudyFile::groups() const { return impl_->groups(); }
std::uint64_t StudyFile::first_cell(std::uint64_t group) const { return impl_->first_cell(group); }
Specification StudyFile::specification(std::uint64_t cell) const { return impl_->specification(cell); }

const Specification& CellReader::read(std::uint64_t cell) {
  const StudyFile::Impl& study = *study_.impl_;
  const std::optional<std::uint64_t> before = std::exchange(at_, {});  // none, should what follows throw
  only_truth_changed_ = before && study.differ_in_truth(*before, cell);
  if (!only_truth_changed_)
    specification_ = study.specification(cell);
  else if (!study.set_truth(*before, cell, specification_.truth))
    specification_.truth = study.truth(cell);
  at_ = cell;
  return specification_;
}

}  // namespace batchlmm::study
