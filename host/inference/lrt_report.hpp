/// @file
/// A likelihood-ratio test as text, in the layout of lme4's `anova`, and as JSON.
#pragma once

#include <string>

#include "host/inference/lrt.hpp"

namespace batchlmm {

/// `print(anova(m0, m1))` of lme4, then the notes of both fits (singular, dropped columns, not converged), then the
/// parametric bootstrap where there was one: p-value, what it rests on, and how the replicates ended.
/// @param data  name of the data set, as it stands after "Data:"
std::string lrt_text(const LikelihoodRatioTest& test, const std::string& data);

/// The same facts as one JSON object, closed by a newline. Numbers read back to the same doubles; NaN is null. Without
/// a bootstrap `replicates` is 0 and the other keys of the bootstrap are null; `stopped` is null where all replicates
/// that were asked for are there.
std::string lrt_json(const LikelihoodRatioTest& test);

}  // namespace batchlmm
