#include "host/inference/deletion_tests.hpp"

#include <utility>

#include "batchlmm/error.hpp"
#include "host/batch/embedding.hpp"
#include "host/model/model.hpp"

namespace batchlmm {
namespace {

using MatricesPointer = std::shared_ptr<const ModelMatrices>;

std::size_t parameters(const ModelMatrices& matrices) {
  std::size_t count = matrices.x_names.size();
  for (const RandomTerm& term : matrices.random) count += term.names.size() * (term.names.size() + 1) / 2;
  return count;
}

bool is_nested(const MatricesPointer& smaller, const MatricesPointer& larger) {
  try {
    embed(Model(smaller, Method::ml), Model(larger, Method::ml));
    return true;
  } catch (const ModelError&) {
    return false;
  }
}

}  // namespace

DeletionTests deletion_tests(const MatricesPointer& full, const std::vector<TermDeletion>& deletions,
                             const MatricesOf& matrices, const BootstrapOptions& options) {
  DeletionTests result;
  std::vector<MatricesPointer> nulls;
  std::vector<std::size_t> tested;
  for (const TermDeletion& deletion : deletions) {
    std::string formula = deletion.formula;
    MatricesPointer null = matrices(formula);
    if (!deletion.otherwise.empty() && deletion.otherwise != formula && !is_nested(null, full)) {
      formula = deletion.otherwise;
      null = matrices(formula);
    }
    if (parameters(*null) < parameters(*full)) {
      tested.push_back(result.terms.size());
      nulls.push_back(std::move(null));
    }
    result.terms.push_back({deletion.term, formula, {}});
  }
  if (nulls.empty()) {
    result.full = fit(full, options.method, options.warn);
    return result;
  }
  std::vector<LikelihoodRatioTest> tests = likelihood_ratio_tests(nulls, full, options);
  result.full = tests.front().full;
  for (std::size_t i = 0; i < tests.size(); ++i) result.terms[tested[i]].test = std::move(tests[i]);
  return result;
}

}  // namespace batchlmm
