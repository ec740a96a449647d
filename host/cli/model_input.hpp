/// @file
/// The part of the command line that says which data and how factors are coded; the same for every command.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/data/table.hpp"
#include "host/model/model_matrices.hpp"
#include "host/model/term_hypotheses.hpp"

namespace CLI {
class App;
}

namespace batchlmm::cli {

/// Options as given.
struct ModelInput {
  std::string data;
  std::vector<std::string> factors;
  std::vector<std::string> contrasts;
};

/// Adds DATA (positional, after what was added before), --factor and --contrasts.
void add_model_input(CLI::App& command, ModelInput& input);
/// Adds --factor and --contrasts alone.
void add_coding_options(CLI::App& command, ModelInput& input);

/// A table and the model matrices that formulas make of it.
class ModelSource {
public:
  /// Reads the table. @throws InputError
  explicit ModelSource(const ModelInput& input);
  /// @param without_random_effects  a formula that has no random-effects term is taken, too
  /// @throws FormulaError, DataError, ModelError
  [[nodiscard]] std::shared_ptr<const ModelMatrices> matrices(const std::string& formula,
                                                              bool without_random_effects = false) const;
  /// The same on the rows of another model, those that are complete in its variables; the formula may have no
  /// random-effects term.
  [[nodiscard]] std::shared_ptr<const ModelMatrices> matrices_on_rows(const std::string& formula,
                                                                      const ModelMatrices& like) const;
  /// The hypotheses of the fixed-effects terms of a model that `matrices` made of the formula.
  [[nodiscard]] std::vector<TermHypothesis> hypotheses(const std::string& formula, const ModelMatrices& model,
                                                       TermTestType type) const;
  /// Reads another file with columns of the same names; --factor holds for those that it has. @throws DataError
  [[nodiscard]] Table read_other(const std::string& path) const;
  [[nodiscard]] const Table& table() const { return table_; }
  [[nodiscard]] const ModelOptions& options() const { return options_; }
  /// The data file's name without its folder.
  [[nodiscard]] const std::string& name() const { return name_; }

private:
  std::vector<std::string> factors_;
  ModelOptions options_;
  Table table_;
  std::string name_;
};

}  // namespace batchlmm::cli
