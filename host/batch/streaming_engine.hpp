/// @file
/// Tier 2: streaming elimination of every replicate, lanes on the CPU or threads of a device.
#pragma once

#include <memory>
#include <vector>

#include "host/batch/device_trips.hpp"
#include "host/batch/engine.hpp"
#include "host/batch/sampler_data.hpp"
#include "host/batch/shared_start.hpp"

namespace batchlmm {

class StreamingEngine final : public ReplicateEngine {
public:
  /// @throws ModelError  where a model's dense Schur complement is too large for the kernels
  explicit StreamingEngine(const BootstrapModels& models);

  [[nodiscard]] Tier tier() const override { return Tier::streaming; }
  [[nodiscard]] std::uint64_t chunk_length(const Backend& backend) const override;
  [[nodiscard]] EngineFacts facts() const override;
  [[nodiscard]] double thread_bytes() const override;
  void run(const Backend& backend, bool parameters, kernels::BootstrapChunk& chunk) const override;
  void test(const kernels::TestJob& tests) const override;
  [[nodiscard]] int device_workers() const override;
  [[nodiscard]] bool summarizes(const Backend& backend) const override { return backend.cuda; }
  kernels::StatisticCounts summarize(const Backend& backend, std::uint64_t first, std::uint64_t count,
                                     double observed) const override;

  /// What the kernels are given.
  [[nodiscard]] const kernels::BootstrapJob& job() const { return job_; }
  /// The trip of a model's fits as code for a device; none where it would be too long.
  [[nodiscard]] std::optional<kernels::TracedTrip> trace(bool full) const;

private:
  /// Whether null fits start a scoring step from the shared point (shared_start.hpp) or at it: what takes fewer
  /// evaluations in a pilot.
  void choose_first_start();

  bool refit_ = false;
  std::vector<double> null_starts_, full_starts_, map_;
  std::vector<int> term_, column_;
  std::unique_ptr<SamplerData> sampler_;
  std::unique_ptr<const SharedStartData> shared_start_;
  kernels::BootstrapJob job_;
  DeviceTrips trips_;
};

}  // namespace batchlmm
