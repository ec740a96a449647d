/// @file
/// What a bootstrap says about one likelihood-ratio test, as text, JSON and tidy rows; for every report that has such
/// tests.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "host/inference/lrt.hpp"
#include "host/inference/tidy.hpp"

namespace batchlmm {

/// "\nParametric bootstrap: ...": p-value, what it rests on, how the replicates ended, and the approximations of the
/// statistic's law in the layout of pbkrtest's `summary(PBmodcomp)`. Nothing without a bootstrap.
/// @param of  what is tested ("" or " of m1 against m0")
std::string bootstrap_text(const LikelihoodRatioTest& test, const std::string& of = "");

/// Where not the chi-square of the table is the statistic's law: "NAME: reference law ..., p = ...\n", else nothing.
std::string law_note(const LikelihoodRatioTest& test, const std::string& name);

/// Adds statistic, df and p-values, and the bootstrap's facts: without one `replicates` is 0 and the other keys are
/// null. `laws` has what approximates the statistic's law, `stopped` is null where all replicates that were asked for
/// are there or the stopping rule ended the run.
void add_test_json(nlohmann::ordered_json& json, const LikelihoodRatioTest& test);

/// One row a law ("chi-square", "mixture", "bootstrap", "Gamma", "Bartlett", "F" as the effect); the bootstrap's
/// interval is that of its p-value.
/// @param term  what is tested
void add_test_rows(std::vector<TidyRow>& rows, const LikelihoodRatioTest& test, const std::string& term);

}  // namespace batchlmm
