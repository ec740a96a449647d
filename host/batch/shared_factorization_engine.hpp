/// @file
/// The shared factorization: replicates fitted on interpolants of their own criterion, which cost one rotation of the
/// response vector a node in place of a factorization an evaluation.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "host/batch/shared_factorization.hpp"
#include "host/batch/streaming_engine.hpp"
#include "kernels/interpolant_job.hpp"

namespace batchlmm {

class SharedFactorizationEngine final : public ReplicateEngine {
public:
  /// @param reach  of the tables' box (SharedFactorization)
  /// @throws ModelError where the models are not for this tier (SharedFactorization)
  explicit SharedFactorizationEngine(const BootstrapModels& models, double reach = SharedFactorization::default_reach);

  /// Why this tier does not take the models, or does not pay for them; empty where it does.
  static std::string obstacle(const BootstrapModels& models);

  /// Why the tables that were made do not pay; empty where they do.
  [[nodiscard]] std::string does_not_pay(const BootstrapModels& models) const;

  [[nodiscard]] Tier tier() const override { return Tier::shared_factorization; }
  [[nodiscard]] EngineFacts facts() const override;
  [[nodiscard]] double thread_bytes() const override { return streaming_.thread_bytes(); }
  [[nodiscard]] std::uint64_t chunk_length(const Backend& backend) const override;
  /// A replicate that the interpolant does not serve (an optimum at the far edge of the box, what is held out too far
  /// off, no certified minimum) is fitted by the streaming tier.
  [[nodiscard]] int device_workers() const override;
  void test(const kernels::TestJob& tests) const override { streaming_.test(tests); }
  void run(const Backend& backend, bool parameters, kernels::BootstrapChunk& chunk) const override;

  /// What the kernels are given.
  [[nodiscard]] const kernels::InterpolantJob& job() const { return job_; }
  [[nodiscard]] const StreamingEngine& streaming() const { return streaming_; }
  /// Of the null model, or of both.
  [[nodiscard]] const SharedFactorization& null_tables() const { return *null_tables_; }
  /// Where the random effects differ; null otherwise.
  [[nodiscard]] const SharedFactorization* full_tables() const { return full_tables_.get(); }
  /// Replicates so far that the streaming tier fitted.
  [[nodiscard]] std::uint64_t fallbacks() const { return fallbacks_; }

  /// With a device the counts are made there; the refused replicates' are added.
  [[nodiscard]] bool summarizes(const Backend& backend) const override { return backend.cuda; }
  kernels::StatisticCounts summarize(const Backend& backend, std::uint64_t first, std::uint64_t count,
                                     double observed) const override;

private:
  /// Draws and fits the chunk, all but the replicates that it marks as refused.
  void interpolate_on_cpu(bool parameters, std::vector<std::uint8_t>& refused, kernels::BootstrapChunk& chunk) const;

  StreamingEngine streaming_;
  bool refit_ = false;
  std::unique_ptr<SharedFactorization> null_tables_, full_tables_;
  kernels::InterpolantJob job_;
  mutable std::atomic<std::uint64_t> fallbacks_{0};
};

}  // namespace batchlmm
