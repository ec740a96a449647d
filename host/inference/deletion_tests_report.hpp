/// @file
/// Tests of single terms as text, in the layouts of lmerTest's `ranova` and lme4's `drop1(test = "Chisq")`, as JSON and
/// as a tidy table.
#pragma once

#include <string>

#include "host/inference/deletion_tests.hpp"

namespace batchlmm {

enum class DeletionLayout { ranova, drop1 };

/// The table of R, the notes of the fits and of tests whose law is not the table's chi-square, and, where there are
/// bootstraps, one table of them.
/// @param formula  as it stands below "Model:"; lines end without a newline
std::string deletion_tests_text(const DeletionTests& tests, DeletionLayout layout, const std::string& formula);

/// The same facts as one JSON object, closed by a newline; each term has the keys of a test (add_test_json), or null
/// where there is none.
std::string deletion_tests_json(const DeletionTests& tests, const std::string& formula);

/// Rows of `add_test_rows`.
std::string deletion_tests_csv(const DeletionTests& tests);

}  // namespace batchlmm
