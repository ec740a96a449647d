/// @file
/// Tier 1: replicates of a balanced or pattern-repeated design, drawn and fitted on its strata.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/batch/device_trips.hpp"
#include "host/batch/engine.hpp"
#include "host/batch/model_strata.hpp"
#include "kernels/cpu_strata.hpp"

namespace batchlmm {

class StrataEngine final : public ReplicateEngine {
public:
  /// @param always  whether or not it pays
  /// @param why     where there is no engine: one line for people
  /// @return nothing where the design has no strata, where they were not certified, or where the streaming tier is not
  ///         more than twice as dear
  static std::unique_ptr<StrataEngine> make(const BootstrapModels& models, bool always, std::string* why);

  [[nodiscard]] Tier tier() const override { return Tier::symmetry; }
  [[nodiscard]] std::uint64_t chunk_length(const Backend& backend) const override;
  [[nodiscard]] EngineFacts facts() const override;
  [[nodiscard]] double thread_bytes() const override;
  void run(const Backend& backend, bool parameters, kernels::BootstrapChunk& chunk) const override;
  void test(const kernels::TestJob& tests) const override;
  [[nodiscard]] int device_workers() const override;
  [[nodiscard]] bool summarizes(const Backend& backend) const override { return backend.cuda; }
  kernels::StatisticCounts summarize(const Backend& backend, std::uint64_t first, std::uint64_t count,
                                     double observed) const override;

  [[nodiscard]] const Strata& strata() const { return strata_->strata(); }
  [[nodiscard]] const StrataData& data() const { return strata_->data(); }
  [[nodiscard]] const kernels::StrataJob& job() const { return job_; }
  /// Rows that were filled in.
  [[nodiscard]] int missing() const { return strata_->missing(); }
  /// The record of a response. @param y  n, the observed rows; the offset and large fitted values taken off
  [[nodiscard]] std::vector<double> record(bool full, const Eigen::VectorXd& y) const {
    return strata_->record(full, y);
  }
  /// The trip of a model's fits as code for a device; none where it would be too long.
  [[nodiscard]] std::optional<kernels::TracedTrip> trace(bool full) const;
  /// Multiply-adds of one evaluation with derivatives.
  [[nodiscard]] static double operations(const kernels::Shape& shape, const kernels::StrataModel& model);
  /// ModelStrata::verify.
  [[nodiscard]] double verified() const { return verified_; }

private:
  StrataEngine() = default;
  /// Moments, or the generating value and the null's optimum: what takes fewer evaluations in a pilot.
  void choose_first_starts(bool refit);

  std::unique_ptr<const ModelStrata> strata_;
  double verified_ = 0;
  std::vector<double> null_starts_, full_starts_, map_;
  std::vector<int> term_, column_;
  kernels::StrataJob job_;
  DeviceTrips trips_;
};

/// Bytes of one tile of lanes that fits a model on its strata.
double strata_tile_bytes(const kernels::Shape& shape, const kernels::StrataModel& model);

}  // namespace batchlmm
