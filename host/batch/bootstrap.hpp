/// @file
/// The batch engine for the parametric-bootstrap likelihood-ratio test: draws, fits and counts any number of replicates
/// in constant memory.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "host/batch/backend.hpp"
#include "host/batch/embedding.hpp"
#include "host/batch/replicates.hpp"
#include "host/batch/sampler_data.hpp"
#include "kernels/jobs.hpp"

namespace batchlmm {

struct BootstrapRun {
  std::uint64_t first = 0, count = 0;  ///< replicates first .. first + count - 1
  double observed = 0;                 ///< the statistic that a replicate is compared with
  Backend backend;
  int threads = 1;
  bool parameters = false;  ///< keep beta and r^2: one more evaluation a fit
  std::function<void(const ReplicateBlock&)>
      collect;  ///< called in order of the replicates, one call at a time; may be empty
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
};

/// Two nested models and the generating values, ready to run. A replicate is a pure function of (models, generating
/// values, seed, index).
class Bootstrap {
public:
  /// @param null, full  by ML, kept by reference
  /// @param lambda      generating factors of the null's terms (kernels' order and gauge)
  /// @param sigma       generating residual standard deviation
  Bootstrap(const Model& null, const Model& full, const Embedding& embedding, const std::vector<double>& lambda,
            double sigma, std::uint64_t seed);

  ReplicateSummary run(const BootstrapRun& run) const;
  /// Starting points that every fit of the null and of the full model tries: 1 unless the pilot found several minima.
  [[nodiscard]] int null_starts() const { return job_.null_options.starts; }
  [[nodiscard]] int full_starts() const { return job_.full_options.starts; }
  [[nodiscard]] const kernels::BootstrapJob& job() const { return job_; }

private:
  void pilot();

  const Model &null_, &full_;
  Embedding embedding_;
  double sigma_;
  std::vector<double> null_starts_, full_starts_;
  std::unique_ptr<SamplerData> sampler_;
  kernels::BootstrapJob job_;
};

}  // namespace batchlmm
