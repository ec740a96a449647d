// Reads a table, fits a model, and fits three responses and two designs as one batch, with nothing but the installed
// package.
#include <algorithm>
#include <batchlmm/batchlmm.hpp>
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

int main(int argc, char** argv) try {
  using namespace batchlmm;
  if (argc != 2) return std::puts("usage: consumer politeness.csv"), 2;
  const Table table = read_table(argv[1]);
  const auto design = std::make_shared<const ModelMatrices>(
      model_matrices(parse_formula("frequency ~ attitude + (1|subject) + (1|scenario)"), table));
  const Fit single = fit(design, Method::reml);
  std::printf("batchlmm %s: REML criterion %.1f\n", std::string(version()).c_str(), single.criterion);

  Batch batch(design, Method::reml);
  for (double scale : {1.0, 2.0, 10.0}) batch.add(scale * design->y);
  // Designs of their own: a covariate in other units, and with two rows left out.
  const DesignVariant::Column doubled{"attitudepol", 2 * design->X.col(1)};
  batch.add(DesignVariant{0, {doubled}, {}, design->y});
  batch.add(DesignVariant{0, {doubled}, {4, 17}, design->y});
  const std::vector<BatchFit> fits = batch.submit().get();
  double worst = 0;
  for (std::size_t i = 0; i < 4; ++i) worst = std::max(worst, (fits[i].theta - single.theta).cwiseAbs().maxCoeff());
  const double slope = fits[3].beta[1] / single.beta[1], change = fits[4].criterion - single.criterion;
  std::printf("theta of the scaled responses differs by %.0e\n", worst);
  // 793.5 as published (Winter 2013) and as lme4 gives it; theta does not depend on the response's unit.
  const bool variants = std::abs(slope - 0.5) < 1e-6 && change < -10 && change > -30;
  return std::abs(single.criterion - 793.5) < 0.05 && worst < 1e-4 && variants ? 0 : 1;
} catch (const batchlmm::Error& error) {
  std::printf("%s\n", error.what());
  return 1;
}
