// Covariates that a study draws anew for every replicate: its fits are those of single models on the same tables.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <set>

#include "host/batch/replicates.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/fit.hpp"
#include "host/inference/parameters.hpp"
#include "host/study/cell.hpp"
#include "host/study/design.hpp"
#include "host/study/simulator.hpp"
#include "host/study/study_file.hpp"

namespace batchlmm::study {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t replicates = 6;
#else
constexpr std::uint64_t replicates = 40;
#endif

/// Covariates by subject and by row, also as a slope, transformed, in an interaction and in a factor's company.
const std::string text = R"toml(
[study]
seed = 11
replicates = 40
[design]
kind = "crossed"
units = { subject = 12, item = 5 }
[design.factors.c]
levels = ["A", "B"]
between = "subject"
[design.covariates.age]
uniform = [20, 60]
by = "subject"
anew = true
[design.covariates.x]
normal = [0, 1]
anew = true
[design.covariates.z]
normal = [0, 1]
[truth]
formula = "y ~ c * x + log(age) + z + (1 + x | subject) + (1 | item)"
sigma = 1
beta = { "(Intercept)" = 1, cB = 0.5, x = 2, "log(age)" = -1, z = 0.3, "cB:x" = 0.4 }
[truth.random.subject]
sd = { "(Intercept)" = 1, x = 0.7 }
correlation = 0.3
[truth.random.item]
sd = { "(Intercept)" = 0.5 }
[models.full]
formula = "y ~ c * x + log(age) + z + (1 + x | subject) + (1 | item)"
[models.null]
formula = "y ~ c + log(age) + z + (1 + x | subject) + (1 | item)"
method = "ML"
[models.other]
formula = "y ~ poly(age, 2) + scale(x) + (1 | subject)"
)toml";

using Numbers = std::map<std::string, double>;

/// Everything that a cell keeps, by replicate and "subject/term/name".
std::vector<Numbers> kept(Cell& cell, std::uint64_t count, int threads, std::uint64_t first = 0) {
  std::vector<Numbers> out(count);
  cell.run(first, count, threads, [&](const ReplicateValue& value) {
    const ValueName& name = cell.value_names()[value.value];
    out[value.replicate - first][name.subject + "/" + name.term + "/" + name.name] = value.number;
  });
  return out;
}

/// The table of a replicate, made of the study's own pieces without a batch: covariates, response, missing rows.
class Replicates {
public:
  explicit Replicates(const Specification& specification)
      : specification_(specification),
        seed_(cell_seed(specification, 0)),
        design_(make_design(specification.design, "", specification.seed)),
        truth_(make_truth_model(specification.truth, design_, "")),
        simulator_(specification, truth_) {}

  [[nodiscard]] Table table(std::uint64_t replicate) const {
    Table out = truth_.table;
    draw_covariates(design_, seed_, replicate, out);
    const ModelMatrices model = model_matrices(parse_formula(specification_.truth.formula), out, design_.options);
    std::vector<double> y(out.rows);
    simulator_.draw(seed_, replicate, y, &model);
    for (const std::size_t row : simulator_.missing_rows(seed_, replicate))
      y[row] = std::numeric_limits<double>::quiet_NaN();
    for (Column& column : out.columns)
      if (column.name == "y") column.data = y;
    return out;
  }
  [[nodiscard]] Fit fit_of(const ModelToFit& model, std::uint64_t replicate) const {
    return fit(std::make_shared<const ModelMatrices>(
                   model_matrices(parse_formula(model.formula), table(replicate), design_.options)),
               model.method);
  }

private:
  const Specification& specification_;
  std::uint64_t seed_;
  DesignTable design_;
  TruthModel truth_;
  Simulator simulator_;
};

void expect_single_fits(const std::string& study) {
  const StudyFile file = StudyFile::parse(study, "s.toml");
  const Specification specification = file.specification(0);
  DesignCache cache;
  Cell cell(specification, "", cell_seed(specification, 0), cache);
  const Replicates single(specification);

  const std::vector<Numbers> fits = kept(cell, replicates, 2);

  for (std::uint64_t i = 0; i < replicates; ++i)
    for (const ModelToFit& model : specification.models) {
      SCOPED_TRACE(model.name + " of replicate " + std::to_string(i));
      const Fit expected = single.fit_of(model, i);
      ASSERT_TRUE(is_used(static_cast<Status>(fits[i].at(model.name + "//status"))));
      EXPECT_NEAR(fits[i].at(model.name + "//criterion"), expected.criterion, 1e-7);
      for (const Parameter& parameter : model_parameters(*expected.model)) {
        const double found = fits[i].at(model.name + "/" + parameter.label + "/estimate"),
                     value = parameter_value(parameter, expected);
        // A correlation beside a variance of nearly 0 is hardly determined: the criterion is what both must agree on.
        if (parameter.kind == ParameterKind::correlation && expected.singular) continue;
        EXPECT_NEAR(found, value, 2e-4 * std::max(1.0, std::abs(value))) << parameter.label;
        if (parameter.kind != ParameterKind::fixed) continue;
        EXPECT_NEAR(fits[i].at(model.name + "/" + parameter.label + "/std.error"),
                    std::sqrt(expected.vcov(parameter.row, parameter.row)), 1e-4)
            << parameter.label;
      }
    }
}

TEST(StudyCovariates, FitsAreThoseOfSingleModelsOnTheSameTables) { expect_single_fits(text); }

TEST(StudyCovariates, AlsoWhereRowsAreMissing) {
  expect_single_fits(text + "[response]\nmissing = { random = 0.1 }\n");
}

TEST(StudyCovariates, TheResponseFollowsThoseOfItsReplicate) {
  // With little noise every replicate must give back the truth's coefficients (eight standard errors); on another
  // replicate's covariates they would be off by about as much as they are large.
  std::string quiet = text;
  quiet.replace(quiet.find("sigma = 1"), 9, "sigma = 0.02");
  const std::string slopes = "x = 0.7 }\ncorrelation = 0.3";
  quiet.replace(quiet.find(slopes), slopes.size(), "x = 0.01 }");
  const Specification specification = StudyFile::parse(quiet, "s.toml").specification(0);
  DesignCache cache;
  Cell cell(specification, "", cell_seed(specification, 0), cache);

  const std::vector<Numbers> fits = kept(cell, replicates, 1);

  std::set<double> seen;
  for (const Numbers& fit : fits) {
    for (const auto& [name, truth] : std::map<std::string, double>{{"x", 2}, {"cB:x", 0.4}, {"z", 0.3}})
      EXPECT_NEAR(fit.at("full/" + name + "/estimate"), truth, 8 * fit.at("full/" + name + "/std.error")) << name;
    EXPECT_LT(fit.at("full/cB:x/std.error"), 0.02);
    seen.insert(fit.at("full/log(age)/std.error"));
  }
  EXPECT_EQ(seen.size(), fits.size());
}

TEST(StudyCovariates, TheSameBitsForAnyThreadsAndPieces) {
  const Specification specification = StudyFile::parse(text, "s.toml").specification(0);
  DesignCache first, second;
  Cell one(specification, "", cell_seed(specification, 0), first);
  Cell two(specification, "", cell_seed(specification, 0), second);

  const std::vector<Numbers> whole = kept(one, replicates, 1), threads = kept(two, replicates, 2);
  const std::vector<Numbers> begin = kept(two, replicates / 2, 2),
                             end = kept(two, replicates - replicates / 2, 1, replicates / 2);

  for (std::uint64_t i = 0; i < replicates; ++i) {
    const Numbers& piece = i < replicates / 2 ? begin[i] : end[i - replicates / 2];
    for (const auto& [name, value] : whole[i]) {
      EXPECT_TRUE(value == threads[i].at(name) || std::isnan(value)) << i << " " << name;
      EXPECT_TRUE(value == piece.at(name) || std::isnan(value)) << i << " " << name;
    }
  }
}

TEST(StudyCovariates, AReplicateWhoseCovariatesMakeNoModelIsCounted) {
  // Of four signs all are the same in an eighth of the replicates: no coefficient can be told then.
  const Specification specification = StudyFile::parse(R"toml(
[study]
seed = 2
replicates = 400
[design]
kind = "crossed"
units = { subject = 4, item = 6 }
[design.covariates.x]
uniform = [-1, 1]
by = "subject"
anew = true
[design.covariates.w]
normal = [0, 1]
[truth]
formula = "y ~ sign(x) * w + (1 | subject)"
sigma = 1
beta = { "(Intercept)" = 0, "sign(x)" = 1, w = 0, "sign(x):w" = 0 }
random.subject.sd = { "(Intercept)" = 1 }
[models.m]
formula = "y ~ sign(x) * w + (1 | subject)"
[tests.f1]
kind = "f1"
factor = "item"
subjects = "subject"
)toml",
                                                       "s.toml")
                                          .specification(0);
  DesignCache cache;
  Cell cell(specification, "", 3, cache);

  const std::vector<Numbers> fits = kept(cell, 400, 2);

  int failed = 0;
  for (const Numbers& fit : fits) {
    const auto status = static_cast<Status>(fit.at("m//status"));
    EXPECT_EQ(is_used(status), !std::isnan(fit.at("m/sign(x)/estimate")));
    EXPECT_EQ(is_used(status), !std::isnan(fit.at("f1//p.value")));
    if (is_used(status)) continue;
    EXPECT_EQ(status, Status::not_positive_definite);
    ++failed;
  }
  EXPECT_NEAR(failed / 400.0, 0.125, 4 * std::sqrt(0.125 * 0.875 / 400));
}

}  // namespace
}  // namespace batchlmm::study
