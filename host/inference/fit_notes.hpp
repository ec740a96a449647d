/// @file
/// What a reader must know about a fit beside its numbers.
#pragma once

#include <string>

#include "host/inference/fit.hpp"

namespace batchlmm {

/// "  (1 observation deleted due to missingness)", or nothing.
std::string missing_rows_note(const Fit& fit);

/// One line each, closed by a newline: collinear columns dropped, singular terms, a fit that did not converge.
/// @param prefix  begins every line (the model's name where there are several)
std::string fit_notes(const Fit& fit, const std::string& prefix = "");

}  // namespace batchlmm
