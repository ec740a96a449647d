#include "host/inference/fit_notes.hpp"

#include "host/inference/level_tables.hpp"

namespace batchlmm {

std::string missing_rows_note(const Fit& fit) {
  const auto dropped = fit.model->rows_dropped;
  if (dropped == 0) return {};
  return "  (" + std::to_string(dropped) + (dropped == 1 ? " observation" : " observations") +
         " deleted due to missingness)\n";
}

std::string fit_notes(const Fit& fit, const std::string& prefix) {
  std::string out;
  if (const auto& dropped = fit.model->dropped_columns; !dropped.empty()) {
    out += prefix + "fixed-effect model matrix is rank deficient so dropping " + std::to_string(dropped.size()) +
           (dropped.size() == 1 ? " column / coefficient: " : " columns / coefficients: ");
    for (std::size_t i = 0; i < dropped.size(); ++i) out += (i > 0 ? ", " : "") + dropped[i];
    out += '\n';
  }
  if (fit.singular) {
    std::string terms;
    for (std::size_t i = 0; i < fit.random.size(); ++i) {
      if (fit.random[i].boundary) terms += (terms.empty() ? "" : ", ") + term_label(fit.model->random[i]);
    }
    out += prefix + "boundary (singular) fit: " + terms + "\n";
  }
  if (!fit.converged) out += prefix + "not converged: " + fit.message + "\n";
  return out;
}

}  // namespace batchlmm
