// Every fit of the reference folder (lme4, polished to the optimum) against ours. Runs where ../shared is.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "host/data/read.hpp"
#include "host/inference/fit.hpp"

namespace batchlmm {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const fs::path folder = fs::path(BATCHLMM_SHARED) / "reference";

std::vector<std::string> cases() {
  std::vector<std::string> names;
  if (fs::is_directory(folder))
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  if (names.empty()) names.emplace_back("none");
  return names;
}

std::vector<std::string> strings(const json& j) {
  if (j.is_string()) return {j.get<std::string>()};
  if (j.is_null()) return {};
  return j.get<std::vector<std::string>>();
}
std::vector<double> numbers(const json& j) {
  if (j.is_number()) return {j.get<double>()};
  return j.get<std::vector<double>>();
}

class Reference : public testing::TestWithParam<std::string> {};

TEST_P(Reference, OurFitIsTheReferenceFit) {
  if (GetParam() == "none") GTEST_SKIP() << "no reference folder at " << folder;
  // Arrange
  std::ifstream file(folder / (GetParam() + ".json"));
  const json r = json::parse(file);
  const Table table = read_table((folder / r["csv"].get<std::string>()).string(), {strings(r["factors"])});
  const bool reml = r["REML"].get<bool>();
  const auto matrices =
      std::make_shared<ModelMatrices>(model_matrices(parse_formula(r["formula"].get<std::string>()), table));

  // Act
  const Fit f = fit(matrices, reml ? Method::reml : Method::ml);

  // Assert
  const double criterion = r["criterion"].get<double>();
  EXPECT_TRUE(f.converged) << f.message;
  EXPECT_EQ(f.model->y.size(), r["nobs"].get<int>());
  EXPECT_EQ(f.parameters, r["npar"].get<int>());
  EXPECT_LE(f.criterion, criterion + 1e-6);
  EXPECT_NEAR(f.criterion, criterion, 1e-7 * std::abs(criterion));
  EXPECT_EQ(f.singular, r["singular"].get<bool>());
  EXPECT_LT(f.gradient_norm, 1e-5);
  const std::vector<double> theta = numbers(r["theta"]);
  ASSERT_EQ(static_cast<std::size_t>(f.theta.size()), theta.size());
  // Theta is as sharp as the criterion is curved: where lme4 stopped at the same value, theta may differ along a flat
  // direction.
  for (std::size_t i = 0; i < theta.size(); ++i)
    EXPECT_NEAR(f.theta[static_cast<Eigen::Index>(i)], theta[i], 1e-4) << "theta " << i;
  EXPECT_NEAR(f.sigma, r["sigma"].get<double>(), 1e-5 * f.sigma);
  const std::vector<double> se = numbers(r["se"]);
  Eigen::Index i = 0;
  for (const auto& [name, value] : r["fixef"].items()) {
    // JSON objects are sorted by name; find ours by name.
    const auto at = std::find(f.model->x_names.begin(), f.model->x_names.end(), name) - f.model->x_names.begin();
    ASSERT_LT(at, f.beta.size()) << name;
    EXPECT_NEAR(f.beta[at], value.get<double>(), 1e-4 * std::sqrt(f.vcov(at, at))) << name;
    ++i;
  }
  EXPECT_EQ(i, f.beta.size());
  for (Eigen::Index j = 0; j < f.beta.size(); ++j)
    EXPECT_NEAR(std::sqrt(f.vcov(j, j)), se[static_cast<std::size_t>(j)], 1e-4 * se[static_cast<std::size_t>(j)]);
  // Standard deviations and correlations: lme4's rows are (grp, var1[, var2]); `.1` marks further terms on one factor.
  for (const auto& v : r["varcorr"]) {
    std::string group = v["grp"].get<std::string>();
    if (group == "Residual") continue;
    bool found = false;
    for (std::size_t t = 0; t < f.model->random.size(); ++t) {
      const RandomTerm& term = f.model->random[t];
      if (group != term.group && group.rfind(term.group + ".", 0) != 0) continue;
      const auto column = [&](const char* key) {
        return std::find(term.names.begin(), term.names.end(), v[key].get<std::string>()) - term.names.begin();
      };
      const auto k = static_cast<std::ptrdiff_t>(term.names.size());
      const auto a = column("var1");
      if (a == k) continue;
      found = true;
      const double expected = v["sdcor"].get<double>();
      if (!v.contains("var2")) {
        EXPECT_NEAR(f.random[t].sd[a], expected, 1e-4 * f.sigma + 1e-4 * expected) << group;
      } else if (f.random[t].sd.minCoeff() > 1e-3 * f.sigma) {
        EXPECT_NEAR(f.random[t].corr(a, column("var2")), expected, 1e-3) << group;
      }
      break;
    }
    EXPECT_TRUE(found) << v.dump();
  }
  for (const auto& [group, modes] : r["ranef"].items()) {
    // Terms on one factor are merged in lme4's list: look for the column in any of the factor's terms.
    const auto names = strings(modes["terms"]);
    for (std::size_t c = 0; c < names.size(); ++c) {
      bool found = false;
      for (std::size_t t = 0; t < f.model->random.size(); ++t) {
        const RandomTerm& term = f.model->random[t];
        if (term.group != group) continue;
        const auto column = std::find(term.names.begin(), term.names.end(), names[c]) - term.names.begin();
        if (column == static_cast<std::ptrdiff_t>(term.names.size())) continue;
        found = true;
        const auto levels = strings(modes["levels"]);
        ASSERT_EQ(levels.size(), term.levels.size());
        for (std::size_t l = 0; l < levels.size(); ++l) {
          const auto ours = std::find(term.levels.begin(), term.levels.end(), levels[l]) - term.levels.begin();
          ASSERT_LT(ours, static_cast<std::ptrdiff_t>(term.levels.size())) << levels[l];
          const json& row = modes["values"][l];
          const double value = row.is_number() ? row.get<double>() : row[c].get<double>();
          EXPECT_NEAR(f.modes[t](ours, column), value, 1e-3 * f.random[t].sd[column] + 1e-5 * f.sigma)
              << group << " " << levels[l];
        }
      }
      EXPECT_TRUE(found) << group << " " << names[c];
    }
  }
  std::vector<double> residuals(f.scaled_residuals.data(), f.scaled_residuals.data() + f.scaled_residuals.size());
  std::sort(residuals.begin(), residuals.end());
  EXPECT_NEAR(residuals.front(), r["scaled_residuals"][0].get<double>(), 1e-4);
  EXPECT_NEAR(residuals.back(), r["scaled_residuals"][4].get<double>(), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Lme4, Reference, testing::ValuesIn(cases()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace batchlmm
