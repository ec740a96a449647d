/// @file
/// Tier 4: models whose dense Schur complement has hundreds or thousands of columns, one replicate a thread.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "host/batch/engine.hpp"
#include "host/model/carried_traces.hpp"
#include "host/model/criterion.hpp"
#include "host/model/device_large_criterion.hpp"
#include "kernels/large_device.hpp"

namespace batchlmm {

/// Where the engine finds devices when it runs on them.
struct LargeDevices {
  std::function<int()> count;                                             ///< at least 1; throws BackendUnavailable
  std::function<std::shared_ptr<kernels::LargeDevice>(int device)> open;  ///< one more queue
};
/// The CUDA devices that are usable.
LargeDevices cuda_large_queues();

/// Draws y row by row, reduces it to the response vector, and minimizes the model's criterion.
///
/// What is common to all replicates is used twice: at the shared starting point the factors, inverses and traces are
/// computed once a chunk, so that a replicate's first evaluation is a few solves; and the traces of the exact Hessian
/// are computed once for good and carried to where a replicate goes (CarriedTraces).
///
/// On a device a replicate is a host thread and a queue, several at a time: as many as hide each other's latency, or as
/// find place in the device's memory.
class LargeEngine final : public ReplicateEngine {
public:
  /// @throws ModelError when the models need more memory than the machine has
  explicit LargeEngine(const BootstrapModels& models, LargeDevices devices = cuda_large_queues());
  ~LargeEngine() override;
  [[nodiscard]] Tier tier() const override { return Tier::large; }
  [[nodiscard]] std::uint64_t chunk_length(const Backend& backend) const override;
  [[nodiscard]] EngineFacts facts() const override;
  [[nodiscard]] double thread_bytes() const override;
  /// @throws BackendUnavailable, DeviceMemoryError where not even one replicate finds place
  [[nodiscard]] int device_workers() const override;
  /// By dense matrices over all random effects: one replicate after the other, from beta and r2 too.
  /// @throws ModelError where these do not find room in memory
  void test(const kernels::TestJob& tests) const override;
  void run(const Backend& backend, bool parameters, kernels::BootstrapChunk& chunk) const override;

  /// A replicate's y at sigma = 1, beta = 0, n entries: errors from stream 2, random effects of term b from stream 16 +
  /// b of the replicate.
  [[nodiscard]] Eigen::VectorXd draw(std::uint64_t replicate) const;

private:
  /// One model and how its fits start.
  struct Side {
    const Model* model = nullptr;
    std::vector<double> start;
    CarriedTraces traces;
    CriterionCost cost = {};  ///< of its criterion
  };
  /// What a thread works with.
  struct Worker {
    std::unique_ptr<Criterion> null, full;
  };
  /// Those that wait for a thread: of the CPU they are made when they are wanted, of devices all at once. A worker
  /// whose device is lost is taken by no later call.
  struct Workers {
    std::vector<std::unique_ptr<Worker>> idle;
    int made = 0;
    std::exception_ptr loss;
  };
  /// A worker from when it is taken until it is given back.
  class Turn;
  static Side make_side(const Model& model, std::vector<double> start);
  std::unique_ptr<Worker> take_worker(const Backend& backend) const;
  void make_device_workers() const;
  void fit(const Side& side, Criterion& criterion, bool parameters, const std::vector<Eigen::VectorXd>& y,
           const kernels::FitResults& null, const kernels::FitResults& results) const;

  const Model &null_, &full_;
  Embedding embedding_;
  std::vector<double> lambda_;
  std::uint64_t seed_;
  bool refit_;
  Side null_side_, full_side_;
  LargeDevices devices_;
  mutable std::mutex mutex_, making_;
  mutable std::condition_variable given_back_;
  mutable Workers cpu_, device_;
};

}  // namespace batchlmm
