// Reads a table, fits a model, and fits three responses as one batch, with nothing but the installed package.
#include <algorithm>
#include <batchlmm/batchlmm.hpp>
#include <cmath>
#include <cstdio>
#include <memory>

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
  double worst = 0;
  for (const BatchFit& item : batch.submit().get())
    worst = std::max(worst, (item.theta - single.theta).cwiseAbs().maxCoeff());
  std::printf("theta of the scaled responses differs by %.0e\n", worst);
  // 793.5 as published (Winter 2013) and as lme4 gives it; theta does not depend on the response's unit.
  return std::abs(single.criterion - 793.5) < 0.05 && worst < 1e-4 ? 0 : 1;
} catch (const batchlmm::Error& error) {
  std::printf("%s\n", error.what());
  return 1;
}
