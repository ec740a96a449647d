/// @file
/// The part of a command line that says which model is fitted to which data, for commands about one fit.
#pragma once

#include <memory>
#include <string>

#include "host/cli/model_input.hpp"
#include "host/inference/fit.hpp"
#include "host/model/new_data.hpp"

namespace batchlmm::cli {

/// Options as given.
struct FitInput {
  std::string formula;
  ModelInput model;
  bool ml = false, reml = false;
};

/// Adds FORMULA, DATA, --factor, --contrasts, --ml and --reml.
void add_fit_input(CLI::App& command, FitInput& input);

/// A fit with its data.
class FittedModel {
public:
  /// Reads the table and fits. @throws Error
  explicit FittedModel(const FitInput& input);
  [[nodiscard]] const Fit& fit() const { return fit_; }
  [[nodiscard]] const ModelMatrices& matrices() const { return *matrices_; }
  [[nodiscard]] const ModelSource& source() const { return source_; }
  /// Makes rows of other tables.
  [[nodiscard]] NewData new_data() const;

private:
  std::string formula_;
  ModelSource source_;
  std::shared_ptr<const ModelMatrices> matrices_;
  Fit fit_;
};

}  // namespace batchlmm::cli
