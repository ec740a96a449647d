#include "host/batch/streaming_engine.hpp"

#include <cstdint>
#include <numeric>
#include <string>

#include "batchlmm/error.hpp"
#include "host/batch/chunk_buffers.hpp"
#include "host/batch/cost.hpp"
#include "host/batch/pilot.hpp"
#include "host/batch/starts.hpp"
#include "host/model/memory.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"
#include "kernels/replicate.hpp"

namespace batchlmm {
namespace {

/// Scratch of one chunk of replicates on the CPU: it stays in a core's cache.
constexpr double chunk_bytes = 4e6;

}  // namespace

StreamingEngine::StreamingEngine(const BootstrapModels& models)
    : map_(models.embedding->map), term_(models.embedding->term), column_(models.embedding->column) {
  const Model &null = *models.null, &full = *models.full;
  refit_ = models.refit();
  if (null.is_large() || full.is_large())
    throw ModelError(
        "the streaming tier takes models whose crossed grouping factors have up to 320 columns together; \"" +
        full.matrices().formula + "\" has " + std::to_string(full.plan().schur));
  const std::vector<double> embedded = models.embedding->apply(null, full, models.lambda);
  null_starts_ = models.embedding->null_at_zero ? models.lambda : shared_starts(null, models.lambda);
  full_starts_ = shared_starts(full, embedded);
  sampler_ = std::make_unique<SamplerData>(full, null, embedded);
  job_.null = &null.shape();
  job_.full = &full.shape();
  job_.null_design = null.design();
  job_.full_design = full.design();
  job_.sampler = sampler_->sampler();
  job_.null_starts = null_starts_.data();
  job_.full_starts = full_starts_.data();
  job_.embed_map = map_.data();
  job_.embed_term = term_.data();
  job_.embed_column = column_.data();
  job_.seed = models.seed;
  job_.null_options.stay = models.embedding->null_at_zero;
  if (!job_.null_options.stay) shared_start_ = SharedStartData::make(null, null_starts_.data());
  require_memory(thread_bytes(), "the bootstrap of \"" + full.matrices().formula + "\" on one thread");
  choose_starts(job_, models.refit(), static_cast<int>(null_starts_.size() / null.shape().lambdas),
                static_cast<int>(full_starts_.size() / full.shape().lambdas),
                [this](kernels::BootstrapChunk& chunk) { kernels::cpu_kernels().bootstrap(job_, chunk); });
  choose_first_start();
}

void StreamingEngine::choose_first_start() {
  if (!shared_start_) return;
  const std::uint64_t n = pilot_replicates(*job_.null) / 4;
  const auto evaluations = [&](const kernels::SharedStart* shared) {
    job_.null_shared = shared;
    ChunkBuffers buffers;
    buffers.resize(*job_.null, nullptr, 0, n, false);
    kernels::cpu_kernels().bootstrap(job_, buffers.chunk);
    return std::accumulate(buffers.null.evaluations.begin(), buffers.null.evaluations.end(), std::uint64_t{0});
  };
  // A scoring step takes about a fifth of an evaluation.
  const std::uint64_t plain = evaluations(nullptr), scored = evaluations(&shared_start_->constants());
  if (scored + n / 5 >= plain) job_.null_shared = nullptr;
}

std::uint64_t StreamingEngine::chunk_length(const Backend& backend) const {
  return backend.cuda ? kernels::cuda_chunk_length(job_) : kernels::chunk_length(job_, chunk_bytes);
}

EngineFacts StreamingEngine::facts() const {
  const double null = evaluations_a_fit * job_.null_options.starts,
               full = refit_ ? 0 : evaluations_a_fit * (kernels::tells_minima(job_) ? 1 : job_.full_options.starts);
  EngineFacts facts;
  facts.evaluations = null + full;
  facts.multiply_adds = null * streaming_cost(*job_.null).trip() + full * streaming_cost(*job_.full).trip();
  return facts;
}

std::optional<kernels::TracedTrip> StreamingEngine::trace(bool full) const {
  if (!full && job_.null_options.stay) return {};
  return full ? kernels::trace_streaming_trip(*job_.full, job_.full_design, job_.full_options, job_.full_starts)
              : kernels::trace_streaming_trip(*job_.null, job_.null_design, job_.null_options, job_.null_starts);
}

double StreamingEngine::thread_bytes() const {
  // One tile at a time, and the chunk's responses and results.
  return std::max(tile_bytes(*job_.null), tile_bytes(*job_.full)) + 2 * chunk_bytes;
}

void StreamingEngine::run(const Backend& backend, bool parameters, kernels::BootstrapChunk& chunk) const {
  kernels::BootstrapJob job = job_;
  job.parameters = parameters;
  if (backend.cuda) {
    trips_.add_to(job, refit_, [this](bool full) { return trace(full); });
    kernels::cuda_bootstrap(job, chunk);
  } else {
    kernels::cpu_kernels().bootstrap(job, chunk);
  }
}

kernels::StatisticCounts StreamingEngine::summarize(const Backend& backend, std::uint64_t first, std::uint64_t count,
                                                    double observed) const {
  if (!backend.cuda) return ReplicateEngine::summarize(backend, first, count, observed);
  kernels::BootstrapJob job = job_;
  trips_.add_to(job, refit_, [this](bool full) { return trace(full); });
  return kernels::cuda_summarize(job, first, count, observed, refit_);
}

void StreamingEngine::test(const kernels::TestJob& tests) const {
  kernels::small_sample_kernels(kernels::cpu_kernels()).replicates(job_, tests);
}

int StreamingEngine::device_workers() const { return kernels::cuda_slots(); }

}  // namespace batchlmm
