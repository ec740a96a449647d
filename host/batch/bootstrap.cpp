#include "host/batch/bootstrap.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "host/batch/chunk_buffers.hpp"
#include "host/model/memory.hpp"

namespace batchlmm {

Bootstrap::Bootstrap(const Model& null, const Model& full, const Embedding& embedding,
                     const std::vector<double>& lambda, double sigma, std::uint64_t seed, std::optional<Tier> tier,
                     const Backend& backend)
    : null_(null),
      full_(full),
      embedding_(embedding),
      sigma_(sigma),
      decision_(choose_tier({&null_, &full_, &embedding_, lambda, seed}, tier, backend)) {}

Bootstrap::Bootstrap(const Model& model, const std::vector<double>& lambda, double sigma, std::uint64_t seed,
                     std::optional<Tier> tier, const Backend& backend)
    : Bootstrap(model, model, identity_embedding(model), lambda, sigma, seed, tier, backend) {}

ReplicateSummary Bootstrap::run(const BootstrapRun& run) const {
  const bool refit = &null_ == &full_;
  const double shift_null = null_.shape().degrees * std::log(sigma_ * sigma_),
               shift_full = full_.shape().degrees * std::log(sigma_ * sigma_);
  const std::uint64_t length = engine().chunk_length(run.backend);
  // Indices go up to the largest number: nothing is added to the last one.
  const std::uint64_t last = run.first + run.count, first_chunk = run.first / length,
                      end_chunk = last / length + (last % length != 0 ? 1 : 0);
  // A device takes as many calls of the engine at a time as it has places for.
  const int workers = run.backend.cuda ? engine().device_workers() : run.threads;
  const int threads =
      static_cast<int>(std::min<std::uint64_t>(static_cast<std::uint64_t>(workers), end_chunk - first_chunk));
  if (!run.backend.cuda)
    require_memory(threads * engine().thread_bytes(),
                   fmt::format("the bootstrap of \"{}\" on {} threads", full_.matrices().formula, threads));

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
      ChunkBuffers buffers;
      while (true) {
        const std::uint64_t c = next_chunk++;
        if (c >= end_chunk) return;
        const std::uint64_t begin = std::max(run.first, c * length),
                            end = last - c * length < length ? last : c * length + length, n = end - begin;
        buffers.resize(null_.shape(), refit ? nullptr : &full_.shape(), begin, n, run.parameters);
        engine().run(run.backend, run.parameters, buffers.chunk);
        const FitBuffers &null = buffers.null, &full = buffers.full;

        ReplicateSummary part;
        part.replicates = n;
        status.resize(n);
        statistic.resize(n);
        deviance0.resize(n);
        deviance1.resize(refit ? 0 : n);
        for (std::uint64_t i = 0; i < n; ++i) {
          deviance0[i] = null.deviance[i] + shift_null;
          status[i] = static_cast<Status>(null.status[i]);
          statistic[i] = 0;
          part.singular_null += null.boundary[i] != 0;
          part.evaluations_null += null.evaluations[i];
          if (!refit) {
            status[i] = static_cast<Status>(std::max(null.status[i], full.status[i]));
            double t = null.deviance[i] - full.deviance[i];
            if (std::abs(t) <= zero_statistic) t = 0;
            // The full model holds the null: a lower optimum of the null says that the full's is not the optimum.
            if (t < 0 && is_used(status[i])) status[i] = Status::iteration_limit;
            statistic[i] = t;
            deviance1[i] = full.deviance[i] + shift_full;
            part.singular_full += full.boundary[i] != 0;
            part.evaluations_full += full.evaluations[i];
          }
          ++part.status[static_cast<int>(status[i])];
          if (!is_used(status[i])) continue;
          ++part.used;
          part.extreme += !refit && statistic[i] >= run.observed;
          part.zero += !refit && statistic[i] == 0;
        }
        std::unique_lock lock(mutex);
        turn.wait(lock, [&] { return next_to_collect == c || failure; });
        if (failure) return;
        if (run.collect)
          run.collect({begin, status, statistic, deviance0, deviance1, null.lambda, full.lambda, null.beta, full.beta,
                       null.r2, full.r2});
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
  std::vector<std::thread> pool;
  for (int t = 1; t < threads; ++t) pool.emplace_back(work);
  work();
  for (std::thread& t : pool) t.join();
  if (failure) std::rethrow_exception(failure);
  return total;
}

}  // namespace batchlmm
