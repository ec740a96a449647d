/// @file
/// Many fits of models of one shape: assemble, submit, collect. Many responses on one design (mass-univariate fits, a
/// user's own simulation), or many designs of one shape (a covariate drawn anew).
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <future>
#include <memory>
#include <vector>

#include "host/batch/backend.hpp"
#include "host/batch/replicates.hpp"
#include "host/model/method.hpp"
#include "host/model/model_matrices.hpp"

namespace batchlmm {

/// One fit of a batch, in the user's units.
struct BatchFit {
  Status status = Status::non_finite;
  double criterion = 0;   ///< REML criterion or ML deviance; NaN where the response was not finite
  Eigen::VectorXd theta;  ///< lme4's order
  Eigen::VectorXd beta;   ///< p
  double sigma = 0;
  std::vector<bool> boundary;  ///< per random-effects term: singular
  int evaluations = 0;
};

struct BatchOptions {
  BackendChoice backend = BackendChoice::automatic;
  int threads = 0;  ///< 0: all cores
};

/// Designs have one shape when they have as many rows, fixed effects, random-effects terms with as many columns and
/// levels, and (for nested factors) as many inner levels in each outer one, in the same order.
class Batch {
public:
  /// @param design  of the first items; every further design must have its shape
  /// @throws ModelError when the design cannot be fitted, or is too large for a batch
  Batch(std::shared_ptr<const ModelMatrices> design, Method method);
  ~Batch();
  Batch(Batch&&) noexcept;
  Batch& operator=(Batch&&) noexcept;

  /// Adds a response on the first design. @param y  n, the offset not subtracted
  /// @return the item's index
  std::size_t add(const Eigen::VectorXd& y);
  /// Adds a design of the same shape with its own response.
  /// @throws ModelError saying what differs in shape
  std::size_t add(std::shared_ptr<const ModelMatrices> design);
  [[nodiscard]] std::size_t size() const;

  /// Fits all items, each from several starting points. An item's result does not depend on the others or on the
  /// threads.
  /// @return one entry an item, in the order of `add`
  /// @throws BackendUnavailable, ComputationError
  [[nodiscard]] std::vector<BatchFit> fit(const BatchOptions& options = {}) const;
  /// The same in the background; the batch must stay alive and unchanged until the future is ready.
  [[nodiscard]] std::future<std::vector<BatchFit>> submit(const BatchOptions& options = {}) const;

private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace batchlmm
