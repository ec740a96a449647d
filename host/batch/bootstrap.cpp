#include "host/batch/bootstrap.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "batchlmm/error.hpp"
#include "host/batch/starts.hpp"
#include "kernels/cpu.hpp"
#include "kernels/cuda.hpp"

namespace batchlmm {
namespace {

/// Replicates that the pilot fits from every starting point, to see whether the design has several minima: fewer where
/// a fit is long.
std::uint64_t pilot_replicates(const kernels::Shape& s) {
  const double columns = s.columns();
  const double one =
      s.nodes[0] * s.own[0] * columns * columns * (1 + s.parameters) + columns * columns * columns * s.parameters;
  return static_cast<std::uint64_t>(std::clamp(1e7 / one, 64.0, 1024.0));
}

/// Where several terms have correlated columns, a second minimum in one replicate of a thousand is common, and too rare
/// for the pilot.
bool always_several_starts(const kernels::Shape& s) {
  int vector_terms = 0;
  for (int b = 0; b < s.terms; ++b) vector_terms += (s.term[b].k > 1 ? 1 : 0) + (s.term[b].k > 2 ? 1 : 0);
  return vector_terms > 1;
}

/// Buffers of one chunk's results.
struct ChunkBuffers {
  ChunkBuffers(const kernels::BootstrapJob& job, std::uint64_t n, bool parameters) {
    const auto one = [&](const kernels::Shape& s, auto& status, auto& deviance, auto& lambda, auto& boundary,
                         auto& evaluations, auto& beta, auto& r2) {
      status.resize(n);
      deviance.resize(n);
      lambda.resize(n * s.lambdas);
      boundary.resize(n);
      evaluations.resize(n);
      if (!parameters)
        return kernels::FitResults{status.data(),      deviance.data(), lambda.data(), boundary.data(),
                                   evaluations.data(), nullptr,         nullptr};
      beta.resize(n * s.p);
      r2.resize(n);
      return kernels::FitResults{status.data(),      deviance.data(), lambda.data(), boundary.data(),
                                 evaluations.data(), beta.data(),     r2.data()};
    };
    chunk.count = n;
    chunk.null = one(*job.null, status0, deviance0, lambda0, boundary0, evaluations0, beta0, r20);
    chunk.full = one(*job.full, status1, deviance1, lambda1, boundary1, evaluations1, beta1, r21);
  }
  kernels::BootstrapChunk chunk;
  std::vector<std::uint8_t> status0, status1;
  std::vector<double> deviance0, deviance1, lambda0, lambda1, beta0, beta1, r20, r21;
  std::vector<std::uint32_t> boundary0, boundary1;
  std::vector<std::uint16_t> evaluations0, evaluations1;
};

}  // namespace

Bootstrap::Bootstrap(const Model& null, const Model& full, const Embedding& embedding,
                     const std::vector<double>& lambda, double sigma, std::uint64_t seed)
    : null_(null), full_(full), embedding_(embedding), sigma_(sigma) {
  if (null.is_large() || full.is_large())
    throw ModelError("the bootstrap takes models whose crossed grouping factors have up to 320 columns together; \"" +
                     full.matrices().formula + "\" has " + std::to_string(full.plan().schur));
  const std::vector<double> embedded = embedding_.apply(null, full, lambda);
  null_starts_ = shared_starts(null, lambda);
  full_starts_ = shared_starts(full, embedded);
  sampler_ = std::make_unique<SamplerData>(full, null, embedded);
  job_.null = &null.shape();
  job_.full = &full.shape();
  job_.null_design = null.design();
  job_.full_design = full.design();
  job_.sampler = sampler_->sampler();
  job_.null_starts = null_starts_.data();
  job_.full_starts = full_starts_.data();
  job_.embed_map = embedding_.map.data();
  job_.embed_term = embedding_.term.data();
  job_.embed_column = embedding_.column.data();
  job_.seed = seed;
  pilot();
}

void Bootstrap::pilot() {
  // The same replicates whatever range is run later, so that a replicate stays a pure function of models, seed and
  // index.
  const int all_null = static_cast<int>(null_starts_.size() / null_.shape().lambdas);
  const int all_full = static_cast<int>(full_starts_.size() / full_.shape().lambdas);
  const std::uint64_t n = pilot_replicates(full_.shape());
  ChunkBuffers one(job_, n, false), all(job_, n, false);
  kernels::cpu_kernels().bootstrap(job_, one.chunk);
  job_.null_options.starts = all_null;
  job_.full_options.starts = all_full;
  kernels::cpu_kernels().bootstrap(job_, all.chunk);
  bool null_differs = always_several_starts(null_.shape()), full_differs = always_several_starts(full_.shape());
  for (std::uint64_t i = 0; i < n; ++i) {
    null_differs = null_differs || one.deviance0[i] > all.deviance0[i] + 1e-8;
    full_differs = full_differs || one.deviance1[i] > all.deviance1[i] + 1e-8;
  }
  if (!null_differs) job_.null_options.starts = 1;
  if (!full_differs) job_.full_options.starts = 1;
}

ReplicateSummary Bootstrap::run(const BootstrapRun& run) const {
  kernels::BootstrapJob job = job_;
  job.parameters = run.parameters;
  const double shift = job.full->degrees * std::log(sigma_ * sigma_);
  const std::uint64_t length = run.backend.cuda ? kernels::cuda_chunk_length(job) : kernels::chunk_length(job, 4e6);
  const std::uint64_t last = run.first + run.count, first_chunk = run.first / length,
                      end_chunk = (last + length - 1) / length;

  ReplicateSummary total;
  std::mutex mutex;
  std::condition_variable turn;
  std::uint64_t next_to_collect = first_chunk;
  std::atomic<std::uint64_t> next_chunk{first_chunk};
  std::exception_ptr failure;
  std::uint64_t done = 0;

  const auto work = [&] {
    try {
      std::vector<Status> status;
      std::vector<double> statistic, deviance0, deviance1;
      while (true) {
        const std::uint64_t c = next_chunk++;
        if (c >= end_chunk) return;
        const std::uint64_t begin = std::max(run.first, c * length), end = std::min(last, (c + 1) * length),
                            n = end - begin;
        ChunkBuffers buffers(job, n, run.parameters);
        buffers.chunk.first = begin;
        if (run.backend.cuda)
          kernels::cuda_bootstrap(job, buffers.chunk);
        else
          kernels::cpu_kernels().bootstrap(job, buffers.chunk);

        ReplicateSummary part;
        part.replicates = n;
        status.resize(n);
        statistic.resize(n);
        deviance0.resize(n);
        deviance1.resize(n);
        for (std::uint64_t i = 0; i < n; ++i) {
          status[i] = static_cast<Status>(std::max(buffers.status0[i], buffers.status1[i]));
          double t = buffers.deviance0[i] - buffers.deviance1[i];
          if (std::abs(t) <= zero_statistic) t = 0;
          // The full model holds the null: a lower optimum of the null says that the full's is not the optimum.
          if (t < 0 && is_used(status[i])) status[i] = Status::iteration_limit;
          statistic[i] = t;
          deviance0[i] = buffers.deviance0[i] + shift;
          deviance1[i] = buffers.deviance1[i] + shift;
          ++part.status[static_cast<int>(status[i])];
          part.singular_null += buffers.boundary0[i] != 0;
          part.singular_full += buffers.boundary1[i] != 0;
          part.evaluations_null += buffers.evaluations0[i];
          part.evaluations_full += buffers.evaluations1[i];
          if (!is_used(status[i])) continue;
          ++part.used;
          part.extreme += t >= run.observed;
          part.zero += t == 0;
        }
        std::unique_lock lock(mutex);
        turn.wait(lock, [&] { return next_to_collect == c || failure; });
        if (failure) return;
        if (run.collect)
          run.collect({begin, status, statistic, deviance0, deviance1, buffers.lambda0, buffers.lambda1, buffers.beta0,
                       buffers.beta1, buffers.r20, buffers.r21});
        total.replicates += part.replicates;
        total.used += part.used;
        total.extreme += part.extreme;
        total.zero += part.zero;
        for (int s = 0; s < status_count; ++s) total.status[s] += part.status[s];
        total.singular_null += part.singular_null;
        total.singular_full += part.singular_full;
        total.evaluations_null += part.evaluations_null;
        total.evaluations_full += part.evaluations_full;
        // One by one and in order: the sum's bits must not depend on the length of a chunk, which is a device's choice.
        for (std::uint64_t i = 0; i < n; ++i)
          if (is_used(status[i])) total.sum_statistic += statistic[i];
        done += n;
        if (run.progress) run.progress(done, run.count);
        ++next_to_collect;
        turn.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      turn.notify_all();
    }
  };
  const int threads =
      run.backend.cuda
          ? 1
          : static_cast<int>(std::min<std::uint64_t>(static_cast<std::uint64_t>(run.threads), end_chunk - first_chunk));
  std::vector<std::thread> pool;
  for (int t = 1; t < threads; ++t) pool.emplace_back(work);
  work();
  for (std::thread& t : pool) t.join();
  if (failure) std::rethrow_exception(failure);
  return total;
}

}  // namespace batchlmm
