/// @file
/// Tests of single terms: a model against each of those that lack one of its terms.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/formula/term_deletion.hpp"
#include "host/inference/lrt.hpp"

namespace batchlmm {

struct DeletionTest {
  std::string term;
  std::string formula;                      ///< of the model without it
  std::optional<LikelihoodRatioTest> test;  ///< none where the model without it has as many parameters
};

struct DeletionTests {
  Fit full;
  std::vector<DeletionTest> terms;
};

/// A formula's matrices on the rows of the larger model; the formula may have no random-effects term.
using MatricesOf = std::function<std::shared_ptr<const ModelMatrices>(const std::string& formula)>;

/// All tests share the larger model and its fit; the bootstrap of each term draws from the model without it.
/// @throws what likelihood_ratio_test throws
DeletionTests deletion_tests(const std::shared_ptr<const ModelMatrices>& full,
                             const std::vector<TermDeletion>& deletions, const MatricesOf& matrices,
                             const BootstrapOptions& options);

}  // namespace batchlmm
