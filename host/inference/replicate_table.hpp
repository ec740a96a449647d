/// @file
/// Every replicate of a bootstrap test as a row of a file: status, statistic, deviances and both models' parameters in
/// the user's units.
#pragma once

#include <string>

#include "host/batch/replicates.hpp"
#include "host/data/write.hpp"
#include "host/model/model.hpp"

namespace batchlmm {

class ReplicateTable {
public:
  /// Opens the file at once, so that an unwritable one is known before the work starts.
  /// Columns: replicate, status, statistic, deviance_null, deviance_full, then per model ("null.", "full."): fixed
  /// effects by name, theta as lme4 names it ("theta.subject.(Intercept)"), sigma.
  /// @throws OutputError
  /// @param null_thetas  the null has random effects (else it has columns for its fixed effects and sigma)
  ReplicateTable(std::string path, const Model& null, const Model& full, bool null_thetas = true);
  /// @param beta   generating fixed effects of the null model (p_null, the user's units)
  /// @param sigma  generating residual standard deviation
  void set_truth(const Eigen::VectorXd& beta, double sigma);
  void append(const ReplicateBlock& block);
  /// @throws OutputError
  void close() { writer_.close(); }

private:
  struct Side {
    const Model* model;
    bool thetas;
    Eigen::VectorXd beta;
    std::vector<std::vector<double>> columns;
  };
  static std::vector<OutputColumn> columns(const Model& null, const Model& full, bool null_thetas);
  void add(Side& side, std::span<const double> lambda, std::span<const double> beta, std::span<const double> r2) const;

  Side null_, full_;
  double sigma_ = 1;
  TableWriter writer_;
};

}  // namespace batchlmm
