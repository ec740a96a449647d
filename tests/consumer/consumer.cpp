// Reads a table, makes the model matrices of a formula and fits the model, with nothing but the installed package.
#include <batchlmm/error.hpp>
#include <batchlmm/version.hpp>
#include <cmath>
#include <cstdio>
#include <memory>

#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/fit.hpp"
#include "host/model/model_matrices.hpp"

int main(int argc, char** argv) try {
  if (argc != 2) return std::puts("usage: consumer politeness.csv"), 2;
  const batchlmm::Table table = batchlmm::read_table(argv[1]);
  const batchlmm::Formula formula = batchlmm::parse_formula("frequency ~ attitude + (1|subject) + (1|scenario)");
  const auto model = std::make_shared<const batchlmm::ModelMatrices>(batchlmm::model_matrices(formula, table, {}));
  const batchlmm::Fit fit = batchlmm::fit(model, batchlmm::Method::reml);
  std::printf("batchlmm %s: REML criterion %.1f\n", std::string(batchlmm::version()).c_str(), fit.criterion);
  return std::abs(fit.criterion - 793.5) < 0.05 ? 0 : 1;  // as published (Winter 2013) and as lme4 gives it
} catch (const batchlmm::Error& error) {
  std::printf("%s\n", error.what());
  return 1;
}
