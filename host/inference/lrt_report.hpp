/// @file
/// Likelihood-ratio tests as text, in the layout of lme4's `anova`, as JSON and as a tidy table.
#pragma once

#include <string>
#include <vector>

#include "host/inference/lrt.hpp"

namespace batchlmm {

/// `print(anova(m0, m1, ...))` of lme4, then the notes of all fits (singular, dropped columns, not converged) and of
/// tests whose law is not the table's chi-square, then each test's parametric bootstrap where there was one: p-value,
/// what it rests on, how the replicates ended, and approximations of the statistic's law.
/// @param tests  each model of a chain against the one before (likelihood_ratio_chain)
/// @param data   name of the data set, as it stands after "Data:"
std::string lrt_text(const std::vector<LikelihoodRatioTest>& tests, const std::string& data);

/// The same facts as one JSON object, closed by a newline. Numbers read back to the same doubles; NaN is null. The
/// tests are in `steps`; where there is one only, its keys stand beside `models`, too. Without a bootstrap `replicates`
/// is 0 and the other keys of the bootstrap are null; `stopped` is null where all replicates that were asked for are
/// there.
std::string lrt_json(const std::vector<LikelihoodRatioTest>& tests);

/// One row a test and law (add_test_rows), by the larger model's name.
std::string lrt_csv(const std::vector<LikelihoodRatioTest>& tests);

}  // namespace batchlmm
