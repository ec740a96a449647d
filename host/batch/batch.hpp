/// @file
/// Many fits in one batch: many responses on one design or on many (mass-univariate fits, a user's own simulation), and
/// items that bring their own design (a covariate drawn anew, rows missing at random). Designs may be of any shapes;
/// those of one shape are fitted side by side.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <span>
#include <vector>

#include "host/batch/backend.hpp"
#include "host/batch/design_variant.hpp"
#include "host/batch/hypotheses.hpp"
#include "host/batch/replicates.hpp"
#include "host/batch/tiers.hpp"
#include "host/model/method.hpp"
#include "host/model/model_matrices.hpp"

namespace batchlmm {

/// One fit of a batch, in the user's units.
struct BatchFit {
  Status status = Status::non_finite;
  double criterion = 0;   ///< REML criterion or ML deviance; NaN where there is no fit
  Eigen::VectorXd theta;  ///< lme4's order
  Eigen::VectorXd beta;   ///< p
  Eigen::MatrixXd vcov;   ///< p x p: covariance of beta, as Fit::vcov
  double sigma = 0;
  std::vector<bool> boundary;  ///< per random-effects term: singular
  int evaluations = 0;
  std::vector<HypothesisTest> tests;  ///< of Batch::set_tests, one a hypothesis
};

struct BatchOptions {
  BackendChoice backend = BackendChoice::automatic;
  int threads = 0;  ///< 0: all cores
  std::function<void(std::uint64_t done, std::uint64_t total)>
      progress;  ///< called now and then, from one thread at a time; may be empty
};

/// Items are fitted by one method, each from several starting points. An item's result is a pure function of the item
/// and of the designs that the batch was given by `add_design`: it depends neither on other items nor on threads.
///
/// An item that cannot be fitted (on the rows that are there X has not full rank, a grouping factor has one level, or
/// there are too few rows) has status not_positive_definite, and NaN everywhere.
class Batch {
public:
  explicit Batch(Method method);
  /// The same with a first design.
  Batch(std::shared_ptr<const ModelMatrices> design, Method method);
  ~Batch();
  Batch(Batch&&) noexcept;
  Batch& operator=(Batch&&) noexcept;

  /// Gives the batch a design, for many responses or variants. It is assembled at once, by the calling thread.
  /// @return its number: 0, 1, ...
  /// @throws ModelError when it cannot be fitted
  std::size_t add_design(std::shared_ptr<const ModelMatrices> design);

  /// Adds a response on the first design. @param y  n, the offset not subtracted
  /// @return the item's index
  /// @throws ModelError where y has another length
  std::size_t add(const Eigen::VectorXd& y);
  /// Adds a response on a design.
  std::size_t add(std::size_t design, const Eigen::VectorXd& y);
  /// Adds many responses on a design.
  /// @param y        n x count, the offset not subtracted
  /// @param backend  where they are reduced to cross-products: `cuda` by sparse products on a device, many at a time,
  /// equal to those of the CPU up to rounding; else by the CPU, as `add` does. Large designs keep their responses as
  /// they are.
  /// @return the first item's index
  /// @throws ModelError where y has another length, BackendUnavailable, DeviceMemoryError, DeviceError
  std::size_t add_responses(std::size_t design, const Eigen::MatrixXd& y,
                            BackendChoice backend = BackendChoice::automatic);
  /// Adds many responses on a design, made when they are fitted: nothing is kept for them, and they share the design's
  /// lanes.
  /// @param make  make(i, y) for i = 0 .. count - 1 fills y: n values, the offset not subtracted; called from several
  /// threads, in any order
  /// @return the first item's index
  std::size_t add_responses(std::size_t design, std::uint64_t count,
                            std::function<void(std::uint64_t i, std::span<double> y)> make);
  /// Adds a design with its own response. It is kept by reference, and assembled when it is fitted. A design whose
  /// levels are all levels of one that was given by `add_design`, nested alike, shares its lanes; so do designs of
  /// their own with the same levels in each row.
  /// @throws ModelError when it cannot be fitted
  std::size_t add(std::shared_ptr<const ModelMatrices> design);
  /// Adds a variant of a design: kept as it is, and assembled when it is fitted.
  /// @throws ModelError where a column or a size does not fit
  std::size_t add(DesignVariant variant);
  /// Adds many variants of a design, made when they are fitted: nothing is kept for them.
  /// @param make  make(i, variant) for i = 0 .. count - 1 fills columns, missing rows and y; called from several
  /// threads, in any order; `variant` holds what an earlier call left
  /// @return the first item's index
  std::size_t add(std::size_t design, std::uint64_t count,
                  std::function<void(std::uint64_t i, DesignVariant& variant)> make);
  [[nodiscard]] std::size_t size() const;

  /// The tier that fits responses on a design: the symmetry tier, on the CPU, takes balanced and pattern-repeated
  /// designs where that is cheaper. Variants and items with designs of their own go by the streaming tier, and so does
  /// everything where `cuda` is asked for; the two are equal up to rounding.
  [[nodiscard]] Tier tier(std::size_t design) const;

  /// Hypotheses about the fixed effects that are tested in every fit (BatchFit::tests), on the CPU; an empty list:
  /// none.
  /// @throws ModelError for Kenward-Roger of a batch by ML. That a hypothesis has as many columns as a design has fixed
  /// effects is seen when the batch is fitted (ModelError).
  void set_tests(Hypotheses hypotheses);

  /// Fits all items.
  /// @return one entry an item, in the order of `add`
  /// @throws ModelError where memory does not suffice, BackendUnavailable, ComputationError
  [[nodiscard]] std::vector<BatchFit> fit(const BatchOptions& options = {}) const;
  /// Fits all items in constant memory: hands them out in order, as they come, instead of keeping them.
  /// @param collect  collect(first, fits): items first, first + 1, ...; called from the calling thread
  void fit_each(const std::function<void(std::uint64_t first, std::span<const BatchFit> fits)>& collect,
                const BatchOptions& options = {}) const;
  /// The same of items begin .. begin + count - 1.
  void fit_each(std::uint64_t begin, std::uint64_t count,
                const std::function<void(std::uint64_t first, std::span<const BatchFit> fits)>& collect,
                const BatchOptions& options = {}) const;
  /// `fit` in the background; the batch must stay alive and unchanged until the future is ready.
  [[nodiscard]] std::future<std::vector<BatchFit>> submit(const BatchOptions& options = {}) const;

  /// Bytes that `fit_each` takes on top of what the batch holds; `fit` takes the results on top of it.
  [[nodiscard]] double memory(const BatchOptions& options = {}) const;

private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace batchlmm
